//! Exports spans to a collector in batches from the control runtime. The queue is bounded; dropped spans are counted.

mod datadog;
mod grpc_status;
mod otlp;
mod proto;
mod resource;
mod zipkin;

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cardinal_http::{HeaderList, is_token, is_value};
use cardinal_ir::{SpanExporter, SpanProtocol, Telemetry};
use cardinal_sdk::queue::{self, DeliveryError, Loss, Queue, Settings, User};
use cardinal_sdk::{BuildCx, CallError, GrpcCall, HttpCall, HttpCaller, HttpReply, Services};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::span::Finished;
use resource::Resource;

#[cfg(test)]
mod tests;

/// Maximum size of a collector's response, bytes.
const ANSWER_MAX: usize = 64 * 1024;
/// How long a connection is kept for the next batch.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// Maximum number of response bytes in a log line.
const SHOWN_MAX: usize = 256;

/// Spans by outcome, of all exporters of a node.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    exported: AtomicU64,
    dropped: [AtomicU64; 4],
}

impl Counters {
    /// The counters of a node.
    pub(crate) fn of(services: &Services) -> Arc<Self> {
        services.shared.get_or_insert("tracing", Self::default)
    }

    /// Number of spans accepted by a collector.
    pub(crate) fn exported(&self) -> u64 {
        self.exported.load(Ordering::Relaxed)
    }

    /// Number of lost spans, by reason.
    pub(crate) fn dropped(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let reasons = ["queue_full", "undelivered", "refused", "rejected"];
        reasons.into_iter().zip(self.dropped.iter().map(|counter| counter.load(Ordering::Relaxed)))
    }

    fn lose(&self, reason: Dropped, spans: usize) {
        if let Some(counter) = self.dropped.get(reason as usize) {
            counter.fetch_add(spans as u64, Ordering::Relaxed);
        }
    }
}

/// Why spans were lost, in the order of [`Counters::dropped`].
#[derive(Clone, Copy)]
enum Dropped {
    QueueFull,
    /// The collector could not be reached, or had no capacity, for too long.
    Undelivered,
    /// The collector refused a batch.
    Refused,
    /// The collector accepted a batch without these spans.
    Rejected,
}

/// Queues the spans of finished requests for export.
pub(crate) struct Exporter {
    queue: User<Entry>,
    counters: Arc<Counters>,
    destination: String,
}

/// The spans of a request in the queue.
#[derive(Clone)]
struct Entry {
    finished: Arc<Finished>,
    counters: Arc<Counters>,
}

impl queue::Entry for Entry {
    fn size(&self) -> usize {
        self.finished.bytes
    }

    fn lost(&self, reason: Loss) {
        let reason = match reason {
            Loss::NoRoom => Dropped::QueueFull,
            Loss::Undelivered => Dropped::Undelivered,
            Loss::Refused => Dropped::Refused,
        };
        self.counters.lose(reason, self.finished.spans.len());
    }
}

impl Exporter {
    /// Opens the exporter of a record.
    ///
    /// # Errors
    /// The reason why it cannot be used.
    pub(super) fn open(record: &Telemetry, exporter: &SpanExporter, services: &Services) -> Result<Self, String> {
        let counters = Counters::of(services);
        let sender = Arc::new(Sender::new(record, exporter, services)?);
        let destination = format!("{} ({})", shown(&exporter.url), exporter.protocol.as_str());
        let id = record.origin.id;
        let settings = settings(format!("spans of {id} to {destination}"), exporter);
        let queue = Queue::open(services, settings, move |batch: Vec<Entry>| {
            let sender = Arc::clone(&sender);
            async move { sender.send(&batch).await }
        });
        let scope = &record.scope;
        let (listeners, route, backend) = (scope.listeners, scope.route, scope.backend);
        let queue = queue.used_by(&BuildCx { services, id, listeners, route, backend, principal: None });
        Ok(Self { queue, counters, destination })
    }

    /// Queues the spans of a request. Never waits.
    pub(super) fn push(&self, finished: Finished) {
        self.queue.push(Entry { finished: Arc::new(finished), counters: Arc::clone(&self.counters) });
    }

