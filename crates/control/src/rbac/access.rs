//! [`Access`]: who sends a request, and what the roles of that user say.
//!
//! Users, roles and rules are read from the store for each request, so that a change is effective at once on every control
//! plane. Only the result of slow hashes is remembered, with the hash it is about.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cardinal_schema::Auto as _;
use cardinal_store::{Author, Batch, CommitError, Document, Expect, Key, Query, TagFilter, Write};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::hashing::Hashing;
use super::keys::{keys, put};
use super::kinds::kinds;
use super::limit::Failures;
use super::session::{self, Claim, Session, SessionTimes};
use super::token::{Digest, Keys, TOKEN_BYTES_MAX, ident};
use crate::dao::{Dao, Fault, Fields};
use crate::permissions::{Actions, EndpointRule, EntityRule, EntityRules};

/// Tokens that are remembered as verified.
const VERIFIED_MAX: usize = 1_024;
/// Sessions of a user at most; the oldest one ends when there is another.
const SESSIONS_MAX: usize = 16;

/// Who sends a request.
#[derive(Debug)]
pub(crate) struct Identity {
    /// The user, without the token.
    pub(crate) user: Fields,
    /// The rules of the user's roles about endpoints.
    pub(crate) endpoints: Vec<EndpointRule>,
    /// The rules about entities.
    pub(crate) entities: Arc<EntityRules>,
    /// The session, if there is no token.
    pub(crate) session: Option<Session>,
}

/// Finds out who sends requests.
#[derive(Debug)]
pub(crate) struct Access {
    dao: Dao,
    times: SessionTimes,
    keys: OnceCell<Keys>,
    hashing: Hashing,
    /// The hashes that tokens were verified by.
    verified: Mutex<HashMap<Digest, Arc<str>>>,
    failures: Mutex<Failures>,
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The token or the session is not that of a user.
fn invalid() -> Fault {
    Fault::message(401, "Invalid RBAC credentials")
}

impl Access {
    /// For the users of a store.
    pub(crate) fn new(dao: Dao, times: SessionTimes) -> Self {
        Self {
            dao,
            times,
            keys: OnceCell::new(),
            hashing: Hashing::default(),
            verified: Mutex::default(),
            failures: Mutex::default(),
        }
    }

    /// How long sessions last.
    pub(crate) fn times(&self) -> SessionTimes {
        self.times
    }

    /// The keys of the store. A new store gets the predefined roles at the first call.
    pub(crate) async fn keys(&self) -> Result<&Keys, Fault> {
        self.keys.get_or_try_init(|| keys(&self.dao)).await
    }

    #[allow(clippy::cast_possible_truncation, reason = "seconds since 1970")]
    fn now(&self) -> i64 {
        self.dao.now() as i64
    }

    /// The user with a token, and with a name if one is given. `from` is the address of the client.
    ///
    /// # Errors
    /// 401 for a wrong token or a user who is disabled or expired, 429 after many wrong ones.
    pub(crate) async fn by_token(&self, token: &str, name: Option<&str>, from: &str) -> Result<Identity, Fault> {
        let found = match self.owner(token, Some(from)).await? {
            Some(user) if name.is_none_or(|name| text(&user.value, "name") == name) => user,
            _ => {
                lock(&self.failures).add(from, self.dao.now());
                return Err(invalid());
            }
        };
        self.identity(found, None).await
    }

    /// The user with a token. Clients of `from` that sent many wrong ones are refused before slow hashes are computed.
    async fn owner(&self, token: &str, from: Option<&str>) -> Result<Option<Document>, Fault> {
        if token.is_empty() || token.len() > TOKEN_BYTES_MAX {
            return Ok(None);
        }
        let digest = self.keys().await?.digest(token);
        let query = Query { tags: TagFilter::All(vec![ident(&digest).into()]), ..Query::all(kinds().users.name) };
        let candidates = self.dao.store().list(query).await?.documents;
        let known = lock(&self.verified).get(&digest).cloned();
        let is_known = |user: &&Document| known.as_deref() == Some(text(&user.value, "user_token"));
        if let Some(user) = candidates.iter().find(is_known) {
            return Ok(Some(user.clone()));
        }
        if from.is_some_and(|from| !lock(&self.failures).admits(from, self.dao.now())) {
            return Err(Fault::message(429, "too many wrong tokens; try again later"));
        }
        for user in candidates {
            let stored = text(&user.value, "user_token");
            if self.hashing.verify(token, stored).await? {
                let mut verified = lock(&self.verified);
                if verified.len() >= VERIFIED_MAX {
                    verified.clear();
                }
                verified.insert(digest, stored.into());
                drop(verified);
                return Ok(Some(user));
            }
        }
        Ok(None)
    }

