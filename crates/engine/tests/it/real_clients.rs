//! Common client programs against the product.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use cardinal_test_tools::{find, tools};
use cardinal_testkit::{Authority, EchoServer, Server, TempDir, World};
use serde_json::{Value, json};

use crate::plugins;

/// A backend, the product with a certificate for `secure.test` and `localhost`, and a folder for files.
struct Stage {
    echo: EchoServer,
    world: World,
    folder: TempDir,
}

impl Stage {
    async fn start() -> Result<Self> {
        let echo = EchoServer::start("e").await;
        let world = World::start(plugins(), &file(&echo.url()), &[])?;
        Ok(Self { echo, world, folder: TempDir::new("clients") })
    }

    fn http(&self, path: &str) -> String {
        format!("http://{}{path}", self.world.http())
    }

    fn https(&self, path: &str) -> String {
        format!("https://secure.test:{}{path}", self.world.https().port())
    }

    /// Runs curl silently, with the product's name resolved to its address.
    async fn curl(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(find("curl").context("curl")?);
        let resolve = format!("secure.test:{}:127.0.0.1", self.world.https().port());
        command.args(["-sS", "--max-time", "10", "--resolve", &resolve]).args(arguments);
        let output = run(command, Vec::new()).await?;
        ensure!(output.status.success(), "curl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(output)
    }

    async fn curl_text(&self, arguments: &[&str]) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.curl(arguments).await?.stdout).into_owned())
    }
}

fn file(url: &str) -> String {
    let issued = Authority::new("test root").issue(&["secure.test", "localhost"]);
    json!({"_format_version": "3.0",
    "certificates": [{"cert": issued.cert_pem, "key": issued.key_pem,
        "snis": [{"name": "secure.test"}, {"name": "localhost"}]}],
    "services": [
        {"name": "s", "url": url, "routes": [{"name": "r", "paths": ["/"]}]},
        {"name": "g", "url": url.replace("http:", "grpc:"),
            "routes": [{"name": "g", "paths": ["/test."], "protocols": ["grpc", "grpcs"]}]}
    ]})
    .to_string()
}

/// Runs a program to completion, without blocking the backend.
async fn run(mut command: Command, input: Vec<u8>) -> Result<Output> {
    let work = move || -> Result<Output> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        // A program that does not read its input has closed it.
        let _written = child.stdin.take().context("a pipe")?.write_all(&input);
        Ok(child.wait_with_output()?)
    };
    tokio::task::spawn_blocking(work).await?
}

#[tokio::test]
async fn curl_speaks_every_version() -> Result<()> {
    let Some(_) = tools!("curl") else { return Ok(()) };
    let stage = Stage::start().await?;
    let write = ["-w", "\n%{http_version} %{http_code}"];
    for (arguments, version) in [
        (vec!["--http1.1"], "1.1"),
        (vec!["--http1.0"], "1.1"),
        (vec!["--http2-prior-knowledge"], "2"),
        (vec!["--http2"], "1.1"), // An upgrade that is not taken.
    ] {
        let url = stage.http("/x?a=1");
        let text = stage.curl_text(&[&arguments[..], &write, &[&url]].concat()).await?;
        let (body, end) = text.rsplit_once('\n').context("a last line")?;
        ensure!(end == format!("{version} 200"), "{arguments:?}: {end}");
        let report: Value = serde_json::from_str(body)?;
        ensure!(report["target"] == "/x?a=1", "{report}");
    }
    for (arguments, version) in [(vec!["--http1.1"], "1.1"), (vec!["--http2"], "2"), (vec!["--tls-max", "1.2"], "2")] {
        let url = stage.https("/x");
        let text = stage.curl_text(&[&arguments[..], &write, &["-k", &url]].concat()).await?;
        ensure!(text.ends_with(&format!("\n{version} 200")), "{arguments:?}: {text}");
        ensure!(text.contains("https"), "{text}");
    }
    // Several requests on one connection, in both versions.
    for version in ["--http1.1", "--http2"] {
        let (one, two) = (stage.https("/1"), stage.https("/2"));
        let text = stage.curl_text(&[version, "-k", "-w", " %{num_connects} ", &one, &two]).await?;
        ensure!(text.contains(" 1 ") && text.ends_with(" 0 "), "{version}: {text}");
    }
    Ok(())
}

