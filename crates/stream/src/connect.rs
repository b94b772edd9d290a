//! A data plane's connection to a control plane.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use cardinal_base::{Clock, task, timeout};
use http::Uri;
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::body::Body;

/// Time for name resolution, TCP, TLS and HTTP/2 together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// HTTP/2 pings: a peer that vanished is noticed although nothing is sent.
pub(crate) const PING_INTERVAL: Duration = Duration::from_secs(15);
pub(crate) const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// HTTP/2 windows of a stream and a connection: a part of a generation.
pub(crate) const WINDOW_BYTES: u32 = 1 << 20;

/// The address of a control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlPlane {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// The name in its certificate (`cluster_server_name`); the host if there is none.
    pub server_name: Option<String>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name cannot be one of a certificate.
    #[error("{0:?} is not the name of a server")]
    Name(String),
    /// No TCP connection.
    #[error("cannot connect: {0}")]
    Tcp(#[source] std::io::Error),
    /// The handshake failed: one side does not accept the certificate of the other.
    #[error("the TLS handshake failed: {0}")]
    Tls(#[source] std::io::Error),
    /// The peer does not speak HTTP/2.
    #[error("the HTTP/2 connection failed: {0}")]
    Http(#[source] hyper::Error),
    /// It took too long.
    #[error("no connection within {} s", CONNECT_TIMEOUT.as_secs())]
    Timeout,
}

/// A connection over which gRPC calls can be made.
pub(crate) struct Channel(SendRequest<Body>);

impl Channel {
    /// Connects.
    pub(crate) async fn connect(
        to: &ControlPlane,
        tls: &Arc<ClientConfig>,
        clock: &dyn Clock,
    ) -> Result<Self, ConnectError> {
        timeout(clock, CONNECT_TIMEOUT, Box::pin(establish(to, tls))).await.unwrap_or(Err(ConnectError::Timeout))
    }

    /// What gRPC calls name as their target.
    pub(crate) fn origin() -> Uri {
        Uri::from_static("https://control-plane")
    }
}

async fn establish(to: &ControlPlane, tls: &Arc<ClientConfig>) -> Result<Channel, ConnectError> {
    let name = to.server_name.as_deref().unwrap_or(&to.host);
    let server_name = ServerName::try_from(name.to_owned()).map_err(|_| ConnectError::Name(name.to_owned()))?;
    let tcp = TcpStream::connect((&*to.host, to.port)).await.map_err(ConnectError::Tcp)?;
    tcp.set_nodelay(true).map_err(ConnectError::Tcp)?;
    let stream = TlsConnector::from(Arc::clone(tls)).connect(server_name, tcp).await.map_err(ConnectError::Tls)?;
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(ConnectError::Http)?;
    task::spawn("configuration stream: connection", async move {
        if let Err(error) = connection.await {
            tracing::debug!("the connection to the control plane ended: {error}");
        }
    });
    Ok(Channel(sender))
}

impl tower_service::Service<http::Request<Body>> for Channel {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
