//! The status listener: a small HTTP/1.1 server that tells how the node is, apart from the workers, so that it answers
//! when they are busy.

mod digest;
mod form;
mod metrics;
mod pages;

use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cardinal_base::task;
use cardinal_http::h1::{Framing, HeadError, HeadLimits, Parsed, keep_alive, parse_request, request_framing};
use cardinal_http::{Method, RequestHead, default_reason};
use cardinal_net::h1::H1;
use cardinal_net::tls::{self, ServerSettings};
use cardinal_net::{Io, NetError};
use rustls::ServerConfig;
use rustls::server::ProducesTickets;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use crate::node::Node;
use digest::Digests;
pub(crate) use form::PlainStatus;
use pages::Page;

/// Connections at once; more are closed.
const CONNECTIONS_MAX: usize = 64;
/// Requests of one connection.
const REQUESTS_MAX: u32 = 1_000;
/// For a TLS handshake, for a head to arrive, for a response to be taken.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two requests.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// After accepting failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// For a client to take notice of the end, and what is read from it meanwhile.
const LINGER_TIMEOUT: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 256 * 1024;
/// Limits on a request head.
const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 16 * 1024, line_bytes_max: 8 * 1024, header_count_max: 100 };

/// Serves status requests for as long as the task lives; its connections end with it. With `tls`, by the node's own
/// certificates.
pub(crate) async fn serve(node: Arc<Node>, listener: TcpListener, tls: bool) {
    let server = Arc::new(Server { node, digests: Digests::default(), tls: tls.then(Mutex::default) });
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let (_alive, ended) = watch::channel(());
    loop {
        let tcp = match listener.accept().await {
            Ok((tcp, _)) => tcp,
            Err(error) => {
                tracing::warn!(%error, "the status listener cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
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
                        tracing::debug!(%error, "a status connection broke");
                    }
                }
                _ = ended.changed() => {}
            }
        }));
    }
}

/// What connections have in common.
struct Server {
    node: Arc<Node>,
    digests: Digests,
    tls: Option<Mutex<Tls>>,
}

/// TLS of the generation that is served.
#[derive(Default)]
struct Tls {
    ticketer: Option<Arc<dyn ProducesTickets>>,
    config: Option<(u64, Arc<ServerConfig>)>,
}

/// Why a connection ended early.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("{0} took too long")]
    Timeout(&'static str),
    #[error("TLS: {}", tls::io_text(.0))]
    Tls(std::io::Error),
    #[error("there is no TLS for this listener: {0}")]
    NoTls(&'static str),
    #[error("{0}")]
    Net(NetError),
}

/// What came of waiting for a request.
enum Next {
    Request(RequestHead),
    Refused(HeadError),
    Ended,
}

impl Server {
    async fn connection(&self, tcp: TcpStream) -> Result<(), Broken> {
        // Without it small responses may wait for an acknowledgement; a failure costs only speed.
        tcp.set_nodelay(true).ok();
        let io = match &self.tls {
            None => Io::Tcp(tcp),
            Some(tls) => {
                let config = self.tls_config(tls).map_err(Broken::NoTls)?;
                let accepted = within("the TLS handshake", STEP_TIMEOUT, TlsAcceptor::from(config).accept(tcp)).await?;
                Io::ServerTls(Box::new(accepted.map_err(Broken::Tls)?))
            }
        };
        let mut connection = H1::new(io, &[]);
        for _ in 0..REQUESTS_MAX {
            let (page, method, keep) = match read_head(&mut connection).await? {
                Next::Ended => return Ok(()),
                Next::Refused(error) => {
                    tracing::debug!(%error, "a status request was refused");
                    (Page::message(400, "Bad request"), Method::Get, false)
                }
                Next::Request(head) => {
                    let page = pages::answer(&self.node, &self.digests, &head).await;
                    // A body, which no request here needs, is not read, and so ends the connection.
                    let keep = keep_alive(head.version, &head.headers) && request_framing(&head) == Ok(Framing::None);
                    (page, head.method, keep)
                }
            };
            self.write(connection.io(), &page, &method, keep).await?;
            if !keep {
                break;
            }
            connection.rest();
        }
        close(&mut connection).await;
        Ok(())
    }

    async fn write(&self, io: &mut Io, page: &Page, method: &Method, keep: bool) -> Result<(), Broken> {
        let date = httpdate::fmt_http_date(self.node.services.clock.unix().system_time());
        let mut text = format!("HTTP/1.1 {} {}\r\nDate: {date}\r\n", page.status, default_reason(page.status));
        let mut field = |name: &str, value: &str| {
            for part in [name, ": ", value, "\r\n"] {
                text.push_str(part);
            }
        };
        field("Content-Type", page.content_type);
        field("Content-Length", itoa::Buffer::new().format(page.body.len()));
        field("Connection", if keep { "keep-alive" } else { "close" });
        if page.status == 405 {
            field("Allow", "GET, HEAD");
        }
        if let Some(name) = self.node.plan().and_then(|plan| plan.node().headers.server.clone()) {
            field("Server", &name);
        }
        text.push_str("\r\n");
        if *method != Method::Head {
            text.push_str(&page.body);
        }
        let sent = within("sending", STEP_TIMEOUT, async {
            io.write_all(text.as_bytes()).await?;
            io.flush().await
        });
        sent.await?.map_err(|error| Broken::Net(NetError::Io(error)))
    }

    fn tls_config(&self, tls: &Mutex<Tls>) -> Result<Arc<ServerConfig>, &'static str> {
        let plan = self.node.plan().ok_or("there is no configuration")?;
        let mut tls = tls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((generation, config)) = &tls.config
            && *generation == plan.generation
        {
            return Ok(Arc::clone(config));
        }
        let ticketer = match &tls.ticketer {
            Some(ticketer) => Arc::clone(ticketer),
            None => tls::ticketer().map_err(|_| "no randomness for session tickets")?,
        };
        tls.ticketer = Some(Arc::clone(&ticketer));
        // Who asks for the status shows no certificate, whatever clients of the proxy have to show.
        let settings = ServerSettings {
            provider: tls::provider(&plan.node().cipher_suites).0,
            names: Arc::clone(&plan.tls.names),
            http2: false,
            alpn: true,
            client_authorities: None,
            client_required: false,
            tls13_only: plan.node().tls13_only,
            ticketer,
        };
        let made = tls::server_config(settings).map_err(|_| "its settings cannot be used")?;
        let config = Arc::clone(made.config());
        tls.config = Some((plan.generation, Arc::clone(&config)));
        Ok(config)
    }
}

