//! [`Applier`]: the thread that plans generations and frees old ones, so that no worker ever does.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use cardinal_ir::{Diagnostic, Ir};
use cardinal_sdk::PluginDef;
use tokio::runtime::Handle;

use crate::engine::Applied;
use crate::node::Node;
use crate::plan::{Plan, PlanCx};

/// How often plans are looked at that requests may still hold.
const LOOK_PERIOD: Duration = Duration::from_millis(500);
/// Generations that wait to be planned; whoever brings more waits, too.
const WAITING_MAX: usize = 4;
/// Niceness of the thread where workers need all cores: a worker that wakes up runs at once, and one that is busy all
/// the time leaves the thread a tenth of its core.
const NICE: i32 = 10;

/// What is served from now on, or why not.
type Outcome = Result<Applied, Vec<Diagnostic>>;

struct Job {
    ir: Arc<Ir>,
    reply: SyncSender<std::thread::Result<Outcome>>,
}

/// Plans generations one after the other, on a thread of its own.
pub(crate) struct Applier {
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Applier {
    /// Starts the thread. It gives way to workers when they are as many as the cores.
    pub(crate) fn start(
        node: Arc<Node>,
        plugins: Vec<&'static PluginDef>,
        runtime: Handle,
        workers: usize,
    ) -> std::io::Result<Self> {
        let (jobs, waiting) = sync_channel(WAITING_MAX);
        let gives_way = std::thread::available_parallelism().map_or(1, usize::from) <= workers;
        let thread = std::thread::Builder::new().name("planner".to_owned()).spawn(move || {
            let _entered = runtime.enter();
            if gives_way && let Err(error) = rustix::process::setpriority_process(None, NICE) {
                tracing::warn!(%error, "planning competes with requests for the processor");
            }
            run(&node, &plugins, &waiting);
        })?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Plans a generation and serves it; waits for it.
    pub(crate) fn apply(&self, ir: Arc<Ir>) -> Outcome {
        let (reply, outcome) = sync_channel(1);
        let sent = self.jobs.as_ref().and_then(|jobs| jobs.send(Job { ir, reply }).ok());
        match sent.and_then(|()| outcome.recv().ok()) {
            Some(Ok(outcome)) => outcome,
            Some(Err(panic)) => resume_unwind(panic),
            // The thread catches panics and ends only with the engine.
            None => Err(Vec::new()),
        }
    }
}

impl Drop for Applier {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn run(node: &Node, plugins: &[&'static PluginDef], waiting: &Receiver<Job>) {
    loop {
        match waiting.recv_timeout(LOOK_PERIOD) {
            Ok(Job { ir, reply }) => {
                let outcome = catch_unwind(AssertUnwindSafe(|| serve(node, plugins, ir)));
                // Who asked may have given up.
                reply.send(outcome).ok();
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        node.free_retired();
    }
}

fn serve(node: &Node, plugins: &[&'static PluginDef], ir: Arc<Ir>) -> Outcome {
    let generation = node.generation() + 1;
    let (plan, diagnostics) = plan(node, plugins, ir, generation)?;
    node.publish(plan);
    node.names.follow(&node.shared.registry);
    Ok(Applied { generation, diagnostics })
}

/// Plans a generation on the calling thread.
pub(crate) fn plan(
    node: &Node,
    plugins: &[&'static PluginDef],
    ir: Arc<Ir>,
    generation: u64,
) -> Result<(Plan, Vec<Diagnostic>), Vec<Diagnostic>> {
    let previous = node.plan();
    let cx = PlanCx {
        plugins,
        services: node.services.clone(),
        registry: &node.shared.registry,
        previous: previous.as_deref(),
    };
    Plan::build(ir, generation, &cx)
}
