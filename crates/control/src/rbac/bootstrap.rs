//! The way in: the first user, and a new token for an operator who has lost his.

use cardinal_schema::Auto as _;
use cardinal_store::{Author, Batch, CommitError, Expect, Key, Query, Write};
use serde_json::{Value, json};

use super::access::Access;
use super::keys::{made, put};
use super::kinds::kinds;
use super::predefined::{ROLES, SUPER_ADMIN};
use crate::dao::{Dao, Fault, Fields, Selector, Tenant};

/// The name of the first user, as in Kong.
pub const FIRST_USER: &str = "kong_admin";

/// Makes a user with the role `super-admin`, and gives its token: the one given, or a new random one. With `resets` the user
/// may exist: it gets a new token, is enabled, and the rules of the role `super-admin` become the predefined ones.
///
/// # Errors
/// The user exists, the token is that of another user, or the store failed.
pub async fn bootstrap(
    dao: &Dao,
    author: &Author,
    name: &str,
    token: Option<&str>,
    resets: bool,
) -> Result<String, Fault> {
    let access = Access::new(dao.clone(), super::SessionTimes::default());
    let tenant = Tenant::new(author.clone());
    let token = token.map_or_else(|| dao.secret(), str::to_owned);
    let old = dao.select(&tenant, &kinds().users, Selector::Name(name)).await?;
    if old.is_some() && !resets {
        return Err(Fault::message(409, &format!("the user '{name}' exists already")));
    }
    let own = old.as_ref().and_then(|old| old.get("id")).and_then(Value::as_str);
    let sealed = access.sealed(&token, own).await?;
    let mut user = old.clone().unwrap_or_default();
    user.extend([("name".to_owned(), name.into()), ("enabled".to_owned(), true.into())]);
    user.shift_remove("expires_at");
    user.extend(sealed);
    let id = own.map_or_else(|| dao.id().to_string(), str::to_owned);
    user.insert("id".to_owned(), id.as_str().into());
    let user = made(dao, &kinds().users, Value::Object(user))?;
    let mut writes = vec![Write::Put(Box::new(user), Expect::Any)];
    let role = super_admin(dao, &tenant, &mut writes).await?;
    if !has_role(dao, &id, &role).await? {
        writes.push(put(dao, &kinds().user_roles, json!({ "user": { "id": id }, "role": { "id": role } }))?);
    }
    let batch = Batch { author: author.clone(), writes, revision: None };
    match dao.store().commit(batch).await {
        Ok(_) => Ok(token),
        Err(CommitError::Store(error)) => Err(error.into()),
        Err(error) => Err(Fault::message(409, &format!("the user '{name}' cannot be written: {error}"))),
    }
}

/// Makes the first user with this token if there are no users; whether it did.
///
/// # Errors
/// The store failed.
pub async fn first_user(dao: &Dao, author: &Author, token: &str) -> Result<bool, Fault> {
    let query = Query { limit: 1, ..Query::all(kinds().users.name) };
    if !dao.store().list(query.clone()).await?.documents.is_empty() {
        return Ok(false);
    }
    match bootstrap(dao, author, FIRST_USER, Some(token), false).await {
        Ok(_) => Ok(true),
        // Another control plane may have been faster.
        Err(fault) if fault.status == 409 && !dao.store().list(query).await?.documents.is_empty() => Ok(false),
        Err(fault) => Err(fault),
    }
}

/// The id of the role `super-admin`, with the writes that make it what it is in a new store.
async fn super_admin(dao: &Dao, tenant: &Tenant, writes: &mut Vec<Write>) -> Result<String, Fault> {
    let Some(predefined) = ROLES.iter().find(|role| role.name == SUPER_ADMIN) else {
        return Err(Fault::message(500, "there is no such role"));
    };
    let found = dao.select(tenant, &kinds().roles, Selector::Name(SUPER_ADMIN)).await?;
    let id = |fields: &Fields| fields.get("id").and_then(Value::as_str).map(str::to_owned);
    let Some(found) = found.as_ref().and_then(id) else {
        let new = predefined.writes(dao, None)?;
        let id = new.iter().find_map(|write| match write {
            Write::Put(document, _) if &*document.key.kind == kinds().roles.name => Some(document.key.id.to_string()),
            Write::Put(..) | Write::Delete(..) => None,
        });
        writes.extend(new);
        return Ok(id.unwrap_or_default());
    };
    for kind in [&kinds().endpoints, &kinds().entities] {
        let mut query = Query::all(kind.name);
        query.reference = Some(("role".into(), Key::new(kinds().roles.name, found.as_str())));
        let rules = dao.store().list(query).await?.documents;
        writes.extend(rules.into_iter().map(|rule| Write::Delete(rule.key, Expect::Any)));
    }
    writes.extend(predefined.writes(dao, Some(&found))?);
    Ok(found)
}

async fn has_role(dao: &Dao, user: &str, role: &str) -> Result<bool, Fault> {
    let mut query = Query::all(kinds().user_roles.name);
    query.reference = Some(("user".into(), Key::new(kinds().users.name, user)));
    let found = dao.store().list(query).await?.documents;
    Ok(found.iter().any(|document| document.value.pointer("/role/id").and_then(Value::as_str) == Some(role)))
}
