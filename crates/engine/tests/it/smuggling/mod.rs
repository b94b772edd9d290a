//! Requests that two parsers may interpret differently: each is rejected, or reaches the backend as exactly the request
//! that received the response. Data after it on the connection is always a separate request.

mod corpus;
pub(crate) mod h2;
mod recorder;
mod responses;

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Result, bail, ensure};
use cardinal_test_tools::tools;
use cardinal_testkit::{H1Client, Response, Server, TempDir, World, settled};
use serde_json::json;

use crate::plugins;
use corpus::{Case, Fate, cases};
use recorder::{Recorder, Seen};

const MARKER: &str = "GET /marker HTTP/1.1\r\nHost: marker\r\nConnection: close\r\n\r\n";

/// A world in front of this backend with short timeouts.
fn world(backend: SocketAddr) -> Result<World> {
    let file = json!({"_format_version": "3.0", "services": [{"name": "s", "url": format!("http://{backend}"),
        "retries": 0, "routes": [{"name": "r", "paths": ["/"]}]}]});
    let mut configuration = World::compiled(plugins(), &file.to_string(), &[])?;
    configuration.node_mut().limits.head_timeout_ms = 150;
    configuration.node_mut().limits.body_timeout_ms = 150;
    World::of(plugins(), configuration)
}

/// Sends a case and the marker on one connection; returns all complete responses.
async fn play(world: &World, number: usize, case: &Case) -> Result<Vec<Response>> {
    let mut bytes = replace(&case.bytes, b"/case", format!("/case{number}").as_bytes());
    bytes.extend_from_slice(MARKER.as_bytes());
    let mut client = H1Client::connect(world.http()).await?;
    client.send(&bytes).await?;
    let mut responses = Vec::new();
    while let Ok(response) = client.response().await {
        responses.push(response);
    }
    Ok(responses)
}

fn replace(bytes: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    match bytes.windows(old.len()).position(|window| window == old) {
        Some(at) => [&bytes[..at], new, &bytes[at + old.len()..]].concat(),
        None => bytes.to_vec(),
    }
}

fn method(case: &Case) -> &'static str {
    if case.bytes.starts_with(b"POST") { "POST" } else { "GET" }
}

/// The expected requests at the backend for a case, as lines.
fn expected(number: usize, case: &Case) -> Vec<String> {
    let own = |length| format!("{} /case{number} {length}", method(case));
    match case.fate {
        Fate::Refused => Vec::new(),
        Fate::Passed(length) => vec![own(length), "GET /marker 0".to_owned()],
        Fate::PassedAndClosed(length) => vec![own(length)],
    }
}

