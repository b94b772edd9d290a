//! Circuit breaker limits of a cluster ([`CircuitLimits`](cardinal_ir::policy::CircuitLimits)): rejects requests above
//! the limits, and queues requests that wait for a connection.
//!
//! The permit of an in-flight request belongs to the picked address and is dropped with it. The permit of a connection
//! belongs to the connection, in use or idle in a pool. [`Shortage`] makes other workers release idle connections.

mod shortage;

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use cardinal_balance::{Group, LimitKind, Picked};
use cardinal_base::{Permit, Seat, Tick};
use cardinal_http::{Failure, FailureKind};
use cardinal_net::h1::H1;
use cardinal_net::{PoolKey, Timer};

use crate::plan::Plan;
use crate::worker::Worker;
use shortage::ASKED_EVERY_MS;
pub(crate) use shortage::Shortage;

/// Closes idle connections for which other workers wait, as long as the worker lives.
pub(crate) async fn yield_connections(worker: Rc<Worker>) {
    loop {
        worker.node.shortage.told.notified().await;
        worker.pool.borrow_mut().close_wanted();
        // Requests that start waiting during the pause do not signal again.
        worker.node.services.clock.sleep(Duration::from_millis(ASKED_EVERY_MS)).await;
        worker.pool.borrow_mut().close_wanted();
    }
}

/// The failure of a request above a limit.
fn overflow(kind: LimitKind) -> Failure {
    let detail = match kind {
        LimitKind::Connections => "the upstream has max_connections connections, and none became free",
        LimitKind::Pending => "max_pending requests wait for a connection to the upstream",
        LimitKind::Requests => "the upstream has max_requests requests in flight",
        LimitKind::Retries => "the upstream has max_retries retries in flight",
    };
    Failure::new(FailureKind::CircuitOpen, detail)
}

/// The failure of a request above the limit on in-flight requests.
pub(crate) fn too_many_requests(group: &Group) -> Failure {
    if let Some(limits) = group.limits() {
        limits.get(LimitKind::Requests).reject();
    }
    overflow(LimitKind::Requests)
}

/// Acquires the permit of a retry; `Err` if the limit is reached, `Ok(None)` if retries are not limited.
pub(crate) fn retry(worker: &Worker, group: &Arc<Group>) -> Result<Option<Permit>, Failure> {
    let Some(seats) = worker.seats(group) else { return Ok(None) };
    let rejected = || {
        seats.retries.limit().reject();
        overflow(LimitKind::Retries)
    };
    seats.retries.acquire().ok_or_else(rejected).map(Some)
}

/// The connection for a request that waited.
pub(crate) enum Connection<T> {
    /// An existing connection.
    Existing(T),
    /// A permit for a new connection, and the remaining time in milliseconds.
    New(Permit, u64),
}

/// The limit on connections is reached: see [`wait`].
pub(crate) struct Full;

/// Acquires the permit of a new connection; `None` if connections are not limited.
pub(crate) fn connection(worker: &Worker, group: &Arc<Group>, picked: &Picked) -> Result<Option<Permit>, Full> {
    let seats = if picked.is_limited() { worker.seats(group) } else { None };
    seats.map(|seats| place(worker, &seats.connections).ok_or(Full)).transpose()
}

/// Acquires a permit without waiting: a free one, or that of an idle connection of this worker, which is closed.
fn place(worker: &Worker, seat: &Arc<Seat>) -> Option<Permit> {
    seat.acquire().or_else(|| {
        let closed = worker.pool.borrow_mut().close_one(seat.limit());
        if closed { seat.acquire() } else { None }
    })
}

/// Waits for a connection permit, or for an existing connection found by `reuse`, up to the connect timeout.
///
/// # Errors
/// If the queue is full, or no permit was released in time.
pub(crate) async fn wait<T>(
    worker: &Worker,
    group: &Arc<Group>,
    (timer, timeout_ms): (&Timer, u64),
    mut reuse: impl FnMut() -> Option<T>,
) -> Result<Connection<T>, Failure> {
    let Some(seats) = worker.seats(group) else { return Err(overflow(LimitKind::Connections)) };
    let Some(_pending) = seats.pending.acquire() else {
        seats.pending.limit().reject();
        return Err(overflow(LimitKind::Pending));
    };
    let began = worker.now();
    let seat = &seats.connections;
    let _waiting = seat.wait();
    worker.node.shortage.tell(began);
    let waiting = async {
        loop {
            let (mut returned, mut reusable) = (pin!(seat.limit().returned()), pin!(seat.reusable()));
            // No notification is missed from here on.
            returned.as_mut().enable();
            reusable.as_mut().enable();
            if let Some(existing) = reuse() {
                return Connection::Existing(existing);
            }
            if let Some(permit) = place(worker, seat) {
                return Connection::New(permit, 0);
            }
            tokio::select! {
                () = returned => {}
                () = reusable => {}
            }
        }
    };
    match timer.limit(timeout_ms, waiting).await {
        Some(Connection::New(permit, _)) => {
            let left_ms = timeout_ms.saturating_sub(worker.now().millis_since(began)).max(1);
            Ok(Connection::New(permit, left_ms))
        }
        Some(existing) => Ok(existing),
        None => {
            seat.limit().reject();
            Err(overflow(LimitKind::Connections).within("connect_timeout", timeout_ms))
        }
    }
}

/// What happens to a connection after its request.
enum Afterwards {
    /// It is returned to the pool.
    Keep,
    /// Returns the connection to the pool, then wakes a waiter of this seat.
    Offer(Arc<Seat>),
    /// It is closed, so that a worker without connections can open one.
    Close,
}

/// Returns a connection to the pool after `requests` requests, unless it is needed by a waiting request.
pub(crate) fn keep(worker: &Worker, plan: &Plan, (key, h1, requests): (PoolKey, Box<H1>, u32), now: Tick) {
    let limits = Worker::pool_limits(plan);
    let put = |h1| worker.pool.borrow_mut().put(key, h1, requests, &limits, now);
    match afterwards(worker, &h1) {
        Afterwards::Keep => put(h1),
        Afterwards::Offer(seat) => {
            put(h1);
            seat.offer();
        }
        Afterwards::Close => {}
    }
}

/// Chooses so that the waiting requests of this worker and of others get connections in proportion to their numbers.
fn afterwards(worker: &Worker, h1: &H1) -> Afterwards {
    let Some(seat) = h1.permit().map(Permit::seat) else { return Afterwards::Keep };
    match (u64::from(seat.limit().waiting()), u64::from(seat.waiting())) {
        (0, _) => Afterwards::Keep,
        (all, own) if own > 0 && worker.random() % all < own => Afterwards::Offer(Arc::clone(seat)),
        _ => Afterwards::Close,
    }
}

/// Reports that a stream of a shared connection has ended, which may have made the connection idle.
pub(crate) fn stream_ended(worker: &Worker, group: &Group, picked: &Picked) {
    let is_short = |group: &Group| group.limits().is_some_and(|limits| limits.get(LimitKind::Connections).is_short());
    if picked.is_limited() && is_short(group) {
        worker.pool.borrow_mut().close_wanted();
    }
}
