//! [`Worker`]: the state of a worker thread.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cardinal_balance::{Group, NoHealthyEndpoint, PickInput, Picked, Picker, Seats};
use cardinal_base::{ObjectPool, Rng, SeededRng, Sleep, Tick, UnixMillis};
use cardinal_ir::Id;
use cardinal_net::{Class, ConnectionRegistry, Pool, PoolLimits, Timer, Wheel, buffer};
use cardinal_sdk::RequestId;
use foldhash::HashMap;

use crate::counters::Counters;
use crate::exchange::Scratch;
use crate::node::Node;
use crate::plan::Plan;
use crate::policy::mirror::InFlight;

/// Maximum number of scratches that a worker keeps for reuse; scratches not needed for a while are freed.
const SCRATCHES_KEPT: usize = 16 * 1024;

/// How long idle connections stay open when the node stops, in case a request is in flight, milliseconds.
const IDLE_GRACE_MS: u64 = 1_000;

/// A plan held by a request; cloning it does not write to memory shared with other workers.
pub(crate) type PlanRef = Rc<Arc<Plan>>;

/// A worker thread.
pub(crate) struct Worker {
    pub(crate) index: usize,
    pub(crate) node: Arc<Node>,
    pub(crate) wheel: Rc<Wheel>,
    pub(crate) pool: RefCell<Pool>,
    plan: RefCell<PlanRef>,
    pickers: RefCell<HashMap<Id, Picker>>,
    /// Groups were removed since unused pickers were last dropped.
    groups_went: Cell<bool>,
    rng: RefCell<SeededRng>,
    #[allow(clippy::vec_box, reason = "boxes move between here and requests without being copied")]
    scratches: RefCell<ObjectPool<Box<Scratch>>>,
    /// When draining started.
    draining: Cell<Option<Tick>>,
    cutting: Cell<bool>,
    /// The same moment on both clocks.
    compared: Cell<(Tick, UnixMillis)>,
    connections: Cell<usize>,
    registry: Rc<ConnectionRegistry>,
    /// Mirror copies in flight.
    pub(crate) mirrors: InFlight,
}

impl Worker {
    pub(crate) fn new(index: usize, node: Arc<Node>, plan: Arc<Plan>) -> Rc<Self> {
        let rng = match node.seed {
            Some(seed) => SeededRng::new(seed.wrapping_add(index as u64)),
            None => SeededRng::from_system(),
        };
        let compared = Cell::new((node.services.clock.tick(), node.services.clock.unix()));
        Rc::new(Self {
            index,
            compared,
            wheel: Wheel::new(Arc::clone(&node.services.clock)),
            node,
            pool: RefCell::default(),
            plan: RefCell::new(Rc::new(plan)),
            pickers: RefCell::default(),
            groups_went: Cell::new(false),
            rng: RefCell::new(rng),
            scratches: RefCell::new(ObjectPool::new(SCRATCHES_KEPT)),
            draining: Cell::new(None),
            cutting: Cell::new(false),
            connections: Cell::new(0),
            registry: ConnectionRegistry::new(),
            mirrors: InFlight::default(),
        })
    }

    pub(crate) fn now(&self) -> Tick {
        self.wheel.now()
    }

    /// Sleeps by the node's clock.
    pub(crate) fn sleep(&self, duration: std::time::Duration) -> Sleep {
        self.node.services.clock.sleep(duration)
    }

    /// The wall clock time of a tick. The two clocks are synchronized once per second.
    pub(crate) fn unix(&self, at: Tick) -> UnixMillis {
        let (mut tick, mut unix) = self.compared.get();
        if at.millis_since(tick) >= 1_000 || tick > at {
            (tick, unix) = (self.now(), self.node.services.clock.unix());
            self.compared.set((tick, unix));
        }
        UnixMillis(unix.0 + at.millis_since(tick))
    }

    pub(crate) fn counters(&self) -> &Counters {
        static NONE: std::sync::LazyLock<Counters> = std::sync::LazyLock::new(Counters::default);
        self.node.shared.counters.get(self.index).unwrap_or(&NONE)
    }

