//! The requests of clients and their expected responses, prepared once from [`Work`].

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::h2::hpack::{self, Common};
use super::h2::wire::WINDOW;
use super::work::{FIELDS, Kind, Work, h1_head};
use super::{tls, websocket};

/// Size of the blocks in which long bodies are written.
pub(super) const BLOCK: usize = 128 * 1024;
/// Size of the body prefix that each target stores behind its head, for few targets and for many.
const INLINE_FEW: u64 = 64 * 1024;
const INLINE_MANY: u64 = 2 * 1024;
const FEW: usize = 64;
/// Maximum length of the HTTP/2 request fields, which have to fit into one frame.
const FIELDS_MAX: usize = 12 * 1024;
/// Length of the prefix of a gRPC message.
const GRPC_PREFIX: u64 = 5;

#[derive(Debug)]
pub(super) struct Plan {
    pub(super) kind: Kind,
    /// Size of response bodies.
    pub(super) down: u64,
    /// Number of concurrent requests per connection.
    pub(super) streams: usize,
    pub(super) targets: Vec<Target>,
    pub(super) tls: Option<Arc<ClientConfig>>,
    /// Connections begin with a WebSocket handshake.
    pub(super) upgrade: bool,
    /// A message, and its echo.
    pub(super) there: Vec<u8>,
    pub(super) back: Vec<u8>,
    /// HTTP/2: the body of a request, the length of the response body, and the fields common to all requests, which
    /// follow [`Target::h2`].
    pub(super) content: Vec<u8>,
    pub(super) content_back: u64,
    pub(super) common: Common,
    /// The content of bodies.
    pub(super) block: Vec<u8>,
    /// The targets of each connection, and whether it alternates between them.
    lists: Vec<Arc<[usize]>>,
    rounds: bool,
}

/// A request to one target.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) name: ServerName<'static>,
    /// The request's head, with the part of its body that belongs to the first write.
    pub(super) h1: Vec<u8>,
    /// Length of the head.
    pub(super) h1_head: usize,
    /// Remaining body bytes after that.
    pub(super) h1_rest: u64,
    /// The first fields of the HTTP/2 request.
    pub(super) h2: Vec<u8>,
}

impl Plan {
    pub(super) fn new(work: &Work) -> Result<Self> {
        ensure!(work.connections > 0 && work.streams > 0, "a load needs connections and streams");
        let pairs = work.targets();
        ensure!(
            !work.kind.http2() || work.body < WINDOW as usize - 5 && fields_length(work, &pairs) < FIELDS_MAX,
            "bodies or fields are too long for a request over HTTP/2"
        );
        ensure!(!pairs.is_empty(), "a load needs targets");
        ensure!(work.body > 0 || !work.kind.messages(), "messages need a length");
        let (there, back) = messages(work);
        let few = pairs.len() <= FEW;
        let tls = match work.kind {
            Kind::H1Tls => Some(tls::config(b"http/1.1", true)?),
            Kind::TlsFull => Some(tls::config(b"http/1.1", false)?),
            Kind::H2Tls => Some(tls::config(b"h2", true)?),
            Kind::H1 | Kind::H1Fresh | Kind::H2 | Kind::Grpc | Kind::Tcp | Kind::WebSocket => None,
        };
        Ok(Self {
            kind: work.kind,
            down: work.down(),
            streams: work.streams,
            targets: pairs.iter().map(|(host, path)| Target::new(work, few, host, path)).collect::<Result<_>>()?,
            tls,
            upgrade: work.kind == Kind::WebSocket,
            there,
            back,
            content: match work.kind {
                Kind::Grpc => grpc_message(work.up()),
                kind if kind.http2() => vec![b'x'; work.up() as usize],
                _ => Vec::new(),
            },
            content_back: work.down() + if work.kind == Kind::Grpc { GRPC_PREFIX } else { 0 },
            common: common(work),
            block: vec![b'x'; BLOCK],
            lists: lists(work, &pairs),
            rounds: work.targets.is_some() || work.kind.http2(),
        })
    }

