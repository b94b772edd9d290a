//! [`Schema`]: a record.

use serde_json::Value;

use crate::{Check, Field, Named, Shorthand, Validator};

/// A record: fields, shorthands for them, and checks across them.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    /// The fields in the order they are shown.
    pub fields: Vec<Named>,
    /// Accepted but not kept: replaced by other fields.
    pub shorthands: Vec<Shorthand>,
    /// Checks across the fields; failures are reported under `@entity` of this record.
    pub checks: Vec<Check>,
    /// Checks across the fields of the object that holds this record; paths start at that object
    /// (`config.minute`). Failures are reported under `@entity` of that object. For the `config` of plugins.
    pub outer_checks: Vec<Check>,
    /// Fields of the object that holds this record that the record takes over. For the `config` of plugins: which
    /// `protocols` an instance may name.
    pub outer_fields: Vec<Named>,
    /// Checks in code over the whole record; failures are reported in place of the record.
    pub validators: Vec<Validator>,
    /// Text for users.
    pub description: &'static str,
    /// Values may carry `ttl`, seconds until they expire; it is passed on unchanged.
    pub ttl: bool,
    pub(crate) blank: crate::process::Blank,
}

impl Schema {
    /// A record with these fields. See [`record`](crate::record).
    pub fn new(fields: impl IntoIterator<Item = Named>) -> Self {
        Self { fields: fields.into_iter().collect(), ..Self::default() }
    }

    /// Adds a check across fields of this record.
    pub fn check(mut self, check: Check) -> Self {
        self.checks.push(check);
        self
    }

    /// Adds a check across fields of the object that holds this record (see [`Schema::outer_checks`]).
    pub fn outer_check(mut self, check: Check) -> Self {
        self.outer_checks.push(check);
        self
    }

    /// Takes over a field of the object that holds this record (see [`Schema::outer_fields`]).
    pub fn outer_field(mut self, name: &'static str, field: impl Into<Field>) -> Self {
        self.outer_fields.push(Named { name, field: field.into() });
        self
    }

    /// Adds a check in code over the whole record, complete with defaults. Its message stands in place of the record
    /// (`config: "message"`), as that of Kong's `custom_validator` does.
    pub fn validate(mut self, check: fn(&Value) -> Result<(), String>) -> Self {
        self.validators.push(Validator::Value(check));
        self
    }

    /// Adds a shorthand.
    pub fn shorthand(mut self, shorthand: Shorthand) -> Self {
        self.shorthands.push(shorthand);
        self
    }

    /// Adds shorthands.
    pub fn shorthands(mut self, shorthands: impl IntoIterator<Item = Shorthand>) -> Self {
        self.shorthands.extend(shorthands);
        self
    }

    /// Adds fields after those that are there.
    pub fn with(mut self, fields: impl IntoIterator<Item = Named>) -> Self {
        self.fields.extend(fields);
        self
    }

    /// Replaces the type of a field, or adds the field.
    pub fn replace(mut self, name: &'static str, field: impl Into<Field>) -> Self {
        let field = field.into();
        match self.fields.iter_mut().find(|f| f.name == name) {
            Some(found) => found.field = field,
            None => self.fields.push(Named { name, field }),
        }
        self
    }

    /// Values may carry `ttl`.
    pub fn with_ttl(mut self) -> Self {
        self.ttl = true;
        self
    }

    /// Text for users.
    pub fn describe(mut self, text: &'static str) -> Self {
        self.description = text;
        self
    }

    /// The record as a field that may be `null`.
    pub fn optional(self) -> Field {
        Field::from(self).optional()
    }

    /// The record as a required field.
    pub fn required(self) -> Field {
        Field::from(self).required()
    }

    /// The field with this name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|f| f.name == name).map(|f| &f.field)
    }

    /// The field at a dotted path (`config.redis.host`).
    pub fn field_at(&self, path: &str) -> Option<&Field> {
        match path.split_once('.') {
            None => self.field(path),
            Some((head, tail)) => match &self.field(head)?.kind {
                crate::Kind::Record(schema) => schema.field_at(tail),
                _ => None,
            },
        }
    }

    /// Names a user may write: fields and shorthands.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.fields.iter().map(|f| f.name).chain(self.shorthands.iter().map(|s| s.name))
    }
}
