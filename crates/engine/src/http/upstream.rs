//! Acquires the upstream connection of an attempt: the balancer picks the endpoint, the pool supplies an idle
//! connection, or a new one is opened.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use cardinal_balance::{PickInput, Picked};
use cardinal_base::{Permit, descriptors, task};
use cardinal_http::Failure;
use cardinal_ir::HttpVersion;
use cardinal_net::h1::H1;
use cardinal_net::h2::{self, Client, Settings};
use cardinal_net::{Connected, H2_STREAMS_MAX, Io, PoolKey, PoolLimits, Stage, StreamGuard, Timer, TlsTarget, connect};
use cardinal_sdk::Try;
use rustls_pki_types::ServerName;

use super::filters::run_attempt;
use super::halt::Halt;
use super::upstream_head::set_host;
use crate::exchange::{Scratch, connect_failure, connect_timeout, pick, picked_text, report_failure};
use crate::plan::{BackendPlan, Chain, Phase, Plan, RoutePlan};
use crate::policy::circuit::{self, Connection, Full};
use crate::worker::Worker;

/// Receive window of an upstream HTTP/2 stream, bytes: the most that one slow client can make the gateway buffer.
const H2_STREAM_WINDOW: u32 = 256 * 1024;
/// Receive window of an upstream HTTP/2 connection, bytes: streams of clients that do not read must leave room for
/// others.
const H2_CONNECTION_WINDOW: u32 = H2_STREAM_WINDOW * H2_STREAMS_MAX as u32;
/// Maximum header list size of an upstream HTTP/2 response, bytes.
const H2_HEADER_LIST_MAX: u32 = 64 * 1024;

/// A connection for one attempt, with its endpoint.
pub(super) struct AcquiredConnection {
    pub(super) transport: Transport,
    pub(super) picked: Picked,
    pub(super) key: PoolKey,
    /// Number of requests that the connection served before.
    pub(super) requests: u32,
}

/// The connection or stream that carries the request.
pub(super) enum Transport {
    /// An exclusive HTTP/1 connection.
    H1(Box<H1>),
    /// A stream of a shared HTTP/2 connection.
    H2(Client, StreamGuard),
}

/// Chooses an endpoint and connects to it, after the filters of the chain have run the attempt phase. `upgrade`
/// requires HTTP/1.
pub(super) async fn acquire_connection(
    worker: &Rc<Worker>,
    plan: &Plan,
    (route, backend, chain): (&RoutePlan, &Arc<BackendPlan>, Option<&Chain>),
    s: &mut Scratch,
    upgrade: bool,
) -> Result<AcquiredConnection, Halt> {
    let chosen_at = s.now(worker);
    let picked = pick(worker, backend, s).await?;
    let balancer_us = s.now(worker).0.saturating_sub(chosen_at.0);
    let address = picked.address();
    set_host(&route.route, &backend.backend, s, picked.host_header(), address.port());
    s.tried.push(picked.key());
    s.exchange.tries.push(Try {
        address,
        started: worker.unix(chosen_at),
        tick: chosen_at,
        balancer_us,
        state: None,
        status: None,
    });
    // The filters run first: otherwise the acquired connection would wait for them, too.
    if let Some(chain) = chain.filter(|chain| !chain.list(Phase::Attempt).is_empty()) {
        Box::pin(run_attempt(plan, chain, s, address)).await?;
    }
    let now = s.now(worker);
    let limits = Worker::pool_limits(plan);
    let class = match &backend.tls {
        None => worker.pool.borrow_mut().class(backend.settings, "", &limits),
        Some(_) => worker.tls_class(backend.settings + u64::from(upgrade), tls_name(backend, &s.host), &limits),
    };
    let key = PoolKey { address, class };
    let group = &backend.group;
    let timeout_ms = s.timeouts.connect_ms;
    let shared = !upgrade && matches!(backend.backend.http, Some(HttpVersion::H2 | HttpVersion::Negotiate));
    if shared && let Some((client, guard)) = place(worker, &key, &limits, &s.up_timer, timeout_ms).await {
        return Ok(AcquiredConnection { transport: Transport::H2(client, guard), picked, key, requests: 1 });
    }
    if let Some(pooled) = worker.pool.borrow_mut().take(&key, &limits, now) {
        let (transport, requests) = (Transport::H1(pooled.h1), pooled.requests);
        return Ok(AcquiredConnection { transport, picked, key, requests });
    }
    let (permit, timeout_ms) = match circuit::connection(worker, group, &picked) {
        Ok(permit) => (permit, timeout_ms),
        Err(Full) => {
            let again = || again(worker, &key, &limits, shared);
            let waited = Box::pin(circuit::wait(worker, group, (&s.up_timer, timeout_ms), again)).await;
            s.time_passed();
            match waited {
                Ok(Connection::New(permit, left_ms)) => (Some(permit), left_ms),
                Ok(Connection::Existing((transport, requests))) => {
                    return Ok(AcquiredConnection { transport, picked, key, requests });
                }
                Err(failure) => {
                    report_failure(worker, group, &picked, s, &failure);
                    return Err(failure.into());
                }
            }
        }
    };
    let tls = backend.tls.as_ref().map(|tls| TlsTarget {
        config: Arc::clone(if upgrade { &tls.config_h1 } else { &tls.config }),
        server_name: ServerName::try_from(tls_name(backend, &s.host).to_owned())
            .unwrap_or_else(|_| ServerName::from(address.ip())),
    });
    let opening = shared.then(|| worker.pool.borrow_mut().start_opening(key));
    let other = other_family(worker, backend, &picked);
    let stage = Stage::default();
    let opening_io = Box::pin(open(worker, backend, (key, other, permit), tls, upgrade, &stage));
    let opened = s.up_timer.limit(timeout_ms, opening_io).await;
    s.time_passed();
    if let Some(opening) = opening
        && matches!(opened, Some(Ok(Transport::H2(..))))
    {
        opening.made();
    }
    let failure = match opened {
        Some(Ok(transport)) => return Ok(AcquiredConnection { transport, picked, key, requests: 0 }),
        Some(Err(failure)) => failure,
        None => connect_timeout(timeout_ms, &stage),
    };
    report_failure(worker, group, &picked, s, &failure);
    Err(failure.with_target(|| picked_text(&picked)).into())
}

