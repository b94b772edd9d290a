//! `/debug`: log levels. Kong: `kong/api/routes/debug.lua`.

use serde_json::Value;

use super::call::Call;
use super::message::Response;
use crate::dao::Fault;

/// Kong's names of log levels.
const LEVELS: [&str; 8] = ["debug", "info", "notice", "warn", "error", "crit", "alert", "emerg"];
/// Seconds for which a level is set if nothing else is said.
const TIMEOUT_SECONDS: u64 = 60;

/// A path below `/debug`.
#[derive(Debug)]
pub(super) enum Path<'p> {
    /// `/debug/node/log-level`
    Node,
    /// `/debug/{node,cluster,...}/log-level/{level}`
    Set(&'p str),
}

pub(super) fn find<'p>(parts: &[&'p str]) -> Option<Path<'p>> {
    match *parts {
        ["node", "log-level"] => Some(Path::Node),
        ["node" | "cluster", "log-level", level] => Some(Path::Set(level)),
        ["cluster", "control-planes-nodes", "log-level", level] => Some(Path::Set(level)),
        _ => None,
    }
}

impl Path<'_> {
    pub(super) fn methods(&self) -> &'static [&'static str] {
        match self {
            Self::Node => &["GET"],
            Self::Set(_) => &["PUT"],
        }
    }

    pub(super) fn answer(&self, call: &Call<'_>) -> Result<Response, Fault> {
        let proxies = &call.admin.proxies;
        let Self::Set(level) = self else {
            return Ok(Response::message(200, &format!("log level: {}", proxies.log_level())));
        };
        if !LEVELS.contains(level) {
            return Err(Fault::message(400, &format!("unknown log level: {level}")));
        }
        let timeout = match call.query.get("timeout") {
            None => TIMEOUT_SECONDS,
            Some(Value::String(text)) => {
                text.parse().map_err(|_| Fault::message(400, "timeout must be greater than or equal to 0"))?
            }
            Some(_) => return Err(Fault::message(400, "timeout must be greater than or equal to 0")),
        };
        if proxies.log_level() == *level {
            return Ok(Response::message(200, &format!("log level is already {level}")));
        }
        proxies.set_log_level(level, timeout).map_err(|message| Fault::message(400, &message))?;
        Ok(Response::message(200, "log level changed"))
    }
}
