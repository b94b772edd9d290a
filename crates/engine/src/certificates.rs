//! The certificate phase: filters supply the certificate of a TLS handshake. On listeners without such filters,
//! the cost is one check of an empty list.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use cardinal_base::Tick;
use cardinal_http::FailureKind;
use cardinal_ir::{Listener, ListenerKind, Wire};
use cardinal_net::client_hello::{self, Hello};
use cardinal_net::tls::{self, ServerTls, SuppliedCertificate};
use cardinal_net::{ByteStream, ClientHello, Io, NetError, Timer};
use cardinal_sdk::{
    CertificateAnswer, CertificateCx, CertificateDecision, CertificateStep, Client, Exchange, Filter, Phases,
    ServerCertificate, TlsAlert,
};
use rustls::ServerConfig;
use tokio::io::AsyncWriteExt as _;

use crate::arrival::{AcceptedTls, Arrived, ConnectionTls, accept_tls};
use crate::exchange::is_trusted;
use crate::http::{LINGER_MAX, LINGER_MS};
use crate::plan::{Chain, Phase, Plan};
use crate::worker::Worker;

/// How to continue a handshake.
pub(crate) enum Answer {
    /// Use the certificates of the configuration.
    Configured,
    /// Use a certificate supplied by a filter.
    Supplied(ServerTls),
    /// Answer a challenge that proves control of a name.
    Challenge(Arc<ServerConfig>),
    Refused(TlsAlert),
    /// No answer: the client has disconnected.
    Left,
}

/// Whether filters supply the certificate.
pub(crate) fn are_asked(plan: &Plan, tls: &ConnectionTls, listener: &Listener) -> bool {
    matches!(tls, ConnectionTls::Server(_)) && !chain(plan, listener).list(Phase::Certificate).is_empty()
}

fn chain<'p>(plan: &'p Plan, listener: &Listener) -> &'p Chain {
    &plan.group(listener.group).unrouted
}

/// Reads until the ClientHello is complete; it stays unread in the connection. Returns `None` if the input is not a
/// ClientHello or is too long. The end of the stream is [`NetError::Closed`].
pub(crate) async fn read_hello(down: &mut ByteStream) -> Result<Option<ClientHello>, NetError> {
    poll_fn(|cx| {
        loop {
            match client_hello::parse(down.unread()) {
                Hello::Complete { sni, alpn } => return Poll::Ready(Ok(Some(ClientHello { sni, alpn }))),
                Hello::NotTls => return Poll::Ready(Ok(None)),
                Hello::Partial => {}
            }
            if ready!(down.poll_read_more(cx, client_hello::MAX))? == 0 {
                return Poll::Ready(Err(NetError::Closed));
            }
        }
    })
    .await
}

/// A handshake for which filters may supply the certificate.
pub(crate) struct Handshake<'h> {
    pub(crate) worker: &'h Worker,
    pub(crate) tls: &'h ConnectionTls,
    pub(crate) client: &'h Client,
    pub(crate) arrived: &'h Arrived,
}

impl Handshake<'_> {
    /// Calls the filters of the listener in order. All together have half of the remaining time, so that the handshake
    /// can continue without them.
    pub(crate) async fn ask(&self, hello: &ClientHello, down: &mut ByteStream) -> Answer {
        let Self { worker, tls: ConnectionTls::Server(tls), client, arrived } = self else { return Answer::Configured };
        let (plan, listener) = (worker.plan(), &arrived.listener);
        let deadline = Deadline { begun: worker.now(), limit_ms: arrived.left_ms(worker) / 2 };
        let chain = chain(&plan, listener);
        let mut exchange = Box::new(Exchange::new(believed(client, &plan)));
        for slot in chain.list(Phase::Certificate) {
            let Some(filter) = choose(chain, *slot, listener, &mut exchange) else { continue };
            let mut cx = CertificateCx {
                server_name: hello.sni.as_deref(),
                protocols: &hello.alpn,
                client: &exchange.client,
                group: listener.group,
                services: &plan.services,
            };
            let decision = match filter.on_certificate(&mut cx) {
                CertificateStep::Wait(future) => match deadline.wait(worker, future, down).await {
                    Some(decision) => decision,
                    None => return Answer::Left,
                },
                step => step.settle().await,
            };
            let failed = match decision {
                CertificateDecision::Continue => continue,
                CertificateDecision::Answer(answer) => match settle(tls, answer) {
                    Ok(answer) => return answer,
                    Err(reason) => reason,
                },
                CertificateDecision::Fail(reason) => reason,
            };
            worker.counters().failed(FailureKind::Filter);
            let (plugin, name) = (chain.name(*slot), hello.sni.as_deref().unwrap_or_default());
            tracing::warn!(
                failure = "filter", listener = %listener.name, client = %client.peer, server_name = name,
                "filter: a plugin failed in the certificate phase: {plugin}: {failed}"
            );
            if !chain.fails_open(*slot) {
                return Answer::Refused(TlsAlert::InternalError);
            }
        }
        Answer::Configured
    }

    /// Continues the handshake. `None` if it timed out. `Some(Ok(None))` if control of a name was proved; the
    /// connection is then closed.
    pub(crate) async fn finish(&self, answer: Answer, down: ByteStream) -> Option<io::Result<Option<AcceptedTls>>> {
        let Self { worker, tls, arrived, .. } = self;
        let (io, prefix) = down.into_parts();
        if let Answer::Refused(alert) = answer {
            return Some(Err(refuse(worker, io, alert).await));
        }
        let Io::Tcp(tcp) = io else { return Some(Err(io::Error::other("TLS within TLS"))) };
        let prefix = prefix.filled();
        let finishing = async {
            match answer {
                Answer::Supplied(supplied) => accept_tls(&ConnectionTls::Server(supplied), tcp, prefix).await.map(Some),
                Answer::Challenge(config) => tls::prove(&config, tcp, prefix).await.map(|()| None),
                Answer::Left => {
                    Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the client left while a filter waited"))
                }
                Answer::Configured | Answer::Refused(_) => accept_tls(tls, tcp, prefix).await.map(Some),
            }
        };
        arrived.in_time(worker, Box::pin(finishing)).await
    }
}

