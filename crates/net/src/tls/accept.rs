//! The handshake with a client from which some bytes may already have been read.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use rustls::{ServerConfig, ServerConnection};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::ServerTls;
use super::words::text;

/// Accepts TLS on `tcp`, from which `prefix` was already read. The caller enforces the timeout.
///
/// # Errors
/// If the handshake fails, or a resumed session must not be served: [`ServerTls::verify_resumed`].
pub async fn accept(tls: &ServerTls, tcp: TcpStream, prefix: &[u8]) -> io::Result<TlsStream<TcpStream>> {
    let stream = accept_with(tls.config(), tcp, prefix).await?;
    tls.verify_resumed(stream.get_ref().1).map_err(|error| {
        io::Error::new(io::ErrorKind::PermissionDenied, format!("resumed session: {}", text(&error)))
    })?;
    Ok(stream)
}

/// The handshake without the check of resumed sessions, which has to follow.
pub(crate) async fn accept_with(
    config: &Arc<ServerConfig>,
    tcp: TcpStream,
    prefix: &[u8],
) -> io::Result<TlsStream<TcpStream>> {
    let acceptor = TlsAcceptor::from(Arc::clone(config));
    let mut fed = Ok(());
    let mut accepting = pin!(acceptor.accept_with(tcp, |connection| fed = feed(connection, prefix)));
    if let Err(error) = fed {
        // One poll sends the alert. A further poll would wait for the client, which may send nothing more.
        poll_fn(|cx| Poll::Ready(accepting.as_mut().poll(cx).is_ready())).await;
        return Err(io::Error::new(io::ErrorKind::InvalidData, error));
    }
    accepting.await
}

/// Passes the bytes already read to a connection.
fn feed(connection: &mut ServerConnection, mut bytes: &[u8]) -> Result<(), rustls::Error> {
    while !bytes.is_empty() {
        // The connection accepts input until its buffer is full, which a handshake does not reach.
        if !matches!(connection.read_tls(&mut bytes), Ok(1..)) {
            return Err(rustls::Error::General("too many bytes before the handshake".to_owned()));
        }
        connection.process_new_packets()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsConnector;

    use super::super::{
        ClientSettings, Names, ServerSettings, client_config, provider, self_signed, server_config, ticketer,
    };
    use super::*;
    use crate::{Detection, Evidence, Io, Protocol, SniffTimeouts, Timer, Wheel, sniff};

    fn server() -> ServerTls {
        let mut names = Names::default();
        names.add("*", &[self_signed().unwrap()]);
        server_config(ServerSettings {
            provider: provider(&[]).0,
            names: Arc::new(names),
            http2: true,
            alpn: true,
            client_authorities: None,
            client_required: false,
            tls13_only: false,
            ticketer: ticketer().unwrap(),
        })
        .unwrap()
    }

    /// A connection, and its other end after protocol detection.
    async fn sniffed(client: impl AsyncFnOnce(TcpStream)) -> (Protocol, io::Result<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connecting = async { client(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap()).await };
        let accepting = async {
            let mut io = Io::Tcp(listener.accept().await.unwrap().0);
            let timer = Timer::new(&Wheel::new(Arc::new(cardinal_base::ManualClock::default())));
            let sniffed = sniff(&mut io, Detection::Sniff(SniffTimeouts::default()), &timer).await.unwrap();
            assert_eq!(sniffed.evidence, Evidence::Content);
            let Io::Tcp(tcp) = io else { unreachable!() };
            let mut received = Vec::new();
            let outcome = match accept(&server(), tcp, sniffed.prefix.filled()).await {
                Ok(mut stream) => stream.read_to_end(&mut received).await.map(|_| received),
                Err(error) => Err(error),
            };
            (sniffed.protocol, outcome)
        };
        tokio::join!(connecting, accepting).1
    }

    #[tokio::test]
    async fn what_detection_has_read_is_part_of_the_handshake() {
        let outcome = sniffed(async |tcp| {
            let connector = TlsConnector::from(client_config(&ClientSettings::default()).unwrap());
            let mut stream = connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap();
            stream.write_all(b"hello").await.unwrap();
            stream.shutdown().await.unwrap();
        })
        .await;
        assert_eq!((outcome.0, outcome.1.unwrap()), (Protocol::Tls, b"hello".to_vec()));
    }

    #[tokio::test]
    async fn what_is_not_tls_is_refused_with_an_alert() {
        let outcome = sniffed(async |mut tcp| {
            tcp.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
            let mut alert = Vec::new();
            tcp.read_to_end(&mut alert).await.unwrap();
            assert_eq!(alert.first(), Some(&21));
        })
        .await;
        assert_eq!(outcome.0, Protocol::Http1);
        assert!(outcome.1.is_err());
    }
}
