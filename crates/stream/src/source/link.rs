//! [`Link`]: connects to one control plane after another, and moves messages between the connection and [`Client`].

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cardinal_base::{Clock, SeededRng};
use cardinal_sync::stream::{Client, ClientError, Reconnect, TargetHealth, wire};
use futures_util::stream::poll_fn;
use rustls::ClientConfig;
use tokio::sync::{Notify, mpsc};
use tonic::client::Grpc;
use tonic::{Request, Status, Streaming};

use crate::codec::{ProstCodec, STREAM_PATH};
use crate::connect::{Channel, ConnectError, ControlPlane};
use crate::credentials::Credentials;
use crate::join::JoinError;

/// Requests that wait for the connection; further ones are made when these are taken.
const WAITING_MAX: usize = 1;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Join(#[from] JoinError),
    #[error("the certificate is to be renewed")]
    Renewal,
    #[error("{}", .0.message())]
    Status(#[from] Status),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("the control plane closed the connection")]
    Closed,
    #[error("the HTTP/2 connection failed: {0}")]
    Http(#[source] hyper::Error),
}

/// What the task that connects shares with the source.
pub(super) struct Link {
    client: Mutex<Client>,
    /// There is something to send.
    wake: Notify,
    /// A generation is complete.
    ready: Notify,
    is_connected: AtomicBool,
    /// Takes what operators say about targets.
    health: Option<mpsc::Sender<TargetHealth>>,
    clock: Arc<dyn Clock>,
}

impl Link {
    pub(super) fn new(client: Client, health: Option<mpsc::Sender<TargetHealth>>, clock: Arc<dyn Clock>) -> Self {
        let (wake, ready, is_connected) = (Notify::new(), Notify::new(), AtomicBool::new(false));
        Self { client: Mutex::new(client), wake, ready, is_connected, health, clock }
    }

    pub(super) fn client(&self) -> MutexGuard<'_, Client> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Completes when a generation is complete.
    pub(super) fn ready(&self) -> impl Future<Output = ()> + '_ {
        self.ready.notified()
    }

    pub(super) fn is_connected(&self) -> bool {
        self.is_connected.load(Ordering::Relaxed)
    }

    /// Stays connected until the task is stopped.
    pub(super) async fn run(
        self: Arc<Self>,
        control_planes: Vec<ControlPlane>,
        mut credentials: Credentials,
        mut reconnect: Reconnect,
        mut rng: SeededRng,
    ) {
        loop {
            self.clock.sleep_until(reconnect.at()).await;
            let Some(to) = control_planes.get(reconnect.address()) else { return };
            let mut since = None;
            let connected = match credentials.client(to, &*self.clock).await {
                Ok(tls) => self.connect(to, &tls).await,
                Err(error) => Err(error.into()),
            };
            let renewal_ms = credentials.renewal_ms(&*self.clock).unwrap_or(u64::MAX);
            let error = match connected {
                Ok((requests, responses)) => {
                    since = Some(self.clock.tick());
                    self.is_connected.store(true, Ordering::Relaxed);
                    tracing::info!("connected to the control plane {}:{}", to.host, to.port);
                    let renewal = self.clock.sleep(Duration::from_millis(renewal_ms));
                    tokio::select! {
                        error = self.follow(requests, responses) => error,
                        () = renewal => LinkError::Renewal,
                    }
                }
                Err(error) => error,
            };
            self.is_connected.store(false, Ordering::Relaxed);
            self.client().disconnected();
            if matches!(error, LinkError::Renewal) {
                continue;
            }
            tracing::warn!("no stream from the control plane {}:{}: {error}", to.host, to.port);
            reconnect.failed(since, self.clock.tick(), &mut rng);
        }
    }

    async fn connect(
        &self,
        to: &ControlPlane,
        tls: &Arc<ClientConfig>,
    ) -> Result<(mpsc::Sender<wire::Request>, Streaming<wire::Response>), LinkError> {
        let channel = Channel::connect(to, tls, &*self.clock).await?;
        let mut grpc = Grpc::with_origin(channel, Channel::origin()).max_decoding_message_size(wire::MESSAGE_BYTES_MAX);
        let (sender, mut receiver) = mpsc::channel(WAITING_MAX);
        let requests = poll_fn(move |context| receiver.poll_recv(context));
        grpc.ready().await.map_err(LinkError::Http)?;
        let codec = ProstCodec::<wire::Request, wire::Response>::default();
        let path = http::uri::PathAndQuery::from_static(STREAM_PATH);
        self.client().connected(self.clock.tick());
        let call = Box::pin(grpc.streaming(Request::new(requests), path, codec));
        // The control plane answers before it reads the first message.
        let limit = Duration::from_secs(10);
        match cardinal_base::timeout(&*self.clock, limit, call).await {
            Ok(responses) => Ok((sender, responses?.into_inner())),
            Err(_) => Err(ConnectError::Timeout.into()),
        }
    }

    /// Moves messages until the connection ends; says why it did.
    async fn follow(
        &self,
        requests: mpsc::Sender<wire::Request>,
        mut responses: Streaming<wire::Response>,
    ) -> LinkError {
        let mut next = None;
        loop {
            let now = self.clock.tick();
            next = next.or_else(|| self.client().poll(now));
            let deadline = self.client().deadline();
            let deadline = self.clock.sleep_until(deadline);
            tokio::select! {
                response = responses.message() => {
                    let response = match response {
                        Ok(Some(response)) => response,
                        Ok(None) => return LinkError::Closed,
                        Err(status) => return status.into(),
                    };
                    let mut client = self.client();
                    if let Err(error) = client.receive(response, self.clock.tick()) {
                        return error.into();
                    }
                    if client.is_ready() {
                        self.ready.notify_one();
                    }
                    for said in client.take_health() {
                        // More than fits is of no use.
                        self.health.as_ref().and_then(|taker| taker.try_send(said).ok());
                    }
                }
                permit = requests.reserve(), if next.is_some() => {
                    match (permit, next.take()) {
                        (Ok(permit), Some(request)) => permit.send(request),
                        // The reason comes with the responses.
                        (Err(_), _) => return self.reason(&mut responses).await,
                        (Ok(_), None) => {}
                    }
                }
                () = self.wake.notified() => {}
                () = deadline => {
                    if let Err(error) = self.client().check(self.clock.tick()) {
                        return error.into();
                    }
                }
            }
        }
    }

    /// Why the control plane does not take requests any more.
    async fn reason(&self, responses: &mut Streaming<wire::Response>) -> LinkError {
        let limit = Duration::from_secs(1);
        match cardinal_base::timeout(&*self.clock, limit, responses.message()).await {
            Ok(Err(status)) => status.into(),
            _ => LinkError::Closed,
        }
    }
}
