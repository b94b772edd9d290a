//! Span collectors on loopback, with scripted responses and recorded requests.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use cardinal_base::task;
use cardinal_testkit::{frame, unframe, within};
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::proto::{ExportRequest, SpanMessage};

/// A request received by a collector.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// Without gRPC's prefix.
    pub(crate) body: Vec<u8>,
}

/// Attributes of a resource, which are texts here.
type Attributes = Vec<(String, String)>;

impl Received {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The spans in it, and the attributes of their resource.
    pub(crate) fn spans(&self) -> Result<(Vec<SpanMessage>, Attributes)> {
        let request = ExportRequest::decode(&*self.body)?;
        let [resource_spans] = &request.resource_spans[..] else { anyhow::bail!("{request:?}") };
        let [scope_spans] = &resource_spans.scope_spans[..] else { anyhow::bail!("{request:?}") };
        ensure!(scope_spans.scope.as_ref().is_some_and(|scope| scope.name == "cardinal"), "{request:?}");
        let resource = resource_spans.resource.as_ref().context("no resource")?;
        let resource = resource.attributes.iter().map(|attribute| (attribute.key.clone(), attribute.text())).collect();
        Ok((scope_spans.spans.clone(), resource))
    }
}

/// A response of a gRPC collector.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u32,
    /// `grpc-status-details-bin`
    pub(crate) details: Option<&'static str>,
    pub(crate) message: Vec<u8>,
}

/// A collector, which listens until it is dropped.
pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    received: mpsc::Receiver<Received>,
    accepting: JoinHandle<()>,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Collector {
    /// An HTTP/1.1 collector with these responses, in order; then 200.
    pub(crate) async fn http(responses: &[&str]) -> Self {
        let responses = Arc::new(Mutex::new(responses.iter().map(|text| (*text).to_owned()).collect::<VecDeque<_>>()));
        Self::start(move |tcp, received| {
            let responses = Arc::clone(&responses);
            drop(task::spawn("collector", async move {
                // The connection's end.
                serve_http(tcp, &responses, &received).await.unwrap_or_default();
            }));
        })
        .await
    }

    /// A gRPC collector with these responses, in order; then OK.
    pub(crate) async fn grpc(answers: &[Answer]) -> Self {
        let answers = Arc::new(Mutex::new(answers.iter().cloned().collect::<VecDeque<_>>()));
        Self::start(move |tcp, received| {
            let answers = Arc::clone(&answers);
            drop(task::spawn("collector", async move {
                serve_grpc(tcp, &answers, &received).await.unwrap_or_default();
            }));
        })
        .await
    }

    async fn start(serve: impl Fn(TcpStream, mpsc::Sender<Received>) + Send + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, received) = mpsc::channel(1_000);
        let accepting = task::spawn("collector", async move {
            while let Ok((tcp, _)) = listener.accept().await {
                serve(tcp, sender.clone());
            }
        });
        Self { address, received, accepting }
    }

    pub(crate) async fn next(&mut self) -> Result<Received> {
        within("a request to the collector", self.received.recv()).await?.context("the collector has ended")
    }
}

async fn serve_http(
    mut tcp: TcpStream,
    responses: &Mutex<VecDeque<String>>,
    received: &mpsc::Sender<Received>,
) -> Result<()> {
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = buffer.windows(4).position(|part| part == b"\r\n\r\n") {
                break end;
            }
            ensure!(tcp.read_buf(&mut buffer).await? > 0, "closed");
        };
        let head = String::from_utf8(buffer.drain(..end + 4).collect())?;
        let mut lines = head.lines();
        let mut line = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
        let (method, path) = (line.next().unwrap_or_default(), line.next().unwrap_or_default());
        let fields = lines.filter_map(|line| line.split_once(": "));
        let headers: Vec<_> = fields.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
        let length =
            headers.iter().find(|(name, _)| name == "content-length").context("no Content-Length")?.1.parse()?;
        while buffer.len() < length {
            ensure!(tcp.read_buf(&mut buffer).await? > 0, "closed");
        }
        let body = buffer.drain(..length).collect();
        received.send(Received { method, path, headers, body }).await?;
        let next = responses.lock().unwrap().pop_front();
        let response = next.unwrap_or_else(|| "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned());
        tcp.write_all(response.as_bytes()).await?;
    }
}

async fn serve_grpc(
    tcp: TcpStream,
    answers: &Mutex<VecDeque<Answer>>,
    received: &mpsc::Sender<Received>,
) -> Result<()> {
    let mut connection = h2::server::handshake(tcp).await?;
    while let Some(request) = connection.accept().await {
        let (request, mut respond) = request?;
        let (parts, mut body) = request.into_parts();
        let mut framed = Vec::new();
        // The connection has to be driven while the body arrives.
        let reading = async {
            while let Some(part) = body.data().await {
                let part = part?;
                body.flow_control().release_capacity(part.len())?;
                framed.extend_from_slice(&part);
            }
            anyhow::Ok(())
        };
        tokio::select! {
            read = reading => read?,
            more = connection.accept() => anyhow::bail!("a second request before the first was over: {}", more.is_some()),
        }
        let messages = unframe(&framed)?;
        let [message] = &messages[..] else { anyhow::bail!("{} messages", messages.len()) };
        let text = |value: &http::HeaderValue| value.to_str().unwrap_or_default().to_owned();
        let headers = parts.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
        let (method, path) = (parts.method.to_string(), parts.uri.path().to_owned());
        received.send(Received { method, path, headers, body: message.clone() }).await?;
        let answer = answers.lock().unwrap().pop_front().unwrap_or_default();
        let head = http::Response::builder().header("content-type", "application/grpc");
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", answer.status.to_string().parse()?);
        if let Some(details) = answer.details {
            trailers.insert("grpc-status-details-bin", details.parse()?);
        }
        let mut stream = respond.send_response(head.body(())?, false)?;
        if answer.status == 0 {
            stream.send_data(Bytes::from(frame(&answer.message)), false)?;
        }
        stream.send_trailers(trailers)?;
    }
    Ok(())
}