#[tokio::test]
async fn every_reading_but_one_is_refused() -> Result<()> {
    let recorder = Recorder::start().await;
    let world = world(recorder.address)?;
    let cases = cases();
    assert!(cases.len() >= 60, "{}", cases.len());
    let mut wrong = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let responses = play(&world, number, case).await?;
        if let Err(error) = judge(number, case, &responses, &recorder.take()) {
            let told: Vec<_> = responses.iter().map(|r| (r.status, r.text())).collect();
            wrong.push(format!("{}: {error:#}; the client got {told:?}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

fn judge(number: usize, case: &Case, responses: &[Response], seen: &Seen) -> Result<()> {
    ensure!(seen.errors.is_empty(), "the backend got {:?}", seen.errors);
    let expected = expected(number, case);
    ensure!(seen.requests == expected, "the backend got {:?}", seen.raw);
    let cut = seen.partial.concat();
    ensure!(!cut.contains("marker") && !cut.contains("smuggled"), "the backend got a piece {cut}");
    if case.fate == Fate::Refused {
        let [response] = responses else { bail!("{} responses", responses.len()) };
        ensure!(matches!(response.status, 400..=499 | 501 | 505), "status {}", response.status);
        ensure!(response.header("connection") == Some("close"), "the connection is to go on");
        return Ok(());
    }
    let told: Vec<String> = responses.iter().map(Response::text).collect();
    ensure!(told == expected, "another answer");
    Ok(())
}

/// Runs all cases with a real server that responds with `METHOD target`, and possibly the length of the body. A server
/// may respond before it detects a malformed body; the connection ends after its response then.
async fn play_before(backend: SocketAddr, with_length: bool) -> Result<()> {
    let world = world(backend)?;
    for (number, case) in cases().iter().enumerate() {
        let responses = play(&world, number, case).await?;
        let told: Vec<String> = responses.iter().map(|r| format!("{} {}", r.status, r.text().trim())).collect();
        let shown = format!("{}: {told:?}", case.name);
        if case.fate == Fate::Refused {
            assert!(responses.len() <= 1, "{shown}");
            let refused = responses.first().is_none_or(|r| matches!(r.status, 400..=499 | 501 | 502 | 505));
            let early = told.first().is_some_and(|line| line.contains(&format!(" /case{number}")));
            assert!(refused || early, "{shown}");
        } else {
            let cut = |line: &String| line.rsplit_once(' ').map(|(start, _)| start.to_owned()).unwrap_or_default();
            let expected: Vec<String> = expected(number, case)
                .iter()
                .map(|line| format!("200 {}", if with_length { line.clone() } else { cut(line) }))
                .collect();
            assert_eq!(told, expected, "{shown}");
        }
        assert!(!told.concat().contains("/smuggled"), "{shown}");
    }
    Ok(())
}

#[tokio::test]
async fn nginx_behind_us_sees_the_same_requests() -> Result<()> {
    let Some(_) = tools!("nginx") else { return Ok(()) };
    // The outer server reads the whole request before it calls the inner one, whose response reports what was read.
    let config = "log_format seen '$status $request_method $request_uri';\n\
        server { listen 127.0.0.1:PORT; keepalive_requests 100000; access_log DIR/seen seen;\n\
          location / { proxy_pass http://unix:DIR/inner; proxy_http_version 1.1; } }\n\
        server { listen unix:DIR/inner; location / { return 200 \"$request_method $request_uri\"; } }";
    let nginx = Server::nginx(config)?;
    play_before(nginx.address(), false).await?;
    let log = nginx.folder().read("seen");
    assert!(!log.contains("/smuggled"), "{log}");
    assert_eq!(log.lines().filter(|line| line.starts_with("400") && !line.contains("/case")).count(), 0, "{log}");
    let markers = cases().iter().filter(|case| matches!(case.fate, Fate::Passed(_))).count();
    assert_eq!(log.lines().filter(|line| *line == "200 GET /marker").count(), markers, "{log}");
    Ok(())
}

/// A server with another implementation, including its own parser for chunked bodies.
const PYTHON: &str = r#"
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65536
    disable_nagle_algorithm = True

    def body(self):
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return len(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        total = 0
        while True:
            size = int(self.rfile.readline().split(b";")[0], 16)
            if size == 0:
                break
            total += len(self.rfile.read(size))
            assert self.rfile.readline() == b"\r\n"
        while self.rfile.readline() not in (b"\r\n", b""):
            pass
        return total

    def answer(self):
        text = f"{self.command} {self.path} {self.body()}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
        sys.stdout.write(text.decode() + "\n")
        sys.stdout.flush()

    do_GET = do_POST = answer

    def log_message(self, *arguments):
        pass

ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"#;

#[tokio::test]
async fn python_behind_us_sees_the_same_requests() -> Result<()> {
    let Some([python]) = tools!("python3") else { return Ok(()) };
    let folder = TempDir::new("python");
    let script = folder.write("server.py", PYTHON);
    let mut command = Command::new(python);
    command.arg(script);
    let server = Server::start("python3", command, folder, |command, port| {
        command.arg(port.to_string());
    })?;
    play_before(server.address(), true).await?;
    let log = || server.folder().read("output");
    settled("the server to have reported all requests", || log().len() as u64).await?;
    let log = log();
    assert!(!log.contains("/smuggled"), "{log}");
    Ok(())
}

#[tokio::test]
async fn connect_makes_no_tunnel() -> Result<()> {
    let recorder = Recorder::start().await;
    let world = world(recorder.address)?;
    for target in ["a.test:443", "127.0.0.1:22", "/case"] {
        let mut client = H1Client::connect(world.http()).await?;
        client.send(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n{MARKER}")).await?;
        let refused = client.response().await?;
        assert!(matches!(refused.status, 400..=499), "{target}: {}", refused.status);
        // The following data is a request, or nothing.
        if let Ok(next) = client.response().await {
            assert_eq!(next.text(), "GET /marker 0", "{target}");
        }
        let seen = recorder.take();
        assert!(seen.errors.is_empty() && seen.requests.iter().all(|line| line == "GET /marker 0"), "{seen:?}");
    }
    Ok(())
}

#[tokio::test]
async fn pieces_may_come_at_any_time() -> Result<()> {
    // The division into reads must not change how the bytes are parsed.
    let recorder = Recorder::start().await;
    let world = world(recorder.address)?;
    let all = cases();
    let picked =
        ["CL counts a hidden request", "TE.CL", "extension", "a trailer", "data too short", "hidden in a chunk"];
    for (number, case) in all.iter().enumerate().filter(|(_, case)| picked.contains(&case.name)) {
        let mut bytes = replace(&case.bytes, b"/case", format!("/case{number}").as_bytes());
        bytes.extend_from_slice(MARKER.as_bytes());
        for step in [1, 2, 7] {
            let mut client = H1Client::connect(world.http()).await?;
            for piece in bytes.chunks(step) {
                // A rejection may arrive before the end.
                let _sent = client.send(piece).await;
                tokio::task::yield_now().await;
            }
            let mut told = Vec::new();
            while let Ok(response) = client.response().await {
                told.push(response.text());
            }
            let seen = recorder.take();
            assert!(seen.errors.is_empty(), "{}: {:?}", case.name, seen.errors);
            assert_eq!(seen.requests, expected(number, case), "{} in pieces of {step}", case.name);
            if case.fate != Fate::Refused {
                assert_eq!(told, seen.requests, "{} in pieces of {step}", case.name);
            }
        }
    }
    Ok(())
}
