//! The operations on entities of any kind. Kong: `kong/api/endpoints.lua`.

use cardinal_kong::entities::{Kind, WORKSPACES};
use serde_json::{Value, json};

use super::body;
use super::call::Call;
use super::message::Response;
use crate::dao::{Dao, Fault, Fields, Listing, Selector, Tags};
use crate::permissions::Action;
use crate::rbac;

/// Entities below another one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nested<'p> {
    pub(super) parent: &'p Kind,
    /// How the path names the parent.
    pub(super) name: &'p str,
    pub(super) kind: &'p Kind,
    /// The field of the child that references the parent.
    pub(super) field: &'static str,
    /// The collection in the path.
    pub(super) collection: &'p str,
}

/// The name of a kind below another entity: `key-auth`.
pub(super) fn nested_name(kind: &Kind) -> &'static str {
    kind.brought_by.map_or(kind.collection, |def| def.nested)
}

impl Call<'_> {
    pub(super) fn dao(&self) -> &Dao {
        &self.admin.dao
    }

    /// The arguments of a list.
    pub(super) fn listing(&self) -> Listing {
        let text = |name: &str| self.query.get(name).and_then(first_text);
        let tags = match self.query.get("tags") {
            None => Tags::None,
            Some(value) => Tags::Text(first_text(value).unwrap_or_default()),
        };
        Listing { size: self.query.get("size").cloned(), offset: text("offset"), tags }
    }

    /// The entity that a body describes.
    pub(super) fn given(&self, kind: &Kind, old: Option<&Fields>) -> Result<Fields, Fault> {
        body::entity(self.request, self.dao().registry(), kind, old)
    }

    /// An entity as clients see it.
    pub(super) async fn shown(&self, kind: &Kind, mut fields: Fields) -> Result<Value, Fault> {
        if kind.name == "certificates"
            && let Some(snis) = self.dao().registry().kind("snis")
        {
            let id = fields.get("id").and_then(Value::as_str).unwrap_or_default();
            let names = self.dao().all(&self.tenant, snis, Some(("certificate", kind, id))).await?;
            let mut names: Vec<String> =
                names.iter().filter_map(|sni| Some(sni.get("name")?.as_str()?.to_owned())).collect();
            names.sort();
            fields.insert("snis".to_owned(), names.into());
        }
        rbac::hide(kind, &mut fields);
        if let Some(left) = kind.schema.ttl.then(|| self.dao().life_left(&fields)).flatten() {
            #[allow(clippy::cast_possible_truncation, reason = "seconds")]
            fields.insert("ttl".to_owned(), (left.floor().max(0.0) as i64).into());
        }
        let schema = self.dao().registry().schema_of(kind, &fields).ok();
        let mut value = Value::Object(fields);
        if let Some(schema) = schema {
            schema.echo_shorthands(&mut value);
        }
        Ok(value)
    }

    /// The entity that a path names.
    pub(super) async fn selected(&self, kind: &Kind, name: &str) -> Result<Option<Fields>, Fault> {
        if let Some(id) = self.certificate_of(kind, name).await? {
            return self.dao().select(&self.tenant, kind, Selector::Id(&id)).await;
        }
        if kind.name == "certificates" && matches!(Selector::of(name), Selector::Name(_)) {
            return Err(Fault::message(404, "SNI not found"));
        }
        self.dao().select(&self.tenant, kind, Selector::of(name)).await
    }

    /// The id of the certificate with a server name: certificates are named by either.
    async fn certificate_of(&self, kind: &Kind, name: &str) -> Result<Option<String>, Fault> {
        if kind.name != "certificates" || matches!(Selector::of(name), Selector::Id(_)) {
            return Ok(None);
        }
        let Some(snis) = self.dao().registry().kind("snis") else { return Ok(None) };
        let sni = self.dao().select(&self.tenant, snis, Selector::Name(name)).await?;
        Ok(sni.as_ref().and_then(|sni| sni.get("certificate")?.get("id")?.as_str()).map(str::to_owned))
    }

    /// The same where the path sets some of its fields.
    pub(super) fn given_besides(&self, kind: &Kind, old: Option<&Fields>, set: &[&str]) -> Result<Fields, Fault> {
        let given = self.given(kind, old)?;
        body::check_replaced(self.dao().registry(), kind, &given, set)?;
        Ok(given)
    }

    pub(super) fn writes(&self, verb: &str, kind: &Kind) -> Result<(), Fault> {
        if self.admin.declarative.is_some() { Err(Fault::read_only(verb, kind.name, None)) } else { Ok(()) }
    }

    /// The same for an entity that a path names.
    fn writes_named(&self, verb: &str, kind: &Kind, name: &str) -> Result<(), Fault> {
        let by = kind.key.filter(|_| matches!(Selector::of(name), Selector::Name(_))).map(|key| key.field);
        if self.admin.declarative.is_some() { Err(Fault::read_only(verb, kind.name, by)) } else { Ok(()) }
    }
}

