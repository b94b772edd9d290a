//! [`Requests`]: conditions on requests.

use cardinal_http::{RequestHead, is_called};
use cardinal_ir::policy::{HeaderCondition, PathCondition, RequestCondition, ValueCondition};

/// Conditions on requests; a request matches if one of them holds, or if the list is empty.
pub(super) struct Requests(Box<[RequestCondition]>);

impl Requests {
    pub(super) fn new(conditions: &[RequestCondition]) -> Self {
        let mut conditions: Box<[RequestCondition]> = conditions.into();
        for header in conditions.iter_mut().flat_map(|condition| &mut condition.headers) {
            header.name = header.name.to_ascii_lowercase().replace('_', "-").into();
        }
        Self(conditions)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a request with this normalized path matches.
    pub(super) fn contain(&self, request: &RequestHead, path: &[u8]) -> bool {
        self.0.is_empty() || self.0.iter().any(|condition| holds(condition, request, path))
    }
}

fn holds(condition: &RequestCondition, request: &RequestHead, path: &[u8]) -> bool {
    let RequestCondition { methods, paths, headers } = condition;
    (methods.is_empty() || methods.iter().any(|method| **method == *request.method.as_str()))
        && (paths.is_empty() || paths.iter().any(|wanted| path_holds(wanted, path)))
        && headers.iter().all(|wanted| header_holds(wanted, request))
}

fn path_holds(condition: &PathCondition, path: &[u8]) -> bool {
    match condition {
        PathCondition::Exact(wanted) => *wanted.as_bytes() == *path,
        PathCondition::Prefix(prefix) => {
            let prefix = prefix.strip_suffix('/').unwrap_or(prefix).as_bytes();
            path.strip_prefix(prefix).is_some_and(|rest| rest.first().is_none_or(|next| *next == b'/'))
        }
    }
}

fn header_holds(condition: &HeaderCondition, request: &RequestHead) -> bool {
    let fields = request.headers.iter().filter(|(name, _)| is_called(name, condition.name.as_bytes()));
    let mut values = fields.map(|(_, value)| value);
    match &condition.value {
        ValueCondition::Present => values.next().is_some(),
        ValueCondition::Absent => values.next().is_none(),
        ValueCondition::Exact(wanted) => values.any(|value| *value == *wanted.as_bytes()),
        ValueCondition::Prefix(prefix) => values.any(|value| value.starts_with(prefix.as_bytes())),
    }
}
