//! Reading: one entity, a page of entities.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use cardinal_kong::entities::Kind;
use cardinal_schema::Errors;
use cardinal_store::{Document, Key, Query, TagFilter};
use serde_json::{Value, json};

use super::access::{Dao, Fields, Tenant};
use super::default_workspace::{add_unstored, unstored};
use super::document::{space, unique, unique_name};
use super::fault::Fault;
use crate::permissions::Action;

/// Which entities a page has.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Entities of the page at most; `None` for 100.
    pub size: Option<Value>,
    /// The `offset` of the page before.
    pub offset: Option<String>,
    /// A filter by tags.
    pub tags: Tags,
}

/// A filter by tags, as it is written in a query.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Tags {
    /// None.
    #[default]
    None,
    /// `a,b` or `a/b`.
    Text(String),
}

/// How a client names an entity in a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selector<'p> {
    /// By its id.
    Id(&'p str),
    /// By its lookup key.
    Name(&'p str),
}

impl<'p> Selector<'p> {
    /// A text of the form of a UUID is an id, anything else a name. Kong: `query_entity` of `kong/api/endpoints.lua`.
    pub fn of(text: &'p str) -> Self {
        if is_uuid(text) { Self::Id(text) } else { Self::Name(text) }
    }
}

/// Whether a text has the form of a UUID.
pub(super) fn is_uuid(text: &str) -> bool {
    text.len() == 36 && uuid::Uuid::try_parse(text).is_ok()
}

/// Sizes of pages.
const SIZE_DEFAULT: usize = 100;
const SIZE_MAX: usize = 1_000;
/// Tags of a filter.
const TAGS_MAX: usize = 5;

impl Dao {
    /// The entity that a path names.
    ///
    /// # Errors
    /// The text cannot be an id or a name of the kind, or the store failed.
    pub async fn select(&self, tenant: &Tenant, kind: &Kind, selector: Selector<'_>) -> Result<Option<Fields>, Fault> {
        let found = self.select_document(tenant, kind, selector).await?;
        if let Some(found) = &found {
            tenant.check(&found.key.id, Action::Read)?;
        }
        Ok(found.map(fields_of))
    }

    pub(super) async fn select_document(
        &self,
        tenant: &Tenant,
        kind: &Kind,
        selector: Selector<'_>,
    ) -> Result<Option<Document>, Fault> {
        let found = match selector {
            Selector::Id(id) => self.store.get(Key::new(kind.name, id.to_ascii_lowercase())).await?,
            Selector::Name(name) => {
                let Some(key) = kind.key.filter(|key| key.unique) else {
                    return Err(Fault::invalid_primary_key(("id", &Value::from(name))));
                };
                self.find(tenant, kind, key.field, &Value::from(name)).await?
            }
        };
        let found = found.or_else(|| match selector {
            Selector::Id(id) => unstored(kind, true, id),
            Selector::Name(name) => unstored(kind, false, name),
        });
        let found = found.filter(|document| document.space == space(kind, &tenant.workspace));
        Ok(found.filter(|document| !self.is_expired(kind, &document.value)))
    }

    /// Whether the life of an entity is over. It is deleted a little later.
    fn is_expired(&self, kind: &Kind, value: &Value) -> bool {
        kind.schema.ttl && value.as_object().and_then(|fields| self.life_left(fields)).is_some_and(|left| left <= 0.0)
    }

    /// The entity with a value of a unique field.
    pub(super) async fn find(
        &self,
        tenant: &Tenant,
        kind: &Kind,
        field: &'static str,
        value: &Value,
    ) -> Result<Option<Document>, Fault> {
        if let Some(rules) = kind.schema.field(field) {
            let wrong = cardinal_schema::record([cardinal_schema::field(field, rules.clone())])
                .validate_partial(&json!({ field: value }));
            if let Err(errors) = wrong {
                let message = errors.get(field).map_or_else(|| errors.summary(), text_of);
                return Err(Fault::invalid_unique(field, &message));
            }
        }
        let fields = [(field.to_owned(), value.clone())].into_iter().collect();
        let Some(key) = unique(kind, &kind.schema, &tenant.workspace, &[field], &fields) else { return Ok(None) };
        Ok(self.store.find(kind.name.into(), unique_name(&[field]), key.value).await?)
    }

    /// The entity with a text in a unique field.
    ///
    /// # Errors
    /// The text is no value of the field, or the store failed.
    pub async fn by_field(
        &self,
        tenant: &Tenant,
        kind: &Kind,
        field: &'static str,
        text: &str,
    ) -> Result<Option<Fields>, Fault> {
        let found = self.find(tenant, kind, field, &Value::from(text)).await?;
        Ok(found.filter(|found| tenant.allows(&found.key.id, Action::Read)).map(fields_of))
    }

    /// A page of the entities of a kind, `below` an entity that they reference by a field, if given.
    ///
    /// The result has the offset of the next page.
    ///
    /// # Errors
    /// Arguments are out of range, or the store failed.
    pub async fn page(
        &self,
        tenant: &Tenant,
        kind: &Kind,
        below: Option<(&str, &Kind, &str)>,
        listing: &Listing,
    ) -> Result<(Vec<Fields>, Option<String>), Fault> {
        let query = Query {
            kind: kind.name.into(),
            space: Some(space(kind, &tenant.workspace)),
            tags: tag_filter(kind, &listing.tags)?,
            reference: below.map(|(field, parent, id)| (field.into(), Key::new(parent.name, id))),
            after: listing.offset.as_deref().map(after).transpose()?,
            limit: size(listing.size.as_ref())?,
        };
        let mut page = self.store.list(query.clone()).await?;
        add_unstored(&query, &mut page);
        let is_shown = |document: &Document| {
            !self.is_expired(kind, &document.value) && tenant.allows(&document.key.id, Action::Read)
        };
        let alive = page.documents.into_iter().filter(is_shown);
        Ok((alive.map(fields_of).collect(), page.next.map(|id| offset(&id))))
    }

    /// All entities of a kind, `below` an entity that they reference by a field, if given.
    pub(crate) async fn all(
        &self,
        tenant: &Tenant,
        kind: &Kind,
        below: Option<(&str, &Kind, &str)>,
    ) -> Result<Vec<Fields>, Fault> {
        let mut query = Query::all(kind.name);
        query.space = Some(space(kind, &tenant.workspace));
        query.reference = below.map(|(field, parent, id)| (field.into(), Key::new(parent.name, id)));
        let mut out = Vec::new();
        loop {
            let page = self.store.list(query.clone()).await?;
            out.extend(page.documents.into_iter().map(fields_of));
            match page.next {
                Some(next) => query.after = Some(next),
                None => return Ok(out),
            }
        }
    }
}

/// The fields of a document.
pub(super) fn fields_of(document: Document) -> Fields {
    match document.value {
        Value::Object(fields) => fields,
        _ => Fields::new(),
    }
}

pub(super) fn text_of(errors: &Errors) -> String {
    match errors {
        Errors::Message(text) => text.clone(),
        errors => errors.summary(),
    }
}

/// Kong's text for sizes that are out of range.
fn size(given: Option<&Value>) -> Result<usize, Fault> {
    let Some(given) = given else { return Ok(SIZE_DEFAULT) };
    let number = match given {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse::<f64>().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    let Some(number) = number else { return Err(Fault::invalid_size("size must be a number")) };
    let out_of_range = || Fault::invalid_size(&format!("size must be an integer between 1 and {SIZE_MAX}"));
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and in range")]
    match number {
        n if n.fract() == 0.0 && (1.0..=SIZE_MAX as f64).contains(&n) => Ok(n as usize),
        _ => Err(out_of_range()),
    }
}

/// The offset of a page after this entity: the entity's primary key as JSON, encoded.
fn offset(id: &str) -> String {
    BASE64_STANDARD.encode(json!([id]).to_string())
}

fn after(offset: &str) -> Result<Arc<str>, Fault> {
    let wrong = || Fault::invalid_offset(offset, "bad base64 encoding");
    let bytes = BASE64_STANDARD.decode(offset).map_err(|_| wrong())?;
    match serde_json::from_slice::<Value>(&bytes) {
        Ok(Value::Array(list)) => match list.first().and_then(Value::as_str) {
            Some(id) if list.len() == 1 => Ok(id.into()),
            _ => Err(Fault::invalid_offset(offset, "bad offset")),
        },
        _ => Err(Fault::invalid_offset(offset, "bad offset")),
    }
}

fn tag_filter(kind: &Kind, tags: &Tags) -> Result<TagFilter, Fault> {
    let Tags::Text(text) = tags else { return Ok(TagFilter::None) };
    if kind.schema.field("tags").is_none() {
        return Ok(TagFilter::None);
    }
    parse_tags(text)
}

/// A filter by tags: `a,b` for all of them, `a/b` for any of them.
pub(crate) fn parse_tags(text: &str) -> Result<TagFilter, Fault> {
    let invalid = |message: &str| Err(Fault::invalid_option("tags", message));
    let is_sound = text.chars().all(|c| !c.is_control()) && !text.starts_with([',', '/']);
    let mixed = text.contains(',') && text.contains('/');
    if text.is_empty() {
        return invalid("cannot be null");
    }
    if !is_sound || mixed || text.contains(",,") || text.contains("//") {
        return invalid("invalid filter syntax");
    }
    let separator = if text.contains('/') { '/' } else { ',' };
    let list: Vec<Arc<str>> = text.split(separator).filter(|tag| !tag.is_empty()).map(Into::into).collect();
    if list.len() > TAGS_MAX {
        return invalid("cannot query more than 5 tags");
    }
    Ok(if separator == '/' { TagFilter::Any(list) } else { TagFilter::All(list) })
}
