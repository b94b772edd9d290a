//! What `acl` does with a request. Kong: `kong/plugins/acl/handler.lua`.

use std::collections::HashSet;
use std::sync::Arc;

use cardinal_http::HeaderList;
use cardinal_sdk::{
    BuildCx, BuildError, CredentialEntry, CredentialRef, Directory, Filter, Flow, HeadCx, Identity, Phases, Reply,
};
use serde::Deserialize;
use serde_json::Value;

use super::entities::KIND;
use crate::access::parse_config;
use crate::consumer_headers;

#[derive(Deserialize)]
struct Config {
    allow: Option<HashSet<Box<str>>>,
    deny: Option<HashSet<Box<str>>>,
    hide_groups_header: bool,
    always_use_authenticated_groups: bool,
    #[serde(default)]
    include_consumer_groups: Option<bool>,
}

struct Acl {
    groups: HashSet<Box<str>>,
    deny: bool,
    hide: bool,
    always_authenticated: bool,
    consumer_groups: bool,
}

pub(super) fn build(config: &Value, _cx: &BuildCx<'_>) -> Result<Arc<dyn Filter>, BuildError> {
    let config: Config = parse_config(config)?;
    let denied = config.deny.filter(|groups| !groups.is_empty());
    Ok(Arc::new(Acl {
        deny: denied.is_some(),
        groups: denied.or(config.allow).unwrap_or_default(),
        hide: config.hide_groups_header,
        always_authenticated: config.always_use_authenticated_groups,
        consumer_groups: config.include_consumer_groups.unwrap_or(false),
    }))
}

/// The groups a request is judged by.
#[derive(Clone, Copy)]
enum Groups<'g> {
    /// An authentication plugin vouches for them.
    Authenticated(&'g [Box<str>]),
    /// The consumer's own, and the names of the consumer groups it is in.
    Own(&'g [Arc<CredentialEntry>], &'g [Box<str>]),
}

impl<'g> Groups<'g> {
    fn names(self) -> impl Iterator<Item = &'g str> {
        let (own, others): (&[Arc<CredentialEntry>], &[Box<str>]) = match self {
            Self::Authenticated(groups) => (&[], groups),
            Self::Own(own, groups) => (own, groups),
        };
        own.iter().map(|entry| &*entry.record.lookup).chain(others.iter().map(|group| &**group))
    }

    fn header(self) -> &'static [u8] {
        match self {
            Self::Authenticated(_) => consumer_headers::AUTHENTICATED_GROUPS,
            Self::Own(..) => consumer_headers::GROUPS,
        }
    }
}

impl Filter for Acl {
    fn phases(&self) -> Phases {
        Phases::REQUEST
    }

    fn on_request_head<'a>(&'a self, cx: &'a mut HeadCx<'_>) -> Flow<'a> {
        // Group headers of the client are ignored.
        cx.request.headers.remove_spellings(&[consumer_headers::GROUPS, consumer_headers::AUTHENTICATED_GROUPS]);
        let groups = match self.groups_of(&cx.exchange.identity, cx.directory) {
            Ok(groups) => groups,
            Err(refusal) => return Flow::reply(refusal),
        };
        if groups.names().any(|group| self.groups.contains(group)) == self.deny {
            return Flow::reply(forbidden());
        }
        if !self.hide {
            write_names(&mut cx.request.headers, groups);
        }
        Flow::Continue
    }
}

impl Acl {
    fn groups_of<'g>(&self, identity: &'g Identity, directory: &'g Directory) -> Result<Groups<'g>, Reply> {
        let refusal = || if identity.is_authenticated() { forbidden() } else { Reply::error(401, "Unauthorized") };
        let authenticated = identity.authenticated_groups.as_deref().map(Groups::Authenticated);
        let principal = identity.principal.as_ref().map(|principal| principal.id);
        let Some(id) = principal.or(identity.credential.as_ref().and_then(CredentialRef::principal)) else {
            return authenticated.ok_or_else(refusal);
        };
        if let (Some(groups), true) = (authenticated, self.always_authenticated || !identity.is_authenticated()) {
            return Ok(groups);
        }
        let own = directory.attached(KIND, &id);
        let entry = if self.consumer_groups { directory.principal(&id) } else { None };
        let groups = entry.map_or(&[][..], |entry| &entry.group_names);
        if own.is_empty() && groups.is_empty() && !self.deny { Err(refusal()) } else { Ok(Groups::Own(own, groups)) }
    }
}

fn forbidden() -> Reply {
    Reply::error(403, "You cannot consume this service")
}

/// One group needs no text of its own.
fn write_names(headers: &mut HeaderList, groups: Groups<'_>) {
    let mut names = groups.names();
    let (first, second) = (names.next().unwrap_or_default(), names.next());
    let Some(second) = second else {
        headers.set(groups.header(), first.as_bytes());
        return;
    };
    let mut text = [first, second].join(", ");
    for name in names {
        text.push_str(", ");
        text.push_str(name);
    }
    headers.set(groups.header(), text.as_bytes());
}
