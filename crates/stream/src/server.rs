//! [`StreamServer`]: what a control plane publishes its generations to.

use std::sync::Arc;

use cardinal_base::Clock;
use cardinal_ir::{Ir, Secrets};
use cardinal_sync::stream::{GenerationId, Outdated, TargetHealth};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::join::JoinAuthority;
use crate::proxies::{ProxyInfo, Summary};
use crate::serve;
use crate::shared::{Shared, StreamServerOptions};
use crate::tls::{StreamTls, StreamTlsError};

/// Sends generations to data planes. Clones are the same server. It is a [`MetricSource`](cardinal_base::metrics::MetricSource).
#[derive(Clone, Debug)]
pub struct StreamServer(Arc<Shared>);

impl StreamServer {
    /// A server without generations.
    pub fn new(options: StreamServerOptions, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Shared::new(options, clock)))
    }

    /// Sends a generation to all data planes. Only secrets that its records refer to are sent. Takes time in proportion to the
    /// number of records, so it is not to be called on a thread that serves requests.
    ///
    /// # Errors
    /// When a generation with this number or a higher one was published before.
    pub fn publish(&self, ir: &Arc<Ir>, mut secrets: Secrets, number: u64) -> Result<GenerationId, Outdated> {
        secrets.retain_used(ir);
        let id = self.0.history_mut().publish(ir, secrets, number)?.id;
        self.0.published.send_replace(number);
        Ok(id)
    }

    /// Tells all data planes that are connected what an operator said about a target.
    pub fn set_health(&self, health: TargetHealth) {
        // An error means that none is connected.
        self.0.health.send(health).ok();
    }

    /// Number of the newest generation; 0 if there is none.
    pub fn newest(&self) -> u64 {
        *self.0.published.borrow()
    }

    /// The hash of the records of a generation that was published lately, 32 hexadecimal digits.
    pub fn hash_of(&self, number: u64) -> Option<String> {
        let history = self.0.history();
        let found = history.numbered(number)?.id.records.to_string();
        Some(found.chars().filter(char::is_ascii_hexdigit).take(32).collect())
    }

    /// The data planes that are connected, and those that were lately.
    pub fn proxies(&self) -> Vec<ProxyInfo> {
        self.0.proxies.list()
    }

    /// The number of data planes that are connected.
    pub fn connected(&self) -> usize {
        self.0.proxies.connected()
    }

    /// The number of connections that were refused: in the TLS handshake, because too many are open or
    /// a certificate is missing, for their token or for their messages.
    pub fn refused(&self) -> u64 {
        self.0.refused()
    }

    /// Bytes of messages that data planes were sent, before TLS.
    pub fn sent_bytes(&self) -> u64 {
        self.0.sent_bytes()
    }

    pub(crate) fn summary(&self) -> Summary {
        self.0.proxies.summary(self.newest())
    }

    /// Accepts data planes on this socket, until the future is dropped or `stop` is set; then connections are closed. With an
    /// authority, data planes can join by a token.
    ///
    /// # Errors
    /// When the certificates cannot be used.
    pub async fn serve(
        &self,
        listener: TcpListener,
        tls: &StreamTls,
        joining: Option<Arc<JoinAuthority>>,
        stop: watch::Receiver<bool>,
    ) -> Result<(), StreamTlsError> {
        let config = tls.server(joining.is_some())?;
        serve::accept(Arc::clone(&self.0), listener, serve::Acceptor { config, joining }, stop).await;
        Ok(())
    }
}
