//! The sockets of the Admin API, and for data planes.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use cardinal_base::{Clock, task};
use cardinal_control::api::{Admin, Listener, serve};
use cardinal_kong::settings::EnforceRbac;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::{Control, enforced, tls};

/// How often an address is tried that the predecessor still has, and how long in all.
const PAUSE: Duration = Duration::from_millis(20);
const ATTEMPTS_MAX: u32 = 1_500;

/// What a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::run) enum Purpose {
    /// The Admin API.
    Admin,
    /// Data planes.
    Cluster,
}

impl Purpose {
    fn setting(self) -> &'static str {
        match self {
            Self::Admin => "admin_listen",
            Self::Cluster => "cluster_listen",
        }
    }
}

/// Listens on an address; `None` if the predecessor still has it.
pub(in crate::run) async fn bind(
    purpose: Purpose,
    address: SocketAddr,
    takes_over: bool,
) -> Result<Option<TcpListener>> {
    match TcpListener::bind(address).await {
        Ok(socket) => Ok(Some(socket)),
        Err(error) if takes_over && error.kind() == ErrorKind::AddrInUse => Ok(None),
        Err(error) => Err(listen_error(purpose, address, &error)),
    }
}

/// Listens once the predecessor has closed its socket.
pub(in crate::run) async fn bind_later(
    purpose: Purpose,
    address: SocketAddr,
    clock: &dyn Clock,
) -> Result<TcpListener> {
    let mut attempt = 0;
    loop {
        clock.sleep(PAUSE).await;
        attempt += 1;
        match TcpListener::bind(address).await {
            Ok(socket) => return Ok(socket),
            Err(error) if attempt >= ATTEMPTS_MAX || error.kind() != ErrorKind::AddrInUse => {
                return Err(listen_error(purpose, address, &error));
            }
            Err(_) => {}
        }
    }
}

fn listen_error(purpose: Purpose, address: SocketAddr, error: &std::io::Error) -> anyhow::Error {
    let (setting, port) = (purpose.setting(), address.port());
    anyhow!("{setting}: cannot listen on {address}: {error}; find the process with: ss -ltnp 'sport = :{port}'")
}

/// What serves requests of one address.
struct Service {
    admin: Admin,
    address: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    clock: Arc<dyn Clock>,
    stop: watch::Receiver<bool>,
    is_open: bool,
}

impl Control {
    pub(super) fn listen(&self, admin: &Admin, takes_over: bool) -> Result<()> {
        let _inside = self.runtime.enter();
        for &(address, has_tls) in &self.settings.admin.listeners {
            let tls = has_tls.then(|| tls::server_config(&self.settings)).transpose()?;
            let (admin, clock, stop) = (admin.clone(), Arc::clone(&self.clock), self.stop.subscribe());
            let is_open = enforced(&self.settings, self.files.is_some()) == EnforceRbac::Off;
            let service = Service { admin, address, tls, clock, stop, is_open };
            match self.runtime.block_on(bind(Purpose::Admin, address, takes_over)) {
                Ok(Some(socket)) => drop(task::spawn("Admin API", service.run(socket))),
                Ok(None) => drop(task::spawn("Admin API", service.run_later())),
                // Nodes that need no API must be able to run side by side.
                Err(error) if self.files.is_some() && !self.settings.admin.is_given => {
                    tracing::warn!("{error:#}; the Admin API is not served");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Service {
    async fn run(mut self, socket: TcpListener) {
        let bound = socket.local_addr().unwrap_or(self.address);
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        tracing::info!(address = %bound, "listening on {bound} (admin, {scheme})");
        if self.is_open && !bound.ip().is_loopback() {
            tracing::warn!("the Admin API on {bound} has no authentication: restrict access to this address");
        }
        let serving = serve(self.admin, Listener { socket, tls: self.tls }, self.clock);
        tokio::select! {
            () = serving => {}
            _ = self.stop.wait_for(|stop| *stop) => {}
        }
    }

    /// Waits until the predecessor has closed its socket.
    async fn run_later(self) {
        match bind_later(Purpose::Admin, self.address, &*self.clock).await {
            Ok(socket) => self.run(socket).await,
            Err(error) => tracing::error!("{error:#}; the Admin API is not served"),
        }
    }
}
