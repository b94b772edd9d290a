//! The vocabulary: one function for each type of field.

use serde_json::Value;

use crate::{Field, Kind, Named, Schema, Shorthand};

/// A record with these fields, in this order.
pub fn record(fields: impl IntoIterator<Item = Named>) -> Schema {
    Schema::new(fields)
}

/// A field of a record.
pub fn field(name: &'static str, of: impl Into<Field>) -> Named {
    Named { name, field: of.into() }
}

/// Text. Empty text is rejected unless the field has [`Field::len_min`]`(0)`.
pub fn string() -> Field {
    Field::new(Kind::String)
}

/// A whole number.
pub fn integer() -> Field {
    Field::new(Kind::Integer)
}

/// A number.
pub fn number() -> Field {
    Field::new(Kind::Number)
}

/// `true` or `false`.
pub fn boolean() -> Field {
    Field::new(Kind::Boolean)
}

/// A list of values.
pub fn array(elements: impl Into<Field>) -> Field {
    Field::new(Kind::Array(Box::new(elements.into())))
}

/// A list whose duplicates are dropped.
pub fn set(elements: impl Into<Field>) -> Field {
    Field::new(Kind::Set(Box::new(elements.into())))
}

/// An object with keys of the user's choice.
pub fn map(keys: impl Into<Field>, values: impl Into<Field>) -> Field {
    Field::new(Kind::Map(Box::new(keys.into()), Box::new(values.into())))
}

/// A reference `{"id": ...}` to an entity of this kind (`services`).
pub fn foreign(entity: &'static str) -> Field {
    Field::new(Kind::Foreign(entity))
}

/// Any value at all; only rules are checked.
pub fn any() -> Field {
    Field::new(Kind::Any)
}

/// Any JSON value, passed on unchanged (Kong's `json` type without a schema of its own).
pub fn json() -> Field {
    Field::new(Kind::Json)
}

/// A field that is accepted but not kept: `expand` returns the real fields as an object that
/// is merged into the record.
pub fn shorthand(name: &'static str, of: impl Into<Field>, expand: fn(&Value) -> Value) -> Shorthand {
    Shorthand::new(name, of.into(), expand)
}
