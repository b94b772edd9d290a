//! Common clients against the product: curl, nghttp and h2load of nghttp2, OpenSSL, and the gRPC library.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::product::Product;
use super::{Case, Context, Outcome, Report, Suite, Unavailable};

pub(super) const SUITE: Suite = Suite {
    name: "Clients",
    about: "Requests by curl, nghttp, h2load, OpenSSL's `s_client` and Python's gRPC library, over HTTP/1.0, HTTP/1.1 and \
            HTTP/2, in cleartext and over TLS, with bodies in both directions, WebSocket and gRPC. \
            `scripts/install-test-deps.sh` installs the clients.",
    run,
};

/// A call of a client and the expected output.
struct Call {
    name: &'static str,
    /// A shell command. `HTTP` and `HTTPS` are the product's URLs, `ADDRESS` is host and port of the latter, `DIR` a
    /// folder with the file `upload` of 1 MiB.
    script: &'static str,
    expect: &'static str,
}

const fn call(name: &'static str, script: &'static str, expect: &'static str) -> Call {
    Call { name, script, expect }
}

/// The last output of curl: version, status and number of connections.
const CALLS: [Call; 36] = [
    call("curl: HTTP/1.0", "curl $W --http1.0 HTTP/x", "1.1/200/1"),
    call("curl: HTTP/1.1", "curl $W --http1.1 HTTP/x", "1.1/200/1"),
    call("curl: two requests on one connection", "curl $W --http1.1 HTTP/x -o /dev/null HTTP/y", "1.1/200/0"),
    call("curl: upgrade to h2c offered, not taken", "curl $W --http2 HTTP/x", "1.1/200/1"),
    call("curl: HTTP/2 by prior knowledge", "curl $W --http2-prior-knowledge HTTP/x", "2/200/1"),
    call("curl: HTTP/1.1 over TLS", "curl $W -k --http1.1 HTTPS/x", "1.1/200/1"),
    call("curl: HTTP/2 over TLS 1.3", "curl $W -k --http2 --tlsv1.3 HTTPS/x", "2/200/1"),
    call("curl: HTTP/2 over TLS 1.2", "curl $W -k --http2 --tls-max 1.2 HTTPS/x", "2/200/1"),
    call(
        "curl: two requests on one connection of HTTP/2",
        "curl $W -k --http2 HTTPS/x -o /dev/null HTTPS/y",
        "2/200/0",
    ),
    call("curl: HEAD, HTTP/1.1", "curl $W --http1.1 -I HTTP/x", "1.1/200/1"),
    call("curl: HEAD, HTTP/2", "curl $W --http2-prior-knowledge -I HTTP/x", "2/200/1"),
    call("curl: upload with a length", "curl $W --http1.1 --data-binary @DIR/upload HTTP/x", "1.1/200/1"),
    call(
        "curl: upload in chunks",
        "curl $W --http1.1 -H 'Transfer-Encoding: chunked' --data-binary @DIR/upload HTTP/x",
        "1.1/200/1",
    ),
    call(
        "curl: upload after 100 Continue",
        "curl $W --http1.1 -H 'Expect: 100-continue' --data-binary @DIR/upload HTTP/x",
        "1.1/200/1",
    ),
    call("curl: upload, HTTP/2", "curl $W -k --http2 --data-binary @DIR/upload HTTPS/x", "2/200/1"),
    call("curl: status of the upstream", "curl $W --http1.1 HTTP/status/503", "1.1/503/1"),
    call(
        "curl: long request head",
        "curl $W --http1.1 -H \"X-Long: $(head -c 6000 /dev/zero | tr '\\0' a)\" HTTP/x",
        "1.1/200/1",
    ),
    call(
        "curl: WebSocket handshake",
        "curl -si -m 2 --http1.1 -H 'Connection: Upgrade' -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' HTTP/x; true",
        "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
    ),
    call(
        "curl: gRPC call over TLS",
        "printf '\\0\\0\\0\\0\\2hi' | curl -ksv --http2 -H 'Content-Type: application/grpc' -H 'TE: trailers' --data-binary @- HTTPS/test.Echo/Unary 2>&1 | tr -d '\\0'",
        "grpc-status: 0",
    ),
    call("nghttp: prior knowledge", "nghttp -v HTTP/x", ":status: 200"),
    call("nghttp: over TLS", "nghttp -vy HTTPS/x", ":status: 200"),
    call("nghttp: 100 streams on one connection", "nghttp -y -m 100 -sn HTTPS/x | grep -c ' 200 '", "100"),
    call("nghttp: upload", "nghttp -vn -d DIR/upload HTTP/x", ":status: 200"),
    call("nghttp: upload without a length", "nghttp -vn --no-content-length -d DIR/upload HTTP/x", ":status: 200"),
    call("nghttp: 100 Continue", "nghttp -vn --expect-continue -d DIR/upload HTTP/x", ":status: 200"),
    call("nghttp: trailers of a request", "nghttp -vn --trailer 'x-checksum: 1' -d DIR/upload HTTP/x", ":status: 200"),
    call("nghttp: padded frames", "nghttp -vn -b 100 -d DIR/upload HTTP/x", ":status: 200"),
    call("nghttp: head in CONTINUATION frames", "nghttp -vn --continuation HTTP/x", ":status: 200"),
    call("nghttp: small windows", "nghttp -vn -w 10 -W 10 HTTP/x", ":status: 200"),
    call("nghttp: header table of no size", "nghttp -vn -c 0 --encoder-header-table-size=0 HTTP/x", ":status: 200"),
    call("h2load: HTTP/1.1, pipelined", "h2load --h1 -n 1000 -c 10 -m 4 HTTP/x", "1000 succeeded, 0 failed, 0 errored"),
    call("h2load: HTTP/2", "h2load -n 1000 -c 10 -m 20 HTTP/x", "1000 succeeded, 0 failed, 0 errored"),
    call("h2load: HTTP/2 over TLS", "h2load -n 1000 -c 10 -m 20 HTTPS/x", "1000 succeeded, 0 failed, 0 errored"),
    call(
        "openssl: resumption in TLS 1.3",
        "(printf 'HEAD /x HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n'; sleep 1) | openssl s_client -connect ADDRESS -tls1_3 -sess_out DIR/session -ign_eof >/dev/null 2>&1; openssl s_client -connect ADDRESS -tls1_3 -sess_in DIR/session </dev/null 2>/dev/null",
        "Reused, TLSv1.3",
    ),
    call(
        "openssl: resumption in TLS 1.2",
        "openssl s_client -connect ADDRESS -tls1_2 -sess_out DIR/session </dev/null >/dev/null 2>&1; openssl s_client -connect ADDRESS -tls1_2 -sess_in DIR/session </dev/null 2>/dev/null",
        "Reused, TLSv1.2",
    ),
    call(
        "openssl: TLS 1.1 is refused",
        "openssl s_client -connect ADDRESS -tls1_1 -cipher ALL:@SECLEVEL=0 </dev/null 2>&1; true",
        "SSL alert number",
    ),
];