fn first_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(list) => list.first().and_then(first_text),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
    }
}

pub(super) fn id_of(fields: &Fields) -> &str {
    fields.get("id").and_then(Value::as_str).unwrap_or_default()
}

/// A reference to an entity.
pub(super) fn reference(fields: &Fields) -> Value {
    json!({ "id": id_of(fields) })
}

/// A page of entities. `path` leads to the next one.
pub(super) fn page(data: Vec<Value>, offset: Option<String>, path: &str, further: &str) -> Response {
    let next = offset.as_ref().map(|offset| {
        let offset = percent_encoding::utf8_percent_encode(offset, percent_encoding::NON_ALPHANUMERIC);
        format!("{path}?offset={offset}{further}")
    });
    let mut body = json!({ "data": data, "next": next });
    if let (Some(offset), Some(body)) = (offset, body.as_object_mut()) {
        body.insert("offset".to_owned(), offset.into());
    }
    Response::ok(body)
}

pub(super) async fn collection(call: &Call<'_>, kind: &Kind, method: &str) -> Result<Response, Fault> {
    if method == "POST" {
        call.writes("create", kind)?;
        let fields = call.dao().insert(&call.tenant, kind, call.given(kind, None)?).await?;
        return call.shown(kind, fields).await.map(Response::created);
    }
    if kind.name == "consumers"
        && let Some(response) = by_custom_id(call, kind).await?
    {
        return Ok(response);
    }
    let (found, offset) = call.dao().page(&call.tenant, kind, None, &call.listing()).await?;
    let mut data = Vec::with_capacity(found.len());
    for fields in found {
        data.push(call.shown(kind, fields).await?);
    }
    Ok(page(data, offset, &format!("{}/{}", call.prefix, kind.collection), &further(call)))
}

/// The query arguments that the link to the next page repeats.
pub(super) fn further(call: &Call<'_>) -> String {
    let mut further = String::new();
    for name in ["tags", "size"] {
        if let Some(value) = call.query.get(name).and_then(first_text) {
            let value = percent_encoding::utf8_percent_encode(&value, percent_encoding::NON_ALPHANUMERIC);
            further += &format!("&{name}={value}");
        }
    }
    further
}

/// `/consumers?custom_id=x`. Kong: `kong/api/routes/consumers.lua`.
async fn by_custom_id(call: &Call<'_>, kind: &Kind) -> Result<Option<Response>, Fault> {
    let Some(given) = call.query.get("custom_id") else { return Ok(None) };
    let Some(id) = given.as_str().filter(|id| !id.is_empty()) else {
        return Err(Fault::message(400, "custom_id must be an unempty string"));
    };
    let found = call.dao().by_field(&call.tenant, kind, "custom_id", id).await?;
    let data: Vec<Value> = found.into_iter().map(Value::Object).collect();
    Ok(Some(Response::ok(json!({ "data": data, "next": null }))))
}

pub(super) async fn entity(call: &Call<'_>, kind: &Kind, name: &str, method: &str) -> Result<Response, Fault> {
    match method {
        "GET" => {
            let found = call.selected(kind, name).await?.ok_or_else(Fault::not_found)?;
            if kind.name == "consumer_groups" {
                return group(call, kind, found).await;
            }
            call.shown(kind, found).await.map(Response::ok)
        }
        "PUT" => put(call, kind, name, Fields::new()).await,
        "PATCH" => patch(call, kind, name, None).await,
        _ => {
            call.writes_named("remove", kind, name)?;
            match call.certificate_of(kind, name).await? {
                None if kind.name == WORKSPACES && call.query.get("cascade").is_some_and(|value| value == "true") => {
                    call.dao().delete_workspace(&call.tenant, kind, Selector::of(name)).await?;
                }
                Some(id) => call.dao().delete(&call.tenant, kind, Selector::Id(&id)).await?,
                None if kind.name == "certificates" && matches!(Selector::of(name), Selector::Name(_)) => {
                    return Err(Fault::message(404, "SNI not found"));
                }
                None => call.dao().delete(&call.tenant, kind, Selector::of(name)).await?,
            }
            Ok(Response::no_content())
        }
    }
}