    /// Whether each request uses a new connection.
    pub(super) fn fresh(&self) -> bool {
        matches!(self.kind, Kind::H1Fresh | Kind::TlsFull)
    }

    /// The targets of a connection's requests.
    pub(super) fn round(&self, token: u64) -> Round {
        let at = token as usize;
        let list = self.lists.get(at % self.lists.len().max(1)).cloned().unwrap_or_default();
        Round { list, at, goes_on: self.rounds }
    }

    pub(super) fn target(&self, index: usize) -> Option<&Target> {
        self.targets.get(index)
    }
}

impl Target {
    fn new(work: &Work, few: bool, host: &str, path: &str) -> Result<Self> {
        let name = ServerName::try_from(host.split(':').next().unwrap_or(host).to_owned())
            .with_context(|| format!("{host:?} is not a host"))?;
        let mut headers = work.headers.clone();
        let up = work.up();
        let method = if up > 0 { "POST" } else { "GET" };
        if up > 0 {
            headers.push(("Content-Type".to_owned(), "application/octet-stream".to_owned()));
            headers.push(("Content-Length".to_owned(), up.to_string()));
        }
        let further: &[(&str, &str)] = match work.kind {
            Kind::H1Fresh | Kind::TlsFull => &[("Connection", "close")],
            Kind::WebSocket => &[
                ("Connection", "Upgrade"),
                ("Upgrade", "websocket"),
                ("Sec-WebSocket-Version", "13"),
                ("Sec-WebSocket-Key", websocket::KEY),
            ],
            _ => &[],
        };
        headers.extend(further.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let mut h1 = h1_head(method, host, path, &headers).into_bytes();
        let head = h1.len();
        let first = up.min(if few { INLINE_FEW } else { INLINE_MANY });
        h1.resize(head + first as usize, b'x');
        Ok(Self { name, h1, h1_head: head, h1_rest: up - first, h2: h2_fields(work, host, path) })
    }
}

/// The HTTP/2 request fields that are specific to a target.
fn h2_fields(work: &Work, host: &str, path: &str) -> Vec<u8> {
    let mut block = Vec::new();
    let post = work.up() > 0 || work.kind == Kind::Grpc;
    hpack::indexed(&mut block, if post { hpack::METHOD_POST } else { hpack::METHOD_GET });
    hpack::indexed(&mut block, if work.kind.tls() { hpack::SCHEME_HTTPS } else { hpack::SCHEME_HTTP });
    hpack::named(&mut block, hpack::AUTHORITY, host);
    hpack::named(&mut block, hpack::PATH, path);
    block
}

/// A gRPC message of this size.
pub(super) fn grpc_message(bytes: u64) -> Vec<u8> {
    let [_, _, _, _, length @ ..] = bytes.to_be_bytes();
    let mut message = [&[0], &length[..]].concat();
    message.resize((GRPC_PREFIX + bytes) as usize, b'x');
    message
}

/// Approximate length of the longest request's fields.
fn fields_length(work: &Work, pairs: &[(String, String)]) -> usize {
    let sum = |(name, value): &(String, String)| name.len() + value.len();
    work.headers.iter().map(sum).sum::<usize>() + pairs.iter().map(sum).max().unwrap_or(0)
}

/// The HTTP/2 fields common to all requests.
fn common(work: &Work) -> Common {
    let mut fields: Vec<(String, String)> = Vec::new();
    let own: &[(&str, &str)] = match work.kind {
        Kind::Grpc => &[("content-type", "application/grpc"), ("te", "trailers")],
        _ if work.up() > 0 => &[("content-type", "application/octet-stream")],
        _ => &[],
    };
    fields.extend(FIELDS.iter().chain(own).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    if work.up() > 0 && work.kind != Kind::Grpc {
        fields.push(("content-length".to_owned(), work.up().to_string()));
    }
    fields.extend(work.headers.iter().cloned());
    Common::new(&fields)
}

/// A message of the clients, if they send messages, and its echo.
fn messages(work: &Work) -> (Vec<u8>, Vec<u8>) {
    let message: Vec<u8> = (0..work.body).map(|at| (at % 251) as u8).collect();
    match work.kind {
        Kind::Tcp => (message.clone(), message),
        Kind::WebSocket => (websocket::masked(&message), websocket::unmasked(&message)),
        _ => (Vec::new(), Vec::new()),
    }
}

/// The possible targets of each of the first connections; further connections repeat them.
fn lists(work: &Work, pairs: &[(String, String)]) -> Vec<Arc<[usize]>> {
    let all: Arc<[usize]> = (0..pairs.len()).collect();
    if work.targets.is_some() && !work.kind.tls() {
        return vec![all];
    }
    if work.targets.is_none() && !work.kind.http2() {
        return all.iter().map(|at| Arc::from([*at])).collect();
    }
    let mut hosts: Vec<&str> = Vec::new();
    let mut lists: Vec<Vec<usize>> = Vec::new();
    let mut seen = std::collections::HashMap::new();
    for (at, (host, _)) in pairs.iter().enumerate() {
        let list = *seen.entry(host.as_str()).or_insert_with(|| {
            hosts.push(host);
            lists.push(Vec::new());
            lists.len() - 1
        });
        if let Some(list) = lists.get_mut(list) {
            list.push(at);
        }
    }
    lists.into_iter().map(Arc::from).collect()
}

/// Iterates over the targets of a connection.
#[derive(Debug)]
pub(super) struct Round {
    list: Arc<[usize]>,
    at: usize,
    goes_on: bool,
}

impl Round {
    /// The target of the next request.
    pub(super) fn next(&mut self) -> usize {
        let index = self.first();
        self.at += usize::from(self.goes_on);
        index
    }

    /// The target of the next request, without advancing.
    pub(super) fn first(&self) -> usize {
        self.list.get(self.at % self.list.len().max(1)).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::work::Direction;
    use super::*;

    /// The targets of the first four requests of the first two connections.
    fn check(kind: Kind, targets: Option<[&str; 3]>, expect: [[usize; 4]; 2]) {
        let targets = targets.map(|hosts| hosts.map(|host| (host.to_owned(), "/a".to_owned())).to_vec());
        let plan = Plan::new(&Work { kind, targets, ..Work::plain(1) }).unwrap();
        let mut rounds = [plan.round(0), plan.round(1)];
        assert_eq!(rounds.each_mut().map(|round| [(); 4].map(|()| round.next())), expect, "{kind:?}");
    }

    #[test]
    fn connections_keep_to_their_targets_or_go_round() {
        check(Kind::H1, None, [[0; 4], [1; 4]]);
        check(Kind::H2, None, [[0, 4, 8, 12], [5, 9, 13, 1]]);
        let own = Some(["a.test", "b.test", "a.test"]);
        check(Kind::H1, own, [[0, 1, 2, 0], [1, 2, 0, 1]]);
        check(Kind::H1Tls, own, [[0, 2, 0, 2], [1; 4]]);
        check(Kind::H2Tls, own, [[0, 2, 0, 2], [1; 4]]);
    }

    #[test]
    fn heads_say_what_is_sent() {
        let headers = vec![("apikey".to_owned(), "secret".to_owned())];
        let up = Work { direction: Direction::Up, kind: Kind::H1Fresh, headers, ..Work::plain(100_000) };
        let plan = Plan::new(&up).unwrap();
        assert_eq!(plan.down, 0);
        let target = plan.target(0).unwrap();
        let text = String::from_utf8_lossy(&target.h1);
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert_eq!(body.len() as u64 + target.h1_rest, 100_000);
        assert!(head.starts_with("POST /v1/items/1234?page=3 HTTP/1.1\r\nHost: shop.bench.test\r\n"), "{head}");
        for line in ["apikey: secret", "Content-Length: 100000", "Connection: close"] {
            assert!(head.lines().any(|found| found == line), "{line}");
        }
        assert!(Plan::new(&Work { targets: Some(Vec::new()), ..Work::plain(1) }).is_err());
        assert!(Plan::new(&Work { connections: 0, ..Work::plain(1) }).is_err());
    }
}
