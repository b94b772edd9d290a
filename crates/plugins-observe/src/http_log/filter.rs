//! Sending records.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use cardinal_http::HeaderList;
use cardinal_sdk::queue::{DeliveryError, Queue, Settings, User};
use cardinal_sdk::{BuildCx, BuildError, CallError, Filter, HttpCall, HttpCaller, LogCx, Phases};
use serde_json::Value;

use super::endpoint::Endpoint;
use super::schema::one_authorization;
use crate::custom_fields::CustomFields;

/// Bytes of the server's answer that are read.
const ANSWER_MAX: u64 = 1 << 20;

/// Bytes of it that a message shows.
const SHOWN_MAX: usize = 512;

struct HttpLog {
    fields: CustomFields,
    queue: User<Bytes>,
}

struct Sender {
    http: Arc<dyn HttpCaller>,
    /// Everything but the body.
    call: HttpCall,
    authority: String,
    /// Records are sent in a list, also when there is only one.
    lists: bool,
}

pub(super) fn build(config: &Value, cx: &BuildCx<'_>) -> Result<Arc<dyn Filter>, BuildError> {
    one_authorization(config).map_err(|reason| BuildError::new("config", reason))?;
    let text = |field: &str| config.get(field).and_then(Value::as_str).unwrap_or_default();
    let milliseconds = |field: &str| config.get(field).and_then(Value::as_f64).map(|ms| ms / 1_000.0);
    let duration = |field: &str| milliseconds(field).and_then(|s| Duration::try_from_secs_f64(s).ok());
    let endpoint = Endpoint::parse(text("http_endpoint"))
        .ok_or_else(|| BuildError::new("config.http_endpoint", "is not a URL with scheme and host"))?;
    let name = ["http_endpoint", "method", "content_type", "timeout", "keepalive", "headers"]
        .map(|field| config.get(field).unwrap_or(&Value::Null).to_string())
        .join(":");
    // The name identifies the queue and is shown in logs, so secrets in it are hashed.
    let name = format!("http-log {} {}", endpoint.authority, short_hash(&name));
    let settings = Settings::from_config(name, config.get("queue").unwrap_or(&Value::Null)).with_old_names(config);
    let sender = Arc::new(Sender {
        http: Arc::clone(&cx.services.http),
        call: HttpCall {
            method: text("method").to_owned(),
            url: endpoint.url.clone(),
            headers: headers(config, &endpoint),
            body: Bytes::new(),
            timeout: duration("timeout").unwrap_or(Duration::from_secs(10)),
            keepalive: duration("keepalive").unwrap_or(Duration::from_secs(60)),
            // As Kong: certificates of log servers are not verified.
            insecure: true,
            body_max: ANSWER_MAX,
        },
        authority: endpoint.authority,
        lists: settings.max_batch_size > 1,
    });
    let fields = CustomFields::read(config)?;
    let queue = Queue::open(cx.services, settings, move |records: Vec<Bytes>| {
        let sender = Arc::clone(&sender);
        async move { sender.send(&records).await }
    });
    Ok(Arc::new(HttpLog { fields, queue: queue.used_by(cx) }))
}

/// FNV-1a: equal texts must have equal names in all generations; the input is trusted, so collisions are not an attack.
fn short_hash(text: &str) -> String {
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}

fn headers(config: &Value, endpoint: &Endpoint) -> HeaderList {
    let mut headers = HeaderList::new();
    let content_type = config.get("content_type").and_then(Value::as_str).unwrap_or("application/json");
    headers.set(b"Content-Type", content_type.as_bytes());
    if let Some(user) = &endpoint.user {
        headers.set(b"Authorization", format!("Basic {}", STANDARD.encode(user)).as_bytes());
    }
    for (name, value) in config.get("headers").and_then(Value::as_object).into_iter().flatten() {
        if let (false, Some(value)) = (headers.contains(name.as_bytes()), value.as_str()) {
            headers.append(name.as_bytes(), value.as_bytes());
        }
    }
    headers
}

impl Filter for HttpLog {
    fn phases(&self) -> Phases {
        Phases::LOG
    }

    fn on_log(&self, cx: &LogCx<'_>) {
        self.queue.push(self.fields.entry(cx));
    }
}

impl Sender {
    async fn send(&self, records: &[Bytes]) -> Result<(), DeliveryError> {
        let body = match records {
            [record] if !self.lists => record.clone(),
            records => list(records),
        };
        let call = HttpCall { body, ..self.call.clone() };
        let answer = match self.http.call(call).await {
            Ok(answer) => answer,
            Err(error) => {
                let is_local = matches!(error, CallError::Local(_));
                let reason = format!("failed request to {}: {error}", self.authority);
                return Err(DeliveryError { reason, is_local, ..DeliveryError::default() });
            }
        };
        if answer.status < 300 {
            return Ok(());
        }
        let shown = answer.body.get(..SHOWN_MAX).unwrap_or(&answer.body);
        Err(format!(
            "request to {} returned status code {} and body {}",
            self.authority,
            answer.status,
            String::from_utf8_lossy(shown)
        )
        .into())
    }
}

fn list(records: &[Bytes]) -> Bytes {
    let mut body = Vec::with_capacity(records.iter().map(|record| record.len() + 1).sum::<usize>() + 1);
    for (at, record) in records.iter().enumerate() {
        body.push(if at == 0 { b'[' } else { b',' });
        body.extend_from_slice(record);
    }
    body.push(b']');
    body.into()
}
