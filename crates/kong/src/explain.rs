//! Kong's words for what the engine explains.

use cardinal_ir::Scope;

/// Where a plugin applies: `route`, `service`, `consumer`, `consumer_group`, joined by `+`; `global`.
pub fn scope_text(scope: &Scope) -> String {
    let parts = [
        ("consumer", scope.principal),
        ("consumer_group", scope.group),
        ("route", scope.route),
        ("service", scope.backend),
    ];
    let set: Vec<&str> = parts.iter().filter(|(_, id)| id.is_some()).map(|(name, _)| *name).collect();
    if set.is_empty() { "global".to_owned() } else { set.join("+") }
}

#[cfg(test)]
mod tests {
    use cardinal_ir::Id;

    use super::*;

    #[test]
    fn scopes_have_kongs_names() {
        let id = Some(Id::from_u128(1));
        assert_eq!(scope_text(&Scope::default()), "global");
        assert_eq!(scope_text(&Scope { route: id, principal: id, ..Scope::default() }), "consumer+route");
        assert_eq!(scope_text(&Scope { backend: id, group: id, ..Scope::default() }), "consumer_group+service");
    }
}
