//! [`Caller`]: HTTP calls of the node itself, such as those of log shippers and token checks. HTTP/1.1 on the control
//! runtime, with connections that are kept for the next call.

mod exchange;
mod idle;
mod trust;
mod url;

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use cardinal_base::task;
use cardinal_http::h1::Framing;
use cardinal_http::{HeaderList, Method, Name, is_authority};
use cardinal_net::dns::Dns;
use cardinal_net::h1::H1;
use cardinal_net::tls::{ClientSettings, TlsError, client_config};
use cardinal_net::{Connected, Stage, TlsTarget, connect};
use cardinal_sdk::{CallError, HttpCall, HttpCaller, HttpReply};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;

use exchange::{Broken, Request, Why};
use idle::{Idle, Key};
pub(crate) use trust::Trust;
use url::Url;

/// Calls under way at once; more wait, within their own time limits.
const CALLS_MAX: usize = 1_024;
/// Addresses of a name that are tried.
const ADDRESSES_MAX: usize = 4;
/// For one address, while there are others.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(5);

/// Makes HTTP calls. Follows no redirects, sends no cookies, uses no proxy.
pub(crate) struct Caller {
    inner: Arc<Inner>,
    runtime: Handle,
}

struct Inner {
    dns: Arc<Dns>,
    trust: Arc<Trust>,
    /// TLS that verifies, and the number of the authorities it was made with.
    verified: Mutex<Option<(u64, Arc<ClientConfig>)>>,
    insecure: OnceLock<Arc<ClientConfig>>,
    idle: Arc<Idle>,
    calls: Semaphore,
    /// Spreads connections over a name's addresses.
    turn: AtomicUsize,
}

impl Caller {
    /// A caller that verifies servers by these authorities. Calls run on the resolver's runtime, whoever awaits them.
    pub(crate) fn new(dns: Arc<Dns>, trust: Arc<Trust>) -> Self {
        let runtime = dns.runtime().clone();
        let inner = Inner {
            dns,
            trust,
            verified: Mutex::default(),
            insecure: OnceLock::new(),
            idle: Arc::default(),
            calls: Semaphore::new(CALLS_MAX),
            turn: AtomicUsize::new(0),
        };
        Self { inner: Arc::new(inner), runtime }
    }
}

impl HttpCaller for Caller {
    fn call(&self, call: HttpCall) -> Pin<Box<dyn Future<Output = Result<HttpReply, CallError>> + Send>> {
        let (inner, runtime) = (Arc::clone(&self.inner), self.runtime.clone());
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            let running = {
                let _entered = runtime.enter();
                EndOnDrop(task::spawn("HTTP call", async move {
                    let limited = tokio::time::timeout(call.timeout, inner.call(&call)).await;
                    // Nobody waits any more when this fails.
                    answer.send(limited.unwrap_or(Err(CallError::Timeout))).ok();
                }))
            };
            let outcome = answered.await;
            drop(running);
            outcome.unwrap_or_else(|_| Err(CallError::Transport("the node is stopping".to_owned())))
        })
    }
}

/// A call whose caller may leave.
struct EndOnDrop(JoinHandle<()>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Inner {
    async fn call(&self, call: &HttpCall) -> Result<HttpReply, CallError> {
        let url = Url::parse(&call.url).map_err(|reason| CallError::Url { url: call.url.clone(), reason })?;
        let request = request(call, &url)?;
        let key = Key {
            tls: url.tls,
            insecure: url.tls && call.insecure,
            trust: if url.tls && !call.insecure { self.trust.number() } else { 0 },
            host: url.host.to_ascii_lowercase().into(),
            port: url.port,
        };
        let _place = self.calls.acquire().await.map_err(|_| transport("the node is stopping"))?;
        if let Some(mut kept) = self.idle.take(&key) {
            match self.run(&mut kept, &request, call).await {
                Ok((reply, reusable)) => return Ok(self.keep(key, kept, reusable, call, reply)),
                Err(broken) if may_repeat(&broken, &request) => {}
                Err(broken) => return Err(broken.why.into_error(call)),
            }
        }
        let mut fresh = self.connect(&url, call.insecure).await?;
        match self.run(&mut fresh, &request, call).await {
            Ok((reply, reusable)) => Ok(self.keep(key, fresh, reusable, call, reply)),
            Err(broken) => Err(broken.why.into_error(call)),
        }
    }

    async fn run(&self, connection: &mut H1, request: &Request, call: &HttpCall) -> Result<(HttpReply, bool), Broken> {
        let done = exchange::exchange(connection, request, call.body_max).await?;
        Ok((done.reply, done.reusable))
    }

    fn keep(&self, key: Key, mut connection: H1, reusable: bool, call: &HttpCall, reply: HttpReply) -> HttpReply {
        if reusable && !call.keepalive.is_zero() {
            connection.rest();
            self.idle.put(key, connection, call.keepalive);
        }
        reply
    }

    async fn connect(&self, url: &Url<'_>, insecure: bool) -> Result<H1, CallError> {
        let tls = match url.tls {
            false => None,
            true => {
                let server_name = ServerName::try_from(url.host.to_owned())
                    .map_err(|_| transport("the host cannot be a TLS server name"))?;
                Some(TlsTarget { config: self.tls(insecure)?, server_name })
            }
        };
        let answer = self.dns.resolve(url.host, url.port).await;
        let answer = answer.map_err(|error| failed(error.is_local(), format!("{}: {error}", url.host)))?;
        let mut addresses: Vec<SocketAddr> = answer.addresses().map(|a| a.addr).collect();
        if !addresses.is_empty() {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) % addresses.len();
            addresses.rotate_left(turn);
        }
        addresses.truncate(ADDRESSES_MAX);
        let connected = connect_any(&addresses, tls.as_ref()).await?;
        Ok(H1::new(connected.io, &[]))
    }

    fn tls(&self, insecure: bool) -> Result<Arc<ClientConfig>, CallError> {
        let make = |authorities| {
            let settings = ClientSettings {
                verify: !insecure,
                authorities,
                alpn: vec![b"http/1.1".to_vec()],
                ..ClientSettings::default()
            };
            client_config(&settings).map_err(|error: TlsError| failed(error.is_transient(), error.to_string()))
        };
        if insecure {
            let made = self.insecure.get().map_or_else(|| make(None), |made| Ok(Arc::clone(made)))?;
            return Ok(Arc::clone(self.insecure.get_or_init(|| made)));
        }
        let (number, authorities) = self.trust.current();
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, config)) = verified.as_ref().filter(|(made_with, _)| *made_with == number) {
            return Ok(Arc::clone(config));
        }
        // Sessions that began under other authorities are not resumed: they are the other configuration's.
        let config = make(authorities.as_deref().map(str::to_owned))?;
        *verified = Some((number, Arc::clone(&config)));
        Ok(config)
    }
}

