//! The kinds of documents. They are no part of the configuration: files do not have them, and nodes do not serve them.

use std::sync::LazyLock;

use cardinal_kong::entities::{Kind, LookupKey};
use cardinal_schema::{Field, Named, Schema, boolean, field, foreign, integer, record, set, string, typedefs};
use serde_json::{Map, Value};

use crate::permissions::Action;

/// Bytes of a name, a comment or an endpoint at most.
const TEXT_BYTES_MAX: usize = 4_096;

/// The kinds of documents.
#[derive(Debug)]
pub(crate) struct Kinds {
    /// Users: a name, a hashed token.
    pub(crate) users: Kind,
    /// Roles: a name.
    pub(crate) roles: Kind,
    /// Which users have which roles.
    pub(crate) user_roles: Kind,
    /// Rules of roles about endpoints.
    pub(crate) endpoints: Kind,
    /// Rules of roles about entities.
    pub(crate) entities: Kind,
    /// Sessions of browsers.
    pub(crate) sessions: Kind,
    /// The secret that sessions are signed with.
    pub(crate) keys: Kind,
}

/// The kinds.
pub(crate) fn kinds() -> &'static Kinds {
    static KINDS: LazyLock<Kinds> = LazyLock::new(Kinds::new);
    &KINDS
}

/// A kind by the name that its documents have in the store.
pub(crate) fn kind(name: &str) -> Option<&'static Kind> {
    let Kinds { users, roles, user_roles, endpoints, entities, sessions, keys } = kinds();
    [users, roles, user_roles, endpoints, entities, sessions, keys].into_iter().find(|kind| kind.name == name)
}

/// Whether documents of a kind are no business of other programs: sessions, and the secret that they are signed with.
pub fn is_internal(kind: &str) -> bool {
    [kinds().sessions.name, kinds().keys.name].contains(&kind)
}

/// Takes out of an entity what is never shown.
pub(crate) fn hide(kind: &Kind, fields: &mut Map<String, Value>) {
    let Kinds { users, endpoints, entities, .. } = kinds();
    if kind.name == users.name {
        fields.shift_remove("user_token");
    }
    // A rule is named by what it is about.
    if [endpoints.name, entities.name].contains(&kind.name) {
        fields.shift_remove("id");
    }
}

impl Kinds {
    fn new() -> Self {
        let user = || field("user", foreign("rbac_users").required().immutable());
        let role = || field("role", foreign("rbac_roles").required().immutable());
        let user_roles = Kind {
            cache_key: &["user", "role"],
            cascade: &["user", "role"],
            ..plain("rbac_user_roles", base().with([user(), role()]))
        };
        let sessions = base().with([user(), field("expires_at", integer().required())]);
        let secret = string().required().encrypted();
        Self {
            users: named("rbac_users", "rbac/users", users()),
            roles: named("rbac_roles", "rbac/roles", roles()),
            user_roles,
            endpoints: Kind {
                cache_key: &["role", "workspace", "endpoint"],
                cascade: &["role"],
                ..plain("rbac_role_endpoints", endpoints(role()))
            },
            entities: Kind {
                cache_key: &["role", "entity_id"],
                cascade: &["role"],
                ..plain("rbac_role_entities", entities(role()))
            },
            sessions: Kind { cascade: &["user"], ..plain("rbac_sessions", sessions) },
            keys: plain("rbac_keys", base().with([field("secret", secret)])),
        }
    }
}

fn plain(name: &'static str, schema: Schema) -> Kind {
    Kind {
        name,
        collection: name,
        schema,
        primary_key: "id",
        key: None,
        cache_key: &[],
        cascade: &[],
        brought_by: None,
    }
}

fn named(name: &'static str, collection: &'static str, schema: Schema) -> Kind {
    Kind { collection, key: Some(LookupKey { field: "name", unique: true }), ..plain(name, schema) }
}

fn base() -> Schema {
    record([field("id", typedefs::uuid()), field("created_at", typedefs::auto_timestamp_s())])
}

fn text() -> Field {
    string().len_max(TEXT_BYTES_MAX)
}

fn comment() -> Named {
    field("comment", text())
}

fn users() -> Schema {
    base().with([
        field("name", text().unique().required()),
        field("user_token", string().required().encrypted()),
        field("user_token_ident", string()),
        field("enabled", boolean().default(true).required()),
        // Kong's users have no end.
        field("expires_at", integer().addition()),
        comment(),
    ])
}

fn roles() -> Schema {
    base().with([
        field("name", text().unique().required()),
        comment(),
        field("is_default", boolean().default(false).required()),
    ])
}

fn rule(more: impl IntoIterator<Item = Named>) -> Schema {
    let actions = set(string().one_of(Action::ALL.map(Action::as_str))).required().len_min(1);
    base().with(more).with([
        field("actions", actions),
        field("negative", boolean().default(false).required()),
        comment(),
    ])
}

fn endpoints(role: Named) -> Schema {
    rule([role, field("workspace", text().required().immutable()), field("endpoint", text().required().immutable())])
}

fn entities(role: Named) -> Schema {
    rule([role, field("entity_id", text().required().immutable()), field("entity_type", text().required().immutable())])
}
