//! Rules about single entities.

use std::sync::Arc;

use super::actions::{Action, Actions};

/// A rule about an entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityRule {
    /// Id of the entity in lower case; `None` for every entity.
    pub id: Option<Arc<str>>,
    /// What the rule is about.
    pub actions: Actions,
    /// It denies.
    pub negative: bool,
}

impl EntityRule {
    /// A rule as the API has it: an id or `*`.
    pub fn new(id: &str, actions: Actions, negative: bool) -> Self {
        Self { id: (id != "*").then(|| id.to_ascii_lowercase().into()), actions, negative }
    }
}

/// What a user may do with entities.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntityRules {
    /// Name of the user, for messages.
    pub user: Arc<str>,
    /// The rules of all roles of the user.
    pub rules: Vec<EntityRule>,
}

impl EntityRules {
    /// Whether the rules allow an action on an entity, `None` for what is no single entity: rules for its id come before
    /// those for every entity, and rules that deny before those that allow. Without a rule it is denied.
    pub fn allows(&self, id: Option<&str>, action: Action) -> bool {
        let of = |wanted: Option<&str>| {
            let about = self.rules.iter().filter(|rule| rule.id.as_deref() == wanted && rule.actions.contains(action));
            about.map(|rule| !rule.negative).reduce(|all, allows| all && allows)
        };
        let own = id.and_then(|id| of(Some(id)));
        own.or_else(|| of(None)).unwrap_or(false)
    }
}
