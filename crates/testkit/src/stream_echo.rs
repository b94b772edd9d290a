//! Backends for routes of connections and datagrams.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cardinal_base::task;
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::socket::Socket;

/// Sends back what comes, byte for byte: over TCP, TLS or UDP. Dropping it closes its connections.
#[derive(Debug)]
pub struct StreamEcho {
    address: SocketAddr,
    count: Arc<AtomicU64>,
    serving: JoinHandle<()>,
}

impl Drop for StreamEcho {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl StreamEcho {
    /// Over TCP.
    pub async fn tcp() -> Self {
        Self::listen(None).await
    }

    /// Over TLS.
    pub async fn tls(config: Arc<ServerConfig>) -> Self {
        Self::listen(Some(config)).await
    }

    async fn listen(tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("127.0.0.1 has a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let count = Arc::new(AtomicU64::new(0));
        let serving = task::spawn("stream echo", accept(listener, tls, Arc::clone(&count)));
        Self { address, count, serving }
    }

    /// Over UDP: each datagram goes back to where it came from.
    pub async fn udp() -> Self {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).await.expect("127.0.0.1 has a free port");
        let address = socket.local_addr().expect("a bound socket has an address");
        let count = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&count);
        let serving = task::spawn("datagram echo", async move {
            let mut buf = vec![0; 65_536];
            while let Ok((length, from)) = socket.recv_from(&mut buf).await {
                counter.fetch_add(1, Ordering::SeqCst);
                // Datagrams may be lost, this one too.
                let _sent = socket.send_to(&buf[..length], from).await;
            }
        });
        Self { address, count, serving }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections, or datagrams, came.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }
}

async fn accept(listener: TcpListener, tls: Option<Arc<ServerConfig>>, count: Arc<AtomicU64>) {
    let mut connections = JoinSet::new();
    while let Ok((tcp, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        count.fetch_add(1, Ordering::SeqCst);
        let tls = tls.clone();
        connections.spawn(async move {
            // How a connection ends shows on its other side.
            let _ended = echo(tcp, tls).await;
        });
    }
}

async fn echo(tcp: TcpStream, tls: Option<Arc<ServerConfig>>) -> io::Result<()> {
    let mut socket = match tls {
        None => Socket::Plain(tcp),
        Some(config) => Socket::Tls(Box::new(TlsAcceptor::from(config).accept(tcp).await?.into())),
    };
    let mut buf = vec![0; 16 * 1024];
    loop {
        let length = socket.read(&mut buf).await?;
        if length == 0 {
            return socket.shutdown().await;
        }
        socket.write_all(&buf[..length]).await?;
        socket.flush().await?;
    }
}
