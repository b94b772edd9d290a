//! [`Caller`]: HTTP calls of the node itself, such as those of log shippers and token checks. HTTP/1.1 on the control
//! runtime, with connections that are kept for the next call.

mod exchange;
mod grpc;
mod idle;
mod url;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use cardinal_base::task;
use cardinal_http::h1::Framing;
use cardinal_http::{HeaderList, Method, Name, is_authority};
use cardinal_net::dns::Dns;
use cardinal_net::h1::H1;
use cardinal_sdk::{CallError, GrpcCall, GrpcReply, HttpCall, HttpCaller, HttpReply};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;

use crate::connector::{ConnectFailure, Connector, Tls, Trust};
use exchange::{Broken, Request, Why};
use grpc::GrpcCaller;
use idle::{Idle, Key};
use url::Url;

/// Calls under way at once; more wait, within their own time limits.
const CALLS_MAX: usize = 1_024;

/// Makes HTTP calls. Follows no redirects, sends no cookies, uses no proxy.
pub(crate) struct Caller {
    inner: Arc<Inner>,
    grpc: Arc<GrpcCaller>,
    runtime: Handle,
}

struct Inner {
    connector: Connector,
    idle: Arc<Idle>,
    calls: Semaphore,
}

impl Caller {
    /// A caller that verifies servers by these authorities. Calls run on the resolver's runtime, whoever awaits them.
    pub(crate) fn new(dns: Arc<Dns>, trust: Arc<Trust>) -> Self {
        let runtime = dns.runtime().clone();
        let grpc = Arc::new(GrpcCaller::new(Arc::clone(&dns), Arc::clone(&trust)));
        let inner = Inner {
            connector: Connector::new(dns, trust, &[b"http/1.1"]),
            idle: Arc::default(),
            calls: Semaphore::new(CALLS_MAX),
        };
        Self { inner: Arc::new(inner), grpc, runtime }
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

    fn grpc(&self, call: GrpcCall) -> Pin<Box<dyn Future<Output = Result<GrpcReply, CallError>> + Send>> {
        Arc::clone(&self.grpc).start(call, self.runtime.clone())
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
            trust: if url.tls && !call.insecure { self.connector.trust_number() } else { 0 },
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
        let tls = url.tls.then_some(Tls { verify: !insecure, server_name: url.host });
        let connected = self.connector.connect(url.host, url.port, tls).await;
        let connected = connected.map_err(|ConnectFailure { is_local, reason }| failed(is_local, reason))?;
        Ok(H1::new(connected.io, &[]))
    }
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
