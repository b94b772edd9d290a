//! From the configuration of `rate-limiting` to a rate limit. With counters in Redis, it describes what the filter counts.

use cardinal_ir::PolicySpec;
use cardinal_ir::policy::{LimitBy, Limiter, RateLimit, RateWindow, Windows};
use cardinal_sdk::BuildError;
use cardinal_sdk::rate::Period;
use serde_json::Value;

/// A policy, if the counters are in this node's memory.
pub(super) fn lower(config: &Value) -> Result<Option<PolicySpec>, BuildError> {
    let limit = rate_limit(config)?;
    match config.get("policy").and_then(Value::as_str) {
        None | Some("local") => Ok(Some(PolicySpec::RateLimit(limit))),
        Some("redis") => Ok(None),
        Some(other) => Err(BuildError::new("config.policy", format!("'{other}' needs a database; use local or redis"))),
    }
}

/// Limits, what is counted, and the reply to refused requests.
pub(super) fn rate_limit(config: &Value) -> Result<RateLimit, BuildError> {
    let text = |field: &str| config.get(field).and_then(Value::as_str);
    let window = |period: Period| {
        let limit = config.get(period.name()).and_then(Value::as_f64)?;
        Some(RateWindow { period: period.into(), limit })
    };
    let limits: Vec<RateWindow> = Period::ALL.into_iter().filter_map(window).collect();
    if limits.is_empty() {
        return Err(BuildError::new("config", "at least one limit is required"));
    }
    let status = config.get("error_code").and_then(Value::as_f64).unwrap_or(429.0);
    if !(100.0..=599.0).contains(&status) {
        return Err(BuildError::new("config.error_code", "must be a status from 100 to 599"));
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within limits")]
    let status = status as u16;
    let sliding = text("window_type") == Some("sliding");
    Ok(RateLimit {
        limiter: Limiter::Windows(Windows { limits, sliding }),
        by: limit_by(text("limit_by"), text("header_name"), text("path"))?,
        status,
        message: text("error_message").unwrap_or("API rate limit exceeded").into(),
        set_headers: Vec::new(),
        add_headers: Vec::new(),
        hide_headers: config.get("hide_client_headers").and_then(Value::as_bool).unwrap_or(false),
    })
}

fn limit_by(by: Option<&str>, header: Option<&str>, path: Option<&str>) -> Result<LimitBy, BuildError> {
    let missing = |field| move || BuildError::new(field, "required field missing");
    Ok(match by {
        Some("credential") => LimitBy::Credential,
        Some("ip") => LimitBy::ClientAddress,
        Some("service") => LimitBy::Backend,
        Some("header") => LimitBy::Header(header.ok_or_else(missing("config.header_name"))?.into()),
        Some("path") => LimitBy::Path(path.ok_or_else(missing("config.path"))?.into()),
        _ => LimitBy::Principal,
    })
}
