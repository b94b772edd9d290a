//! Writing: insert, upsert, update, delete.

use cardinal_kong::entities::{Kind, WORKSPACES};
use cardinal_schema::{Auto, Errors, Field, Kind as FieldKind, Options, Schema, TTL_MAX};
use cardinal_store::{Batch, CommitError, Committed, Expect, Violation, Write};
use serde_json::Value;

use super::access::{Dao, Fields, Tenant};
use super::default_workspace::expectation;
use super::document::{WORKSPACE, document, key, unique_keys, unique_name};
use super::fault::Fault;
use super::read::{Selector, fields_of, is_uuid};
use crate::permissions::Action;

/// How often a change is tried that others overtake. One of those that are made at the same time succeeds each time.
const ATTEMPTS_MAX: usize = 1_000;

/// What is written of an entity, and with it.
pub(super) struct Change {
    /// The entity, complete.
    pub(super) fields: Fields,
    /// Other writes of the same transaction.
    pub(super) further: Vec<Write>,
}

impl Dao {
    /// Creates an entity. Kong: `check_insert` of `kong/db/dao/init.lua`.
    ///
    /// # Errors
    /// The entity is invalid or exists, or the store failed.
    pub async fn insert(&self, tenant: &Tenant, kind: &Kind, given: Fields) -> Result<Fields, Fault> {
        let has_id = is_given(&given, kind.primary_key);
        let mut fields = self.completed(tenant, kind, given.clone()).await?;
        for _ in 0..ATTEMPTS_MAX {
            let at = self.revision_for(kind).await?;
            let change = self.prepare(tenant, kind, None, fields.clone()).await?;
            match self.commit(tenant, kind, change, Expect::Absent, at).await? {
                Ok(fields) => return Ok(fields),
                // The id was made of what another client has just created.
                Err(Overtaken::Created) if self.has_files && !has_id => {
                    fields = self.completed(tenant, kind, given.clone()).await?;
                }
                Err(Overtaken::Created) => {
                    return Err(Fault::primary_key_taken((
                        kind.primary_key,
                        fields.get(kind.primary_key).unwrap_or(&Value::Null),
                    )));
                }
                Err(Overtaken::Unique(fault)) => return Err(*fault),
                Err(Overtaken::Changed) => {}
            }
        }
        Err(Fault::contended())
    }

    /// Replaces an entity or creates it. Fields that are missing get their defaults. Kong: `check_upsert`.
    ///
    /// # Errors
    /// The entity is invalid, or the store failed.
    pub async fn upsert(
        &self,
        tenant: &Tenant,
        kind: &Kind,
        selector: Selector<'_>,
        given: Fields,
    ) -> Result<Fields, Fault> {
        for _ in 0..ATTEMPTS_MAX {
            let at = self.revision_for(kind).await?;
            let old = self.select_document(tenant, kind, selector).await?;
            let (revision, old) = old.map_or((None, None), |old| (Some(old.revision), Some(fields_of(old))));
            let mut fields = given.clone();
            match (selector, &old) {
                (Selector::Id(id), _) => {
                    drop(fields.insert(kind.primary_key.to_owned(), id.to_ascii_lowercase().into()))
                }
                (Selector::Name(name), old) => {
                    let field = kind.key.map_or(kind.primary_key, |key| key.field);
                    fields.insert(field.to_owned(), name.into());
                    if let Some(id) = old.as_ref().and_then(|old| old.get(kind.primary_key)) {
                        fields.insert(kind.primary_key.to_owned(), id.clone());
                    }
                }
            }
            // The time of creation stays unless the client sets it.
            if let (Some(created), false) =
                (old.as_ref().and_then(|old| old.get("created_at")), is_given(&fields, "created_at"))
            {
                fields.insert("created_at".to_owned(), created.clone());
            }
            let fields = self.completed(tenant, kind, fields).await?;
            let change = self.prepare(tenant, kind, old.as_ref(), fields).await?;
            let expect = revision.map_or(Expect::Absent, expectation);
            match self.commit(tenant, kind, change, expect, at).await? {
                Ok(fields) => return Ok(fields),
                // Unless it was created meanwhile under this name, the id in the body is that of another entity.
                Err(Overtaken::Created) if self.select_document(tenant, kind, selector).await?.is_none() => {
                    let id = given.get(kind.primary_key).unwrap_or(&Value::Null);
                    return Err(Fault::primary_key_taken((kind.primary_key, id)));
                }
                // Unless it was created meanwhile under this name, another entity has the value.
                Err(Overtaken::Unique(fault))
                    if self.select_document(tenant, kind, selector).await?.is_none() || revision.is_some() =>
                {
                    return Err(*fault);
                }
                // An entity of another workspace has the id.
                Err(Overtaken::Created) if self.select_document(tenant, kind, selector).await?.is_none() => {
                    if let Selector::Id(id) = selector
                        && self.store.get(key(kind, &id.to_ascii_lowercase())).await?.is_some()
                    {
                        return Err(Fault::primary_key_taken((kind.primary_key, &Value::from(id))));
                    }
                }
                Err(_) => {}
            }
        }
        Err(Fault::contended())
    }

