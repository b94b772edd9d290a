//! A bench for plugin tests: runs a request through one filter, without an engine.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use cardinal_base::{Budget, Clock, ManualClock, UnixMillis};
use cardinal_http::{HeaderList, RequestHead, ResponseHead};
use cardinal_ir::{Backend, Host, HttpVersion, Id, Ir, L4, Origin, PolicySpec, Route, Target, Timeouts};
use serde_json::Value;

use crate::network::{ConnectTo, Datagrams, Network, NetworkFuture, ResolvedAddress, ServerConnection};
use crate::redis::{Redis, RedisCall, RedisCommand, RedisError, RedisReplies, RedisReply, RedisServer, RedisSettings};
use crate::{
    AttemptCx, BackendInfo, BodyCx, BodyMode, BuildCx, CallError, CertificateCx, CertificateDecision, CertificateError,
    Certificates, Chunk, Client, ConnectionCounts, Directory, Exchange, Filter, FilterDecision, HeadCx, HttpCall,
    HttpCaller, HttpReply, LogCx, NodeView, Phases, PluginDef, Reply, RequestBodyCx, ResponseCx, RouteInfo,
    ServerCertificate, Services, Shared, Source, TargetHealth, UpstreamRequest, Verdict,
};

/// A route with this id, name and document.
pub fn route(id: Id, name: Option<&str>, document: &str) -> RouteInfo {
    let origin = origin(id, name);
    RouteInfo::new(Arc::new(Route { origin, document: document.into(), ..Route::default() }))
}

/// A backend with this id, name, host and document.
pub fn backend(id: Id, name: Option<&str>, host: &str, document: &str) -> Arc<BackendInfo> {
    let origin = origin(id, name);
    let record = Backend {
        origin,
        l4: L4::Tcp,
        http: Some(HttpVersion::H1),
        grpc: false,
        tls: None,
        target: Target::Host(Host { host: host.into(), port: 80 }),
        path: None,
        timeouts: Timeouts::default(),
        retry: None,
        upgrade_protocols: Vec::new(),
        document: document.into(),
    };
    Arc::new(BackendInfo::new(Arc::new(record), None))
}

fn origin(id: Id, name: Option<&str>) -> Origin {
    let origin = Origin::new("test", "", id);
    match name {
        Some(name) => origin.named(name),
        None => origin,
    }
}

/// A node that opens no connections, with a paused clock.
pub fn services(clock: Arc<dyn Clock>) -> Services {
    Services {
        clock,
        shared: Arc::new(Shared::default()),
        http: Arc::new(Nobody),
        redis: Arc::new(Nobody),
        network: Arc::new(Nobody),
        certificates: Arc::new(Nobody),
        runtime: tokio::runtime::Handle::current(),
        memory: Arc::new(Budget::new(usize::MAX)),
        node: Arc::new(Nobody),
        node_id: Id::from_u128(1),
        hostname: "test".into(),
        redacted_headers: Arc::new(["authorization".into(), "proxy-authorization".into()]),
        tenants: Arc::default(),
    }
}

struct Nobody;

/// The result of parsing a certificate on a bench.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FakeCertificate {
    /// The chain, as given.
    pub chain: String,
    /// The key, as given.
    pub key: String,
}

impl Certificates for Nobody {
    fn parse(&self, chain: &str, key: &str) -> Result<ServerCertificate, CertificateError> {
        if chain.is_empty() || key.is_empty() {
            return Err(CertificateError("certificate: empty".to_owned()));
        }
        Ok(ServerCertificate::new(FakeCertificate { chain: chain.to_owned(), key: key.to_owned() }))
    }
}

impl HttpCaller for Nobody {
    fn call(&self, call: HttpCall) -> Pin<Box<dyn Future<Output = Result<HttpReply, CallError>> + Send>> {
        Box::pin(async move { Err(CallError::Transport(format!("no server answers {}", call.url))) })
    }
}

