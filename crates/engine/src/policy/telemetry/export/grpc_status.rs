//! Retryable gRPC status codes (OTLP specification, "Failures").

use std::time::Duration;

use prost::Message as _;

use super::proto::{RetryInfo, RpcStatus};

const CANCELLED: u32 = 1;
const DEADLINE_EXCEEDED: u32 = 4;
const RESOURCE_EXHAUSTED: u32 = 8;
const ABORTED: u32 = 10;
const OUT_OF_RANGE: u32 = 11;
const UNAVAILABLE: u32 = 14;
const DATA_LOSS: u32 = 15;

/// Whether a batch may be sent again. `RESOURCE_EXHAUSTED` is retryable only if the collector names a delay.
pub(super) fn is_retryable(status: u32, says_when: bool) -> bool {
    match status {
        CANCELLED | DEADLINE_EXCEEDED | ABORTED | OUT_OF_RANGE | UNAVAILABLE | DATA_LOSS => true,
        RESOURCE_EXHAUSTED => says_when,
        _ => false,
    }
}

/// The delay in the details of a status (`google.rpc.RetryInfo`).
pub(super) fn retry_delay(details: &[u8]) -> Option<Duration> {
    let status = RpcStatus::decode(details).ok()?;
    let info = status.details.iter().find(|any| any.type_url.ends_with("/google.rpc.RetryInfo"))?;
    let delay = RetryInfo::decode(&*info.value).ok()?.retry_delay?;
    Some(Duration::new(u64::try_from(delay.seconds).ok()?, u32::try_from(delay.nanos).ok()?.min(999_999_999)))
}
