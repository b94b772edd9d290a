//! What `ip-restriction` does with requests and connections. Kong: `kong/plugins/ip-restriction/handler.lua`.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use cardinal_sdk::{Admit, BuildCx, BuildError, ConnectCx, Filter, Flow, HeadCx, Phases, Reply};
use serde::Deserialize;
use serde_json::Value;

use super::ranges::Ranges;
use crate::parse_config;

#[derive(Deserialize)]
struct Config {
    allow: Option<Vec<Box<str>>>,
    deny: Option<Vec<Box<str>>>,
    status: Option<f64>,
    message: Option<String>,
}

struct IpRestriction {
    deny: Option<Ranges>,
    allow: Option<Ranges>,
    status: u16,
    message: Option<String>,
}

pub(super) fn build(config: &Value, _cx: &BuildCx<'_>) -> Result<Arc<dyn Filter>, BuildError> {
    let config: Config = parse_config(config)?;
    let ranges = |field: &str, list: Option<Vec<Box<str>>>| {
        let list = list.filter(|list| !list.is_empty());
        list.map(|list| Ranges::parse(&list)).transpose().map_err(|message| BuildError::new(field, message))
    };
    Ok(Arc::new(IpRestriction {
        deny: ranges("deny", config.deny)?,
        allow: ranges("allow", config.allow)?,
        status: status(config.status)?,
        message: config.message,
    }))
}

fn status(status: Option<f64>) -> Result<u16, BuildError> {
    let Some(status) = status else { return Ok(403) };
    if !(200.0..600.0).contains(&status) || status.fract() != 0.0 {
        return Err(BuildError::new("status", "must be a whole number from 200 to 599"));
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 200 and 599")]
    Ok(status as u16)
}

impl Filter for IpRestriction {
    fn phases(&self) -> Phases {
        Phases::REQUEST.and(Phases::CONNECT)
    }

    fn on_request_head<'a>(&'a self, cx: &'a mut HeadCx<'_>) -> Flow<'a> {
        let ip = cx.client_ip();
        if self.admits(ip) {
            return Flow::Continue;
        }
        let message: Cow<'static, str> = match &self.message {
            Some(message) => message.clone().into(),
            None => format!("IP address not allowed: {}", ip.to_canonical()).into(),
        };
        tracing::debug!(%ip, "the address is not allowed");
        Flow::reply(Reply::error(self.status, message))
    }

    fn on_connect(&self, cx: &mut ConnectCx<'_>) -> Admit {
        let ip = cx.exchange.client.ip;
        if self.admits(ip) {
            return Admit::Yes;
        }
        tracing::debug!(%ip, "the address is not allowed");
        Admit::No
    }
}

impl IpRestriction {
    fn admits(&self, ip: IpAddr) -> bool {
        !self.deny.as_ref().is_some_and(|deny| deny.contains(ip))
            && self.allow.as_ref().is_none_or(|allow| allow.contains(ip))
    }
}