    /// The plan for the next request.
    pub(crate) fn plan(&self) -> PlanRef {
        let current = Rc::clone(&self.plan.borrow());
        if current.generation == self.node.generation() {
            return current;
        }
        let Some(newer) = self.node.plan() else { return current };
        let newer = Rc::new(newer);
        self.groups_went.set(self.groups_went.get() || newer.groups_gone != current.groups_gone);
        *self.plan.borrow_mut() = Rc::clone(&newer);
        newer
    }

    /// Switches to a new plan even without a request, so that the old one can be freed.
    pub(crate) fn refresh(&self) {
        drop(self.plan());
    }

    /// Chooses an endpoint.
    pub(crate) fn pick(&self, group: &Arc<Group>, input: &PickInput<'_>) -> Result<Picked, NoHealthyEndpoint> {
        self.with_picker(group, |picker| picker.pick(input))
    }

    /// The limits of a cluster, if it has any.
    pub(crate) fn seats(&self, group: &Arc<Group>) -> Option<Arc<Seats>> {
        self.with_picker(group, |picker| picker.seats().map(Arc::clone))
    }

    fn with_picker<T>(&self, group: &Arc<Group>, with: impl FnOnce(&mut Picker) -> T) -> T {
        let mut pickers = self.pickers.borrow_mut();
        let make = || group.picker(Box::new(SeededRng::new(self.rng.borrow_mut().next_u64())));
        let picker = pickers.entry(group.id()).or_insert_with(make);
        if !Arc::ptr_eq(picker.group(), group) {
            *picker = make();
        }
        with(picker)
    }