/// Connects to one of these addresses; the first one that has another family is tried beside the first.
async fn connect_any(addresses: &[SocketAddr], tls: Option<&TlsTarget>) -> Result<Connected, CallError> {
    let mut last = transport("the name has no addresses");
    let mut other = addresses.first().and_then(|first| {
        let family = |ip: IpAddr| ip.is_ipv4();
        addresses.iter().find(|a| family(a.ip()) != family(first.ip())).copied()
    });
    let beside = other;
    for (at, address) in addresses.iter().enumerate() {
        if at > 0 && beside == Some(*address) {
            continue;
        }
        let is_last = at + 1 == addresses.len();
        let limit = if is_last { Duration::MAX } else { ADDRESS_TIMEOUT };
        let stage = Stage::default();
        match tokio::time::timeout(limit, connect(*address, other.take(), tls, &stage)).await {
            Ok(Ok(connected)) => return Ok(connected),
            Ok(Err(error)) => last = failed(error.is_local(), error.to_string()),
            Err(_) => last = CallError::Transport(format!("connect to {address}: {} in time", stage.missing())),
        }
    }
    Err(last)
}

/// Whether a request that failed on a kept connection is made again: the server closed it before it answered, and
/// nothing happened, or would happen twice without harm (RFC 9110 section 9.2.2).
fn may_repeat(broken: &Broken, request: &Request) -> bool {
    let closed = matches!(&broken.why, Why::Net(error) if error.is_disconnect());
    closed && !broken.answered && (!broken.sent || request.method.is_idempotent())
}

impl Why {
    fn into_error(self, call: &HttpCall) -> CallError {
        match self {
            Self::Net(error) => failed(error.is_local(), error.to_string()),
            Self::Answer(reason) => transport(reason),
            Self::TooLarge => CallError::TooLarge(call.body_max),
        }
    }
}

/// Why a call failed: because of the node itself, or of whom it calls.
fn failed(is_local: bool, reason: String) -> CallError {
    if is_local { CallError::Local(reason) } else { CallError::Transport(reason) }
}

fn transport(reason: &str) -> CallError {
    CallError::Transport(reason.to_owned())
}

/// The head of a request as bytes. Fields about the connection and the framing are this connection's, not the
/// caller's; a `Host` that the caller gives is sent instead of the URL's.
fn request(call: &HttpCall, url: &Url<'_>) -> Result<Request, CallError> {
    let method = Method::parse(call.method.as_bytes()).filter(|m| *m != Method::Connect);
    let method = method.ok_or_else(|| transport("the method cannot be called"))?;
    let mut fields = HeaderList::new();
    let host = call.headers.known(Name::Host).unwrap_or(url.authority.as_bytes());
    if !is_authority(host) {
        return Err(transport("the Host header is not a host with an optional port"));
    }
    fields.append(b"Host", host);
    let framing = match call.body.len() {
        0 if matches!(method, Method::Post | Method::Put | Method::Patch) => Framing::Length(0),
        0 => Framing::None,
        length => Framing::Length(length as u64),
    };
    if let Framing::Length(length) = framing {
        fields.append(b"Content-Length", length.to_string().as_bytes());
    }
    if call.keepalive.is_zero() {
        fields.append(b"Connection", b"close");
    }
    let mut head = Vec::with_capacity(256 + call.headers.capacity());
    head.extend_from_slice(method.as_str().as_bytes());
    head.push(b' ');
    url.write_target(&mut head);
    head.extend_from_slice(b" HTTP/1.1\r\n");
    fields.write_h1(&mut head);
    call.headers.write_h1_if(&mut head, |_, name| !OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours)));
    head.extend_from_slice(b"\r\n");
    Ok(Request { method, head, body: call.body.clone() })
}

/// Fields that a call does not set, lower-case.
const OURS: [&[u8]; 10] = [
    b"host",
    b"content-length",
    b"transfer-encoding",
    b"connection",
    b"keep-alive",
    b"proxy-connection",
    b"upgrade",
    b"te",
    b"trailer",
    b"expect",
];

#[cfg(test)]
mod tests;
