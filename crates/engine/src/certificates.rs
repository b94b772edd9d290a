//! The certificate phase: filters supply the certificate of a TLS handshake. Connections of other listeners cost nothing
//! but a look at an empty list.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Poll, ready};

use cardinal_http::FailureKind;
use cardinal_ir::{Listener, ListenerKind, Wire};
use cardinal_net::client_hello::{self, Hello};
use cardinal_net::tls::{self, ServerTls, SuppliedCertificate};
use cardinal_net::{ByteStream, ClientHello, NetError, Timer};
use cardinal_sdk::{
    CertificateAnswer, CertificateCx, CertificateDecision, CertificateStep, Client, Exchange, Filter, Phases,
    ServerCertificate, TlsAlert,
};
use rustls::ServerConfig;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::arrival::{AcceptedTls, ConnectionTls, accept_tls};
use crate::exchange::is_trusted;
use crate::plan::{Chain, Phase, Plan};
use crate::worker::Worker;

/// How a handshake goes on.
pub(crate) enum Answer {
    /// With the certificates of the configuration.
    Configured,
    /// With a certificate that a filter supplies.
    Supplied(ServerTls),
    /// To prove control of a name.
    Challenge(Arc<ServerConfig>),
    Refused(TlsAlert),
}

/// Whether filters are to be asked for the certificate.
pub(crate) fn are_asked(plan: &Plan, tls: &ConnectionTls, listener: &Listener) -> bool {
    matches!(tls, ConnectionTls::Server(_)) && !chain(plan, listener).list(Phase::Certificate).is_empty()
}

fn chain<'p>(plan: &'p Plan, listener: &Listener) -> &'p Chain {
    &plan.group(listener.group).unrouted
}

/// Reads until the ClientHello is whole; it stays unread in the connection. `None`: this is something else, or it is too
/// long. An end of the stream is [`NetError::Closed`].
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

/// Asks the filters of a listener, each by its turn and all together within the time of a handshake.
pub(crate) async fn ask(
    worker: &Worker,
    tls: &ConnectionTls,
    client: &Client,
    listener: &Listener,
    hello: &ClientHello,
) -> Answer {
    let ConnectionTls::Server(tls) = tls else { return Answer::Configured };
    let (plan, begun) = (worker.plan(), worker.now());
    let limit_ms = plan.node().limits.handshake_timeout_ms;
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
            CertificateStep::Wait(future) => {
                let left_ms = limit_ms.saturating_sub(worker.now().millis_since(begun));
                let waited = Timer::new(&worker.wheel).limit(left_ms, future).await;
                waited.unwrap_or_else(|| CertificateDecision::Fail(late(limit_ms)))
            }
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

fn late(limit_ms: u64) -> String {
    format!("it has not finished waiting within client_handshake_timeout {limit_ms} ms")
}

/// The client as filters see it: the source of a PROXY protocol header counts if the peer is trusted.
fn believed(client: &Client, plan: &Plan) -> Client {
    let mut client = client.clone();
    client.trusted = is_trusted(&plan.node().real_ip, client.peer.ip());
    if !client.trusted {
        (client.ip, client.port) = (client.peer.ip(), client.peer.port());
    }
    client.ip = client.ip.to_canonical();
    client
}

/// The filter of a slot that is for what the listener serves. Where only the bytes inside TLS will tell, it is the one for
/// HTTP, or the one for bytes if there is none.
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

/// Makes TLS of an answer; the reason when that is impossible.
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

/// Goes on with a handshake of which `prefix` was read. `None`: a name was proved, and the connection is closed.
pub(crate) async fn finish(
    answer: Answer,
    tls: &ConnectionTls,
    tcp: TcpStream,
    prefix: &[u8],
) -> io::Result<Option<AcceptedTls>> {
    match answer {
        Answer::Configured => accept_tls(tls, tcp, prefix).await.map(Some),
        Answer::Supplied(supplied) => accept_tls(&ConnectionTls::Server(supplied), tcp, prefix).await.map(Some),
        Answer::Challenge(config) => tls::prove(&config, tcp, prefix).await.map(|()| None),
        Answer::Refused(alert) => Err(refuse(tcp, alert).await),
    }
}

/// Answers a ClientHello with an alert, which nothing encrypts yet.
async fn refuse(mut tcp: TcpStream, alert: TlsAlert) -> io::Error {
    const ALERT: u8 = 21;
    const FATAL: u8 = 2;
    let record = [ALERT, 3, 3, 0, 2, FATAL, alert.code()];
    // The client may have left.
    if tcp.write_all(&record).await.is_ok() {
        tcp.shutdown().await.ok();
    }
    io::Error::new(io::ErrorKind::PermissionDenied, format!("refused with the alert {alert:?}"))
}
