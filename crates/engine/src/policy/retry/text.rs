//! Describes a retry policy as text.

use std::fmt::Write as _;

use cardinal_ir::policy::{GrpcCode, HeaderCheck, HeaderValue, Retry, RetryCondition, RetryMethods};

/// `3 on reset, status 502; idempotent methods; backoff 25 to 250 ms`.
pub(crate) fn retry_text(retry: &Retry) -> String {
    let conditions: Vec<String> = retry.conditions.iter().map(condition_text).collect();
    let methods = match &retry.methods {
        RetryMethods::Idempotent => "idempotent methods".to_owned(),
        RetryMethods::Any => "all methods".to_owned(),
        RetryMethods::Listed(methods) => methods.join(", "),
    };
    let mut text = format!("{} on {}; {methods}", retry.attempts, conditions.join(", "));
    if !retry.request_headers.is_empty() {
        let headers: Vec<String> = retry.request_headers.iter().map(header_text).collect();
        push(&mut text, format_args!("requests with {}", headers.join(" or ")));
    }
    let backoff = &retry.backoff;
    if backoff.base_ms > 0 {
        let max_ms = if backoff.max_ms == 0 { backoff.base_ms.saturating_mul(10) } else { backoff.max_ms };
        push(&mut text, format_args!("backoff {} to {max_ms} ms", backoff.base_ms));
    }
    if let Some(limited) = &retry.rate_limited {
        let names: Vec<&str> = limited.headers.iter().map(|header| &*header.name).collect();
        push(&mut text, format_args!("wait by {} up to {} ms", names.join(", "), limited.max_ms));
    }
    if retry.per_try_timeout_ms > 0 {
        push(&mut text, format_args!("{} ms per try", retry.per_try_timeout_ms));
    }
    if retry.per_try_idle_timeout_ms > 0 {
        push(&mut text, format_args!("{} ms idle per try", retry.per_try_idle_timeout_ms));
    }
    if let Some(budget) = &retry.budget {
        push(&mut text, format_args!("budget {} % or {}", budget.percent, budget.min_concurrency));
    }
    text
}

fn push(text: &mut String, part: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    write!(text, "; {part}").unwrap_or_default();
}

fn condition_text(condition: &RetryCondition) -> String {
    match condition {
        RetryCondition::ConnectFailure => "connect failure".to_owned(),
        RetryCondition::Reset => "reset".to_owned(),
        RetryCondition::ResetBeforeRequest => "reset before request".to_owned(),
        RetryCondition::RefusedStream => "refused stream".to_owned(),
        RetryCondition::Timeout => "timeout".to_owned(),
        RetryCondition::PerTryTimeout => "per-try timeout".to_owned(),
        RetryCondition::ServerError => "status 5xx".to_owned(),
        RetryCondition::GatewayError => "status 502 to 504".to_owned(),
        RetryCondition::Retriable4xx => "status 409".to_owned(),
        RetryCondition::Status(status) => format!("status {status}"),
        RetryCondition::ResponseHeader(check) => format!("header {}", header_text(check)),
        RetryCondition::Grpc(code) => format!("gRPC status {}", grpc_text(*code)),
    }
}

fn grpc_text(code: GrpcCode) -> &'static str {
    match code {
        GrpcCode::Cancelled => "cancelled",
        GrpcCode::DeadlineExceeded => "deadline exceeded",
        GrpcCode::ResourceExhausted => "resource exhausted",
        GrpcCode::Internal => "internal",
        GrpcCode::Unavailable => "unavailable",
    }
}

fn header_text(check: &HeaderCheck) -> String {
    match &check.value {
        HeaderValue::Present => check.name.to_string(),
        HeaderValue::Absent => format!("no {}", check.name),
        HeaderValue::Exact(text) => format!("{}: {text}", check.name),
        HeaderValue::Prefix(text) => format!("{}: {text}*", check.name),
    }
}
