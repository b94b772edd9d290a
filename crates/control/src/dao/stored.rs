//! The form of values in the store that were read from it, or from elsewhere as complete entities.

use cardinal_store::{Key, NewDocument, PastDocument};
use serde_json::Value;

use super::access::Dao;
use super::document::document;
use super::fault::Fault;
use super::members;

impl Dao {
    /// The document of a complete value: with the unique keys, references, tags and secrets that this program knows of.
    pub(crate) fn stored_form(&self, key: &Key, past: PastDocument) -> Result<NewDocument, Fault> {
        let unknown = || Fault::message(409, &format!("{key} is of a kind that this program does not know"));
        let PastDocument { space, value } = past;
        if &*key.kind == members::KIND {
            let id = |field: &str| value.get(field)?.get("id")?.as_str();
            let (group, consumer) = id("consumer_group").zip(id("consumer")).ok_or_else(unknown)?;
            return Ok(members::document(&space, group, consumer));
        }
        let (Some(kind), Value::Object(fields)) = (self.registry.kind(&key.kind), value) else { return Err(unknown()) };
        let schema = self.registry.schema_of(kind, &fields).map_err(|errors| Fault::schema(&errors))?;
        let document = document(kind, schema, &space, fields);
        Ok(NewDocument { key: key.clone(), ..document })
    }
}