#[tokio::test]
async fn curl_moves_large_bodies() -> Result<()> {
    let Some(_) = tools!("curl") else { return Ok(()) };
    let stage = Stage::start().await?;
    let upload = stage.folder.write("upload", vec![b'u'; 5 << 20]);
    let data = format!("@{}", upload.display());
    for arguments in [
        vec!["--http1.1", "-H", "Expect: 100-continue"],
        vec!["--http1.1", "-H", "Transfer-Encoding: chunked"],
        vec!["--http1.1", "-H", "Transfer-Encoding: chunked", "-H", "Expect: 100-continue"],
        vec!["--http1.0"],
        vec!["--http2-prior-knowledge"],
    ] {
        let url = stage.http("/up");
        let text = stage.curl_text(&[&arguments[..], &["--data-binary", &data, &url]].concat()).await?;
        let report: Value = serde_json::from_str(&text)?;
        ensure!(report["body"]["bytes"] == 5 << 20, "{arguments:?}: {report}");
    }
    for version in ["--http1.1", "--http1.0", "--http2-prior-knowledge"] {
        for framing in ["length", "chunked", "close"] {
            let url = stage.http(&format!("/down?echo=bytes:5000000,framing:{framing}"));
            let output = stage.curl(&[version, &url]).await?;
            ensure!(output.stdout.len() == 5_000_000, "{version} {framing}: {}", output.stdout.len());
        }
    }
    ensure!(stage.echo.failures().is_empty(), "{:?}", stage.echo.failures());
    Ok(())
}

#[tokio::test]
async fn curl_gets_streams_heads_and_errors() -> Result<()> {
    let Some(_) = tools!("curl") else { return Ok(()) };
    let stage = Stage::start().await?;
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        // The first part arrives long before the last one.
        let url = stage.http("/s?echo=bytes:400,part:100,slow:60,framing:chunked");
        let text = stage
            .curl_text(&[version, "-N", "-o", "/dev/null", "-w", "%{time_starttransfer} %{time_total}", &url])
            .await?;
        let times: Vec<f64> = text.split(' ').filter_map(|t| t.parse().ok()).collect();
        ensure!(times.len() == 2 && times[1] - times[0] > 0.1, "{version}: {text}");
        let url = stage.http("/h");
        let head = stage.curl_text(&[version, "-I", &url]).await?;
        ensure!(head.contains(" 200") && head.to_ascii_lowercase().contains("content-length:"), "{head}");
        let url = stage.http("/e?echo=status:503,body:empty");
        let text = stage.curl_text(&[version, "-w", "%{http_code}", &url]).await?;
        ensure!(text == "503", "{text}");
    }
    Ok(())
}

#[tokio::test]
async fn compressed_responses_pass_untouched() -> Result<()> {
    let Some(_) = tools!("curl", "nginx") else { return Ok(()) };
    let config = "gzip on; gzip_proxied any; gzip_min_length 1; gzip_types text/plain; default_type text/plain;\n\
        server { listen 127.0.0.1:PORT; location / { root DIR; } }";
    let nginx = Server::nginx(config)?;
    let text = "compress me ".repeat(2_000);
    nginx.folder().write("page.txt", &text);
    let stage = Stage::start().await?;
    stage.world.apply(&file(&format!("http://{}", nginx.address())))?;
    let url = stage.http("/page.txt");
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let plain = stage.curl_text(&[version, "--compressed", &url]).await?;
        ensure!(plain == text, "{version}: {} bytes", plain.len());
        let raw = stage.curl(&[version, "-H", "Accept-Encoding: gzip", &url]).await?.stdout;
        ensure!(raw.starts_with(&[0x1f, 0x8b]) && raw.len() < text.len() / 4, "{version}: {} bytes", raw.len());
        let headers =
            stage.curl_text(&[version, "-D", "-", "-o", "/dev/null", "-H", "Accept-Encoding: gzip", &url]).await?;
        ensure!(headers.to_ascii_lowercase().contains("content-encoding: gzip"), "{headers}");
        let range = stage.curl_text(&[version, "-r", "0-10", &url]).await?;
        ensure!(range == "compress me", "{range}");
    }
    Ok(())
}

