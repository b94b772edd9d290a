//! [`Caller`]: the HTTP client for calls of the node itself, such as log shipping and token introspection. Calls run on
//! the control runtime over keep-alive connections.

mod failure;
mod grpc;
mod idle;
mod url;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use cardinal_base::{task, timeout};
use cardinal_http::{HeaderList, Name, is_authority};
use cardinal_net::dns::Dns;
use cardinal_sdk::{CallError, GrpcCall, GrpcReply, HttpCall, HttpCaller, HttpReply};
use http::header::{CONNECTION, CONTENT_LENGTH, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use http_body_util::Full;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};

use crate::connector::{ConnectFailure, Connector, Tls, Trust};
use crate::http_client::{Cause, Connection, Failed, Reply};
use failure::{EndOnDrop, failed, transport};
use grpc::GrpcCaller;
use idle::{Idle, Key};
use url::Url;

/// Maximum number of concurrent calls; further calls wait, within their own time limits.
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
    /// Creates a caller that verifies servers by these authorities. Calls run on the resolver's runtime, whichever
    /// runtime awaits them.
    pub(crate) fn new(dns: Arc<Dns>, trust: Arc<Trust>) -> Self {
        let (runtime, clock) = (dns.runtime().clone(), Arc::clone(dns.clock()));
        let grpc = Arc::new(GrpcCaller::new(Arc::clone(&dns), Arc::clone(&trust)));
        let inner = Inner {
            connector: Connector::new(dns, trust, &[b"http/1.1"]),
            idle: Arc::new(Idle::new(clock)),
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
                    let limited = timeout(&**inner.connector.clock(), call.timeout, inner.call(&call)).await;
                    // Sending fails if the caller has stopped waiting.
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

impl Inner {
    async fn call(&self, call: &HttpCall) -> Result<HttpReply, CallError> {
        let refused = |reason| CallError::Url { url: call.url.clone(), reason };
        let url = Url::parse(&call.url).map_err(refused)?;
        let target = url.target().map_err(refused)?;
        let mut request = Request::new(Full::new(call.body.clone()));
        *request.method_mut() = method(call)?;
        *request.uri_mut() = target.into();
        *request.headers_mut() = fields(call, &url, request.method())?;
        let key = Key::of(&url, call.insecure, &self.connector);
        let _place = self.calls.acquire().await.map_err(|_| transport("the node is stopping"))?;
        if let Some(kept) = self.idle.take(&key) {
            match self.run(kept, request.clone(), call, &key).await {
                Ok(reply) => return Ok(reply),
                Err(failed) if may_repeat(&failed, request.method()) => {}
                Err(failed) => return Err(call_error(failed.cause, call)),
            }
        }
        let connected = self.connect(&url, call.insecure).await?;
        self.run(connected, request, call, &key).await.map_err(|failed| call_error(failed.cause, call))
    }

    /// Runs one request and reads its response; keeps the connection if it can be reused.
    async fn run(
        &self,
        mut connection: Connection,
        request: Request<Full<bytes::Bytes>>,
        call: &HttpCall,
        key: &Key,
    ) -> Result<HttpReply, Failed> {
        let response = connection.request(request).await?;
        let reply = connection.read(response, call.body_max).await?;
        if !call.keepalive.is_zero() && connection.is_reusable().await {
            self.idle.put(key.clone(), connection, call.keepalive);
        }
        Ok(http_reply(reply))
    }

    async fn connect(&self, url: &Url<'_>, insecure: bool) -> Result<Connection, CallError> {
        let tls = url.tls.then_some(Tls { verify: !insecure, server_name: url.host });
        let connected = self.connector.connect(url.host, url.port, tls).await;
        let connected = connected.map_err(|ConnectFailure { is_local, reason }| failed(is_local, reason))?;
        Connection::http1(connected.io).await.map_err(|failed| transport(&failed.cause.to_string()))
    }
}

/// Whether a request that failed on a kept connection is sent again: the server closed the connection before it
/// responded, and either did not process the request or can safely process it twice (RFC 9110 section 9.2.2).
fn may_repeat(failed: &Failed, method: &Method) -> bool {
    failed.cause.is_disconnect() && !failed.answered && (!failed.sent || method.is_idempotent())
}

fn call_error(cause: Cause, call: &HttpCall) -> CallError {
    match cause {
        Cause::TooLarge => CallError::TooLarge(call.body_max),
        Cause::Io { is_local, text } => failed(is_local, text),
        cause @ (Cause::Closed | Cause::Answer(_)) => transport(&cause.to_string()),
    }
}

fn method(call: &HttpCall) -> Result<Method, CallError> {
    let method = Method::from_bytes(call.method.as_bytes()).ok().filter(|method| *method != Method::CONNECT);
    method.ok_or_else(|| transport("the method cannot be called"))
}

/// The fields of a request. Connection and framing fields are set for this connection, not taken from the caller; a
/// `Host` given by the caller replaces that of the URL.
fn fields(call: &HttpCall, url: &Url<'_>, method: &Method) -> Result<HeaderMap, CallError> {
    let host = call.headers.known(Name::Host).unwrap_or(url.authority.as_bytes());
    let host = HeaderValue::from_bytes(host).ok().filter(|host| is_authority(host.as_bytes()));
    let host = host.ok_or_else(|| transport("the Host header is not a host with an optional port"))?;
    let mut fields = HeaderMap::new();
    fields.insert(HOST, host);
    if call.body.is_empty() && matches!(*method, Method::POST | Method::PUT | Method::PATCH) {
        // hyper only sets the field for a non-empty body.
        fields.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    if call.keepalive.is_zero() {
        fields.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    for (name, value) in call.headers.iter() {
        if OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours)) {
            continue;
        }
        let field = HeaderName::from_bytes(name).ok().zip(HeaderValue::from_bytes(value).ok());
        let (name, value) = field.ok_or_else(|| transport("a header of the call cannot be sent"))?;
        fields.try_append(name, value).map_err(|_| transport("the call has too many headers"))?;
    }
    Ok(fields)
}

fn http_reply(reply: Reply) -> HttpReply {
    let mut headers = HeaderList::new();
    for (name, value) in &reply.headers {
        headers.append(name.as_str().as_bytes(), value.as_bytes());
    }
    HttpReply { status: reply.status.as_u16(), headers, body: reply.body }
}

/// Fields that a call cannot set, lower-case.
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
