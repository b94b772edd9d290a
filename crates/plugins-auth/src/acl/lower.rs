//! From the configuration of `acl` to an authorization. Kong: `kong/plugins/acl/handler.lua`.

use std::collections::BTreeSet;

use cardinal_ir::PolicySpec;
use cardinal_ir::policy::{AccessAction, AccessRule, Authorization, ClientMatch, GroupSource, Refusal, RefusalMessage};
use cardinal_sdk::BuildError;
use serde::Deserialize;
use serde_json::Value;

use super::entities::KIND;
use crate::access::parse_config;
use crate::consumer_headers;

#[derive(Deserialize)]
struct Config {
    allow: Option<BTreeSet<Box<str>>>,
    deny: Option<BTreeSet<Box<str>>>,
    hide_groups_header: bool,
    always_use_authenticated_groups: bool,
    #[serde(default)]
    include_consumer_groups: Option<bool>,
}

/// With `deny`, a request must belong to somebody, who is in none of the groups; with `allow`, to somebody who is in one of
/// them.
pub(super) fn lower(config: &Value) -> Result<Option<PolicySpec>, BuildError> {
    let config: Config = parse_config(config)?;
    let rule = |action, clients| AccessRule { action, clients, ..AccessRule::default() };
    let groups = |names: BTreeSet<Box<str>>| names.into_iter().map(ClientMatch::Group).collect();
    let denied = config.deny.filter(|names| !names.is_empty());
    let allowed = config.allow.filter(|names| !names.is_empty());
    let allow_by_default = denied.is_some();
    let rules = match (denied, allowed) {
        (Some(denied), _) => {
            vec![rule(AccessAction::Deny, vec![ClientMatch::Unidentified]), rule(AccessAction::Deny, groups(denied))]
        }
        (None, Some(allowed)) => vec![rule(AccessAction::Allow, groups(allowed))],
        (None, None) => Vec::new(),
    };
    let refusal = |status, text: &str| Refusal { status, message: RefusalMessage::Text(text.into()) };
    let source = GroupSource {
        credential_kind: KIND.into(),
        principal_groups: config.include_consumer_groups.unwrap_or(false),
        vouched_first: config.always_use_authenticated_groups,
        own_header: consumer_headers::GROUPS.into(),
        vouched_header: consumer_headers::AUTHENTICATED_GROUPS.into(),
        send_headers: !config.hide_groups_header,
    };
    Ok(Some(PolicySpec::Authorization(Authorization {
        rules,
        allow_by_default,
        shadow: false,
        refusal: refusal(403, "You cannot consume this service"),
        unidentified_refusal: Some(refusal(401, "Unauthorized")),
        groups: Some(Box::new(source)),
    })))
}