    /// The fields of a user for a token: its hash and its ident. `own` is the id of the user, if it exists.
    ///
    /// # Errors
    /// The token is too short or too long, or that of another user.
    pub(crate) async fn sealed(&self, token: &str, own: Option<&str>) -> Result<Fields, Fault> {
        if token.is_empty() || token.len() > TOKEN_BYTES_MAX {
            let message = format!("expected a token of 1 to {TOKEN_BYTES_MAX} bytes");
            return Err(Fault::schema(&cardinal_schema::Errors::field("user_token", message)));
        }
        if self.owner(token, None).await?.is_some_and(|owner| Some(&*owner.key.id) != own) {
            return Err(Fault::unique(&[("user_token", &Value::from("***"))]));
        }
        let ident = ident(&self.keys().await?.digest(token));
        let hash = self.hashing.hash(&self.dao, token).await?;
        Ok([("user_token".to_owned(), hash.into()), ("user_token_ident".to_owned(), ident.into())]
            .into_iter()
            .collect())
    }

    /// The user of a session.
    ///
    /// # Errors
    /// 401 if there is no such session, or it has ended.
    pub(crate) async fn by_cookie(&self, header: &str) -> Result<Option<Identity>, Fault> {
        let Some(claim) = Claim::of_header(header) else { return Ok(None) };
        let (keys, now) = (self.keys().await?, self.now());
        let found = self.dao.store().get(Key::new(kinds().sessions.name, claim.id)).await?.ok_or_else(invalid)?;
        let id = found.value.pointer("/user/id").and_then(Value::as_str).unwrap_or_default();
        let user = self.dao.store().get(Key::new(kinds().users.name, id)).await?.ok_or_else(invalid)?;
        let expires_at = found.value.get("expires_at").and_then(Value::as_i64).unwrap_or_default();
        let own = (id, text(&user.value, "user_token"));
        if now >= expires_at || !claim.is_valid(keys, own, self.times, now) {
            return Err(invalid());
        }
        let renewed = claim.is_to_be_renewed(self.times, now).then(|| session::signed(keys, claim.id, own, now));
        let (id, csrf) = (claim.id.to_owned(), session::csrf(keys, claim.id));
        self.identity(user, Some(Session { id, csrf, renewed, expires_at })).await.map(Some)
    }

    /// Starts a session of a user; its cookie is to be written.
    pub(crate) async fn login(&self, identity: &Identity, author: Author) -> Result<Session, Fault> {
        let (keys, now) = (self.keys().await?, self.now());
        let user = identity.user.get("id").and_then(Value::as_str).unwrap_or_default();
        let found = self.dao.store().get(Key::new(kinds().users.name, user)).await?.ok_or_else(invalid)?;
        let (id, expires_at) = (self.dao.id().to_string(), now.saturating_add(self.times.absolute));
        let value = json!({ "id": id, "user": { "id": user }, "created_at": now, "expires_at": expires_at });
        let mut writes = self.ended(user, now).await?;
        writes.push(put(&self.dao, &kinds().sessions, value)?);
        self.commit(author, writes).await?;
        let cookie = session::signed(keys, &id, (user, text(&found.value, "user_token")), now);
        Ok(Session { csrf: session::csrf(keys, &id), id, renewed: Some(cookie), expires_at })
    }

    /// Ends a session.
    pub(crate) async fn logout(&self, session: &Session, author: Author) -> Result<(), Fault> {
        let key = Key::new(kinds().sessions.name, session.id.as_str());
        self.commit(author, vec![Write::Delete(key, Expect::Any)]).await
    }