/// Ends a connection. What the client still sends is read for a moment: closing before that would reset the
/// connection, and the client might lose the response.
async fn close(connection: &mut H1) {
    let lingering = async {
        connection.io().shutdown().await?;
        let mut rest = Vec::with_capacity(LINGER_BYTES_MAX / 16);
        let mut left = LINGER_BYTES_MAX;
        while left > 0 {
            rest.clear();
            match connection.io().read_buf(&mut rest).await? {
                0 => break,
                count => left = left.saturating_sub(count),
            }
        }
        Ok::<_, std::io::Error>(())
    };
    // It ends in any case.
    tokio::time::timeout(LINGER_TIMEOUT, lingering).await.ok();
}

/// Reads a request head; waits longer for its first byte than for the rest.
async fn read_head(connection: &mut H1) -> Result<Next, Broken> {
    if connection.unread().is_empty() {
        let more = poll_fn(|cx| connection.poll_read_more(cx, LIMITS.head_bytes_max + 1));
        // A client that says nothing is no trouble.
        match tokio::time::timeout(IDLE_TIMEOUT, more).await {
            Err(_) | Ok(Ok(0)) => return Ok(Next::Ended),
            Ok(more) => more.map_err(Broken::Net)?,
        };
    }
    within("a request head", STEP_TIMEOUT, async {
        loop {
            let mut head = RequestHead::default();
            match parse_request(connection.unread(), &LIMITS, &mut head) {
                Err(error) => return Ok(Next::Refused(error)),
                Ok(Parsed::Complete(_)) if !head.has_readable_host() => return Ok(Next::Refused(HeadError::Host)),
                Ok(Parsed::Complete(length)) => {
                    connection.consume_head(length);
                    return Ok(Next::Request(head));
                }
                Ok(Parsed::Partial) => {}
            }
            let more = poll_fn(|cx| connection.poll_read_more(cx, LIMITS.head_bytes_max + 1));
            match more.await {
                Ok(0) => return Ok(Next::Ended),
                Ok(_) => {}
                Err(NetError::BufferFull) => return Ok(Next::Refused(HeadError::TooLarge)),
                Err(error) => return Err(Broken::Net(error)),
            }
        }
    })
    .await?
}

async fn within<T>(what: &'static str, limit: Duration, step: impl Future<Output = T>) -> Result<T, Broken> {
    tokio::time::timeout(limit, step).await.map_err(|_| Broken::Timeout(what))
}

#[cfg(test)]
mod tests;