#[tokio::test]
async fn h2load_fails_nothing() -> Result<()> {
    let Some(_) = tools!("h2load") else { return Ok(()) };
    let stage = Stage::start().await?;
    let path = "/l?echo=bytes:200";
    for (arguments, url) in [
        (vec!["-m", "20"], stage.http(path)),
        (vec!["-m", "20"], format!("https://localhost:{}{path}", stage.world.https().port())),
        (vec!["--h1", "-m", "1"], stage.http(path)),
        (vec!["--h1", "-m", "5"], stage.http(path)), // Pipelined.
    ] {
        let mut command = Command::new(find("h2load").context("h2load")?);
        command.args(["-n", "1000", "-c", "10", "-t", "1"]).args(&arguments).arg(&url);
        let output = run(command, Vec::new()).await?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let fine = "1000 total, 1000 started, 1000 done, 1000 succeeded, 0 failed, 0 errored, 0 timeout";
        ensure!(text.contains(fine), "{arguments:?} {url}: {text}");
    }
    let upload = stage.folder.write("upload", vec![b'u'; 20_000]);
    let mut command = Command::new(find("h2load").context("h2load")?);
    command.args(["-n", "200", "-c", "4", "-m", "10", "-d"]).arg(upload).arg(stage.http("/p?echo=body:echo"));
    let text = String::from_utf8_lossy(&run(command, Vec::new()).await?.stdout).into_owned();
    ensure!(text.contains("200 succeeded, 0 failed"), "{text}");
    Ok(())
}

#[tokio::test]
async fn openssl_shakes_hands() -> Result<()> {
    let Some(_) = tools!("openssl") else { return Ok(()) };
    let stage = Stage::start().await?;
    let connect = stage.world.https().to_string();
    let hello = "GET /ssl HTTP/1.1\r\nHost: secure.test\r\nConnection: close\r\n\r\n";
    for (arguments, shown) in [
        (vec!["-tls1_3", "-servername", "secure.test"], "TLSv1.3"),
        (vec!["-tls1_2", "-servername", "secure.test"], "TLSv1.2"),
        (vec!["-tls1_3", "-servername", "secure.test", "-alpn", "http/1.1"], "ALPN protocol: http/1.1"),
        (vec!["-tls1_2", "-servername", "secure.test", "-alpn", "h3,http/1.1"], "ALPN protocol: http/1.1"),
    ] {
        let mut command = Command::new(find("openssl").context("openssl")?);
        command.args(["s_client", "-connect", &connect, "-ign_eof"]).args(&arguments);
        let output = run(command, hello.into()).await?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(text.contains(shown), "{arguments:?}: {text}");
        ensure!(text.contains("HTTP/1.1 200 OK") && text.contains("/ssl"), "{arguments:?}: {text}");
    }
    let mut command = Command::new(find("openssl").context("openssl")?);
    command.args(["s_client", "-connect", &connect, "-servername", "secure.test", "-alpn", "h2,http/1.1"]);
    let text = String::from_utf8_lossy(&run(command, Vec::new()).await?.stdout).into_owned();
    ensure!(text.contains("ALPN protocol: h2"), "{text}");
    ensure!(text.contains("CN = secure.test") || text.contains("CN=secure.test"), "{text}");
    let mut command = Command::new(find("openssl").context("openssl")?);
    command.args(["s_client", "-connect", &connect, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]);
    let output = run(command, Vec::new()).await?;
    ensure!(
        !String::from_utf8_lossy(&output.stdout).contains("Protocol  : TLSv1.1\n    Cipher    : E"),
        "TLS 1.1 was taken"
    );
    ensure!(!output.status.success(), "TLS 1.1 was taken");
    Ok(())
}

/// HTTP with the standard library, and a WebSocket by hand.
const PYTHON: &str = r#"
import base64, hashlib, http.client, json, os, socket, struct, sys

host, port = "127.0.0.1", int(sys.argv[1])
connection = http.client.HTTPConnection(host, port, timeout=10)
for n in range(3):
    connection.request("GET", f"/py/{n}", headers={"X-N": str(n)})
    response = connection.getresponse()
    assert response.status == 200, response.status
    assert json.loads(response.read())["target"] == f"/py/{n}"
