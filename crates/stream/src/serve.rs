//! Connections of data planes: accepting, TLS, HTTP/2, and the methods that they call.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use cardinal_base::{task, timeout};
use cardinal_ir::Id;
use cardinal_sync::stream::wire;
use futures_util::future::{BoxFuture, ready};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tonic::body::Body;
use tonic::server::Grpc;
use tonic::{Request, Response, Status, Streaming};

use crate::codec::{JOIN_PATH, ProstCodec, STREAM_PATH};
use crate::connect::{PING_INTERVAL, PING_TIMEOUT, WINDOW_BYTES};
use crate::join::{JoinAuthority, JoinRequest, JoinResponse};
use crate::session::{self, Responses};
use crate::shared::{Peer, Shared};
use crate::strangers::{Stranger, Strangers};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection without a certificate may last: to join, one call is enough.
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections without a certificate, and of one address.
const STRANGERS_MAX: usize = 2_048;
const STRANGERS_OF_ADDRESS_MAX: usize = 256;
/// Pause after a failure to accept, such as having no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// Calls on a connection at one time.
const STREAMS_MAX: u32 = 4;
/// Bytes of a message that a data plane sends: a part of a list of versions.
const REQUEST_BYTES_MAX: usize = 4 << 20;

/// What connections are accepted with.
pub(crate) struct Acceptor {
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) joining: Option<Arc<JoinAuthority>>,
}

/// Accepts connections until `stop` is set.
pub(crate) async fn accept(
    shared: Arc<Shared>,
    listener: TcpListener,
    acceptor: Acceptor,
    mut stop: watch::Receiver<bool>,
) {
    let seats = Arc::new(Semaphore::new(shared.options.connections_max));
    let strangers = Arc::new(Strangers::new(STRANGERS_MAX, STRANGERS_OF_ADDRESS_MAX));
    // Dropped when this future is: then connections end, too.
    let (_ended, end) = watch::channel(());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stopped| *stopped) => return,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("cannot accept a data plane: {error}");
                shared.clock.sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(stranger) = strangers.admit(address.ip()) else {
            shared.refuse();
            tracing::warn!(%address, "too many connections have not shown a certificate yet");
            continue;
        };
        let entry = Entry { seats: Arc::clone(&seats), stranger };
        let peer = Peer {
            shared: Arc::clone(&shared),
            joining: acceptor.joining.clone(),
            address,
            is_authenticated: false,
            joined: None,
            session: 0,
        };
        let (config, mut end) = (TlsAcceptor::from(Arc::clone(&acceptor.config)), end.clone());
        task::spawn("configuration stream: data plane", async move {
            tokio::select! {
                () = serve(stream, config, peer, entry) => {}
                _ = end.changed() => {}
            }
        });
    }
}

/// The place that a connection has until it shows a certificate, and the places after that.
struct Entry {
    seats: Arc<Semaphore>,
    stranger: Stranger,
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, mut peer: Peer, entry: Entry) {
    let address = peer.address;
    // Without it, small messages wait for acknowledgements.
    stream.set_nodelay(true).ok();
    let handshake = timeout(&*peer.shared.clock, HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await;
    let stream = match handshake.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())) {
        Ok(stream) => stream,
        Err(error) => {
            peer.shared.refuse();
            return tracing::warn!(%address, "the TLS handshake with a data plane failed: {error}");
        }
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    peer.is_authenticated = certificate.is_some();
    peer.joined = peer.joining.as_ref().zip(certificate).and_then(|(authority, leaf)| authority.node_of(leaf));
    let (clock, Entry { seats, stranger }) = (Arc::clone(&peer.shared.clock), entry);
    let (_seat, _stranger) = if peer.is_authenticated {
        let Ok(seat) = seats.try_acquire_owned() else {
            peer.shared.refuse();
            return tracing::warn!(%address, "too many data planes are connected");
        };
        (Some(seat), None)
    } else {
        (None, Some(stranger))
    };
    let is_stranger = !peer.is_authenticated;
    let service = service_fn(move |request| handle(peer.clone(), request));
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let ended = tokio::select! {
        ended = pin!(connection) => ended,
        () = clock.sleep(JOIN_TIMEOUT), if is_stranger => {
            return tracing::debug!(%address, "a connection without a certificate has lasted too long");
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%address, "the connection of a data plane ended: {error}");
    }
}

async fn handle(peer: Peer, request: http::Request<Incoming>) -> Result<http::Response<Body>, Infallible> {
    let path = request.uri().path();
    if path == STREAM_PATH && peer.is_authenticated {
        let codec = ProstCodec::<wire::Response, wire::Request>::default();
        let mut grpc = Grpc::new(codec).max_decoding_message_size(REQUEST_BYTES_MAX);
        return Ok(grpc.streaming(StreamMethod(peer), request).await);
    }
    if path == JOIN_PATH
        && let Some(authority) = peer.joining
    {
        let codec = ProstCodec::<JoinResponse, JoinRequest>::default();
        let mut grpc = Grpc::new(codec).max_decoding_message_size(REQUEST_BYTES_MAX);
        let method = JoinMethod { authority, joined: peer.joined, shared: peer.shared, address: peer.address };
        return Ok(grpc.unary(method, request).await);
    }
    peer.shared.refuse();
    let status = match path {
        STREAM_PATH => Status::unauthenticated("a client certificate is required"),
        _ => Status::unimplemented("there is no such method"),
    };
    Ok(status.into_http())
}

/// [`STREAM_PATH`].
struct StreamMethod(Peer);

impl tower_service::Service<Request<Streaming<wire::Request>>> for StreamMethod {
    type Response = Response<Responses>;
    type Error = Status;
    type Future = std::future::Ready<Result<Self::Response, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Streaming<wire::Request>>) -> Self::Future {
        std::future::ready(Ok(Response::new(session::start(self.0.clone(), request.into_inner()))))
    }
}

/// [`JOIN_PATH`].
struct JoinMethod {
    authority: Arc<JoinAuthority>,
    joined: Option<Id>,
    shared: Arc<Shared>,
    address: SocketAddr,
}

impl tower_service::Service<Request<JoinRequest>> for JoinMethod {
    type Response = Response<JoinResponse>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<Self::Response, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<JoinRequest>) -> Self::Future {
        let address = self.address;
        Box::pin(ready(match self.authority.admit(&request.into_inner(), self.joined) {
            Ok(response) => Ok(Response::new(response)),
            Err(error) => {
                self.shared.refuse();
                tracing::warn!(%address, "a data plane cannot join: {error}");
                Err(error.status())
            }
        }))
    }
}
