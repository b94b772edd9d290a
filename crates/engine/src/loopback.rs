//! [`Loopback`]: one worker whose connections are made of memory, on the caller's own thread.
//!
//! What such a worker does for a request is what any worker does, without the system calls: the same number of
//! instructions and of allocations each time, on a busy machine too. Its time is the caller's: nothing here waits for
//! the machine's.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use cardinal_base::{Clock, task};
use cardinal_net::Io;
use cardinal_net::h1::H1;
use cardinal_sdk::{Client, PluginDef};
use tokio::io::DuplexStream;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime, Runtime};

use crate::applying::plan;
use crate::arrival::ConnectionInfo;
use crate::configuration::Configuration;
use crate::engine::make_node;
use crate::http::serve_h1;
use crate::outcome::EngineError;
use crate::worker::Worker;

/// Bytes that fit into a connection's memory, each way.
const PIPE_BYTES: usize = 256 * 1024;

/// One worker without sockets.
pub struct Loopback {
    // Dropped before the runtimes, in this order.
    worker: Rc<Worker>,
    runtime: LocalRuntime,
    _control: Runtime,
}

impl Loopback {
    /// A worker that serves `configuration` and goes by `clock`. `dial` is called for each connection to a backend: it gets the
    /// address, and gives the near end. Backends must be addresses, without TLS.
    ///
    /// # Errors
    /// When the generation is refused or the runtimes cannot be had.
    pub fn start(
        configuration: Configuration,
        plugins: &[&'static PluginDef],
        clock: Arc<dyn Clock>,
        dial: impl Fn(SocketAddr) -> DuplexStream + Send + Sync + 'static,
    ) -> Result<Self, EngineError> {
        let failed = |what| move |error| EngineError::Start { what, error };
        let control = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let control = control.map_err(failed("the control runtime"))?;
        let node = Arc::new(make_node(&configuration.node, control.handle(), clock, 1, None)?);
        // A node is asked for its dialler only after this.
        node.dial.set(Box::new(move |address| Io::Memory(dial(address)))).ok();
        let (first, _) = plan(&node, plugins, configuration, 1).map_err(EngineError::Refused)?;
        node.publish(first);
        let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        let runtime = runtime.map_err(failed("a worker"))?;
        let Some(plan) = node.plan() else { return Err(EngineError::Setup("no plan".to_owned())) };
        let worker = Worker::new(0, node, plan);
        Ok(Self { worker, runtime, _control: control })
    }

    /// Runs the worker until `work` is done.
    pub fn run<F: Future>(&self, work: F) -> F::Output {
        self.runtime.block_on(work)
    }

    /// Wakes what waits for a deadline that has passed by the clock. Workers with sockets do so every 20 ms.
    pub fn fire_deadlines(&self) {
        self.worker.wheel.fire();
    }

    /// A new client connection in clear text: HTTP/1, or HTTP/2 by its preface. Only inside of [`Loopback::run`].
    pub fn connect(&self) -> DuplexStream {
        let (near, far) = tokio::io::duplex(PIPE_BYTES);
        let local = SocketAddr::from(([127, 0, 0, 1], 80));
        let mut client = Client::at(SocketAddr::from(([127, 0, 0, 1], 50_000)), local);
        client.connection = self.worker.node.next_connection.fetch_add(1, Ordering::Relaxed);
        let facts =
            ConnectionInfo { tls: false, plain_on_tls: false, listener_port: 80, verification: None, entrance: None };
        let serving = serve_h1(Rc::clone(&self.worker), Box::new(H1::new(Io::Memory(far), b"")), client, facts);
        drop(task::spawn_local("connection", serving));
        near
    }
}
