//! [`Action`]: what a request does.

use serde_json::Value;

/// What a request does to what it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// GET and HEAD.
    Read,
    /// POST.
    Create,
    /// PUT and PATCH.
    Update,
    /// DELETE.
    Delete,
}

impl Action {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 4] = [Self::Read, Self::Create, Self::Update, Self::Delete];

    /// The action of a request's method, in upper or lower case. `None` for methods that the API does not have.
    pub fn of_method(method: &str) -> Option<Self> {
        Some(match method.to_ascii_uppercase().as_str() {
            "GET" | "HEAD" => Self::Read,
            "POST" => Self::Create,
            "PUT" | "PATCH" => Self::Update,
            "DELETE" => Self::Delete,
            _ => return None,
        })
    }

    /// Its name in rules and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }

    fn bit(self) -> u8 {
        match self {
            Self::Read => 1,
            Self::Create => 2,
            Self::Update => 4,
            Self::Delete => 8,
        }
    }
}

/// A set of actions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Actions(u8);

/// A text in a list of actions is no action.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected one of: read, create, update, delete, *; not '{0}'")]
pub struct UnknownAction(pub String);

impl Actions {
    /// Every action.
    pub fn all() -> Self {
        Action::ALL.into_iter().collect()
    }

    /// From a list of names, or a text of names between commas; `*` is all of them.
    ///
    /// # Errors
    /// The first name that is no action.
    pub fn parse(value: &Value) -> Result<Self, UnknownAction> {
        match value {
            Value::String(text) => text.split(',').try_fold(Self::default(), |sum, name| sum.with(name)),
            Value::Array(list) => list.iter().try_fold(Self::default(), |sum, value| match value {
                Value::String(name) => sum.with(name),
                other => Err(UnknownAction(other.to_string())),
            }),
            other => Err(UnknownAction(other.to_string())),
        }
    }

    fn with(self, name: &str) -> Result<Self, UnknownAction> {
        match name.trim() {
            "*" => Ok(Self::all()),
            name => match Action::ALL.into_iter().find(|action| action.as_str() == name) {
                Some(action) => Ok(Self(self.0 | action.bit())),
                None => Err(UnknownAction(name.to_owned())),
            },
        }
    }

    /// Whether an action is in the set.
    pub fn contains(self, action: Action) -> bool {
        self.0 & action.bit() != 0
    }

    /// The actions of both sets.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The names, as the API shows them.
    pub fn names(self) -> Value {
        Action::ALL.into_iter().filter(|action| self.contains(*action)).map(Action::as_str).collect()
    }
}

impl FromIterator<Action> for Actions {
    fn from_iter<I: IntoIterator<Item = Action>>(actions: I) -> Self {
        Self(actions.into_iter().fold(0, |bits, action| bits | action.bit()))
    }
}
