//! The input of a proxy configuration: addresses, files, routes.

use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Context as _, Result};

use super::Program;
use crate::load::{HOSTS, PATHS};
use crate::temp::TempDir;

/// The setup of a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Setup {
    /// Sixteen routes to an HTTP/1.1 upstream; clients use HTTP/1.1, with or without TLS, and HTTP/2.
    Http,
    /// The same, with upgrades allowed.
    WebSocket,
    /// The same. Cardinal also checks an API key, applies a rate limit and adds a request id.
    Plugins,
    /// Sixteen routes to a gRPC upstream.
    Grpc,
    /// TCP proxying.
    Tcp,
    /// This many routes; only Cardinal.
    Routes(usize),
}

/// The key that clients send for [`Setup::Plugins`].
pub(crate) const KEY: (&str, &str) = ("apikey", "bench-key-0123456789abcdef");

impl Setup {
    /// Host, without its domain, and path of one route.
    pub(super) fn target(&self) -> (&str, &str) {
        match self {
            Self::Routes(_) => ("h0", "r0"),
            Self::Http | Self::WebSocket | Self::Plugins | Self::Grpc | Self::Tcp => ("orders", "search"),
        }
    }

    /// Host and path of `count` requests, distributed over the routes; for [`Setup::Routes`].
    pub(crate) fn targets(count: usize, routes: usize) -> Vec<(String, String)> {
        (0..count.min(routes))
            .map(|at| {
                let (host, path) = route(at * routes / count.min(routes));
                (format!("{host}.bench.test"), format!("/{path}/items/1234?page=3"))
            })
            .collect()
    }
}

/// Host, without its domain, and path of one of many routes: ten paths per host.
pub(super) fn route(at: usize) -> (String, String) {
    (format!("h{}", at / 10), format!("r{}", at % 10))
}

/// Addresses and files of a proxy.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) dir: TempDir,
    pub(super) setup: Setup,
    pub(super) upstream: SocketAddr,
    /// HTTP/1.1.
    pub(super) http: SocketAddr,
    /// HTTP/1.1 and HTTP/2 over TLS.
    pub(super) tls: SocketAddr,
    /// HTTP/2 without TLS.
    pub(super) h2c: SocketAddr,
    pub(super) tcp: SocketAddr,
    pub(super) status: SocketAddr,
    /// Distinguishes changed configurations.
    pub(super) extra: Cell<u32>,
}

impl Site {
    pub(super) fn new(program: Program, setup: Setup, upstream: SocketAddr) -> Result<Self> {
        // All sockets are held until all ports are known, so that the ports differ.
        let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port");
        let held = [free()?, free()?, free()?, free()?, free()?];
        let [http, tls, h2c, tcp, status] = &held;
        let site = Self {
            dir: TempDir::new(program.name())?,
            setup,
            upstream,
            http: http.local_addr()?,
            tls: tls.local_addr()?,
            h2c: h2c.local_addr()?,
            tcp: tcp.local_addr()?,
            status: status.local_addr()?,
            extra: Cell::new(0),
        };
        let made =
            rcgen::generate_simple_self_signed(["*.bench.test".to_owned()]).context("cannot make a certificate")?;
        site.dir.file("cert.pem", &made.cert.pem())?;
        site.dir.file("key.pem", &made.signing_key.serialize_pem())?;
        site.dir.file("both.pem", &(made.cert.pem() + &made.signing_key.serialize_pem()))?;
        Ok(site)
    }

    /// The addresses on which a program listens for clients.
    pub(super) fn listens(&self, program: Program) -> Vec<SocketAddr> {
        if program == Program::Relay || self.setup == Setup::Tcp {
            vec![self.tcp]
        } else {
            vec![self.http, self.tls, self.h2c]
        }
    }

    /// Replaces a file atomically, so that no process reads a partial file.
    pub(super) fn replace(&self, name: &str, text: &str) -> Result<()> {
        let new = self.dir.file(&format!("{name}.new"), text)?;
        std::fs::rename(&new, self.dir.path().join(name)).context("cannot replace the configuration")
    }

    /// Host (without its domain) and paths of the routes, except for [`Setup::Routes`].
    pub(super) fn routes() -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
        HOSTS.iter().map(|host| (*host, PATHS.as_slice()))
    }
}
