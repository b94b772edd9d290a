//! [`Applier`]: the threads that plan generations and free old ones, so that no worker ever does.
//!
//! Updates with at most [`EDIT_RECORDS_MAX`] changed records take less than a millisecond to plan, and are planned on a
//! thread of normal priority. Larger updates take longer: a low-priority thread plans them, so that workers keep their
//! cores, and also frees old generations.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use cardinal_base::memory::release_free;
use cardinal_base::task::panic_text;
use cardinal_ir::{Diagnostic, Diagnostics};
use cardinal_sdk::PluginDef;
use cardinal_sync::Update;
use tokio::runtime::Handle;

use crate::configuration::Configuration;
use crate::listening::Sockets;
use crate::node::Node;
use crate::outcome::{Applied, ApplyError};
use crate::plan::{Plan, PlanCx};

/// Interval between attempts to free replaced plans, which requests may still hold.
const LOOK_PERIOD: Duration = Duration::from_millis(500);
/// Niceness of the low-priority thread: a worker that wakes up preempts it immediately, and a busy worker leaves it a
/// tenth of the core.
const NICE: i32 = 10;
/// Maximum number of changed records of an edit. Larger updates take long to plan.
const EDIT_RECORDS_MAX: usize = 1_024;

/// The generation that is now served, or why the update was rejected.
type Outcome = Result<Applied, ApplyError>;

struct Job {
    update: Update,
    reply: SyncSender<Outcome>,
}

/// Plans generations one after the other, on dedicated threads.
pub(crate) struct Applier {
    node: Arc<Node>,
    one_at_a_time: Mutex<()>,
    /// Queue of the thread that plans edits.
    edit_jobs: Option<SyncSender<Job>>,
    /// Queue of the low-priority thread, which plans larger updates and frees old generations.
    bulk_jobs: Option<SyncSender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Applier {
    /// Starts the threads.
    pub(crate) fn start(
        node: &Arc<Node>,
        sockets: &Arc<Sockets>,
        plugins: &[&'static PluginDef],
        runtime: &Handle,
        workers: usize,
    ) -> std::io::Result<Self> {
        let spawn = |name: &str, work: fn(&PlanningThread, &Receiver<Job>)| {
            let (jobs, waiting) = sync_channel(1);
            let (node, sockets) = (Arc::clone(node), Arc::clone(sockets));
            let planning = PlanningThread { node, sockets, plugins: plugins.to_vec(), workers };
            let runtime = runtime.clone();
            let thread = Builder::new().name(name.to_owned()).spawn(move || {
                let _entered = runtime.enter();
                work(&planning, &waiting);
            })?;
            std::io::Result::Ok((jobs, thread))
        };
        let (edit_jobs, first) = spawn("planner", PlanningThread::plan_edits)?;
        let (bulk_jobs, second) = spawn("planner-bulk", PlanningThread::plan_bulk)?;
        Ok(Self {
            node: Arc::clone(node),
            one_at_a_time: Mutex::new(()),
            edit_jobs: Some(edit_jobs),
            bulk_jobs: Some(bulk_jobs),
            threads: vec![first, second],
        })
    }

    /// Plans and serves a generation; blocks until it is served or rejected.
    pub(crate) fn apply(&self, update: Update) -> Outcome {
        let _one_at_a_time = self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
        let is_edit = self.node.plan().is_some_and(|plan| is_edit(&plan, &update));
        let jobs = if is_edit { &self.edit_jobs } else { &self.bulk_jobs };
        let (reply, outcome) = sync_channel(1);
        let sent = jobs.as_ref().and_then(|jobs| jobs.send(Job { update, reply }).ok());
        // The threads catch panics and end only with the engine.
        sent.and_then(|()| outcome.recv().ok()).unwrap_or(Err(ApplyError::Ending))
    }
}

impl Drop for Applier {
    fn drop(&mut self) {
        drop((self.edit_jobs.take(), self.bulk_jobs.take()));
        for thread in self.threads.drain(..) {
            thread.join().ok();
        }
    }
}

/// The context of a planning thread.
struct PlanningThread {
    node: Arc<Node>,
    sockets: Arc<Sockets>,
    plugins: Vec<&'static PluginDef>,
    workers: usize,
}

impl PlanningThread {
    fn plan_edits(&self, waiting: &Receiver<Job>) {
        while let Ok(job) = waiting.recv() {
            self.work(job);
        }
    }

    fn plan_bulk(&self, waiting: &Receiver<Job>) {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        if cores <= self.workers
            && let Err(error) = rustix::process::setpriority_process(None, NICE)
        {
            tracing::warn!(%error, "cannot lower the priority of the planning thread");
        }
        // Memory is only trimmed after whole generations were replaced: edits free too little.
        let mut is_replaced = false;
        loop {
            match waiting.recv_timeout(LOOK_PERIOD) {
                Ok(job) => {
                    self.work(job);
                    is_replaced = true;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.node.free_retired() && is_replaced {
                release_free();
                is_replaced = false;
            }
        }
    }

    fn work(&self, Job { update, reply }: Job) {
        let outcome = catch_unwind(AssertUnwindSafe(|| self.serve(update)));
        let outcome = outcome.unwrap_or_else(|panic| Err(ApplyError::Panicked(panic_text(&*panic).to_owned())));
        // The caller may have stopped waiting.
        reply.send(outcome).ok();
    }

    fn serve(&self, update: Update) -> Outcome {
        let generation = self.node.generation() + 1;
        let Some(previous) = self.node.plan() else { return Err(ApplyError::Ending) };
        let services = self.node.services.clone();
        let registry = &self.node.shared.registry;
        let cx = PlanCx { plugins: &self.plugins, services, registry, previous: Some(&previous) };
        let (plan, mut diagnostics) = previous.advance(update, generation, &cx)?;
        drop(previous);
        let change = self.sockets.prepare(&plan, self.workers, &mut Vec::new());
        diagnostics.extend(change.failed.iter().cloned());
        let drain = Duration::from_millis(plan.node().limits.drain_timeout_ms);
        self.node.publish(plan);
        self.sockets.commit(change, drain);
        self.node.names.follow(&self.node.shared.registry);
        Ok(Applied { generation, diagnostics })
    }
}

/// Plans the first generation of a node, on the calling thread.
pub(crate) fn plan(
    node: &Node,
    plugins: &[&'static PluginDef],
    configuration: Configuration,
    generation: u64,
) -> Result<(Plan, Vec<Diagnostic>), Diagnostics> {
    let cx = PlanCx { plugins, services: node.services.clone(), registry: &node.shared.registry, previous: None };
    Plan::build(configuration, generation, &cx)
}

/// Whether an update changes few records of the active generation.
fn is_edit(plan: &Plan, update: &Update) -> bool {
    Arc::ptr_eq(update.base(), &plan.ir) && update.delta().len() <= EDIT_RECORDS_MAX
}