impl Network for Nobody {
    fn connect(&self, to: ConnectTo) -> NetworkFuture<'static, ServerConnection> {
        Box::pin(async move { Err(CallError::Transport(format!("no server answers {}:{}", to.host, to.port))) })
    }

    fn datagrams(&self, host: &str, port: u16) -> NetworkFuture<'static, Box<dyn Datagrams>> {
        let reason = format!("no server answers {host}:{port}");
        Box::pin(async move { Err(CallError::Transport(reason)) })
    }

    fn lookup(&self, host: &str, _port: u16) -> NetworkFuture<'static, Vec<ResolvedAddress>> {
        let reason = format!("{host}: no such name");
        Box::pin(async move { Err(CallError::Transport(reason)) })
    }
}

impl Redis for Nobody {
    fn server(&self, settings: &RedisSettings) -> Arc<dyn RedisServer> {
        FakeRedis::new(|_| Err(RedisError::Unreachable("no server answers".to_owned()))).server(settings)
    }
}

/// Computes the reply of a [`FakeRedis`] to a command.
type Answer = dyn Fn(&[&[u8]]) -> Result<RedisReply, RedisError> + Send + Sync;

/// In-memory Redis servers for tests, all with the same replies. For [`Services::redis`].
#[derive(Clone)]
pub struct FakeRedis {
    answer: Arc<Answer>,
    settings: Arc<Mutex<Vec<RedisSettings>>>,
}

impl FakeRedis {
    /// `answer` receives the name and the arguments of each command; scripts are passed as `EVAL` with their text. If
    /// it returns an error, the whole call fails.
    pub fn new(answer: impl Fn(&[&[u8]]) -> Result<RedisReply, RedisError> + Send + Sync + 'static) -> Self {
        Self { answer: Arc::new(answer), settings: Arc::default() }
    }

    /// The settings of the servers that were requested.
    pub fn settings(&self) -> Vec<RedisSettings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Redis for FakeRedis {
    fn server(&self, settings: &RedisSettings) -> Arc<dyn RedisServer> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).push(settings.clone());
        let name = format!("{}:{}", settings.host, settings.port).into();
        Arc::new(FakeServer { name, answer: Arc::clone(&self.answer) })
    }
}

struct FakeServer {
    name: Box<str>,
    answer: Arc<Answer>,
}

impl RedisServer for FakeServer {
    fn name(&self) -> &str {
        &self.name
    }

    fn call(&self, call: RedisCall) -> RedisReplies {
        let answer = Arc::clone(&self.answer);
        Box::pin(async move {
            let answer_one = |command: RedisCommand<'_>| {
                let script = command.script.map(|script| [b"EVAL".as_slice(), script.text().as_bytes()]);
                let words: Vec<&[u8]> = script.into_iter().flatten().chain(command.args).collect();
                answer(&words)
            };
            call.commands().map(answer_one).collect()
        })
    }
}

impl NodeView for Nobody {
    fn connections(&self) -> ConnectionCounts {
        ConnectionCounts::default()
    }

    fn targets(&self) -> Vec<TargetHealth> {
        Vec::new()
    }
}

/// A filter with its input and output. Has to be created inside a tokio runtime.
pub struct Bench {
    /// The node.
    pub services: Services,
    /// The node's clock.
    pub clock: Arc<ManualClock>,
    /// Principals and credentials.
    pub directory: Directory,
    /// The filter.
    pub filter: Arc<dyn Filter>,
    /// The request.
    pub request: RequestHead,
    /// The properties of the exchange.
    pub exchange: Exchange,
    /// The upstream request.
    pub upstream: UpstreamRequest,
    /// The normalized path; [`Bench::get`] uses the target's path unchanged.
    pub path: Vec<u8>,
    /// The client's request body, passed to a filter that requests it.
    pub body: Bytes,
    /// The result of [`HeadCx::random`].
    pub random: u64,
    /// How long the filter delayed the request, milliseconds.
    pub delayed_ms: u64,
}

impl Bench {
    /// A bench for an instance of `plugin`. `config` is completed with the schema's defaults, and must be valid.
    ///
    /// # Panics
    /// If the configuration is invalid or the instance cannot be built: this is for tests.
    #[allow(clippy::panic, reason = "a test bench")]
    pub fn new(plugin: &'static PluginDef, config: Value) -> Self {
        Self::with_ir(plugin, config, &Ir::default())
    }