connection.request("POST", "/py", body=b"x" * 100000)
assert json.loads(connection.getresponse().read())["body"]["bytes"] == 100000
connection.request("POST", "/py", body=iter([b"abc", b"def"]), encode_chunked=True,
                   headers={"Transfer-Encoding": "chunked"})
assert json.loads(connection.getresponse().read())["body"]["text"] == "abcdef"
connection.request("HEAD", "/py")
response = connection.getresponse()
assert response.status == 200 and response.read() == b""
connection.request("GET", "/py?echo=status:204,body:empty")
response = connection.getresponse()
assert response.status == 204 and response.read() == b""
connection.request("GET", "/py?echo=bytes:70000,framing:chunked")
assert len(connection.getresponse().read()) == 70000

key = base64.b64encode(os.urandom(16)).decode()
ws = socket.create_connection((host, port), timeout=10)
ws.sendall((f"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n").encode())
stream = ws.makefile("rb")
assert b" 101 " in stream.readline()
accept = None
while (line := stream.readline().strip()):
    name, value = line.split(b": ", 1)
    if name.lower() == b"sec-websocket-accept":
        accept = value.decode()
expected = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
assert accept == base64.b64encode(expected).decode(), accept

def send(opcode, payload):
    mask = os.urandom(4)
    length = struct.pack("!B", 0x80 | len(payload)) if len(payload) < 126 else struct.pack("!BH", 0xFE, len(payload))
    ws.sendall(bytes([0x80 | opcode]) + length + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(payload)))

def receive():
    first, length = stream.read(2)
    if length == 126:
        length = struct.unpack("!H", stream.read(2))[0]
    return first & 15, stream.read(length)

for payload in (b"hello", b"x" * 5000):
    send(1, payload)
    assert receive() == (1, payload)
send(9, b"ping")
assert receive() == (10, b"ping")
send(8, struct.pack("!H", 1000))
assert receive()[0] == 8
assert stream.read() == b""
print("fine")
"#;

/// A generic stub: messages are bytes, so no code is generated.
const GRPC: &str = r#"
import sys
import grpc

channel = grpc.insecure_channel(f"127.0.0.1:{sys.argv[1]}")
same = lambda message: message
kinds = dict(request_serializer=same, response_deserializer=same)
assert channel.unary_unary("/test.Echo/Unary", **kinds)(b"hello", timeout=10) == b"hello"
sent = [bytes([n]) * 1000 for n in range(20)]
assert list(channel.stream_stream("/test.Echo/Bidi", **kinds)(iter(sent), timeout=10)) == sent
assert channel.stream_unary("/test.Echo/Up", **kinds)(iter([b"one"]), timeout=10) == b"one"
assert list(channel.unary_stream("/test.Echo/Down", **kinds)(b"one", timeout=10)) == [b"one"]
print("fine")
"#;

/// Runs a Python script with the product's port as its argument; returns its output.
async fn run_script(python: PathBuf, stage: &Stage, script: &str) -> Result<String> {
    let path = stage.folder.write("script.py", script);
    let mut command = Command::new(python);
    command.arg(path).arg(stage.world.http().port().to_string());
    let output = run(command, Vec::new()).await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[tokio::test]
async fn pythons_standard_library_is_served() -> Result<()> {
    let Some([python]) = tools!("python3") else { return Ok(()) };
    let stage = Stage::start().await?;
    assert_eq!(run_script(python, &stage, PYTHON).await?, "fine");
    assert!(stage.echo.failures().is_empty(), "{:?}", stage.echo.failures());
    Ok(())
}

#[tokio::test]
async fn grpc_calls_pass() -> Result<()> {
    let stage = Stage::start().await?;
    let mut client = cardinal_testkit::H2Client::connect(stage.world.http()).await?;
    let messages: Vec<Vec<u8>> = (0..20_u8).map(|n| vec![n; 1000]).collect();
    let all: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
    let reply = client.grpc("a", "/test.Echo/Bidi", &[], &all).await?;
    assert_eq!((reply.status, &reply.messages), (0, &messages));
    Ok(())
}

#[tokio::test]
async fn calls_of_the_grpc_library_pass() -> Result<()> {
    let Some([python]) = tools!("python3-grpc") else { return Ok(()) };
    let stage = Stage::start().await?;
    assert_eq!(run_script(python, &stage, GRPC).await?, "fine");
    Ok(())
}
