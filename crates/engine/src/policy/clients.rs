//! [`Clients`]: the properties of clients that a rule or a policy names, in the form that is compared with requests.

use std::collections::HashSet;
use std::sync::Arc;

use cardinal_ir::Id;
use cardinal_ir::policy::{ClientMatch, IdentityMatch};
use cardinal_sdk::{CredentialEntry, Exchange};

use super::ranges::Ranges;

/// Conditions on clients; a client matches if one of them holds. Unknown properties of a client match no condition.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    /// There are no conditions: all clients match.
    any: bool,
    networks: Ranges,
    identities: Vec<IdentityMatch>,
    groups: HashSet<Box<str>>,
    principals: Vec<Id>,
    authenticated: bool,
    unidentified: bool,
}

/// The groups of a client.
#[derive(Clone, Copy)]
pub(crate) enum Groups<'g> {
    /// Reported by an authentication filter.
    Vouched(&'g [Box<str>]),
    /// The principal's own groups, and the names of the principal groups that contain it.
    Own(&'g [Arc<CredentialEntry>], &'g [Box<str>]),
}

impl<'g> Groups<'g> {
    /// The names; those of the principal's own groups come first.
    pub(crate) fn names(self) -> impl Iterator<Item = &'g str> {
        let (own, others): (&[Arc<CredentialEntry>], &[Box<str>]) = match self {
            Self::Vouched(groups) => (&[], groups),
            Self::Own(own, groups) => (own, groups),
        };
        own.iter().map(|entry| entry.lookup()).chain(others.iter().map(|group| &**group))
    }

    /// Whether the groups of the client are known, even if there are none.
    pub(crate) fn are_known(self) -> bool {
        matches!(self, Self::Vouched(_)) || self.names().next().is_some()
    }
}

impl Clients {
    /// Matches the clients described by one of `matches`; all clients if it is empty.
    pub(crate) fn new(matches: &[ClientMatch]) -> Self {
        let mut clients = Self { any: matches.is_empty(), ..Self::default() };
        let mut networks = Vec::new();
        for one in matches {
            match one {
                ClientMatch::Network(network) => networks.push(*network),
                ClientMatch::Identity(identity) => clients.identities.push(identity.clone()),
                ClientMatch::Group(name) => drop(clients.groups.insert(name.clone())),
                ClientMatch::Principal(id) => clients.principals.push(*id),
                ClientMatch::Authenticated => clients.authenticated = true,
                ClientMatch::Unidentified => clients.unidentified = true,
            }
        }
        clients.networks = Ranges::of(networks);
        clients
    }

    /// Whether a client matches. `groups` is `None` if the client is not authenticated.
    pub(crate) fn contain(&self, exchange: &Exchange, groups: Option<Groups<'_>>) -> bool {
        if self.any {
            return true;
        }
        let identity = &exchange.identity;
        let principal = || identity.principal.as_ref().map(|principal| principal.id);
        (!self.networks.is_empty() && self.networks.contains(exchange.client.ip))
            || self.proves_identity(exchange.client.peer_identity.as_deref())
            || (!self.groups.is_empty() && groups.is_some_and(|g| g.names().any(|name| self.groups.contains(name))))
            || principal().is_some_and(|id| self.principals.contains(&id))
            || (self.authenticated && identity.is_authenticated())
            || (self.unidentified && groups.is_none() && principal().is_none())
    }

    fn proves_identity(&self, identity: Option<&str>) -> bool {
        let Some(identity) = identity.filter(|identity| !identity.is_empty()) else { return false };
        self.identities.iter().any(|wanted| match wanted {
            IdentityMatch::Exact(text) => **text == *identity,
            IdentityMatch::Prefix(prefix) => !prefix.is_empty() && identity.starts_with(&**prefix),
            IdentityMatch::TrustDomain(domain) => trust_domain(identity) == Some(&**domain),
        })
    }
}

fn trust_domain(identity: &str) -> Option<&str> {
    identity.strip_prefix("spiffe://")?.split('/').next().filter(|domain| !domain.is_empty())
}
