//! Records that restrict access. To leave one of them out would permit more than was configured.

use cardinal_ir::{Ir, Policy, RecordKind, Rejected, Scope, Table};

/// Whether records of this kind restrict access.
pub(crate) fn restricts(kind: RecordKind) -> bool {
    matches!(kind, RecordKind::FilterSet | RecordKind::Policy)
}

/// The first policy that was removed because of what its rules refer to, with the reason: requests that it restricts would
/// still be served. What a policy is for may be missing: then there is nothing to restrict.
pub(crate) fn lost_policy(before: &Table<Policy>, ir: &Ir, removed: &[Rejected]) -> Option<String> {
    let is_there = |scope: &Scope| {
        scope.listeners.is_none_or(|id| ir.listener_groups.contains(&id))
            && scope.backend.is_none_or(|id| ir.backends.contains(&id))
            && scope.principal.is_none_or(|id| ir.principals.contains(&id))
            && scope.group.is_none_or(|id| ir.groups.contains(&id))
    };
    let (id, _) = before.iter().find(|(id, policy)| !ir.policies.contains(id) && is_there(&policy.scope))?;
    let id = id.to_string();
    let found = removed.iter().find(|rejected| rejected.kind == RecordKind::Policy && rejected.id == id);
    Some(found.map_or_else(|| id.clone(), |rejected| rejected.reason.clone()))
}
