//! `/debug`: log levels. Kong: `kong/api/routes/debug.lua`.

use serde_json::Value;

use super::call::Call;
use super::message::Response;
use crate::dao::Fault;

/// Kong's names of log levels.
pub(super) const LEVELS: [&str; 8] = ["debug", "info", "notice", "warn", "error", "crit", "alert", "emerg"];
/// Seconds for which a level is set if nothing else is said.
const TIMEOUT_SECONDS: u64 = 60;

/// A path below `/debug`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Path {
    /// `/debug/node/log-level`
    Node,
    /// `/debug/{node,cluster,...}/log-level/{level}`
    Set,
}

/// The paths.
pub(super) const PATHS: [(&str, Path); 4] = [
    ("/debug/node/log-level", Path::Node),
    ("/debug/node/log-level/{log_level}", Path::Set),
    ("/debug/cluster/log-level/{log_level}", Path::Set),
    ("/debug/cluster/control-planes-nodes/log-level/{log_level}", Path::Set),
];

impl Path {
    pub(super) fn methods(self) -> &'static [&'static str] {
        match self {
            Self::Node => &["GET"],
            Self::Set => &["PUT"],
        }
    }

    pub(super) fn answer(self, call: &Call<'_>, names: &[&str]) -> Result<Response, Fault> {
        let proxies = &call.admin.proxies;
        let (Self::Set, [level]) = (self, names) else {
            return Ok(Response::message(200, &format!("log level: {}", proxies.log_level())));
        };
        if !LEVELS.contains(level) {
            return Err(Fault::message(400, &format!("unknown log level: {level}")));
        }
        let seconds = timeout(call.query.get("timeout"))?;
        if proxies.log_level() == *level {
            return Ok(Response::message(200, &format!("log level is already {level}")));
        }
        let failed = |why: String| Fault::message(500, &format!("failed setting log level: {why}"));
        proxies.set_log_level(level, seconds).map_err(failed)?;
        Ok(Response::message(200, "log level changed"))
    }
}

/// Seconds that a level lasts: Kong rounds them up. Kong ignores what is no number; here that is an error.
fn timeout(given: Option<&Value>) -> Result<u64, Fault> {
    let Some(given) = given else { return Ok(TIMEOUT_SECONDS) };
    let seconds = given.as_str().and_then(|text| text.parse::<f64>().ok()).filter(|seconds| seconds.is_finite());
    match seconds {
        None => Err(Fault::message(400, "timeout must be a number of seconds")),
        Some(seconds) if seconds.ceil() < 0.0 => Err(Fault::message(400, "timeout must be greater than or equal to 0")),
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative, and saturating")]
        Some(seconds) => Ok(seconds.ceil() as u64),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn timeouts_are_kongs() {
        for (given, expected) in [
            (None, Ok(60)),
            (Some(json!("0")), Ok(0)),
            (Some(json!("1.2")), Ok(2)),
            (Some(json!("-0.5")), Ok(0)),
            (Some(json!("1e300")), Ok(u64::MAX)),
            (Some(json!("-1")), Err("timeout must be greater than or equal to 0")),
            (Some(json!("soon")), Err("timeout must be a number of seconds")),
            (Some(json!("inf")), Err("timeout must be a number of seconds")),
            (Some(json!(["1", "2"])), Err("timeout must be a number of seconds")),
        ] {
            let found = timeout(given.as_ref()).map_err(|fault| fault.body["message"].clone());
            assert_eq!(found, expected.map_err(|text: &str| json!(text)), "{given:?}");
        }
    }
}
