//! From the configuration of `ip-restriction` to an authorization. Kong: `kong/plugins/ip-restriction/handler.lua`.

use std::net::IpAddr;

use cardinal_ir::PolicySpec;
use cardinal_ir::policy::{AccessAction, AccessRule, Authorization, ClientMatch, Refusal, RefusalMessage};
use cardinal_sdk::BuildError;
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;

use crate::parse_config;

#[derive(Deserialize)]
struct Config {
    allow: Option<Vec<Box<str>>>,
    deny: Option<Vec<Box<str>>>,
    status: Option<f64>,
    message: Option<String>,
}

/// First those that are denied, then those that are allowed, then all others: denied if there is a list of allowed ones.
pub(super) fn lower(config: &Value) -> Result<Option<PolicySpec>, BuildError> {
    let config: Config = parse_config(config)?;
    let rule = |field: &str, action, list: Option<Vec<Box<str>>>| {
        let list = list.filter(|list| !list.is_empty());
        let clients = list.map(|list| networks(&list)).transpose().map_err(|text| BuildError::new(field, text))?;
        Ok(clients.map(|clients| AccessRule { action, clients, ..AccessRule::default() }))
    };
    let deny = rule("deny", AccessAction::Deny, config.deny)?;
    let allow = rule("allow", AccessAction::Allow, config.allow)?;
    let message = match config.message {
        Some(text) => RefusalMessage::Text(text.into()),
        None => RefusalMessage::WithClientAddress("IP address not allowed: ".into()),
    };
    let refusal = Refusal { status: status(config.status)?, message };
    let allow_by_default = allow.is_none();
    let rules = deny.into_iter().chain(allow).collect();
    Ok(Some(PolicySpec::Authorization(Authorization { rules, allow_by_default, refusal, ..Authorization::default() })))
}

fn networks(texts: &[Box<str>]) -> Result<Vec<ClientMatch>, String> {
    let network = |text: &str| match text.parse::<IpAddr>() {
        Ok(address) => Ok(ClientMatch::Network(IpNet::from(address))),
        Err(_) => text.parse().map(ClientMatch::Network).map_err(|_| format!("invalid ip or cidr range: '{text}'")),
    };
    texts.iter().map(|text| network(text)).collect()
}

fn status(status: Option<f64>) -> Result<u16, BuildError> {
    let Some(status) = status else { return Ok(403) };
    if !(200.0..600.0).contains(&status) || status.fract() != 0.0 {
        return Err(BuildError::new("status", "must be a whole number from 200 to 599"));
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 200 and 599")]
    Ok(status as u16)
}