/// The deadline for waits of filters.
struct Deadline {
    begun: Tick,
    limit_ms: u64,
}

impl Deadline {
    /// Waits for the decision of a filter; `None` if the client disconnects first, which ends the wait.
    async fn wait(
        &self,
        worker: &Worker,
        mut future: Pin<Box<dyn Future<Output = CertificateDecision> + '_>>,
        down: &mut ByteStream,
    ) -> Option<CertificateDecision> {
        let left_ms = self.limit_ms.saturating_sub(worker.now().millis_since(self.begun));
        let waiting = poll_fn(|cx| {
            if let Poll::Ready(decision) = future.as_mut().poll(cx) {
                return Poll::Ready(Some(decision));
            }
            if has_left(down, cx) { Poll::Ready(None) } else { Poll::Pending }
        });
        Timer::new(&worker.wheel).limit(left_ms, waiting).await.unwrap_or_else(|| {
            let limit_ms = self.limit_ms;
            let late = format!("it has not finished waiting within {limit_ms} ms, half of client_handshake_timeout");
            Some(CertificateDecision::Fail(late))
        })
    }
}

/// Whether the client has closed its side, so that no handshake is possible. Early data is kept.
fn has_left(down: &mut ByteStream, cx: &mut Context<'_>) -> bool {
    loop {
        match down.poll_read_more(cx, client_hello::MAX) {
            Poll::Ready(Ok(1..)) => {}
            Poll::Ready(Ok(0)) => return true,
            // The buffer is full, so a disconnect is only noticed when the data has been read.
            Poll::Pending | Poll::Ready(Err(NetError::BufferFull)) => return false,
            Poll::Ready(Err(_)) => return true,
        }
    }
}

/// The text for a failed handshake; without an error, it timed out.
pub(crate) fn failure_text(worker: &Worker, error: Option<&io::Error>) -> String {
    match error {
        Some(error) => format!("TLS handshake with the client: {}", tls::io_text(error)),
        None => {
            let limit_ms = worker.plan().node().limits.handshake_timeout_ms;
            format!("no TLS handshake within client_handshake_timeout {limit_ms} ms")
        }
    }
}

/// The client as filters see it: the source of a PROXY protocol header is used if the peer is trusted.
fn believed(client: &Client, plan: &Plan) -> Client {
    let mut client = client.clone();
    client.trusted = is_trusted(&plan.node().real_ip, client.peer.ip());
    if !client.trusted {
        (client.ip, client.port) = (client.peer.ip(), client.peer.port());
    }
    client.ip = client.ip.to_canonical();
    client
}

/// The filter of a slot for the protocol of the listener. If the protocol is only known after the handshake, the filter
/// for HTTP is used, or else the filter for bytes.
fn choose<'c>(
    chain: &'c Chain,
    slot: u16,
    listener: &Listener,
    exchange: &mut Exchange,
) -> Option<&'c Arc<dyn Filter>> {
    let wires: &[Wire] = match listener.kind {
        ListenerKind::Stream => &[Wire::Tls],
        ListenerKind::Detect => &[Wire::Https, Wire::Tls],
        ListenerKind::Http | ListenerKind::Status | ListenerKind::Udp => &[Wire::Https],
    };
    wires.iter().find_map(|wire| {
        exchange.client.wire = *wire;
        chain.filter(slot, chain.choose(slot, exchange), Phases::CERTIFICATE)
    })
}

/// Converts the answer of a filter into TLS settings; the error is the reason why that is impossible.
fn settle(tls: &ServerTls, answer: CertificateAnswer) -> Result<Answer, String> {
    let parsed = |certificate: &ServerCertificate, make: &dyn Fn(&SuppliedCertificate) -> Result<Answer, String>| {
        let parsed = certificate.parsed::<SuppliedCertificate>();
        parsed.map_or_else(|| Err("the certificate was not parsed by the node".to_owned()), make)
    };
    match answer {
        CertificateAnswer::Serve(certificate) => {
            parsed(&certificate, &|found| Ok(Answer::Supplied(tls.with_certificate(found))))
        }
        CertificateAnswer::Challenge { certificate, protocol } => parsed(&certificate, &|found| {
            tls.challenge(found, &protocol).map(Answer::Challenge).map_err(|error| error.to_string())
        }),
        CertificateAnswer::Refuse(alert) => Ok(Answer::Refused(alert)),
    }
}

/// Answers a ClientHello with an unencrypted alert.
async fn refuse(worker: &Worker, mut io: Io, alert: TlsAlert) -> io::Error {
    const ALERT: u8 = 21;
    const FATAL: u8 = 2;
    let record = [ALERT, 3, 3, 0, 2, FATAL, alert.code()];
    let closing = async {
        // The client may have disconnected.
        if io.write_all(&record).await.is_ok() {
            io.shutdown_and_discard(LINGER_MAX).await;
        }
    };
    Timer::new(&worker.wheel).limit(LINGER_MS, closing).await;
    io::Error::new(io::ErrorKind::PermissionDenied, format!("refused with the alert {alert:?}"))
}
