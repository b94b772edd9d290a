//! `cardinal echo`: a backend to try the gateway with. It answers each request with the request as JSON.
//!
//! HTTP/1.1 and, to clients that start with its preface, HTTP/2 in the clear. A WebSocket gets each frame back, a gRPC
//! call each message. `/status/503` answers with that status, `/delay/250` after so many milliseconds.

mod http;
mod websocket;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use cardinal_base::task;
use serde_json::{Map, Value, json};
use tokio::net::{TcpListener, TcpStream};

#[cfg(test)]
mod tests;

/// Longest request body that is taken; a longer one is answered with 413.
const BODY_MAX: usize = 1 << 20;
/// Longest delay that `/delay/MS` grants.
const DELAY_MAX_MS: u64 = 60_000;
/// Idle timeout of connections.
const IDLE: Duration = Duration::from_secs(120);

/// The backend, listening.
#[derive(Debug)]
pub struct Echo {
    listener: TcpListener,
    address: SocketAddr,
}

impl Echo {
    /// Starts listening; port 0 takes a free port.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub async fn bind(address: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen at {address}"))?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the future is dropped; connections that are open then end with their runtime.
    pub async fn serve(self) {
        loop {
            match self.listener.accept().await {
                Ok((tcp, _)) => drop(task::spawn("echo connection", connection(tcp))),
                Err(error) => {
                    // Out of file descriptors: connections end, and there will be some again.
                    tracing::warn!(%error, "the echo backend cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

async fn connection(tcp: TcpStream) {
    let result = async {
        tcp.set_nodelay(true)?;
        let is_h2 = starts_h2(&tcp).await?;
        http::serve(tcp, is_h2).await
    };
    if let Err(error) = result.await {
        tracing::debug!(error = %format!("{error:#}"), "an echo connection ended");
    }
}

/// Whether the client starts with HTTP/2's preface; looks without taking bytes.
async fn starts_h2(tcp: &TcpStream) -> Result<bool> {
    const PREFACE: &[u8] = b"PRI ";
    let mut first = [0; PREFACE.len()];
    loop {
        let count = tokio::time::timeout(IDLE, tcp.peek(&mut first)).await.context("the client says nothing")??;
        let seen = first.get(..count).unwrap_or_default();
        if count == 0 || count == PREFACE.len() || !PREFACE.starts_with(seen) {
            return Ok(seen == PREFACE);
        }
        // Part of the preface is there: the rest is on its way.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The response that a path requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Directions {
    status: Option<u16>,
    delay: Duration,
}

impl Directions {
    /// Status and delay of `/status/503` and `/delay/250`, anywhere in the path: a gateway may have added a prefix.
    fn of(path: &str) -> Self {
        let mut directions = Self::default();
        let mut segments = path.split('/').peekable();
        while let (Some(word), next) = (segments.next(), segments.peek()) {
            let number = next.and_then(|next| next.parse::<u64>().ok());
            match (word, number) {
                ("status", Some(status)) => {
                    directions.status = u16::try_from(status).ok().filter(|status| (200..600).contains(status));
                }
                ("delay", Some(ms)) => directions.delay = Duration::from_millis(ms.min(DELAY_MAX_MS)),
                _ => {}
            }
        }
        directions
    }

    /// Waits, if there is anything to wait for: the shortest sleep takes a millisecond.
    async fn wait(self) {
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
    }
}

/// What reached the backend.
struct Seen<'a> {
    version: &'a str,
    method: &'a str,
    host: &'a str,
    path: &'a str,
    query: Option<&'a str>,
    headers: Map<String, Value>,
    body: &'a [u8],
}

impl Seen<'_> {
    /// As JSON, indented, with a line end: people read it.
    fn to_json(&self) -> String {
        let body = String::from_utf8_lossy(self.body);
        let value = json!({
            "version": self.version,
            "method": self.method,
            "host": self.host,
            "path": self.path,
            "query": self.query,
            "headers": self.headers,
            "body": body,
        });
        format!("{value:#}\n")
    }
}

/// Fields as an object with names in lower case; a name that is there twice has its values joined by commas.
fn joined<'a>(fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Map<String, Value> {
    let mut map: Map<String, Value> = Map::new();
    for (name, value) in fields {
        let value = String::from_utf8_lossy(value);
        match map.entry(String::from_utf8_lossy(name).to_lowercase()).or_insert(Value::Null) {
            Value::String(known) => {
                known.push_str(", ");
                known.push_str(&value);
            }
            new => *new = Value::String(value.into_owned()),
        }
    }
    map
}