    /// Changes fields of an entity. Records are merged, everything else is replaced. Kong: `check_update`.
    ///
    /// # Errors
    /// The entity does not exist or would become invalid, or the store failed.
    pub async fn update(
        &self,
        tenant: &Tenant,
        kind: &Kind,
        selector: Selector<'_>,
        given: Fields,
    ) -> Result<Fields, Fault> {
        for _ in 0..ATTEMPTS_MAX {
            let at = self.revision_for(kind).await?;
            let Some(old) = self.select_document(tenant, kind, selector).await? else {
                return Err(match selector {
                    Selector::Id(id) => Fault::no_entity(&[("id", &Value::from(id))]),
                    Selector::Name(name) => {
                        let field = kind.key.map_or(kind.primary_key, |key| key.field);
                        Fault::no_entity_by_field((field, &Value::from(name)))
                    }
                });
            };
            let (revision, old) = (old.revision, fields_of(old));
            let fields = self.merged(tenant, kind, &old, given.clone()).await?;
            let change = self.prepare(tenant, kind, Some(&old), fields).await?;
            match self.commit(tenant, kind, change, expectation(revision), at).await? {
                Ok(fields) => return Ok(fields),
                Err(Overtaken::Unique(fault)) => return Err(*fault),
                Err(_) => {}
            }
        }
        Err(Fault::contended())
    }

