//! What `request-size-limiting` does with a request. Kong: `kong/plugins/request-size-limiting/handler.lua`, which
//! reads a body of unknown length to its end first; here it is counted as it passes.

use std::sync::Arc;

use cardinal_http::{HeaderList, Name};
use cardinal_sdk::{BuildCx, BuildError, Filter, Flow, HeadCx, Phases, Reply};
use serde::Deserialize;
use serde_json::Value;

use crate::parse_config;

const EXCEEDED: &str = "Request size limit exceeded";

#[derive(Deserialize)]
struct Config {
    allowed_payload_size: Option<i64>,
    size_unit: Unit,
    require_content_length: bool,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Unit {
    Megabytes,
    Kilobytes,
    Bytes,
}

impl Unit {
    const fn bytes(self) -> u64 {
        match self {
            Self::Megabytes => 1 << 20,
            Self::Kilobytes => 1 << 10,
            Self::Bytes => 1,
        }
    }
}

struct SizeLimit {
    bytes_max: u64,
    require_length: bool,
}

pub(super) fn build(config: &Value, _cx: &BuildCx<'_>) -> Result<Arc<dyn Filter>, BuildError> {
    let config: Config = parse_config(config)?;
    let size = u64::try_from(config.allowed_payload_size.unwrap_or(128))
        .map_err(|_| BuildError::new("allowed_payload_size", "must not be negative"))?;
    Ok(Arc::new(SizeLimit {
        bytes_max: size.saturating_mul(config.size_unit.bytes()),
        require_length: config.require_content_length,
    }))
}

impl Filter for SizeLimit {
    fn phases(&self) -> Phases {
        Phases::REQUEST
    }

    fn on_request_head<'a>(&'a self, cx: &'a mut HeadCx<'_>) -> Flow<'a> {
        let headers = &cx.request.headers;
        match declared_length(headers) {
            Some(length) if length > self.bytes_max => {
                let waits = headers.known_list_contains(Name::Expect, b"100-continue");
                return Flow::reply(Reply::error(if waits { 417 } else { 413 }, EXCEEDED));
            }
            Some(_) => return Flow::Continue,
            None => {}
        }
        if self.require_length && !headers.known_list_contains(Name::TransferEncoding, b"chunked") {
            return Flow::reply(Reply::error(411, "A valid Content-Length header is required"));
        }
        cx.limit_body(self.bytes_max, EXCEEDED);
        Flow::Continue
    }
}

/// A length too large to count is the largest.
fn declared_length(headers: &HeaderList) -> Option<u64> {
    let digits = headers.known(Name::ContentLength)?;
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |length, digit| {
        digit.is_ascii_digit().then(|| length.saturating_mul(10).saturating_add(u64::from(digit - b'0')))
    })
}
