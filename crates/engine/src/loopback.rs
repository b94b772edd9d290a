//! [`Loopback`]: a worker with in-memory connections that runs on the caller's thread.
//!
//! It runs the same code as any worker without system calls, so that instruction and allocation counts are reproducible
//! on a busy machine. The caller controls the clock; nothing waits for real time.

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

/// Capacity of a connection in each direction, bytes.
const PIPE_BYTES: usize = 256 * 1024;

/// One worker without sockets.
pub struct Loopback {
    // Fields are dropped in this order, before the runtimes.
    worker: Rc<Worker>,
    runtime: LocalRuntime,
    _control: Runtime,
}

impl Loopback {
    /// Creates a worker that serves `configuration` and uses `clock`. `dial` is called with the address for each
    /// connection to a backend, and returns the gateway's end of the connection. Backends must be addresses, without
    /// TLS.
    ///
    /// # Errors
    /// If the generation is rejected or the runtimes cannot be created.
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
        // The node does not use its dialler before this point.
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

    /// Wakes tasks whose deadline has passed according to the clock. Workers with sockets do this every 20 ms.
    pub fn fire_deadlines(&self) {
        self.worker.wheel.fire();
    }

    /// Opens a clear-text client connection: HTTP/1, or HTTP/2 by its preface. Only inside of [`Loopback::run`].
    pub fn connect(&self) -> DuplexStream {
        let (near, far) = tokio::io::duplex(PIPE_BYTES);
        let local = SocketAddr::from(([127, 0, 0, 1], 80));
        let mut client = Client::at(SocketAddr::from(([127, 0, 0, 1], 50_000)), local);
        client.connection = self.worker.node.next_connection.fetch_add(1, Ordering::Relaxed);
        let info =
            ConnectionInfo { tls: false, plain_on_tls: false, listener_port: 80, verification: None, entrance: None };
        let serving = serve_h1(Rc::clone(&self.worker), Box::new(H1::new(Io::Memory(far), b"")), client, info);
        drop(task::spawn_local("connection", serving));
        near
    }
}
