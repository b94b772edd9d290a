//! [`Field`]: a type with its attributes.

use serde_json::Value;

use crate::{Deprecation, Pattern, Rules, Schema};

/// A field with its name.
#[derive(Clone, Debug)]
pub struct Named {
    /// The key in the record.
    pub name: &'static str,
    /// The type.
    pub field: Field,
}

/// What values a field takes.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Text.
    String,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// A list.
    Array(Box<Field>),
    /// A list without duplicates.
    Set(Box<Field>),
    /// Keys of the user's choice: type of the keys, type of the values.
    Map(Box<Field>, Box<Field>),
    /// A record of its own.
    Record(Box<Schema>),
    /// A reference to an entity of this kind.
    Foreign(&'static str),
    /// Any value.
    Any,
    /// Any JSON value, unvalidated.
    Json,
}

impl Kind {
    /// Kong's name of the type.
    pub fn name(&self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Array(_) => "array",
            Self::Set(_) => "set",
            Self::Map(..) => "map",
            Self::Record(_) => "record",
            Self::Foreign(_) => "foreign",
            Self::Any => "any",
            Self::Json => "json",
        }
    }
}

/// A type with its attributes. Built with the functions of [`build`](crate::build) and the methods here.
#[derive(Clone, Debug)]
pub struct Field {
    /// What values it takes.
    pub kind: Kind,
    /// Whether a value must be there in the end. Unset: only records are (so that they show their defaults).
    pub required: Option<bool>,
    /// Default value if the field is absent.
    pub default: Option<Value>,
    /// Generated if the field is absent: ids, times, random secrets.
    pub auto: bool,
    /// No two entities may have the same value.
    pub unique: bool,
    /// The value may be a reference `{vault://...}`.
    pub referenceable: bool,
    /// The value is secret: kept encrypted at rest and out of logs.
    pub encrypted: bool,
    /// Cannot be changed once written.
    pub immutable: bool,
    /// Not a field of Kong's: left out of complete values while the user does not set it, so that what Kong would show
    /// stays what is shown.
    pub addition: bool,
    /// Values that Kong's open-source edition does not take in this field, although it has the field.
    pub added_values: &'static [&'static str],
    /// Text for users, in full sentences.
    pub description: &'static str,
    /// Rules about the value.
    pub rules: Rules,
    /// Replaces a rule's own message.
    pub message: Option<&'static str>,
    /// Set when the field should no longer be used.
    pub deprecation: Option<Deprecation>,
}