/// A consumer group with its members and plugins, as Kong Enterprise shows it.
async fn group(call: &Call<'_>, kind: &Kind, group: Fields) -> Result<Response, Fault> {
    let registry = call.dao().registry();
    let mut consumers = Vec::new();
    if let Some(kind) = registry.kind("consumers") {
        for id in call.dao().memberships(true, id_of(&group)).await? {
            if call.tenant.allows(&id, Action::Read) {
                consumers.extend(call.dao().select(&call.tenant, kind, Selector::Id(&id)).await?);
            }
        }
    }
    let mut plugins = Vec::new();
    if let Some(of_group) = registry.kind("plugins") {
        let below = Some(("consumer_group", kind, id_of(&group)));
        for plugin in call.dao().all(&call.tenant, of_group, below).await? {
            if call.tenant.allows(id_of(&plugin), Action::Read) {
                plugins.push(call.shown(of_group, plugin).await?);
            }
        }
    }
    Ok(Response::ok(json!({ "consumer_group": group, "consumers": consumers, "plugins": plugins })))
}

/// Creates or replaces an entity with what the body says, and these fields.
async fn put(call: &Call<'_>, kind: &Kind, name: &str, further: Fields) -> Result<Response, Fault> {
    call.writes_named("create or update", kind, name)?;
    let key = kind.key.filter(|_| matches!(Selector::of(name), Selector::Name(_))).map(|key| key.field);
    let set: Vec<&str> = further.keys().map(String::as_str).chain([kind.primary_key]).chain(key).collect();
    let mut given = call.given_besides(kind, None, &set)?;
    given.extend(further);
    let found = call.certificate_of(kind, name).await?;
    let made;
    let selector = match (&found, Selector::of(name)) {
        (Some(id), _) => Selector::Id(id),
        // A certificate that does not exist is created for this server name.
        (None, Selector::Name(name)) if kind.name == "certificates" => {
            made = uuid_text(call);
            add_name(&mut given, name);
            Selector::Id(&made)
        }
        (None, selector) => selector,
    };
    if kind.name == "certificates" {
        if let Selector::Name(name) = Selector::of(name) {
            add_name(&mut given, name);
        }
        given.entry("snis").or_insert(Value::Null);
    }
    let fields = call.dao().upsert(&call.tenant, kind, selector, given).await?;
    call.shown(kind, fields).await.map(Response::ok)
}

fn uuid_text(call: &Call<'_>) -> String {
    cardinal_schema::Auto::id(call.dao()).to_string()
}

fn add_name(given: &mut Fields, name: &str) {
    let names = given.entry("snis").or_insert_with(|| json!([]));
    if names.is_null() {
        *names = json!([]);
    }
    if let Value::Array(list) = names
        && !list.iter().any(|other| other.as_str() == Some(name))
    {
        list.push(name.into());
    }
}

/// Changes an entity by what the body says. `parent` is the entity that the path goes through.
async fn patch(call: &Call<'_>, kind: &Kind, name: &str, parent: Option<(&str, Value)>) -> Result<Response, Fault> {
    call.writes_named("update", kind, name)?;
    let old = call.selected(kind, name).await?;
    let mut given = call.given_besides(kind, old.as_ref(), &[kind.primary_key])?;
    if let Some((field, parent)) = parent {
        given.entry(field.to_owned()).or_insert(parent);
    }
    let id = old.as_ref().map(|old| id_of(old).to_owned());
    let selector = id.as_deref().map_or_else(|| Selector::of(name), Selector::Id);
    let fields = call.dao().update(&call.tenant, kind, selector, given).await?;
    call.shown(kind, fields).await.map(Response::ok)
}

