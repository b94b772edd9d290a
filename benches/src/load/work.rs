//! The description of a load.

/// Hosts and paths of the usual targets; the proxies route by both.
pub(crate) const HOSTS: [&str; 4] = ["shop", "users", "orders", "images"];
pub(crate) const PATHS: [&str; 4] = ["v1", "v2", "search", "static"];
/// Connections of the usual load.
pub(crate) const CONNECTIONS: usize = 64;

/// The protocol of the clients. The upstream uses HTTP/1.1 unless stated otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// HTTP/1.1 with keep-alive.
    H1,
    /// The same over TLS; sessions may be resumed.
    H1Tls,
    /// HTTP/1.1 with a new connection for each request, which requests `Connection: close`.
    H1Fresh,
    /// HTTP/1.1 over TLS with a new connection and a full handshake for each request, which requests `Connection:
    /// close`.
    TlsFull,
    /// HTTP/2 without TLS, by prior knowledge.
    H2,
    /// HTTP/2 over TLS.
    #[allow(dead_code, reason = "no scenario has it yet")]
    H2Tls,
    /// gRPC, unary, over HTTP/2 without TLS, to an upstream with the same protocol.
    Grpc,
    /// Messages over TCP, to an echo upstream.
    Tcp,
    /// Messages over a WebSocket, to an echo upstream.
    WebSocket,
}

impl Kind {
    /// Whether clients use TLS.
    pub(crate) fn tls(self) -> bool {
        matches!(self, Self::H1Tls | Self::TlsFull | Self::H2Tls)
    }

    /// Whether clients use HTTP/2.
    pub(crate) fn http2(self) -> bool {
        matches!(self, Self::H2 | Self::H2Tls | Self::Grpc)
    }

    /// Whether clients send messages, which are echoed.
    pub(crate) fn messages(self) -> bool {
        matches!(self, Self::Tcp | Self::WebSocket)
    }
}

/// Whether requests or responses have a body of [`Work::body`] bytes; the other direction has none. Messages
/// ([`Kind::Tcp`], [`Kind::WebSocket`]) always have both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Responses have the body.
    Down,
    /// Requests have the body.
    Up,
    /// Both have the body.
    Both,
}

/// The number of clients and their requests.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    pub(crate) kind: Kind,
    /// Number of concurrent connections.
    pub(crate) connections: usize,
    /// Number of concurrent requests on one HTTP/2 connection; other kinds have one.
    pub(crate) streams: usize,
    /// Size of a body or a message.
    pub(crate) body: usize,
    pub(crate) direction: Direction,
    /// Additional fields of each request: name and value.
    pub(crate) headers: Vec<(String, String)>,
    /// Host and path (with query) of the requests. By default, there are sixteen targets, of [`HOSTS`] and [`PATHS`],
    /// and each connection uses one of them (HTTP/2: those of one host). If set, each connection alternates between all
    /// of them (with TLS, where server names have to match, all of one host).
    pub(crate) targets: Option<Vec<(String, String)>>,
    /// Requests per second of all connections together. A request is sent when it is due and a connection is free, and
    /// its latency is measured from the time when it was due. Without a rate, each request follows a response, and
    /// latencies are not recorded.
    pub(crate) rate: Option<u32>,
}

impl Work {
    /// The usual load: GET over 64 connections, HTTP/1.1, response bodies of `body` bytes.
    pub(crate) fn plain(body: usize) -> Self {
        Self {
            kind: Kind::H1,
            connections: CONNECTIONS,
            streams: 1,
            body,
            direction: Direction::Down,
            headers: Vec::new(),
            targets: None,
            rate: None,
        }
    }

    /// Size of a request body.
    pub(super) fn up(&self) -> u64 {
        if self.direction == Direction::Down || self.kind.messages() { 0 } else { self.body as u64 }
    }

    /// Size of a response body.
    pub(super) fn down(&self) -> u64 {
        if self.direction == Direction::Up || self.kind.messages() { 0 } else { self.body as u64 }
    }

    /// Host and path of each target.
    pub(super) fn targets(&self) -> Vec<(String, String)> {
        self.targets.clone().unwrap_or_else(|| {
            let pairs = PATHS.iter().flat_map(|path| HOSTS.iter().map(move |host| (host, path)));
            pairs.map(|(host, path)| (format!("{host}.bench.test"), format!("/{path}/items/1234?page=3"))).collect()
        })
    }
}

/// Fields of every request, after its host.
pub(super) const FIELDS: [(&str, &str); 4] = [
    ("User-Agent", "cardinal-bench/1.0"),
    ("Accept", "application/json, text/plain;q=0.9, */*;q=0.8"),
    ("Accept-Language", "en-GB,en;q=0.7"),
    ("Cookie", "session=0123456789abcdef"),
];

/// A GET of about 190 bytes with five fields.
pub(crate) fn request(host: &str, path: &str) -> String {
    h1_head("GET", &format!("{host}.bench.test"), &format!("/{path}/items/1234?page=3"), &[])
}

/// The head of an HTTP/1.1 request, with additional fields.
pub(super) fn h1_head(method: &str, host: &str, path: &str, further: &[(String, String)]) -> String {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n");
    let usual = FIELDS.iter().copied();
    for (name, value) in usual.chain(further.iter().map(|(name, value)| (name.as_str(), value.as_str()))) {
        text.extend([name, ": ", value, "\r\n"]);
    }
    text.push_str("\r\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_the_size_that_is_told() {
        for host in HOSTS {
            for path in PATHS {
                let text = request(host, path);
                assert!((180..=240).contains(&text.len()), "{}", text.len());
                assert_eq!(text.lines().count(), 7);
            }
        }
    }

    #[test]
    fn the_usual_targets_are_all_pairs() {
        let mut targets = Work::plain(0).targets();
        assert_eq!(targets[1].0, "users.bench.test");
        assert_eq!(targets[4].1, "/v2/items/1234?page=3");
        targets.sort();
        targets.dedup();
        assert_eq!(targets.len(), 16);
    }
}