    pub(crate) fn request_id(&self) -> RequestId {
        let mut rng = self.rng.borrow_mut();
        RequestId(u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64()))
    }

    pub(crate) fn random(&self) -> u64 {
        self.rng.borrow_mut().next_u64()
    }

    /// A random number below `bound`; 0 when that is 0.
    pub(crate) fn random_below(&self, bound: u64) -> u64 {
        self.rng.borrow_mut().below(bound)
    }

    /// Takes a scratch for a request.
    pub(crate) fn take_scratch(&self) -> Box<Scratch> {
        self.scratches.borrow_mut().take().unwrap_or_else(|| Box::new(Scratch::new(&self.wheel)))
    }

    /// Returns a scratch for reuse.
    pub(crate) fn give_scratch(&self, mut scratch: Box<Scratch>) {
        if scratch.trim() {
            self.scratches.borrow_mut().give(scratch);
        }
    }

    /// Whether connections should end after their current request.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.get().is_some()
    }

    /// Whether idle connections should be closed now. They stay open for a moment: a busy client has a request in
    /// flight, and is informed by the response that the connection closes.
    pub(crate) fn closes_idle(&self) -> bool {
        self.draining.get().is_some_and(|began| self.now().millis_since(began) >= IDLE_GRACE_MS)
    }

    /// Starts draining: connections end after their current request, idle ones shortly afterwards.
    pub(crate) fn start_draining(&self) {
        if self.draining.get().is_none() {
            self.draining.set(Some(self.now()));
        }
        self.wheel.wake_all();
    }

    /// Whether tunnels must end now.
    pub(crate) fn is_cutting(&self) -> bool {
        self.cutting.get()
    }

    /// Ends tunnels, because the drain timeout has expired.
    pub(crate) fn start_cutting(&self) {
        self.cutting.set(true);
        self.wheel.wake_all();
    }

    /// The connections that completed their handshake.
    pub(crate) fn connections(&self) -> &Rc<ConnectionRegistry> {
        &self.registry
    }

    /// Closes connections that their listener would not accept now.
    pub(crate) fn close_unauthorized(&self) {
        let plan = self.plan();
        let closed = self.registry.revoke(|connection| !plan.allows(connection));
        if closed > 0 {
            tracing::info!(closed, "connections closed: their peers are not allowed any more");
        }
        // Idle connections end now if their listener was removed or verifies clients differently.
        self.wheel.wake_all();
    }

    /// Waits for `budget`, then closes the remaining connections that a listener accepted before the call.
    pub(crate) async fn end_connections_of(self: Rc<Self>, listener: Option<Id>, budget: Duration) {
        let began = self.now();
        self.wheel.wake_all();
        self.pass(budget).await;
        let closed =
            self.registry.revoke(|connection| connection.listener == listener && connection.started.0 <= began.0);
        if closed > 0 {
            tracing::info!(closed, "connections of a listener that is gone closed: the time for draining is over");
        }
    }

    /// Whether there are connections that their listener would not serve with its current settings.
    pub(crate) fn has_outdated(&self) -> bool {
        let plan = self.plan();
        self.registry.count(|connection, _| !plan.serves(connection)) > 0
    }

    /// Waits for `budget`, then closes the remaining ones of them.
    pub(crate) async fn end_outdated(self: Rc<Self>, budget: Duration) {
        let began = self.now();
        self.pass(budget).await;
        let plan = self.plan();
        let closed = self.registry.revoke(|connection| connection.started.0 <= began.0 && !plan.serves(connection));
        if closed > 0 {
            tracing::info!(closed, "connections of a listener that has changed closed: the time for draining is over");
        }
    }

    /// Waits for this time.
    async fn pass(&self, budget: Duration) {
        let timer = Timer::new(&self.wheel);
        timer.limit(u64::try_from(budget.as_millis()).unwrap_or(u64::MAX).max(1), std::future::pending::<()>()).await;
    }

    pub(crate) fn open_connections(&self) -> usize {
        self.connections.get()
    }

    /// Pool limits of the active plan.
    pub(crate) fn pool_limits(plan: &Plan) -> PoolLimits {
        let spec = &plan.node().upstream_pool;
        PoolLimits {
            idle_max: spec.idle_max as usize,
            requests_max: spec.requests_max,
            idle_timeout_ms: spec.idle_timeout_ms,
            classes_max: spec.classes_max as usize,
        }
    }

    /// The class of TLS connections with these settings and this server name.
    pub(crate) fn tls_class(&self, settings: u64, name: &str, limits: &PoolLimits) -> Class {
        let mut pool = self.pool.borrow_mut();
        let class = pool.class(settings, name, limits);
        self.counters().pool_evictions(pool.evicted());
        class
    }

    /// Periodically drops expired idle upstream connections and other unused state, as long as the worker lives.
    pub(crate) async fn sweep(self: Rc<Self>) {
        loop {
            self.sleep(std::time::Duration::from_secs(1)).await;
            self.refresh();
            if self.groups_went.take() {
                // A request that still needs such a picker creates a new one.
                self.pickers.borrow_mut().retain(|_, picker| Arc::strong_count(picker.group()) > 1);
            }
            let limits = Self::pool_limits(&self.plan());
            self.pool.borrow_mut().sweep(&limits, self.now());
            self.pool.borrow_mut().close_wanted();
            self.counters().pool_evictions(self.pool.borrow().evicted());
            self.scratches.borrow_mut().sweep();
            buffer::sweep();
            cardinal_net::release_idle_pipes();
        }
    }
}

impl Scratch {
    /// The current time. Reading the clock has a cost, so the time is cached between two waits.
    pub(crate) fn now(&mut self, worker: &Worker) -> Tick {
        self.looked_at(|| worker.now())
    }
}

/// Counts a client connection of the node until dropped.
pub(crate) struct ConnectionGuard {
    worker: Rc<Worker>,
}

impl ConnectionGuard {
    /// `None` if the node's limit on connections is reached.
    pub(crate) fn new(worker: &Rc<Worker>, max: u32) -> Option<Self> {
        let before = worker.node.connections.fetch_add(1, Ordering::Relaxed);
        if max != 0 && before >= max as usize {
            worker.node.connections.fetch_sub(1, Ordering::Relaxed);
            worker.counters().refused();
            return None;
        }
        worker.connections.set(worker.connections.get() + 1);
        worker.counters().accepted();
        Some(Self { worker: Rc::clone(worker) })
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.worker.node.connections.fetch_sub(1, Ordering::Relaxed);
        self.worker.connections.set(self.worker.connections.get().saturating_sub(1));
        self.worker.counters().closed();
    }
}