    /// Deletes an entity, and what goes with it. Deleting what does not exist is no error.
    ///
    /// # Errors
    /// Another entity references it, or the store failed.
    pub async fn delete(&self, tenant: &Tenant, kind: &Kind, selector: Selector<'_>) -> Result<(), Fault> {
        let Some(old) = self.select_document(tenant, kind, selector).await? else { return Ok(()) };
        tenant.check(&old.key.id, Action::Delete)?;
        if let Some(fault) = self.forbids_deletion(kind, &fields_of(old.clone())).await? {
            return Err(fault);
        }
        let mut writes = Vec::new();
        if kind.name == WORKSPACES {
            writes = self.rules_about(old.value.get("name").and_then(Value::as_str).unwrap_or_default()).await?;
        }
        writes.push(Write::Delete(old.key, Expect::Any));
        let batch = Batch { author: tenant.author.clone(), writes, revision: None };
        match self.store.commit(batch).await {
            Ok(_) => Ok(()),
            Err(CommitError::Violation { violation: Violation::Referenced { .. }, .. }) if kind.name == WORKSPACES => {
                Err(Fault::message(400, "Workspace is not empty"))
            }
            Err(CommitError::Violation { violation: Violation::Referenced { by, .. }, .. }) => {
                Err(Fault::referenced(kind.name, &by.kind))
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// What a client has given, with defaults and references by id. It is valid by itself.
    async fn completed(&self, tenant: &Tenant, kind: &Kind, given: Fields) -> Result<Fields, Fault> {
        let schema = self.schema_of(kind, &given)?;
        let has_id = is_given(&given, kind.primary_key);
        let mut given = given;
        stamp(schema, &mut given, self);
        let completed = {
            let options = Options { auto: Some(self), no_defaults: false };
            schema.complete(&Value::Object(given), &options).map_err(|errors| Fault::schema(&errors))?
        };
        let Value::Object(mut fields) = completed else { return Err(Fault::schema(&"expected a record".into())) };
        check_life(schema, &fields)?;
        self.resolve(tenant, kind, &mut fields).await?;
        lower_ids(kind, &mut fields);
        if self.has_files && !has_id {
            self.name_id(kind, &mut fields).await?;
        }
        let value = Value::Object(fields);
        schema.validate_complete(&value).map_err(|errors| Fault::schema(&errors))?;
        match value {
            Value::Object(fields) => Ok(fields),
            _ => Ok(Fields::new()),
        }
    }

    /// An entity with the fields that a client has given. It is valid by itself.
    async fn merged(&self, tenant: &Tenant, kind: &Kind, old: &Fields, mut given: Fields) -> Result<Fields, Fault> {
        // The schema may depend on fields that stay.
        let mut whole = old.clone();
        whole.extend(given.iter().map(|(name, value)| (name.clone(), value.clone())));
        let schema = self.schema_of(kind, &whole)?;
        stamp(schema, &mut given, self);
        let given = {
            let options = Options { auto: None, no_defaults: true };
            schema.complete(&Value::Object(given), &options).map_err(|errors| Fault::schema(&errors))?
        };
        let Value::Object(given) = given else { return Err(Fault::schema(&"expected a record".into())) };
        let mut given = given;
        check_life(schema, &given)?;
        if schema.ttl {
            life_from_creation(old, &mut given, self.now());
        }
        // An id stays, whatever a client says. Kong leaves primary keys out of updates, too.
        given.shift_remove(kind.primary_key);
        immutable(schema, old, &given)?;
        let mut fields = merge(schema, old, given);
        self.resolve(tenant, kind, &mut fields).await?;
        lower_ids(kind, &mut fields);
        let value = Value::Object(fields);
        schema.validate_complete(&value).map_err(|mut errors| {
            errors.map_texts(&when_updating);
            Fault::schema(&errors)
        })?;
        match value {
            Value::Object(fields) => Ok(fields),
            _ => Ok(Fields::new()),
        }
    }

    /// Gives a new entity the id that a file gives it by its name, unless another entity has the id.
    pub(super) async fn name_id(&self, kind: &Kind, fields: &mut Fields) -> Result<(), Fault> {
        let Some(id) = cardinal_kong::declarative::usual_id(kind, fields).map(|id| id.to_string()) else {
            return Ok(());
        };
        if self.store.get(key(kind, &id)).await?.is_none() {
            fields.insert(kind.primary_key.to_owned(), id.into());
        }
        Ok(())
    }

    /// Replaces references by name with references by id. Kong: `resolve_foreign`.
    async fn resolve(&self, tenant: &Tenant, kind: &Kind, fields: &mut Fields) -> Result<(), Fault> {
        for (field, target) in kind.references() {
            let Some(Value::Object(reference)) = fields.get(field) else { continue };
            let Some(target) = self.registry.kind(target) else { continue };
            if let Some(id) = reference.get("id").filter(|id| !id.is_null()) {
                if let Some(id) = id.as_str().filter(|id| is_uuid(id)) {
                    self.check_reach(tenant, (field, target), id).await?;
                }
                continue;
            }
            let unique = unique_keys(target, &target.schema);
            let named = unique.iter().filter_map(|key| match key.as_slice() {
                [name] => Some((*name, reference.get(*name).filter(|value| !value.is_null())?.clone())),
                _ => None,
            });
            let mut unresolved = None;
            let mut found = None;
            for (name, value) in named {
                match self.find(tenant, target, name, &value).await? {
                    Some(document) => {
                        found = Some(document);
                        break;
                    }
                    None => unresolved = unresolved.or(Some((name, value))),
                }
            }
            match (found, unresolved) {
                (Some(document), _) => {
                    let id = serde_json::json!({ "id": &*document.key.id });
                    fields.insert(field.to_owned(), id);
                }
                (None, Some((name, value))) => return Err(Fault::unresolved(field, (name, &value), target.name)),
                (None, None) => {}
            }
        }
        Ok(())
    }

    /// The revision that a change must be based on as a whole: the names of a certificate are entities of their own.
    async fn revision_for(&self, kind: &Kind) -> Result<Option<u64>, Fault> {
        match kind.name {
            "certificates" => Ok(Some(self.store.status().await?.revision)),
            _ => Ok(None),
        }
    }

    async fn commit(
        &self,
        tenant: &Tenant,
        kind: &Kind,
        change: Change,
        expect: Expect,
        revision: Option<u64>,
    ) -> Result<Result<Fields, Overtaken>, Fault> {
        let Change { fields, further } = change;
        let schema = self.registry.schema_of(kind, &fields).map_err(|errors| Fault::schema(&errors))?;
        let document = document(kind, schema, &tenant.workspace, fields.clone());
        let own = document.key.clone();
        tenant.check(&own.id, if expect == Expect::Absent { Action::Create } else { Action::Update })?;
        let writes = std::iter::once(Write::Put(Box::new(document), expect)).chain(further).collect();
        let batch = Batch { author: tenant.author.clone(), writes, revision };
        let violation = match self.store.commit(batch).await {
            // What is hashed when it is read is not what was given.
            Ok(Committed { .. }) if self.has_files && kind.brought_by.is_some_and(|def| def.seal.is_some()) => {
                return Ok(Ok(self.store.get(own).await?.map_or(fields, fields_of)));
            }
            Ok(Committed { .. }) => return Ok(Ok(fields)),
            Err(CommitError::Violation { violation, .. }) => violation,
            Err(CommitError::Stale { .. }) => return Ok(Err(Overtaken::Changed)),
            Err(error) => return Err(failed(error)),
        };
        match violation {
            Violation::Expectation { key, .. } if key == own && expect == Expect::Absent => Ok(Err(Overtaken::Created)),
            Violation::Expectation { .. } | Violation::Repeated { .. } => Ok(Err(Overtaken::Changed)),
            Violation::Unique { owner, .. } if self.remove_expired(tenant, kind, &owner).await? => {
                Ok(Err(Overtaken::Changed))
            }
            Violation::Unique { name, owner } => {
                let fault = self.unique_fault(kind, schema, &fields, (&name, &owner.kind));
                Ok(Err(Overtaken::Unique(Box::new(fault))))
            }
            Violation::Missing { field, to } => Err(missing(&field, &to)),
            Violation::Referenced { by, .. } => Err(Fault::referenced(kind.name, &by.kind)),
        }
    }

    /// Deletes an entity whose life is over, so that its unique values are free.
    async fn remove_expired(&self, tenant: &Tenant, kind: &Kind, owner: &cardinal_store::Key) -> Result<bool, Fault> {
        let Some(document) = self.store.get(owner.clone()).await?.filter(|_| kind.schema.ttl) else { return Ok(false) };
        if self.life_left(&fields_of(document)).is_none_or(|left| left > 0.0) {
            return Ok(false);
        }
        let writes = vec![Write::Delete(owner.clone(), Expect::Any)];
        let batch = Batch { author: tenant.author.clone(), writes, revision: None };
        self.store.commit(batch).await.map(|_| true).map_err(failed)
    }

    fn unique_fault(&self, kind: &Kind, schema: &Schema, fields: &Fields, (name, owner): (&str, &str)) -> Fault {
        // The names of a certificate are written with it.
        if owner == "snis" && kind.name == "certificates" {
            return Fault::field("snis", "a name is already associated with another certificate");
        }
        let names =
            unique_keys(kind, schema).into_iter().find(|names| *unique_name(names) == *name).unwrap_or_default();
        // Kong has no consumer groups in this key.
        let shown = names.iter().filter(|field| **field != "consumer_group" || is_given(fields, field));
        let key: Vec<_> = shown.map(|field| (*field, fields.get(*field).unwrap_or(&Value::Null))).collect();
        Fault::unique(&key)
    }

    pub(super) fn key_of(&self, kind: &Kind, fields: &Fields) -> cardinal_store::Key {
        key(kind, fields.get(kind.primary_key).and_then(Value::as_str).unwrap_or_default())
    }
}

/// Another change was made before this one.
enum Overtaken {
    /// The entity was created.
    Created,
    /// Another entity has a unique value.
    Unique(Box<Fault>),
    /// Something else was changed: it is to be tried again.
    Changed,
}

fn missing(field: &str, to: &cardinal_store::Key) -> Fault {
    if field == WORKSPACE && &*to.kind == WORKSPACES {
        return Fault::message(404, "the workspace does not exist any more");
    }
    match field.split_once('/') {
        // A list of ids, which Kong checks one by one.
        Some((field, id)) => Fault::field(field, format!("the following CA certificates are missing: {id}")),
        None => Fault::no_reference(field, &to.kind, &to.id),
    }
}

fn failed(error: CommitError) -> Fault {
    match error {
        CommitError::Store(error) => error.into(),
        error @ (CommitError::Violation { .. } | CommitError::Stale { .. }) => {
            tracing::error!(%error, "the store refused a batch");
            Fault::contended()
        }
    }
}

/// Kong: `validate_options_value` of `kong/db/dao/init.lua`.
fn check_life(schema: &Schema, fields: &Fields) -> Result<(), Fault> {
    let Some(ttl) = fields.get("ttl").filter(|ttl| schema.ttl && !ttl.is_null()) else { return Ok(()) };
    match ttl.as_f64() {
        Some(ttl) if ttl.fract() == 0.0 && (0.0..=TTL_MAX).contains(&ttl) => Ok(()),
        _ => Err(Fault::invalid_option("ttl", &format!("must be an integer between 0 and {TTL_MAX}"))),
    }
}

/// Ids have one spelling, since they are compared as texts.
fn lower_ids(kind: &Kind, fields: &mut Fields) {
    let lower = |value: &mut Value| {
        if let Value::String(id) = value
            && is_uuid(id)
        {
            id.make_ascii_lowercase();
        }
    };
    if let Some(id) = fields.get_mut(kind.primary_key) {
        lower(id);
    }
    for (field, _) in kind.references() {
        if let Some(id) = fields.get_mut(field).and_then(|reference| reference.get_mut("id")) {
            lower(id);
        }
    }
    if let Some(Value::Array(list)) = fields.get_mut("ca_certificates") {
        list.iter_mut().for_each(lower);
    }
}

/// A `ttl` is stored in seconds after the creation, and given in seconds from now.
fn life_from_creation(old: &Fields, given: &mut Fields, now: f64) {
    let created = old.get("created_at").and_then(Value::as_f64);
    if let (Some(created), Some(ttl)) = (created, given.get("ttl").and_then(Value::as_f64))
        && ttl > 0.0
    {
        #[allow(clippy::cast_possible_truncation, reason = "seconds")]
        let ttl = (ttl + (now - created).max(0.0)).ceil() as i64;
        given.insert("ttl".to_owned(), ttl.into());
    }
}

fn is_given(fields: &Fields, name: &str) -> bool {
    fields.get(name).is_some_and(|value| !value.is_null())
}

/// Sets the time of the change, which clients cannot choose. What is made by itself is also made in place of null, or stays.
fn stamp(schema: &Schema, given: &mut Fields, auto: &dyn Auto) {
    for made in schema.fields.iter().filter(|named| named.field.auto) {
        if given.get(made.name).is_some_and(Value::is_null) {
            given.shift_remove(made.name);
        }
    }
    if let Some(field) = schema.field("updated_at") {
        given.insert("updated_at".to_owned(), time(field, auto.now()));
    }
}

fn time(field: &Field, now: f64) -> Value {
    #[allow(clippy::cast_possible_truncation, reason = "seconds since 1970")]
    match field.kind {
        FieldKind::Integer => (now as i64).into(),
        _ => now.into(),
    }
}

/// Kong: `Schema:merge_values`.
fn merge(schema: &Schema, old: &Fields, new: Fields) -> Fields {
    let mut out = old.clone();
    for (name, value) in new {
        let merged = match (schema.field(&name).map(|field| &field.kind), old.get(&name), value) {
            (Some(FieldKind::Record(schema)), Some(Value::Object(old)), Value::Object(new)) => {
                Value::Object(merge(schema, old, new))
            }
            (_, _, value) => value,
        };
        out.insert(name, merged);
    }
    out
}

fn immutable(schema: &Schema, old: &Fields, given: &Fields) -> Result<(), Fault> {
    let mut errors = Errors::default();
    for named in schema.fields.iter().filter(|named| named.field.immutable) {
        if let (Some(old), Some(new)) = (old.get(named.name), given.get(named.name))
            && old != new
        {
            errors.set(named.name, "immutable field cannot be updated".into());
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(Fault::schema(&errors)) }
}

/// Kong's texts of some checks in updates. Kong: `Schema:validate_update`.
fn when_updating(text: &str) -> String {
    if text.starts_with("at least one of these fields must be non-empty") {
        format!("when updating, {text}")
    } else if text == "field required for entity check" {
        format!("{text} when updating")
    } else {
        text.to_owned()
    }
}
