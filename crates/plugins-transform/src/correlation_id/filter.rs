//! Making ids.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cardinal_sdk::{BuildCx, BuildError, Exchange, Filter, FilterStep, Flow, HeadCx, Phases, ResponseCx, Services};
use serde_json::Value;

struct CorrelationId {
    header: Box<[u8]>,
    generator: Generator,
    echo: bool,
}

enum Generator {
    Uuid,
    Counter(Arc<Counter>),
    Tracker,
}

/// What the ids of a node start with, and how many there were. Outlives generations, so that no id comes twice.
struct Counter {
    node: uuid::Uuid,
    count: AtomicU64,
}

pub(super) fn build(config: &Value, cx: &BuildCx<'_>) -> Result<Arc<dyn Filter>, BuildError> {
    let text = |field: &str| config.get(field).and_then(Value::as_str);
    let header = text("header_name").unwrap_or("Kong-Request-ID").as_bytes();
    if !cardinal_http::is_token(header) {
        return Err(BuildError::new("config.header_name", "is not the name of a header"));
    }
    let generator = match text("generator") {
        Some("uuid") => Generator::Uuid,
        Some("tracker") => Generator::Tracker,
        _ => Generator::Counter(
            cx.services
                .shared
                .get_or_insert("correlation-id", || Counter { node: random_uuid(), count: AtomicU64::new(0) }),
        ),
    };
    let echo = config.get("echo_downstream").and_then(Value::as_bool).unwrap_or(false);
    Ok(Arc::new(CorrelationId { header: header.into(), generator, echo }))
}

fn random_uuid() -> uuid::Uuid {
    uuid::Builder::from_random_bytes(rand::random()).into_uuid()
}

impl Filter for CorrelationId {
    fn phases(&self) -> Phases {
        if self.echo { Phases::REQUEST.and(Phases::RESPONSE) } else { Phases::REQUEST }
    }

    fn owns_header(&self, name: &[u8]) -> bool {
        cardinal_http::eq_field_name(&self.header, name)
    }

    fn on_request_head<'a>(&'a self, cx: &'a mut HeadCx<'_>) -> Flow<'a> {
        let given = cx.request.headers.get(&self.header).filter(|id| !id.is_empty());
        let id = match given {
            Some(id) => String::from_utf8_lossy(id).into_owned(),
            None => {
                let id = self.generator.id(cx.exchange, cx.services);
                cx.request.headers.set_only(&self.header, id.as_bytes());
                id
            }
        };
        if self.echo {
            cx.set_state(id.clone());
        }
        cx.exchange.log_fields.push(("correlation_id", id.into()));
        Flow::Continue
    }

    fn on_response_head<'a>(&'a self, cx: &'a mut ResponseCx<'_>) -> FilterStep<'a> {
        // Without a request phase (an earlier filter answered), what the client sent, or a new id.
        let id = match cx.state::<String>().map(std::mem::take) {
            Some(id) => id.into_bytes(),
            None => match cx.request.headers.get(&self.header).filter(|id| !id.is_empty()) {
                Some(id) => id.to_vec(),
                None => self.generator.id(cx.exchange, cx.services).into_bytes(),
            },
        };
        cx.response.headers.set(&self.header, &id);
        FilterStep::Continue
    }
}

impl Generator {
    fn id(&self, exchange: &Exchange, services: &Services) -> String {
        match self {
            Self::Uuid => random_uuid().to_string(),
            Self::Counter(counter) => {
                format!("{}#{}", counter.node, counter.count.fetch_add(1, Ordering::Relaxed) + 1)
            }
            Self::Tracker => {
                let client = &exchange.client;
                let now = services.clock.unix().0;
                format!(
                    "{}-{}-{}-{}-{}-{}.{:03}",
                    client.local.ip(),
                    client.local.port(),
                    std::process::id(),
                    client.connection,
                    client.sequence,
                    now / 1_000,
                    now % 1_000
                )
            }
        }
    }
}
