//! What a store starts with: the secret that the keys are derived from, and the predefined roles.

use cardinal_schema::Options;
use cardinal_store::{Author, Batch, CommitError, Expect, Key, NewDocument, Violation, Write};
use serde_json::{Value, json};

use super::kinds::kinds;
use super::predefined::{Predefined, ROLES};
use super::token::Keys;
use crate::dao::document::document;
use crate::dao::{DEFAULT_WORKSPACE, Dao, Fault};
use crate::permissions::Actions;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use cardinal_kong::entities::Kind;

/// The id of the one document with the secret.
const ID: &str = "00000000-0000-0000-0000-000000000001";
const SECRET_BYTES: usize = 32;

/// The keys of a store. The first call for a store writes them, together with the predefined roles.
pub(super) async fn keys(dao: &Dao) -> Result<Keys, Fault> {
    if let Some(keys) = stored(dao).await? {
        return Ok(keys);
    }
    let secret = BASE64_STANDARD.encode(dao.random_bytes::<SECRET_BYTES>());
    let mut writes = vec![put(dao, &kinds().keys, json!({ "id": ID, "secret": secret }))?];
    for role in &ROLES {
        writes.extend(role.writes(dao, None)?);
    }
    let author = Author { via: "rbac".into(), ..Author::default() };
    match dao.store().commit(Batch { author, writes, revision: None }).await {
        // Another control plane may have been faster.
        Ok(_) | Err(CommitError::Violation { violation: Violation::Expectation { .. }, .. }) => {}
        Err(CommitError::Store(error)) => return Err(error.into()),
        Err(error) => return Err(Fault::message(500, &format!("users and roles cannot be set up: {error}"))),
    }
    stored(dao).await?.ok_or_else(|| Fault::message(500, "the store does not keep the keys of sessions"))
}

async fn stored(dao: &Dao) -> Result<Option<Keys>, Fault> {
    let Some(found) = dao.store().get(Key::new(kinds().keys.name, ID)).await? else { return Ok(None) };
    let secret = found.value.get("secret").and_then(Value::as_str).and_then(|text| BASE64_STANDARD.decode(text).ok());
    let secret = secret.filter(|secret| secret.len() == SECRET_BYTES);
    let broken = || Fault::message(500, "the secret in the store that sessions are signed with is damaged");
    Ok(Some(Keys::new(&secret.ok_or_else(broken)?)))
}

impl Predefined {
    /// What creates the role, or only its rules if the role has an id.
    pub(super) fn writes(&self, dao: &Dao, id: Option<&str>) -> Result<Vec<Write>, Fault> {
        let mut writes = Vec::new();
        let id = match id {
            Some(id) => id.to_owned(),
            None => {
                let id = cardinal_schema::Auto::id(dao).to_string();
                let role = json!({ "id": id, "name": self.name, "comment": self.comment });
                writes.push(put(dao, &kinds().roles, role)?);
                id
            }
        };
        let endpoint = |endpoint: &str, actions: Actions, negative: bool| {
            json!({ "role": { "id": id }, "workspace": "*", "endpoint": endpoint, "actions": actions.names(),
                "negative": negative })
        };
        let actions = (self.actions)();
        writes.push(put(dao, &kinds().endpoints, endpoint("*", actions, false))?);
        for denied in self.denied {
            writes.push(put(dao, &kinds().endpoints, endpoint(denied, Actions::all(), true))?);
        }
        let all =
            json!({ "role": { "id": id }, "entity_id": "*", "entity_type": "wildcard", "actions": actions.names() });
        writes.push(put(dao, &kinds().entities, all)?);
        Ok(writes)
    }
}

/// The write of a new document of the workspace `default`.
pub(super) fn put(dao: &Dao, kind: &Kind, value: Value) -> Result<Write, Fault> {
    Ok(Write::Put(Box::new(made(dao, kind, value)?), Expect::Absent))
}

/// A document of the workspace `default`, with what its schema adds.
pub(super) fn made(dao: &Dao, kind: &Kind, value: Value) -> Result<NewDocument, Fault> {
    let options = Options { auto: Some(dao), no_defaults: false };
    let value = kind.schema.process(&value, &options).map_err(|errors| Fault::schema(&errors))?;
    let fields = match value {
        Value::Object(fields) => fields,
        _ => serde_json::Map::new(),
    };
    Ok(document(kind, &kind.schema, &DEFAULT_WORKSPACE.into(), fields))
}