/// Calls of each kind. Messages are bytes, so no code is generated.
const GRPC: &str = r#"
import sys
import grpc

channel = grpc.insecure_channel(f"127.0.0.1:{sys.argv[1]}")
same = lambda message: message
kinds = dict(request_serializer=same, response_deserializer=same)
many = [bytes([n]) * 1000 for n in range(20)]
calls = {
    "unary": lambda: channel.unary_unary("/test.Echo/Unary", **kinds)(b"hello", timeout=10) == b"hello",
    "client stream": lambda: channel.stream_unary("/test.Echo/Up", **kinds)(iter([b"one"]), timeout=10) == b"one",
    "server stream": lambda: list(channel.unary_stream("/test.Echo/Down", **kinds)(b"one", timeout=10)) == [b"one"],
    "both streams": lambda: list(channel.stream_stream("/test.Echo/Both", **kinds)(iter(many), timeout=10)) == many,
}
for name, call in calls.items():
    try:
        print(name, "passed" if call() else "another answer", sep=": ")
    except grpc.RpcError as error:
        print(name, error.code(), sep=": ")
"#;

fn run(_context: &Context<'_>, product: &Product) -> Result<Report> {
    let mut paths = Vec::new();
    for name in ["curl", "nghttp", "h2load", "openssl", "python3-grpc"] {
        let path = cardinal_test_tools::find(name);
        paths.push(path.ok_or_else(|| Unavailable(format!("{name} is not installed")))?);
    }
    std::fs::write(product.folder.join("upload"), vec![b'u'; 1 << 20])?;
    let mut cases = CALLS.iter().map(|call| case(call, product)).collect::<Result<Vec<_>>>()?;
    cases.extend(grpc(paths.last().context("a path")?, product)?);
    Ok(Report { tool: versions(&paths)?, cases })
}

fn case(call: &Call, product: &Product) -> Result<Case> {
    let script = call.script.replace("HTTPS/", &format!("https://127.0.0.1:{}/", product.https));
    let script = script.replace("HTTP/x", &format!("http://127.0.0.1:{}/x", product.http));
    let script = script.replace("HTTP/y", &format!("http://127.0.0.1:{}/y", product.http));
    let script = script.replace("HTTP/status", &format!("http://127.0.0.1:{}/status", product.http));
    let script = script.replace("HTTP/test", &format!("http://127.0.0.1:{}/test", product.http));
    let script = script.replace("ADDRESS", &format!("127.0.0.1:{}", product.https));
    let script = script.replace("DIR/", &format!("{}/", product.folder.display()));
    let mut command = Command::new("/bin/bash");
    command.args(["-c", &format!("set -o pipefail; {script}")]);
    // The last line of curl's output.
    command.env("W", "-sS -m 20 -o /dev/null -w \\n%{http_version}/%{http_code}/%{num_connects}\\n");
    let output = command.output().context("cannot run bash")?;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let right = text.contains(call.expect) && output.status.success();
    let outcome = if right { Outcome::Passed } else { Outcome::Failed(text) };
    Ok(Case { name: call.name.to_owned(), outcome })
}

fn grpc(python: &Path, product: &Product) -> Result<Vec<Case>> {
    let output = Command::new(python).args(["-c", GRPC, &product.http.to_string()]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let case = |name: &str| {
        let result = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let outcome = match result {
            Some("passed") => Outcome::Passed,
            other => Outcome::Failed(other.unwrap_or("no result").to_owned()),
        };
        Case { name: format!("gRPC library: {name}"), outcome }
    };
    Ok(["unary", "client stream", "server stream", "both streams"].map(case).into())
}

/// Versions without the suffix of Debian's package, which would differ between machines of one release.
fn versions(paths: &[PathBuf]) -> Result<String> {
    let mut all = Vec::new();
    for (name, path) in ["curl", "nghttp2", "h2load", "OpenSSL", "grpcio"].iter().zip(paths) {
        let mut command = Command::new(path);
        let output = match *name {
            "h2load" => continue,
            "grpcio" => command.args(["-c", "import grpc; print('x', grpc.__version__)"]).output()?,
            "OpenSSL" => command.arg("version").output()?,
            _ => command.arg("--version").output()?,
        };
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let number = text.split(['/', ' ']).map(str::trim).find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
        all.push(format!("{name} {}", number.unwrap_or("of an unknown version")));
    }
    Ok(all.join(", "))
}
