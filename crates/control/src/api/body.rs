//! Bodies of requests: JSON, or a form.

use cardinal_kong::Registry;
use cardinal_kong::entities::Kind;
use cardinal_schema::{Errors, Kind as FieldKind, Schema, record};
use serde_json::Value;

use super::form;
use super::message::Request;
use crate::dao::document::unique_keys;
use crate::dao::{Fault, Fields};
use crate::rbac;

/// Levels of JSON are limited by the parser.
const JSON: &str = "application/json";
const URLENCODED: &str = "application/x-www-form-urlencoded";
const MULTIPART: &str = "multipart/form-data";

fn needs_body(method: &str) -> bool {
    matches!(method, "PUT" | "POST" | "PATCH")
}

/// Refuses bodies that cannot be read. Kong: `before_filter` of `kong/api/api_helpers.lua`.
pub(super) fn check_type(request: &Request, takes_yaml: bool) -> Result<(), Fault> {
    if !needs_body(&request.method) {
        return Ok(());
    }
    let Some(content_type) = &request.content_type else {
        return if request.body.is_empty() { Ok(()) } else { Err(unsupported()) };
    };
    let is = |prefix: &str| content_type.get(..prefix.len()).is_some_and(|text| text.eq_ignore_ascii_case(prefix));
    let yaml = takes_yaml && (is("application/yaml") || is("text/yaml"));
    if is(JSON) || is(URLENCODED) || is(MULTIPART) || yaml { Ok(()) } else { Err(unsupported()) }
}

fn unsupported() -> Fault {
    Fault::message(415, "Unsupported Media Type")
}

/// The arguments of a body. Values of forms are text.
pub(super) enum Body {
    /// A JSON object.
    Json(Fields),
    /// The fields of a form, nested.
    Form(Fields),
}

/// Reads a body.
///
/// # Errors
/// It is not what its type says.
pub(super) fn read(request: &Request) -> Result<Body, Fault> {
    let content_type = request.content_type.as_deref().unwrap_or_default();
    let lower = content_type.to_ascii_lowercase();
    if lower.starts_with(URLENCODED) {
        let text = std::str::from_utf8(&request.body).map_err(|_| Fault::message(400, "Cannot parse request body"))?;
        return Ok(Body::Form(form::of_query(text)?));
    }
    if lower.starts_with(MULTIPART) {
        return Ok(Body::Form(form::of_multipart(content_type, &request.body)?));
    }
    if request.body.is_empty() && content_type.is_empty() {
        return Ok(Body::Json(Fields::new()));
    }
    match serde_json::from_slice(&request.body) {
        Ok(Value::Object(fields)) => Ok(Body::Json(fields)),
        // An empty list is an empty table in Lua.
        Ok(Value::Array(list)) if list.is_empty() => Ok(Body::Json(Fields::new())),
        _ => Err(Fault::message(400, "Cannot parse JSON body")),
    }
}

/// Refuses a body that has nonsense in place of a field that the path sets: nothing is dropped silently.
///
/// # Errors
/// A value could not be one of its field.
pub(super) fn check_replaced(registry: &Registry, kind: &Kind, given: &Fields, names: &[&str]) -> Result<(), Fault> {
    let mut errors = Errors::default();
    for named in kind.schema.fields.iter().filter(|named| names.contains(&named.name)) {
        let Some(value) = given.get(named.name).filter(|value| !value.is_null()) else { continue };
        let wrong = match named.field.kind {
            FieldKind::Foreign(target) => wrong_reference(registry.kind(target).or_else(|| rbac::kind(target)), value)
                .map(|why| Errors::field(named.name, why)),
            _ => one_field(&record([named.clone()]), named.name, value).err(),
        };
        errors.merge(wrong.unwrap_or_default());
    }
    errors.into_result().map_err(|errors| Fault::schema(&errors))
}

/// Why a value cannot be a reference to an entity of a kind, by its id or another unique field. Nobody looks it up.
fn wrong_reference(target: Option<&Kind>, value: &Value) -> Option<&'static str> {
    let (Value::Object(fields), Some(target)) = (value, target) else { return Some("expected a record") };
    let given = |name: &str| fields.get(name).filter(|value| !value.is_null());
    let is_valid = |name: &str, value: &Value| one_field(&target.schema, name, value).is_ok();
    if let Some(id) = given(target.primary_key) {
        return (!is_valid(target.primary_key, id)).then_some("expected a valid id");
    }
    let keys = unique_keys(target, &target.schema);
    let mut keys = keys.iter().filter_map(|key| key.first().filter(|_| key.len() == 1));
    let is_named = keys.any(|key| given(key).is_some_and(|value| is_valid(key, value)));
    (!is_named).then_some("expected an id or a unique name")
}

/// Checks one field by a schema.
fn one_field(schema: &Schema, name: &str, value: &Value) -> Result<(), Errors> {
    schema.validate_partial(&Value::Object([(name.to_owned(), value.clone())].into_iter().collect()))
}

/// The fields of an entity in a body. `name` is the name of its plugin or vault if the body has none.
pub(super) fn entity(
    request: &Request,
    registry: &Registry,
    kind: &Kind,
    old: Option<&Fields>,
) -> Result<Fields, Fault> {
    let mut fields = match read(request)? {
        Body::Json(fields) => return Ok(fields),
        Body::Form(fields) => fields,
    };
    let mut whole = fields.clone();
    for (name, value) in old.into_iter().flatten() {
        whole.entry(name.clone()).or_insert_with(|| value.clone());
    }
    let schema = registry.schema_of(kind, &whole).unwrap_or(&kind.schema);
    form::infer(&mut fields, schema);
    Ok(fields)
}
