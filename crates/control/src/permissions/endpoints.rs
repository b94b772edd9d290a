//! Rules about endpoints, and which of them decides.

use std::sync::Arc;

use super::actions::{Action, Actions};

/// In a rule: any workspace, any endpoint, or any segment of a path.
const ANY: &str = "*";

/// A rule about endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointRule {
    /// Name of a workspace; `None` for every workspace.
    workspace: Option<Arc<str>>,
    /// Segments of a path, `None` for any segment; `None` for every endpoint.
    pattern: Option<Vec<Option<Box<str>>>>,
    actions: Actions,
    /// It denies.
    negative: bool,
}

impl EndpointRule {
    /// A rule as the API has it: name of the workspace or `*`, endpoint or `*`.
    pub fn new(workspace: &str, endpoint: &str, actions: Actions, negative: bool) -> Self {
        let wildcard = |text: &str| text == ANY;
        let segment = |text: &str| (!wildcard(text)).then(|| text.into());
        Self {
            workspace: (!wildcard(workspace)).then(|| workspace.into()),
            pattern: (!wildcard(endpoint)).then(|| segments(endpoint).map(segment).collect()),
            actions,
            negative,
        }
    }

    /// How specific the rule is for a request, if it is about it: lower is more specific.
    fn rank(&self, workspace: &str, path: &[&str]) -> Option<Rank> {
        let any_workspace = match &self.workspace {
            Some(name) if **name != *workspace => return None,
            named => named.is_none(),
        };
        let Some(pattern) = &self.pattern else {
            return Some(Rank { any_endpoint: true, any_workspace, wildcards: 0 });
        };
        if pattern.len() != path.len() {
            return None;
        }
        let mut wildcards = 0_u64;
        for (at, (wanted, found)) in pattern.iter().zip(path).enumerate() {
            match wanted {
                Some(wanted) if **wanted != **found => return None,
                Some(_) => {}
                None => wildcards |= (1_u64 << 63) >> at.min(63),
            }
        }
        Some(Rank { any_endpoint: false, any_workspace, wildcards })
    }
}

/// How specific a rule is for a request, the most specific first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    any_endpoint: bool,
    any_workspace: bool,
    /// A bit for each segment that is any, the first segment in the highest bit.
    wildcards: u64,
}

/// Whether rules allow a request. `path` has the segments below the workspace; `/` has none.
///
/// The first rule with the action decides, in this order: those for the endpoint in this workspace, for the endpoint in any
/// workspace, for any endpoint in this workspace, for any endpoint in any workspace. Among patterns that match an endpoint,
/// the one whose first wildcard comes later decides; among equal ones, a rule that denies. Without a rule the request is
/// denied. Kong Enterprise documents the order of the four levels.
pub fn allows(rules: &[EndpointRule], workspace: &str, path: &[&str], action: Action) -> bool {
    let mut found: Option<(Rank, bool)> = None;
    for rule in rules.iter().filter(|rule| rule.actions.contains(action)) {
        let Some(rank) = rule.rank(workspace, path) else { continue };
        found = match found {
            Some((best, _)) if best < rank => found,
            Some((best, negative)) if best == rank => Some((best, negative || rule.negative)),
            _ => Some((rank, rule.negative)),
        };
    }
    found.is_some_and(|(_, negative)| !negative)
}

/// Whether rules allow a request that concerns all workspaces: rules about any workspace allow it, and no rule about one of them
/// denies it there.
pub fn allows_everywhere(rules: &[EndpointRule], path: &[&str], action: Action) -> bool {
    let named = rules.iter().filter_map(|rule| rule.workspace.as_deref());
    [ANY].into_iter().chain(named).all(|workspace| allows(rules, workspace, path, action))
}

/// An endpoint in the form that rules are kept in: `*`, or a path with one slash before each segment.
pub fn normalized(endpoint: &str) -> String {
    if endpoint == ANY {
        return ANY.to_owned();
    }
    let text: String = segments(endpoint).flat_map(|segment| ["/", segment]).collect();
    if text.is_empty() { "/".to_owned() } else { text }
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|segment| !segment.is_empty())
}
