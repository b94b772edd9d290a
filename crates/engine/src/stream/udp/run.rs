//! The task of a session: connects, forwards responses to the client, writes the log record.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use cardinal_balance::Picked;
use cardinal_base::descriptors;
use cardinal_http::{Failure, FailureKind};
use cardinal_net::{ConnectError, Stage, Timer};
use cardinal_sdk::Exchange;
use tokio::io::{Interest, ReadBuf};
use tokio::net::UdpSocket;

use super::flow::{Flow, add, is_gone};
use super::server::{ERRORS_IN_A_ROW, Server};
use crate::exchange::connect_failure;
use crate::plan::{BackendPlan, RoutePlan};
use crate::stream::session::{AcquiredConnection, Flowing, Session};
use crate::stream::table::Key;

/// How long a session waits for further responses once the socket is no longer read, milliseconds.
const LINGER_MS: u64 = 1_000;

/// The task of a session.
pub(super) struct Run {
    pub(super) server: Rc<Server>,
    pub(super) flow: Rc<Flow>,
    pub(super) client: SocketAddr,
    pub(super) key: Key,
}

/// Responses of the upstream.
#[derive(Default)]
struct Answers {
    /// Number of datagrams from the upstream.
    count: u64,
    /// Number of bytes from the upstream.
    received: u64,
    /// Number of bytes sent to the client.
    sent: u64,
    /// The socket is no longer read: the session waits for the last responses.
    lingering: bool,
}

impl Run {
    pub(super) async fn run(self, mut session: Session) {
        let reached = match session.acquire_connection(open).await {
            Ok(reached) => reached,
            Err(failure) => {
                self.server.flows.borrow_mut().remove(self.key);
                return session.end(Some(&failure));
            }
        };
        let mut answers = Answers::default();
        let mut flowing = session.flow();
        let outcome = self.relay(&mut flowing, reached, &mut answers).await;
        self.server.flows.borrow_mut().remove(self.key);
        let bytes = &mut flowing.exchange().bytes;
        (bytes.received, bytes.upstream_sent) = (self.flow.received.get(), self.flow.forwarded.get());
        (bytes.sent, bytes.upstream_received) = (answers.sent, answers.received);
        if self.flow.dropped.get() > 0 {
            let (request_id, dropped) = (flowing.exchange().id, self.flow.dropped.get());
            tracing::debug!(%request_id, client = %self.client, dropped, "datagrams of a session were dropped");
        }
        if let Err(failure) = outcome {
            flowing.fail(&failure);
        }
        flowing.finish();
    }

    /// Forwards responses until the session ends.
    async fn relay(
        &self,
        flowing: &mut Flowing,
        reached: AcquiredConnection<UdpSocket>,
        answers: &mut Answers,
    ) -> Result<(), Failure> {
        let AcquiredConnection { transport, endpoint } = reached;
        let upstream = self.flow.connected(transport);
        let timer = Timer::new(&self.server.worker.wheel);
        // ICMP errors do not make the socket readable, so they are polled separately.
        let said = || upstream.take_error()?.ok_or_else(|| ErrorKind::WouldBlock.into());
        let mut refused = pin!(upstream.async_io(Interest::ERROR, said));
        let outcome = poll_fn(|cx| {
            if let Poll::Ready(error) = refused.as_mut().poll(cx) {
                return Poll::Ready(error.and_then(Err));
            }
            self.poll(cx, upstream, &timer, answers)
        })
        .await;
        match outcome {
            // Without any response, it is unknown whether the upstream is reachable: the session counts neither as
            // success nor as failure.
            Ok(()) if answers.count > 0 => endpoint.succeeded(flowing),
            Ok(()) => {}
            Err(error) => {
                let kind =
                    if descriptors::is_local(&error) { FailureKind::Overloaded } else { FailureKind::UpstreamConnect };
                let failure = Failure::new(kind, "the target cannot be reached").with_source(error);
                endpoint.failed(flowing, &failure);
                return Err(failure);
            }
        }
        Ok(())
    }

    /// Forwards responses to the client. Ready when the session ends: by its idle timeout, or because the upstream is
    /// unreachable (ICMP). The client's next datagram then starts a session with a newly selected endpoint.
    fn poll(
        &self,
        cx: &mut Context<'_>,
        upstream: &UdpSocket,
        timer: &Timer,
        answers: &mut Answers,
    ) -> Poll<io::Result<()>> {
        let server = &self.server;
        let mut buffer = server.buffer.borrow_mut();
        let (mut moved, mut errors) = (false, 0);
        loop {
            if let Some(error) = self.flow.error.take() {
                return Poll::Ready(Err(error));
            }
            if self.flow.over.get() {
                return Poll::Ready(Ok(()));
            }
            let mut buf = ReadBuf::new(&mut buffer);
            match upstream.poll_recv(cx, &mut buf) {
                Poll::Ready(Ok(())) => {
                    moved = true;
                    self.answer(buf.filled(), answers);
                }
                Poll::Ready(Err(error)) if is_gone(&error) || errors == ERRORS_IN_A_ROW => {
                    return Poll::Ready(Err(error));
                }
                Poll::Ready(Err(_)) => errors += 1,
                Poll::Pending => break,
            }
        }
        self.flow.wait(cx);
        if server.closed.get() {
            if moved || !std::mem::replace(&mut answers.lingering, true) {
                timer.arm(LINGER_MS);
            }
            if timer.poll_expired(cx) {
                return Poll::Ready(Ok(()));
            }
        }
        Poll::Pending
    }

    fn answer(&self, data: &[u8], answers: &mut Answers) {
        let server = &self.server;
        answers.count += 1;
        answers.received += data.len() as u64;
        server.flows.borrow_mut().touch(self.key, server.worker.now());
        match server.socket.try_send_to(data, self.client) {
            Ok(count) => answers.sent += count as u64,
            Err(error) => {
                add(&self.flow.dropped, 1);
                if error.kind() != ErrorKind::WouldBlock {
                    tracing::debug!(client = %self.client, %error, "cannot send a datagram to the client");
                }
            }
        }
    }
}

/// Opens a socket that only exchanges datagrams with the endpoint. Connecting succeeds if the system has a route to the
/// endpoint.
async fn open(_: &RoutePlan, _: &BackendPlan, picked: &Picked, _: &Exchange, _: &Stage) -> Result<UdpSocket, Failure> {
    let to = picked.address();
    let any: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let failed = |error: io::Error| connect_failure(ConnectError::Tcp { address: to, error });
    let socket = UdpSocket::bind(any).await.map_err(failed)?;
    descriptors::check(&socket).map_err(failed)?;
    socket.connect(to).await.map_err(failed)?;
    // The runtime only notices that a new socket is writable when it polls, and sending fails until then.
    socket.writable().await.map_err(failed)?;
    Ok(socket)
}
