//! Many data planes on one control plane: the client side of the configuration stream, with TLS, many times in this process.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use cardinal_base::{Clock, SystemClock, task};
use cardinal_ir::{Id, SecretKey};
use cardinal_stream::{ControlPlane, Credentials, JoinToken, StreamSource, StreamSourceOptions};
use cardinal_sync::stream::{ClientOptions, NodeInfo};
use cardinal_sync::{Ack, ConfigSource as _, ConfigStatus};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::node::{Cost, Node};
use crate::procfs::CpuTime;
use crate::temp::TempDir;

/// The name in certificates of control planes with an authority of their own.
const SERVER_NAME: &str = "control-plane.cardinal.internal";
const LOOK: Duration = Duration::from_millis(2);
const ALL_MAX: Duration = Duration::from_secs(600);

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Planes {
    pub(super) count: usize,
    /// Until all have joined and serve the configuration.
    pub(super) start: Cost,
    /// From a PATCH until all have acknowledged it: the fastest, the middle and the slowest.
    pub(super) edit_s: [f64; 3],
    /// Of the control plane, over all edits.
    pub(super) edits: Cost,
    pub(super) edit_count: usize,
    /// Bytes of messages of one edit, for one data plane.
    pub(super) bytes: f64,
    pub(super) refused: f64,
}

/// Starts the data planes, and edits a route so many times.
pub(super) fn run(control: &Node, count: usize, routes: usize, edit_count: usize) -> Result<Planes> {
    descriptors()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let dir = TempDir::new("planes")?;
    let token = JoinToken::of_text(&control.token()?);
    let complete = Arc::new(AtomicUsize::new(0));
    let start = control.cost(|| {
        let _inside = runtime.enter();
        for number in 0..count {
            let source = source(control, &dir, &token, number)?;
            follow(source, routes, Arc::clone(&complete));
        }
        wait("the configuration", || Ok(complete.load(Ordering::Relaxed) >= count))
    })?;
    let behind = || Ok(control.metric("cardinal_stream_lag_generations_max")? == 0.0);
    wait("acknowledgements", behind)?;
    let sent = control.metric("cardinal_stream_sent_bytes_total")?;
    let (mut client, mut times) = (control.client()?, Vec::new());
    let cpu = CpuTime::read(control.pid())?.all_ns;
    let all = Instant::now();
    for edit in 1..=edit_count {
        let before = complete.load(Ordering::Relaxed);
        let since = Instant::now();
        client.write("PATCH", "/routes/r0", &format!(r#"{{"paths":["/many{edit}"]}}"#))?;
        wait("an edit", || Ok(complete.load(Ordering::Relaxed) >= before + count))?;
        times.push(since.elapsed().as_secs_f64());
    }
    let edits = control.cost_since(all, cpu)?;
    times.sort_by(f64::total_cmp);
    let at = |index: usize| times.get(index).copied().unwrap_or_default();
    let edit_s = [at(0), at(times.len() / 2), at(times.len().saturating_sub(1))];
    let bytes = (control.metric("cardinal_stream_sent_bytes_total")? - sent) / (edit_count * count) as f64;
    let refused = control.metric("cardinal_stream_refused_total")?;
    runtime.shutdown_timeout(Duration::from_secs(5));
    Ok(Planes { count, start, edit_s, edits, edit_count, bytes, refused })
}

/// Sockets of all data planes, here and in the control plane, whose limit is inherited.
fn descriptors() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).context("cannot raise RLIMIT_NOFILE")
}

fn source(control: &Node, dir: &TempDir, token: &JoinToken, number: usize) -> Result<StreamSource> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let id = Id::from_u128(number as u128 + 1);
    let folder = dir.path().join(number.to_string());
    std::fs::create_dir_all(&folder)?;
    let credentials = Credentials::joining(&folder, Some(token.clone()), id, &*clock)?;
    let address = control.cluster;
    let to = ControlPlane {
        host: address.ip().to_string(),
        port: address.port(),
        server_name: Some(SERVER_NAME.to_owned()),
    };
    let node = NodeInfo { id, version: env!("CARGO_PKG_VERSION").to_owned(), ..NodeInfo::default() };
    let options = StreamSourceOptions {
        control_planes: vec![to],
        client: ClientOptions::new(node),
        node: Arc::default(),
        key: SecretKey::new([7; 32]),
        status: Arc::<ConfigStatus>::default(),
        health: None,
        clock,
    };
    Ok(StreamSource::start(&folder, credentials, options)?)
}

/// Acknowledges everything, and counts generations with all routes.
fn follow(mut source: StreamSource, routes: usize, complete: Arc<AtomicUsize>) {
    task::spawn("simulated data plane", async move {
        let mut generation = 0;
        while let Some(update) = source.next().await {
            generation += 1;
            let is_complete = update.generation().routes.len() >= routes;
            source.ack(Ack::Applied { generation, diagnostics: Vec::new() });
            if is_complete {
                complete.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
}

fn wait(what: &str, is_done: impl Fn() -> Result<bool>) -> Result<()> {
    let since = Instant::now();
    while !is_done()? {
        ensure!(since.elapsed() < ALL_MAX, "not all data planes have {what} after {} s", ALL_MAX.as_secs());
        std::thread::sleep(LOOK);
    }
    Ok(())
}