    /// The same, with principals and credentials.
    ///
    /// # Panics
    /// Like [`Bench::new`], and if a credential is rejected.
    #[allow(clippy::panic, reason = "a test bench")]
    pub fn with_ir(plugin: &'static PluginDef, config: Value, ir: &Ir) -> Self {
        let clock = Arc::new(ManualClock::at(UnixMillis(1_700_000_000_000)));
        let services = services(clock.clone());
        let filter = match build(plugin, config, &services) {
            Ok(filter) => filter,
            Err(message) => panic!("{}: {message}", plugin.name),
        };
        let (directory, refused) = Directory::build(ir, &[plugin]);
        assert!(refused.is_empty(), "{refused:?}");
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let mut bench = Self {
            services,
            clock,
            directory,
            filter,
            request: RequestHead::default(),
            exchange: Exchange::new(Client::at(address(40_000), address(8_000))),
            upstream: UpstreamRequest::default(),
            path: Vec::new(),
            body: Bytes::new(),
            random: 0,
            delayed_ms: 0,
        };
        bench.get("/");
        bench
    }

    /// Starts a new `GET` request for this target, with `Host: example.com`.
    pub fn get(&mut self, target: &str) -> &mut Self {
        self.request.clear();
        assert!(self.request.set_target(target.as_bytes()), "not a target: {target}");
        self.request.headers.append(b"Host", b"example.com");
        self.exchange.clear();
        self.exchange.original.target.extend_from_slice(target.as_bytes());
        self.exchange.original.host.push_str("example.com");
        self.path = self.request.path().to_vec();
        self.upstream.clear();
        self.upstream.path.extend_from_slice(&self.path);
        self.body = Bytes::new();
        self
    }

    /// Adds a request header.
    pub fn header(&mut self, name: &str, value: &str) -> &mut Self {
        assert!(self.request.headers.append(name.as_bytes(), value.as_bytes()), "illegal header {name}");
        self
    }

    /// Runs the request phase; returns the reply, if there is one.
    ///
    /// # Panics
    /// If the filter fails.
    #[allow(clippy::panic, reason = "a test bench")]
    pub async fn request(&mut self) -> Option<Reply> {
        match self.verdict().await {
            Verdict::Reply(reply) => Some(*reply),
            Verdict::Continue | Verdict::NeedBody { .. } | Verdict::Delay { .. } => None,
            Verdict::Fail(reason) => panic!("the filter failed: {reason}"),
        }
    }

    /// Runs the request phase; passes the body to the filter if it requests it.
    pub async fn verdict(&mut self) -> Verdict {
        loop {
            let mut cx = HeadCx {
                request: &mut self.request,
                exchange: &mut self.exchange,
                upstream: &mut self.upstream,
                services: &self.services,
                directory: &self.directory,
                path: &self.path,
                body_length: Some(self.body.len() as u64),
                random: &|| self.random,
                slot: 0,
            };
            match self.filter.on_request_head(&mut cx).settle().await {
                Verdict::NeedBody { max } if self.body.len() as u64 > max => {
                    return Verdict::Reply(Box::new(Reply::error(413, "Payload too large")));
                }
                Verdict::NeedBody { .. } => self.upstream.body = Some(self.body.clone()),
                Verdict::Delay { ms } => self.delayed_ms += ms,
                verdict => return verdict,
            }
        }
    }

    /// Runs the request body phase on one chunk; returns the output of the filter, and its decision.
    pub fn request_part(&mut self, data: &[u8], last: bool) -> (Bytes, FilterDecision) {
        let mut chunk = Chunk { data: Bytes::copy_from_slice(data), last };
        let mut cx =
            RequestBodyCx { request: &self.request, exchange: &mut self.exchange, services: &self.services, slot: 0 };
        let decision = self.filter.on_request_body(&mut cx, &mut chunk);
        (chunk.data, decision)
    }

