//! [`Fault`]: an error in Kong's form. Kong: `kong/db/errors.lua`.

use cardinal_schema::Errors;
use cardinal_store::StoreError;
use serde_json::{Map, Value, json};

use super::lua;
use crate::permissions::Action;

/// Why an operation failed, as a client of Kong expects it: a status and a body.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// Status of the response.
    pub status: u16,
    /// Its body.
    pub body: Value,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.body.get("message").and_then(Value::as_str) {
            Some(message) => f.write_str(message),
            None => write!(f, "{}", self.body),
        }
    }
}

impl std::error::Error for Fault {}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        let status = match error {
            // The client is told, and nothing is broken.
            StoreError::Conflict(text) => return Self::message(409, &text),
            StoreError::Refused(text) => return Self::message(400, &text),
            StoreError::TooLarge(_) => 413,
            // Later it may be reached again.
            StoreError::Unavailable(_) => 503,
            StoreError::ReadOnly(_) | StoreError::Corrupt(_) | StoreError::TooNew { .. } => 500,
        };
        tracing::error!(%error, "the store failed");
        Self::of(status, 8, DATABASE_ERROR, &error.to_string(), None)
    }
}

/// The name of errors of the store.
const DATABASE_ERROR: &str = "database error";

/// A field with its value, for messages.
pub(crate) type Named<'v> = (&'v str, &'v Value);

impl Fault {
    /// A response with a message alone.
    pub fn message(status: u16, message: &str) -> Self {
        Self { status, body: json!({ "message": message }) }
    }

    /// What is stored cannot be read.
    pub(crate) fn is_damage(&self) -> bool {
        self.status == 500 && self.body.get("name").and_then(Value::as_str) == Some(DATABASE_ERROR)
    }

    /// The roles of a user do not allow a request.
    pub fn forbidden(user: &str, action: Action) -> Self {
        let action = action.as_str();
        Self::message(403, &format!("{user}, you do not have permissions to {action} this resource"))
    }

    /// There is no such entity or path.
    pub fn not_found() -> Self {
        Self::message(404, "Not found")
    }

    /// The path does not take this method.
    pub fn method_not_allowed() -> Self {
        Self::message(405, "Method not allowed")
    }

    fn of(status: u16, code: u32, name: &str, message: &str, fields: Option<Value>) -> Self {
        let mut body = json!({ "code": code, "name": name, "message": message });
        if let (Some(fields), Some(body)) = (fields, body.as_object_mut()) {
            body.insert("fields".to_owned(), fields);
        }
        Self { status, body }
    }

    /// The entity breaks rules of its schema.
    pub fn schema(errors: &Errors) -> Self {
        Self::of(400, 2, "schema violation", &errors.summary(), Some(errors.to_json()))
    }

    /// One field breaks a rule.
    pub(super) fn field(name: &str, message: impl Into<Errors>) -> Self {
        Self::schema(&Errors::field(name, message))
    }

    pub(super) fn primary_key_taken(key: Named<'_>) -> Self {
        let message = format!("primary key violation on key '{}'", lua::table([key]));
        Self::of(400, 3, "primary key violation", &message, Some(object([key])))
    }

    pub(super) fn invalid_primary_key(key: Named<'_>) -> Self {
        let message = format!("invalid primary key: '{}'", lua::table([key]));
        Self::of(400, 1, "invalid primary key", &message, Some(object([key])))
    }

    /// A referenced entity does not exist.
    pub(super) fn no_reference(field: &str, target: &str, id: &str) -> Self {
        let key = json!({ "id": id });
        let shown = lua::table([("id", &Value::from(id))]);
        let message = format!("the foreign key '{shown}' does not reference an existing '{target}' entity.");
        Self::of(400, 4, "foreign key violation", &message, Some(json!({ field: key })))
    }

    /// An entity that is to be deleted is referenced.
    pub(super) fn referenced(kind: &str, by: &str) -> Self {
        let message = format!("an existing '{by}' entity references this '{kind}' entity");
        Self::of(400, 4, "foreign key violation", &message, Some(json!({ "@referenced_by": by })))
    }

    pub(crate) fn unique(key: &[Named<'_>]) -> Self {
        let message = format!("UNIQUE violation detected on '{}'", lua::table(key.iter().copied()));
        Self::of(409, 5, "unique constraint violation", &message, Some(object(key.iter().copied())))
    }

    pub(super) fn no_entity(key: &[Named<'_>]) -> Self {
        let message = format!("could not find the entity with primary key '{}'", lua::table(key.iter().copied()));
        Self::of(404, 6, "not found", &message, Some(object(key.iter().copied())))
    }

    pub(super) fn no_entity_by_field(key: Named<'_>) -> Self {
        let message = format!("could not find the entity with '{}'", lua::table([key]));
        Self::of(404, 6, "not found", &message, Some(object([key])))
    }

    pub(super) fn invalid_offset(offset: &str, why: &str) -> Self {
        Self::of(400, 7, "invalid offset", &format!("'{offset}' is not a valid offset: {why}"), None)
    }

    /// The size of a page is out of range.
    pub fn invalid_size(message: &str) -> Self {
        Self::of(400, 9, "invalid size", message, None)
    }

    pub(super) fn invalid_unique(field: &str, message: &str) -> Self {
        Self::of(400, 10, &format!("invalid unique {field}"), message, Some(json!({ field: message })))
    }

    /// An argument of the query is wrong.
    pub fn invalid_option(name: &str, message: &str) -> Self {
        let text = format!("invalid option ({name}: {message})");
        Self {
            status: 400,
            body: json!({ "code": 11, "name": "invalid options", "message": text, "options": { name: message } }),
        }
    }

    /// A reference by name leads nowhere.
    pub(super) fn unresolved(field: &str, by: Named<'_>, target: &str) -> Self {
        let (name, _) = by;
        let why =
            format!("the foreign key cannot be resolved with '{}' for an existing '{target}' entity", lua::table([by]));
        let message = format!("foreign key unresolved ({field}.{name}: {why})");
        Self::of(400, 13, "foreign keys unresolved", &message, Some(json!({ field: { name: why } })))
    }

    /// Nothing can be written, because the configuration comes from elsewhere.
    /// `by` is the field that the client names the entity by, if that is not its id.
    pub fn read_only(verb: &str, kind: &str, by: Option<&str>) -> Self {
        let by = by.map(|field| format!(" by '{field}'")).unwrap_or_default();
        let message = format!("cannot {verb} '{kind}' entities{by} when not using a database");
        Self::of(405, 12, "operation unsupported", &message, None)
    }

    pub(super) fn referenced_by_others(message: &str) -> Self {
        Self::of(400, 19, "referenced by others", message, None)
    }

    /// Each attempt conflicted with a concurrent write.
    pub(super) fn contended() -> Self {
        Self::of(500, 8, DATABASE_ERROR, "the entity is being changed by others: try again", None)
    }
}

fn object<'v>(fields: impl IntoIterator<Item = Named<'v>>) -> Value {
    let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value.clone()));
    Value::Object(fields.collect::<Map<_, _>>())
}
