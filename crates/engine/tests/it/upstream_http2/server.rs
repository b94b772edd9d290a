//! An HTTP/2 server with scripted exchanges.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use bytes::Bytes;
use cardinal_base::task;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{Request, response};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The server. Dropping it stops accepting.
pub(crate) struct Server {
    address: SocketAddr,
    connections: Arc<AtomicU64>,
    accepting: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A request and its response.
pub(crate) struct Exchange {
    number: u64,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
}

impl Server {
    /// Starts a server that runs `each` for each request; after `goaway_after` requests on a connection, it sends
    /// GOAWAY.
    pub(crate) async fn start<F, D>(goaway_after: Option<u64>, each: D) -> Self
    where
        D: Fn(Exchange) -> F + Send + Sync + 'static,
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("127.0.0.1 has a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let (connections, numbers) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (counting, each) = (Arc::clone(&connections), Arc::new(each));
        let accepting = task::spawn("http/2 server", async move {
            while let Ok((tcp, _)) = listener.accept().await {
                counting.fetch_add(1, Ordering::SeqCst);
                let (each, numbers) = (Arc::clone(&each), Arc::clone(&numbers));
                let serving = task::spawn("http/2 connection", async move {
                    let each = move |exchange| each(exchange);
                    // The other side detects how the connection ends.
                    serve(tcp, goaway_after, &numbers, each).await.ok();
                });
                drop(serving);
            }
        });
        Self { address, connections, accepting }
    }

    /// Its clear-text URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Number of connections received.
    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn serve<F>(
    tcp: TcpStream,
    goaway_after: Option<u64>,
    numbers: &AtomicU64,
    each: impl Fn(Exchange) -> F,
) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let mut connection = h2::server::handshake(tcp).await?;
    let mut count = 0;
    while let Some(accepted) = connection.accept().await {
        let (request, respond) = accepted?;
        let number = numbers.fetch_add(1, Ordering::SeqCst) + 1;
        let work = each(Exchange { number, request, respond });
        drop(task::spawn("http/2 exchange", async move {
            if let Err(error) = work.await {
                tracing::info!(%error, "an exchange failed");
            }
        }));
        count += 1;
        if goaway_after == Some(count) {
            connection.graceful_shutdown();
        }
    }
    Ok(())
}

impl Exchange {
    /// From 1, over all connections.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn path(&self) -> String {
        self.request.uri().path().to_owned()
    }

    /// The complete request body.
    pub(crate) async fn body(&mut self) -> Result<Vec<u8>> {
        let body = self.request.body_mut();
        let mut whole = Vec::new();
        while let Some(part) = body.data().await {
            let part = part?;
            body.flow_control().release_capacity(part.len())?;
            whole.extend_from_slice(&part);
        }
        Ok(whole)
    }

    /// Sends a head; with `end`, nothing follows.
    pub(crate) fn respond(&mut self, head: response::Builder, end: bool) -> Result<SendStream<Bytes>> {
        Ok(self.respond.send_response(head.body(())?, end)?)
    }

    /// Sends a short response.
    pub(crate) async fn answer(mut self, status: u16, body: &'static [u8]) -> Result<()> {
        self.body().await?;
        let mut send = self.respond(http::Response::builder().status(status), false)?;
        Ok(send.send_data(Bytes::from_static(body), true)?)
    }

    /// Refuses the stream.
    pub(crate) fn reset(&mut self, reason: Reason) {
        self.respond.send_reset(reason);
    }
}