impl Field {
    /// A field of this type without attributes.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            required: None,
            default: None,
            auto: false,
            unique: false,
            referenceable: false,
            encrypted: false,
            immutable: false,
            addition: false,
            added_values: &[],
            description: "",
            rules: Rules::default(),
            message: None,
            deprecation: None,
        }
    }

    /// Whether a value must be there in the end.
    pub fn is_required(&self) -> bool {
        self.required.unwrap_or(matches!(self.kind, Kind::Record(_)))
    }

    /// A value must be there.
    pub fn required(mut self) -> Self {
        self.required = Some(true);
        self
    }

    /// `null` is allowed. Needed for records only.
    pub fn optional(mut self) -> Self {
        self.required = Some(false);
        self
    }

    /// Default value if the field is absent.
    pub fn default(mut self, value: impl Into<Value>) -> Self {
        self.default = Some(value.into());
        self
    }

    /// Generated if the field is absent.
    pub fn auto(mut self) -> Self {
        self.auto = true;
        self
    }

    /// No two entities may have the same value.
    pub fn unique(mut self) -> Self {
        self.unique = true;
        self
    }

    /// The value may be a reference `{vault://...}`.
    pub fn referenceable(mut self) -> Self {
        self.referenceable = true;
        self
    }

    /// The value is secret.
    pub fn encrypted(mut self) -> Self {
        self.encrypted = true;
        self
    }

    /// Cannot be changed once written.
    pub fn immutable(mut self) -> Self {
        self.immutable = true;
        self
    }

    /// Not a field of Kong's; see [`Field::addition`]. It must be optional and have no default.
    pub fn addition(mut self) -> Self {
        self.addition = true;
        self
    }

    /// Values that Kong's open-source edition does not take in this field.
    pub fn added_values(mut self, values: &'static [&'static str]) -> Self {
        self.added_values = values;
        self
    }

    /// Text for users.
    pub fn describe(mut self, text: &'static str) -> Self {
        self.description = text;
        self
    }

    /// Replaces a rule's own message.
    pub fn message(mut self, text: &'static str) -> Self {
        self.message = Some(text);
        self
    }

    /// Deprecated; `message` names the replacement.
    pub fn deprecated(mut self, message: &'static str) -> Self {
        self.deprecation = Some(Deprecation { message, replaced_with: &[] });
        self
    }

    /// Replaces all rules.
    pub fn rules(mut self, rules: Rules) -> Self {
        self.rules = rules;
        self
    }

    /// Exactly this value.
    pub fn eq(mut self, value: impl Into<Value>) -> Self {
        self.rules = self.rules.eq(value);
        self
    }

    /// Must be `null`: for scopes that a plugin forbids.
    pub fn eq_null(self) -> Self {
        self.eq(Value::Null)
    }

    /// Any value but this one.
    pub fn ne(mut self, value: impl Into<Value>) -> Self {
        self.rules = self.rules.ne(value);
        self
    }

    /// One of these values.
    pub fn one_of<T: Into<Value>>(mut self, values: impl IntoIterator<Item = T>) -> Self {
        self.rules = self.rules.one_of(values);
        self
    }

    /// None of these values.
    pub fn not_one_of<T: Into<Value>>(mut self, values: impl IntoIterator<Item = T>) -> Self {
        self.rules = self.rules.not_one_of(values);
        self
    }

    /// Greater than.
    pub fn gt(mut self, limit: impl Into<f64>) -> Self {
        self.rules = self.rules.gt(limit);
        self
    }

    /// Within limits, both included.
    pub fn between(mut self, low: impl Into<f64>, high: impl Into<f64>) -> Self {
        self.rules = self.rules.between(low, high);
        self
    }

    /// Exactly this many bytes or elements.
    pub fn len_eq(mut self, n: usize) -> Self {
        self.rules.len_eq = Some(n);
        self
    }

    /// At least this many bytes or elements.
    pub fn len_min(mut self, n: usize) -> Self {
        self.rules.len_min = Some(n);
        self
    }

    /// At most this many bytes or elements.
    pub fn len_max(mut self, n: usize) -> Self {
        self.rules.len_max = Some(n);
        self
    }

    /// Text that starts with this.
    pub fn starts_with(mut self, text: &'static str) -> Self {
        self.rules.starts_with = Some(text);
        self
    }

    /// The form of a text that is checked in code, for descriptions: a regular expression of ECMAScript. It must be found in
    /// all that the check accepts.
    pub fn shape(mut self, pattern: &'static str) -> Self {
        self.rules.shape = Some(pattern);
        self
    }

    /// Text in which the regular expression is found.
    pub fn matches(mut self, pattern: &'static str) -> Self {
        self.rules = self.rules.matches(pattern);
        self
    }

    /// Text in which the regular expression is not found.
    pub fn not_matches(mut self, pattern: &'static str) -> Self {
        self.rules.not_match = Some(Pattern::new(pattern));
        self
    }

    /// Text in which the regular expression is found; `message` is the error otherwise. May be given many times.
    pub fn match_all(mut self, pattern: &'static str, message: &'static str) -> Self {
        self.rules.match_all.push((Pattern::new(pattern), message));
        self
    }

    /// Text in which the regular expression is not found; `message` is the error otherwise. May be given many
    /// times.
    pub fn match_none(mut self, pattern: &'static str, message: &'static str) -> Self {
        self.rules.match_none.push((Pattern::new(pattern), message));
        self
    }

    /// Text in which one of the regular expressions is found.
    pub fn match_any(mut self, patterns: impl IntoIterator<Item = &'static str>, message: &'static str) -> Self {
        self.rules.match_any = Some((patterns.into_iter().map(Pattern::new).collect(), message));
        self
    }

    /// Text that compiles as a regular expression.
    pub fn is_regex(mut self) -> Self {
        self.rules.is_regex = true;
        self
    }

    /// A list that has this element.
    pub fn contains(mut self, value: impl Into<Value>) -> Self {
        self.rules.contains = Some(value.into());
        self
    }

    /// A list whose elements come from one of these groups only.
    pub fn exclusive_subsets(mut self, groups: &'static [&'static [&'static str]]) -> Self {
        self.rules.exclusive_subsets = groups;
        self
    }

    /// A check in code, over the complete value. Not called for `null` and vault references.
    pub fn validate(mut self, check: fn(&Value) -> Result<(), String>) -> Self {
        self.rules.validators.push(crate::Validator::Value(check));
        self
    }

    /// A check in code, over text.
    pub fn validate_str(mut self, check: fn(&str) -> Result<(), String>) -> Self {
        self.rules.validators.push(crate::Validator::Text(check));
        self
    }
}

impl From<Schema> for Field {
    fn from(schema: Schema) -> Self {
        let description = schema.description;
        let mut field = Self::new(Kind::Record(Box::new(schema)));
        field.description = description;
        field
    }
}