    pub(super) fn destination(&self) -> String {
        self.destination.clone()
    }
}

/// A URL without its query, which may contain a key.
fn shown(url: &str) -> &str {
    url.split('?').next().unwrap_or_default()
}

/// Checks that a URL is an HTTP URL. User information is refused: it would appear in logs.
fn check_url(url: &str) -> Result<(), String> {
    let is_http = |uri: &http::Uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
    };
    let uri = url.parse().ok().filter(is_http);
    uri.map(drop).ok_or_else(|| "url: not an http or https URL, or one with a user name".to_owned())
}

fn settings(name: String, exporter: &SpanExporter) -> Settings {
    let own = &exporter.queue;
    let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX).max(1);
    Settings {
        name,
        max_batch_size: count(own.batch_requests_max),
        max_coalescing_delay: Duration::from_millis(own.batch_delay_ms),
        max_entries: count(own.requests_max),
        max_bytes: Some(usize::try_from(own.bytes_max).unwrap_or(usize::MAX)),
        max_retry_time: Duration::from_millis(own.retry_ms_max),
        initial_retry_delay: Duration::from_millis(own.retry_delay_ms),
        max_retry_delay: Duration::from_millis(own.retry_delay_ms_max),
        parallel: false,
    }
}

/// Sends batches to one collector.
struct Sender {
    http: Arc<dyn HttpCaller>,
    protocol: SpanProtocol,
    url: String,
    /// For logs.
    shown: String,
    headers: HeaderList,
    insecure: bool,
    gzip: bool,
    timeout: Duration,
    resource: Resource,
    counters: Arc<Counters>,
}

impl Sender {
    fn new(record: &Telemetry, exporter: &SpanExporter, services: &Services) -> Result<Self, String> {
        check_url(&exporter.url)?;
        let mut headers = HeaderList::new();
        for (name, value) in &exporter.headers {
            if !is_token(name.as_bytes()) || !is_value(value.as_bytes()) {
                return Err(format!("headers: the field {name:?} is malformed"));
            }
            headers.append(name.as_bytes(), value.as_bytes());
        }
        let url = match exporter.protocol {
            SpanProtocol::OtlpGrpc => format!("{}{}", exporter.url.trim_end_matches('/'), otlp::GRPC_METHOD),
            SpanProtocol::OtlpHttp | SpanProtocol::Zipkin | SpanProtocol::Datadog => exporter.url.to_string(),
        };
        Ok(Self {
            http: Arc::clone(&services.http),
            protocol: exporter.protocol,
            shown: shown(&url).to_owned(),
            url,
            headers,
            insecure: exporter.insecure,
            gzip: exporter.gzip,
            timeout: Duration::from_millis(exporter.timeout_ms.max(1)),
            resource: Resource::new(record, services),
            counters: Counters::of(services),
        })
    }

    async fn send(&self, batch: &[Entry]) -> Result<(), DeliveryError> {
        let requests = || batch.iter().map(|entry| &*entry.finished);
        let spans: usize = requests().map(|finished| finished.spans.len()).sum();
        let rejected = match self.protocol {
            SpanProtocol::OtlpHttp => {
                let body = otlp::encode(&self.resource, requests());
                let reply = self.post("POST", "application/x-protobuf", body, &[]).await?;
                otlp::rejected(&reply.body)
            }
            SpanProtocol::OtlpGrpc => self.call(otlp::encode(&self.resource, requests())).await?,
            SpanProtocol::Zipkin => {
                let body = zipkin::encode(&self.resource, requests());
                self.post("POST", "application/json", body, &[]).await?;
                None
            }
            SpanProtocol::Datadog => {
                let body = datadog::encode(&self.resource, requests());
                let count = batch.len().to_string();
                self.post("PUT", "application/json", body, &[("X-Datadog-Trace-Count", &count)]).await?;
                None
            }
        };
        let (count, reason) = rejected.unwrap_or_default();
        let count = usize::try_from(count).unwrap_or(0).min(spans);
        if count > 0 || !reason.is_empty() {
            tracing::warn!(collector = %self.shown, rejected = count, reason, "the collector accepted spans only in part");
        }
        self.counters.lose(Dropped::Rejected, count);
        self.counters.exported.fetch_add((spans - count) as u64, Ordering::Relaxed);
        Ok(())
    }