    /// The deletions of the sessions of a user that have ended, or make room for another one.
    async fn ended(&self, user: &str, now: i64) -> Result<Vec<Write>, Fault> {
        let number = |document: &Document, name: &str| document.value.get(name).and_then(Value::as_i64).unwrap_or(0);
        let mut sessions = self.below("user", (kinds().users.name, user), kinds().sessions.name).await?;
        sessions.sort_by_key(|session| std::cmp::Reverse(number(session, "created_at")));
        let is_over =
            |(at, session): &(usize, Document)| *at + 1 >= SESSIONS_MAX || number(session, "expires_at") <= now;
        let over = sessions.into_iter().enumerate().filter(is_over);
        Ok(over.map(|(_, session)| Write::Delete(session.key, Expect::Any)).collect())
    }

    async fn commit(&self, author: Author, writes: Vec<Write>) -> Result<(), Fault> {
        match self.dao.store().commit(Batch { author, writes, revision: None }).await {
            Ok(_) => Ok(()),
            Err(CommitError::Store(error)) => Err(error.into()),
            // The user was deleted meanwhile.
            Err(CommitError::Violation { .. } | CommitError::Stale { .. }) => Err(invalid()),
        }
    }

    /// The documents of a kind that reference another one, of all workspaces. The index of references only finds them: what they
    /// say themselves counts, and is what the change log covers.
    pub(crate) async fn below(&self, field: &str, (kind, id): (&str, &str), of: &str) -> Result<Vec<Document>, Fault> {
        let mut query = Query::all(of);
        query.reference = Some((field.into(), Key::new(kind, id)));
        let own = |document: &Document| document.value.get(field)?.get("id")?.as_str().map(|own| own == id);
        let mut out = Vec::new();
        loop {
            let page = self.dao.store().list(query.clone()).await?;
            out.extend(page.documents.into_iter().filter(|document| own(document) == Some(true)));
            match page.next {
                Some(next) => query.after = Some(next),
                None => return Ok(out),
            }
        }
    }

    /// The ids of the roles of a user.
    pub(crate) async fn roles_of(&self, user: &str) -> Result<Vec<String>, Fault> {
        let found = self.below("user", (kinds().users.name, user), kinds().user_roles.name).await?;
        let role = |document: &Document| document.value.pointer("/role/id").and_then(Value::as_str).map(str::to_owned);
        Ok(found.iter().filter_map(role).collect())
    }

    /// The rules of a role: those about endpoints, and those about entities.
    pub(crate) async fn rules_of(&self, role: &str) -> Result<[Vec<Document>; 2], Fault> {
        let role = (kinds().roles.name, role);
        Ok([
            self.below("role", role, kinds().endpoints.name).await?,
            self.below("role", role, kinds().entities.name).await?,
        ])
    }

    async fn identity(&self, user: Document, session: Option<Session>) -> Result<Identity, Fault> {
        let is_enabled = user.value.get("enabled").and_then(Value::as_bool).unwrap_or(false);
        let expires_at = user.value.get("expires_at").and_then(Value::as_i64);
        if !is_enabled || expires_at.is_some_and(|at| self.now() >= at) {
            return Err(invalid());
        }
        let (mut endpoints, mut rules) = (Vec::new(), Vec::new());
        for role in self.roles_of(&user.key.id).await? {
            let [about_endpoints, about_entities] = self.rules_of(&role).await?;
            endpoints.extend(about_endpoints.iter().map(|rule| endpoint_rule(&rule.value)));
            rules.extend(about_entities.iter().map(|rule| entity_rule(&rule.value)));
        }
        let entities = Arc::new(EntityRules { user: text(&user.value, "name").into(), rules });
        let mut user = match user.value {
            Value::Object(fields) => fields,
            _ => Fields::new(),
        };
        user.shift_remove("user_token");
        Ok(Identity { user, endpoints, entities, session })
    }
}

/// Actions and sign of a rule. One that cannot be read denies everything that it is about.
fn effect(rule: &Value) -> (Actions, bool) {
    let negative = rule.get("negative").and_then(Value::as_bool).unwrap_or(true);
    match rule.get("actions").map(Actions::parse) {
        Some(Ok(actions)) => (actions, negative),
        _ => (Actions::all(), true),
    }
}

fn endpoint_rule(rule: &Value) -> EndpointRule {
    let (actions, negative) = effect(rule);
    EndpointRule::new(text(rule, "workspace"), text(rule, "endpoint"), actions, negative)
}

fn entity_rule(rule: &Value) -> EntityRule {
    let (actions, negative) = effect(rule);
    EntityRule::new(text(rule, "entity_id"), actions, negative)
}
