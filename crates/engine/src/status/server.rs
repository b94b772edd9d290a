//! Serves a router on a socket over HTTP/1.1: TLS, common response headers, and limits on connections, request heads
//! and slow clients.

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header::{CONNECTION, DATE, HOST, HeaderValue, SERVER};
use axum::http::{Request, Response, Version};
use axum::response::IntoResponse as _;
use cardinal_base::{Elapsed, task, timeout};
use cardinal_http::is_authority;
use cardinal_net::{Io, tls};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tower_service::Service as _;

use super::paced::{Paced, Progress, STEP_TIMEOUT};
use super::pages::Page;
use super::tls::StatusTls;
use crate::node::Node;

/// Maximum number of connections; further ones are closed.
pub(super) const CONNECTIONS_MAX: usize = 64;
/// Maximum number of requests per connection.
pub(super) const REQUESTS_MAX: u32 = 1_000;
/// Limits on a request head.
pub(super) const HEAD_BYTES_MAX: usize = 16 * 1024;
pub(super) const TARGET_BYTES_MAX: usize = 8 * 1024;
pub(super) const HEADER_COUNT_MAX: usize = 100;
/// The pause after accepting failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Maximum duration of a lingering close.
const LINGER_TIMEOUT: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 256 * 1024;

/// Serves a router until the task ends, together with its connections.
pub(super) async fn serve(node: Arc<Node>, router: Router, listener: TcpListener, tls: bool) {
    let server = Arc::new(Server { node, router, tls: tls.then(StatusTls::default) });
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let (_alive, ended) = watch::channel(());
    loop {
        let tcp = match listener.accept().await {
            Ok((tcp, _)) => tcp,
            Err(error) => {
                tracing::warn!(%error, "the status listener cannot accept");
                server.node.services.clock.sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::debug!("a status connection was closed: there are too many");
            continue;
        };
        let (server, mut ended) = (Arc::clone(&server), ended.clone());
        drop(task::spawn("status connection", async move {
            let _place = place;
            tokio::select! {
                result = server.connection(tcp) => {
                    if let Err(error) = result {
                        tracing::debug!(%error, "a status connection failed");
                    }
                }
                _ = ended.changed() => {}
            }
        }));
    }
}

/// The state shared by all connections.
struct Server {
    node: Arc<Node>,
    router: Router,
    tls: Option<StatusTls>,
}

/// Why a connection ended early.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error("TLS handshake: timeout")]
    Handshake(#[from] Elapsed),
    #[error("TLS handshake: {}", tls::io_text(.0))]
    Tls(std::io::Error),
    #[error("there is no TLS for this listener: {0}")]
    NoTls(&'static str),
    #[error("{0}")]
    Http(hyper::Error),
}

impl Server {
    async fn connection(self: &Arc<Self>, tcp: TcpStream) -> Result<(), ConnectionError> {
        // Without the option, small responses may wait for an acknowledgement; a failure only costs speed.
        tcp.set_nodelay(true).ok();
        let clock = &self.node.services.clock;
        let io = match &self.tls {
            None => Io::Tcp(tcp),
            Some(tls) => {
                let config = tls.config(&self.node).map_err(ConnectionError::NoTls)?;
                let accepted = timeout(&**clock, STEP_TIMEOUT, TlsAcceptor::from(config).accept(tcp)).await?;
                Io::ServerTls(Box::new(accepted.map_err(ConnectionError::Tls)?))
            }
        };
        let progress = Arc::new(Progress::default());
        let io = Paced::new(io, Arc::clone(clock), Arc::clone(&progress));
        let (server, count) = (Arc::clone(self), AtomicU32::new(0));
        let service = service_fn(move |request| {
            progress.step();
            let is_last = count.fetch_add(1, Ordering::Relaxed) + 1 >= REQUESTS_MAX;
            let (server, progress) = (Arc::clone(&server), Arc::clone(&progress));
            Box::pin(async move {
                let response = server.answer(request, is_last).await;
                progress.step();
                Ok::<_, Infallible>(response)
            })
        });
        let mut connection = http1::Builder::new()
            .max_buf_size(HEAD_BYTES_MAX)
            .max_headers(HEADER_COUNT_MAX)
            // `Paced` enforces the timeouts.
            .header_read_timeout(None)
            .half_close(true)
            .auto_date_header(false)
            .title_case_headers(true)
            .serve_connection(TokioIo::new(io), service);
        let result = poll_fn(|cx| connection.poll_without_shutdown(cx)).await;
        let io = connection.into_parts().io.into_inner().into_inner();
        // The connection ends in any case.
        timeout(&**clock, LINGER_TIMEOUT, linger(io)).await.ok();
        result.map_err(ConnectionError::Http)
    }

    async fn answer(&self, request: Request<Incoming>, is_last: bool) -> Response<Body> {
        // No request needs a body here; an unread body ends the connection.
        let mut close = is_last || !request.body().is_end_stream();
        let mut response = match refusal(&request) {
            Some(page) => {
                close = true;
                page.into_response()
            }
            None => match self.router.clone().call(request).await {
                Ok(response) => response,
                Err(error) => match error {},
            },
        };
        let headers = response.headers_mut();
        let date = httpdate::fmt_http_date(self.node.services.clock.unix().system_time());
        headers.extend(HeaderValue::try_from(date).ok().map(|date| (DATE, date)));
        let name = self.node.plan().and_then(|plan| plan.node().headers.server.clone());
        headers.extend(name.and_then(|name| HeaderValue::from_str(&name).ok()).map(|name| (SERVER, name)));
        if close {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// The response to requests that are invalid in ways that hyper does not check.
fn refusal(request: &Request<Incoming>) -> Option<Page> {
    if request.uri().path_and_query().is_some_and(|target| target.as_str().len() > TARGET_BYTES_MAX) {
        return Some(Page::message(414, "URI too long"));
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    let is_readable = match (hosts.next(), hosts.next()) {
        (None, None) => request.version() < Version::HTTP_11,
        (Some(host), None) => is_authority(host.as_bytes()),
        _ => false,
    };
    (!is_readable).then(|| Page::message(400, "Bad request"))
}

/// Lingering close: input is read and dropped for a moment, because closing the socket earlier would reset the
/// connection, and the client might lose the response.
async fn linger(mut io: Io) -> std::io::Result<()> {
    io.shutdown().await?;
    let mut rest = Vec::with_capacity(LINGER_BYTES_MAX / 16);
    let mut left = LINGER_BYTES_MAX;
    while left > 0 {
        rest.clear();
        match io.read_buf(&mut rest).await? {
            0 => break,
            count => left = left.saturating_sub(count),
        }
    }
    Ok(())
}