    /// Runs the attempt phase for attempt `number` to an endpoint; returns the fields of the attempt, and the decision.
    pub async fn attempt(&mut self, number: usize, endpoint: SocketAddr) -> (HeaderList, FilterDecision) {
        let mut headers = HeaderList::new();
        let mut cx = AttemptCx {
            request: &self.request,
            headers: &mut headers,
            endpoint,
            host: &self.exchange.original.host.clone(),
            number,
            body: self.upstream.body.as_ref(),
            exchange: &mut self.exchange,
            services: &self.services,
            slot: 0,
        };
        let decision = self.filter.on_attempt(&mut cx).settle().await;
        (headers, decision)
    }

    /// Runs the response head phase on a response from `source`, for a filter that does not wait or reply.
    ///
    /// # Panics
    /// If the filter waits, replies or fails; use [`Bench::response_decision`] for this.
    #[allow(clippy::panic, reason = "a test bench")]
    pub fn response(&mut self, response: &mut ResponseHead, source: Source) -> BodyMode {
        let polled = pin!(self.response_decision(response, source)).poll(&mut Context::from_waker(Waker::noop()));
        match polled {
            Poll::Ready(FilterDecision::Continue) => {}
            Poll::Ready(other) => panic!("the filter does not let the response pass: {other:?}"),
            Poll::Pending => panic!("the filter waits"),
        }
        self.exchange.body_mode
    }

    /// Runs the response head phase on a response from `source`.
    pub async fn response_decision(&mut self, response: &mut ResponseHead, source: Source) -> FilterDecision {
        self.exchange.source = source;
        let mut cx = ResponseCx {
            response,
            request: &self.request,
            exchange: &mut self.exchange,
            services: &self.services,
            slot: 0,
        };
        self.filter.on_response_head(&mut cx).settle().await
    }

    /// Runs the response body phase on one chunk.
    pub fn body_part(&mut self, response: &ResponseHead, data: &[u8], last: bool) -> Bytes {
        let mut chunk = Chunk { data: Bytes::copy_from_slice(data), last };
        let mut cx = BodyCx {
            response,
            request: &self.request,
            exchange: &mut self.exchange,
            services: &self.services,
            slot: 0,
        };
        self.filter.on_response_body(&mut cx, &mut chunk);
        chunk.data
    }

    /// Runs the certificate phase for a client with this server name and these ALPN protocols.
    pub async fn certificate(&self, server_name: Option<&str>, protocols: &[&[u8]]) -> CertificateDecision {
        let protocols: Vec<Vec<u8>> = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let mut cx = CertificateCx {
            server_name,
            protocols: &protocols,
            client: &self.exchange.client,
            group: None,
            services: &self.services,
        };
        self.filter.on_certificate(&mut cx).settle().await
    }

    /// Runs the log phase.
    pub fn log(&mut self, response: Option<&ResponseHead>) {
        let cx = LogCx {
            request: &self.request,
            response,
            exchange: &self.exchange,
            path: &self.path,
            services: &self.services,
            slot: 0,
        };
        self.filter.on_log(&cx);
    }
}

/// Completes `config` with the schema's defaults and lowers it to a policy; the error states the reason.
pub fn lower(plugin: &'static PluginDef, config: &Value) -> Result<Option<PolicySpec>, String> {
    let config = complete(plugin, config)?;
    plugin.lower.map_or(Ok(None), |lower| lower(&config)).map_err(|error| error.to_string())
}

fn complete(plugin: &PluginDef, config: &Value) -> Result<Value, String> {
    let processed = (plugin.schema)().process(config, &cardinal_schema::Options::default());
    processed.map_err(|errors| format!("{errors:?}"))
}

/// Placeholder for an instance that is lowered to a policy.
struct Lowered;

impl Filter for Lowered {
    fn phases(&self) -> Phases {
        Phases::NONE
    }
}

/// Completes `config` with the schema's defaults and builds an instance; the error states the reason. If the instance
/// is lowered to a policy, which only the engine can build, the filter does nothing.
pub fn build(plugin: &'static PluginDef, config: Value, services: &Services) -> Result<Arc<dyn Filter>, String> {
    if lower(plugin, &config)?.is_some() {
        return Ok(Arc::new(Lowered));
    }
    let config = complete(plugin, &config)?;
    let cx = BuildCx { services, id: Id::from_u128(7), listeners: None, route: None, backend: None, principal: None };
    (plugin.build)(&config, &cx).map_err(|error| error.to_string())
}