pub(super) async fn children(call: &Call<'_>, nested: Nested<'_>, method: &str) -> Result<Response, Fault> {
    let Nested { parent, name, kind, field, collection } = nested;
    let found = call.selected(parent, name).await?.ok_or_else(Fault::not_found)?;
    if method == "POST" {
        call.writes("create", kind)?;
        let mut given = call.given_besides(kind, None, &[field])?;
        given.insert(field.to_owned(), reference(&found));
        let fields = call.dao().insert(&call.tenant, kind, given).await?;
        return call.shown(kind, fields).await.map(Response::created);
    }
    let below = Some((field, parent, id_of(&found)));
    let (children, offset) = call.dao().page(&call.tenant, kind, below, &call.listing()).await?;
    let mut data = Vec::with_capacity(children.len());
    for fields in children {
        data.push(call.shown(kind, fields).await?);
    }
    let name = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC);
    let path = format!("{}/{}/{name}/{collection}", call.prefix, parent.collection);
    Ok(page(data, offset, &path, &further(call)))
}

pub(super) async fn child(call: &Call<'_>, nested: Nested<'_>, name: &str, method: &str) -> Result<Response, Fault> {
    let Nested { parent, kind, field, .. } = nested;
    let above = call.selected(parent, nested.name).await?.ok_or_else(Fault::not_found)?;
    let is_below = |fields: &Fields| fields.get(field).and_then(|value| value.get("id")) == above.get("id");
    let found = child_named(call, nested, &above, name).await?;
    if method == "PUT" {
        let further = [(field.to_owned(), reference(&above))].into_iter().collect();
        // An attachment is named by its value below its consumer.
        return match (&found, attached_field(kind)) {
            (Some(found), Some(_)) => put(call, kind, id_of(found), further).await,
            (None, Some(by)) if matches!(Selector::of(name), Selector::Name(_)) => {
                call.writes("create", kind)?;
                let mut given = call.given_besides(kind, None, &[field, by])?;
                given.extend(further);
                given.insert(by.to_owned(), name.into());
                let fields = call.dao().insert(&call.tenant, kind, given).await?;
                call.shown(kind, fields).await.map(Response::ok)
            }
            _ => put(call, kind, name, further).await,
        };
    }
    let found = found.filter(is_below).ok_or_else(Fault::not_found)?;
    match method {
        "GET" => call.shown(kind, found).await.map(Response::ok),
        "PATCH" => patch(call, kind, id_of(&found), Some((field, reference(&above)))).await,
        _ => {
            call.writes("remove", kind)?;
            call.dao().delete(&call.tenant, kind, Selector::Id(id_of(&found))).await?;
            Ok(Response::no_content())
        }
    }
}

/// The field by which an attachment, an ACL group, is named below its parent.
fn attached_field(kind: &Kind) -> Option<&'static str> {
    kind.brought_by.filter(|def| !def.unique).map(|def| def.lookup)
}

/// The entity that a path names below another one.
async fn child_named(call: &Call<'_>, nested: Nested<'_>, above: &Fields, name: &str) -> Result<Option<Fields>, Fault> {
    let Nested { parent, kind, field, .. } = nested;
    match (Selector::of(name), attached_field(kind)) {
        (Selector::Name(name), Some(by)) => {
            let all = call.dao().all(&call.tenant, kind, Some((field, parent, id_of(above)))).await?;
            Ok(all.into_iter().find(|fields| fields.get(by).and_then(Value::as_str) == Some(name)))
        }
        _ => call.selected(kind, name).await,
    }
}

pub(super) async fn parent(
    call: &Call<'_>,
    (kind, name): (&Kind, &str),
    (field, target): (&'static str, &Kind),
    method: &str,
) -> Result<Response, Fault> {
    let child = call.selected(kind, name).await?.ok_or_else(Fault::not_found)?;
    let id = child.get(field).and_then(|value| value.get("id")).and_then(Value::as_str).map(str::to_owned);
    match (method, id) {
        ("PUT", None) => {
            call.writes("create", target)?;
            let id = uuid_text(call);
            let response = put(call, target, &id, Fields::new()).await?;
            let link = [(field.to_owned(), json!({ "id": id }))].into_iter().collect();
            call.dao().update(&call.tenant, kind, Selector::Id(id_of(&child)), link).await?;
            Ok(response)
        }
        (_, None) => Err(Fault::not_found()),
        (method, Some(id)) => entity(call, target, &id, method).await,
    }
}
