//! Fixed workloads over in-memory connections: the cost of a request in instructions and allocations, reproducible.
//!
//! *Must not know*: how the cost is measured. `cardinal-guard` runs a workload under a profiler; `cargo xtask guard`
//! compares the result with the counts in the repository.
//!
//! Start at [`Workload`].

mod clock;
mod config;
mod h1;
mod h2;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use cardinal_base::Clock;
use cardinal_engine::Loopback;

use crate::clock::SteadyClock;

/// A reproducible workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Workload {
    /// HTTP/1.1, sixteen routes, bodies of 1 KiB
    Plain,
    /// The same with key-auth, rate-limiting and correlation-id
    Plugins,
    /// The same as plain, bodies of 64 KiB come down
    Down64k,
    /// The same as plain, bodies of 64 KiB go up
    Up64k,
    /// The same as plain, each request on a connection of its own
    Fresh,
    /// HTTP/2 to HTTP/1.1, bodies of 1 KiB
    H2,
    /// HTTP/2 to HTTP/2 with trailers, as gRPC
    Grpc,
}

/// Number of connections of a workload.
const CONNECTIONS: usize = 8;

/// Time between two requests.
const PERIOD: Duration = Duration::from_micros(50);

/// Number of requests between two checks for expired deadlines: 20 ms.
const DEADLINES_EVERY: usize = 400;

impl Workload {
    /// All workloads.
    pub const ALL: [Self; 7] =
        [Self::Plain, Self::Plugins, Self::Down64k, Self::Up64k, Self::Fresh, Self::H2, Self::Grpc];

    /// The name on command lines and in files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Plugins => "plugins",
            Self::Down64k => "down64k",
            Self::Up64k => "up64k",
            Self::Fresh => "fresh",
            Self::H2 => "h2",
            Self::Grpc => "grpc",
        }
    }

    /// Number of requests after which the cost of one is reproducible, within a third of a percent.
    pub const fn requests(self) -> usize {
        match self {
            Self::Plain | Self::Plugins | Self::Fresh => 2_000,
            Self::H2 | Self::Grpc => 1_000,
            Self::Down64k | Self::Up64k => 400,
        }
    }

    /// Prepares a worker with warm connections for this workload.
    ///
    /// # Errors
    /// If a response is wrong.
    pub fn prepare(self) -> Result<Prepared> {
        let configuration = config::compile(self)?;
        let response: Arc<[u8]> = match self {
            Self::Down64k => h1::response(64 * 1024),
            _ => h1::response(1024),
        }
        .into();
        let clock = Arc::new(SteadyClock::new());
        let time = Arc::clone(&clock) as Arc<dyn Clock>;
        let loopback = Loopback::start(configuration, &cardinal::PLUGINS, time, move |_| match self {
            Self::Grpc => h2::upstream(),
            _ => h1::upstream(Arc::clone(&response)),
        })?;
        let clients = match self {
            Self::H2 | Self::Grpc => Clients::H2(Vec::new()),
            _ => Clients::H1(Vec::new()),
        };
        let mut prepared = Prepared { workload: self, clock, made: 0, clients, loopback };
        prepared.connect();
        prepared.run(4 * CONNECTIONS)?;
        Ok(prepared)
    }
}

enum Clients {
    H1(Vec<h1::Client>),
    H2(Vec<h2::Client>),
}

/// A worker with warm connections.
pub struct Prepared {
    workload: Workload,
    clock: Arc<SteadyClock>,
    /// Number of requests made so far.
    made: usize,
    // Clients are dropped before the worker.
    clients: Clients,
    loopback: Loopback,
}

impl Prepared {
    fn connect(&mut self) {
        let Self { workload, clients, loopback, .. } = self;
        loopback.run(async {
            for at in 0..CONNECTIONS {
                match clients {
                    Clients::H1(all) => all.push(h1::Client::new(loopback.connect(), &config::request(*workload, at))),
                    Clients::H2(all) => {
                        all.push(h2::Client::new(loopback.connect(), at, *workload == Workload::Grpc));
                    }
                }
            }
        });
    }

    /// Makes this many requests, one after the other, alternating between all connections.
    ///
    /// # Errors
    /// If a response is wrong.
    pub fn run(&mut self, requests: usize) -> Result<()> {
        let Self { workload, clock, made, clients, loopback } = self;
        loopback.run(async {
            for at in 0..requests {
                *made += 1;
                clock.advance(PERIOD);
                if *made % DEADLINES_EVERY == 0 {
                    loopback.fire_deadlines();
                }
                match clients {
                    Clients::H1(all) => {
                        let at = at % CONNECTIONS;
                        if *workload == Workload::Fresh
                            && let Some(client) = all.get_mut(at)
                        {
                            client.replace(loopback.connect());
                        }
                        if let Some(client) = all.get_mut(at) {
                            client.exchange().await?;
                        }
                    }
                    Clients::H2(all) => {
                        if let Some(client) = all.get_mut(at % CONNECTIONS) {
                            client.exchange().await?;
                        }
                    }
                }
            }
            Ok(())
        })
    }
}