    /// The body to send, and whether it is compressed.
    fn compressed(&self, body: Vec<u8>) -> (Bytes, bool) {
        if !self.gzip {
            return (body.into(), false);
        }
        let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
        // Writing to memory does not fail; in case it did, the body would be sent uncompressed.
        match encoder.write_all(&body).and_then(|()| encoder.finish()) {
            Ok(compressed) => (compressed.into(), true),
            Err(_) => (body.into(), false),
        }
    }

    async fn post(
        &self,
        method: &str,
        content_type: &str,
        body: Vec<u8>,
        more: &[(&str, &str)],
    ) -> Result<HttpReply, DeliveryError> {
        let (body, gzip) = self.compressed(body);
        let mut headers = self.headers.clone();
        headers.set(b"Content-Type", content_type.as_bytes());
        if gzip {
            headers.set(b"Content-Encoding", b"gzip");
        }
        for (name, value) in more {
            headers.set(name.as_bytes(), value.as_bytes());
        }
        let call = HttpCall {
            method: method.to_owned(),
            url: self.url.clone(),
            headers,
            body,
            timeout: self.timeout,
            keepalive: KEEPALIVE,
            insecure: self.insecure,
            body_max: ANSWER_MAX as u64,
        };
        let reply = self.http.call(call).await.map_err(|error| self.unreachable(&error))?;
        if (200..300).contains(&reply.status) {
            return Ok(reply);
        }
        let shown = reply.body.get(..SHOWN_MAX).unwrap_or(&reply.body);
        let reason = format!("{} answered {} {:?}", self.shown, reply.status, String::from_utf8_lossy(shown));
        let is_final = !matches!(reply.status, 408 | 429 | 502..=504);
        Err(DeliveryError { reason, is_final, retry_after: self.retry_after(&reply), is_local: false })
    }

    /// Makes the gRPC call. Returns the number of rejected spans with the message, if there are any.
    async fn call(&self, message: Vec<u8>) -> Result<Option<(i64, String)>, DeliveryError> {
        let (message, gzip) = self.compressed(message);
        let call = GrpcCall {
            url: self.url.clone(),
            metadata: self.headers.clone(),
            message,
            gzip,
            timeout: self.timeout,
            insecure: self.insecure,
            message_max: ANSWER_MAX,
        };
        let reply = self.http.grpc(call).await.map_err(|error| self.unreachable(&error))?;
        if reply.status == 0 {
            return Ok(otlp::rejected(&reply.message));
        }
        let retry_after = grpc_status::retry_delay(&reply.details);
        let shown: String = reply.reason.chars().take(SHOWN_MAX).collect();
        let reason = format!("{} answered gRPC status {} {shown:?}", self.shown, reply.status);
        let is_final = !grpc_status::is_retryable(reply.status, retry_after.is_some());
        Err(DeliveryError { reason, is_final, retry_after, is_local: false })
    }

    fn unreachable(&self, error: &CallError) -> DeliveryError {
        let (is_local, is_final) = match error {
            CallError::Local(_) => (true, false),
            CallError::Url { .. } => (false, true),
            // The collector may have accepted the batch; the rest of its response is not needed.
            CallError::TooLarge(_) => (false, true),
            CallError::Timeout | CallError::Transport(_) => (false, false),
        };
        DeliveryError { reason: format!("{}: {error}", self.shown), is_local, is_final, retry_after: None }
    }

    /// `Retry-After`: seconds, or a date, which is compared with the date of the response.
    fn retry_after(&self, reply: &HttpReply) -> Option<Duration> {
        let value = reply.headers.get_str("retry-after")?;
        if let Ok(seconds) = value.parse() {
            return Some(Duration::from_secs(seconds));
        }
        let date = |text: &str| httpdate::parse_http_date(text).ok();
        date(value)?.duration_since(date(reply.headers.get_str("date")?)?).ok()
    }
}