/// Takes an existing connection, for a request that waits because the limit on connections is reached.
fn again(worker: &Worker, key: &PoolKey, limits: &PoolLimits, shared: bool) -> Option<(Transport, u32)> {
    let mut pool = worker.pool.borrow_mut();
    if shared && let Some((client, guard)) = pool.take_h2(key, limits, true) {
        return Some((Transport::H2(client, guard), 1));
    }
    pool.take(key, limits, worker.now()).map(|pooled| (Transport::H1(pooled.h1), pooled.requests))
}

/// Acquires a stream on an HTTP/2 connection that is open, or that another request is opening.
async fn place(
    worker: &Worker,
    key: &PoolKey,
    limits: &PoolLimits,
    timer: &Timer,
    timeout_ms: u64,
) -> Option<(Client, StreamGuard)> {
    let found = timer.limit(timeout_ms, async {
        loop {
            let open = worker.pool.borrow_mut().take_h2(key, limits, false);
            if open.is_some() {
                return open;
            }
            let opening = worker.pool.borrow_mut().join_opening(key)?;
            // If the other request's connection has no free stream left, this request opens a connection of its own.
            if !opening.wait().await {
                return None;
            }
        }
    });
    found.await.flatten()
}

/// An address of the same host in the other address family, to be tried in parallel if the first one is slow (RFC
/// 8305).
fn other_family(worker: &Worker, backend: &BackendPlan, picked: &Picked) -> Option<SocketAddr> {
    if backend.endpoints.is_some() {
        return None;
    }
    let input = PickInput { now: worker.now(), tried: &[picked.key()], uncounted: true, ..PickInput::default() };
    let other = worker.pick(&backend.group, &input).ok()?.address();
    (other.is_ipv4() != picked.address().is_ipv4()).then_some(other)
}

/// The server name for TLS.
fn tls_name<'x>(backend: &'x BackendPlan, host: &'x str) -> &'x str {
    backend.server_name().unwrap_or_else(|| server_name(host))
}

/// The TLS server name of a Host value: the value without port.
fn server_name(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name.strip_suffix('.').unwrap_or(name)
}

/// Opens a new connection.
async fn open(
    worker: &Rc<Worker>,
    backend: &BackendPlan,
    (key, other, permit): (PoolKey, Option<SocketAddr>, Option<Permit>),
    tls: Option<TlsTarget>,
    upgrade: bool,
    stage: &Stage,
) -> Result<Transport, Failure> {
    let made = match worker.node.dial.get() {
        None => match connect(key.address, other, tls.as_ref(), stage).await {
            // Idle connections to other endpoints are closed to free descriptors.
            Err(error) if descriptors::is_exhausted(error.io()) && worker.pool.borrow_mut().close_idle() => {
                connect(key.address, other, tls.as_ref(), stage).await
            }
            made => made,
        },
        Some(dial) => Ok(Connected { io: dial(key.address), address: key.address, h2: false }),
    };
    let connected = made.map_err(connect_failure)?;
    if connected.h2 || (backend.h2_only() && !upgrade) {
        let (client, guard) = start_h2(worker, connected.io, key, permit);
        return Ok(Transport::H2(client, guard));
    }
    let mut h1 = Box::new(H1::new(connected.io, b""));
    h1.hold(permit);
    Ok(Transport::H1(h1))
}

/// Starts HTTP/2 on a new connection, which is shared from then on.
fn start_h2(worker: &Rc<Worker>, io: Io, key: PoolKey, permit: Option<Permit>) -> (Client, StreamGuard) {
    let settings = Settings {
        stream_window: H2_STREAM_WINDOW,
        connection_window: H2_CONNECTION_WINDOW,
        streams_max: 0,
        header_list_max: H2_HEADER_LIST_MAX,
    };
    let (client, driver) = h2::client(io, settings);
    let limit = permit.as_ref().map(|permit| Arc::clone(permit.seat().limit()));
    let guard = worker.pool.borrow_mut().put_h2(key, client.clone(), limit, worker.now());
    let wheel = Rc::clone(&worker.wheel);
    task::spawn_local("upstream http/2 connection", async move {
        // The connection counts until its last stream has ended.
        let _permit = permit;
        if let Err(error) = poll_fn(|cx| driver.poll(cx, wheel.seen_ms())).await {
            tracing::debug!(address = %key.address, %error, "upstream HTTP/2 connection ended");
        }
    });
    (client, guard)
}
