//! Rows for documentation tables.

use serde_json::Value;

use crate::validate::lua_text;
use crate::{Field, Kind, Schema};

/// One field, as a row of a table in the manual.
#[derive(Clone, Debug, PartialEq)]
pub struct DocRow {
    /// Dotted path; `[]` after the name of a list of records, `.*` after that of a map.
    pub path: String,
    /// The type in words: `array of string`.
    pub kind: String,
    /// Whether the user must write it.
    pub required: bool,
    /// The default as JSON, if there is one.
    pub default: Option<String>,
    /// The rules in words.
    pub rules: Vec<String>,
    /// What the description says, and what replaces a deprecated field.
    pub text: String,
}

impl Schema {
    /// A row for each field, nested ones below their records, deprecated names last.
    pub fn doc_rows(&self) -> Vec<DocRow> {
        let mut rows = Vec::new();
        self.push_rows("", &mut rows);
        rows
    }

    fn push_rows(&self, prefix: &str, rows: &mut Vec<DocRow>) {
        for named in &self.fields {
            push_field(&format!("{prefix}{}", named.name), &named.field, rows);
        }
        if self.ttl {
            rows.push(ttl_row(prefix));
        }
        // A shorthand by the name of a field changes how that field is read; it is no field of its own.
        let has_row = |name: &str| self.fields.iter().any(|named| named.name == name);
        for shorthand in self.shorthands.iter().filter(|shorthand| !has_row(shorthand.name)) {
            let mut row = row(format!("{prefix}{}", shorthand.name), &shorthand.field);
            if let Some(path) = shorthand.replaced_with {
                row.text = format!("Deprecated name of `{prefix}{path}`.");
            }
            rows.push(row);
        }
    }
}

fn ttl_row(prefix: &str) -> DocRow {
    DocRow {
        path: format!("{prefix}ttl"),
        kind: "integer".to_owned(),
        required: false,
        default: None,
        rules: Vec::new(),
        text: "Seconds after its creation when it expires. It does not expire when absent.".to_owned(),
    }
}

fn push_field(path: &str, field: &Field, rows: &mut Vec<DocRow>) {
    rows.push(row(path.to_owned(), field));
    match &field.kind {
        Kind::Record(schema) => schema.push_rows(&format!("{path}."), rows),
        Kind::Array(of) | Kind::Set(of) => {
            if let Kind::Record(schema) = &of.kind {
                schema.push_rows(&format!("{path}[]."), rows);
            }
        }
        Kind::Map(_, of) => {
            if let Kind::Record(schema) = &of.kind {
                schema.push_rows(&format!("{path}.*."), rows);
            }
        }
        _ => {}
    }
}

fn row(path: String, field: &Field) -> DocRow {
    let written = field.is_required() && field.default.is_none() && !field.auto;
    let text = match &field.deprecation {
        Some(d) if field.description.is_empty() => format!("Deprecated: {}.", d.message),
        Some(d) => format!("{} Deprecated: {}.", field.description, d.message),
        None => field.description.to_owned(),
    };
    DocRow {
        path,
        kind: kind_words(&field.kind),
        required: written && !matches!(field.kind, Kind::Record(_)),
        default: field.default.as_ref().map(Value::to_string),
        rules: rule_words(field),
        text,
    }
}

fn kind_words(kind: &Kind) -> String {
    match kind {
        Kind::Array(of) | Kind::Set(of) => format!("{} of {}", kind.name(), kind_words(&of.kind)),
        Kind::Map(_, of) => format!("map of {}", kind_words(&of.kind)),
        Kind::Foreign(entity) => format!("reference to {entity}"),
        _ => kind.name().to_owned(),
    }
}

fn rule_words(field: &Field) -> Vec<String> {
    let rules = match &field.kind {
        Kind::Array(of) | Kind::Set(of) if !of.rules.one_of.is_empty() => &of.rules,
        _ => &field.rules,
    };
    let mut out = Vec::new();
    if !rules.one_of.is_empty() {
        let values: Vec<_> = rules.one_of.iter().map(|v| format!("`{}`", lua_text(v))).collect();
        out.push(format!("one of {}", values.join(", ")));
    }
    if let Some((low, high)) = rules.between {
        out.push(format!("{low} to {high}"));
    }
    if let Some(limit) = rules.gt {
        out.push(format!("greater than {limit}"));
    }
    if let Some(n) = rules.len_min {
        out.push(format!("length at least {n}"));
    }
    if let Some(n) = rules.len_max {
        out.push(format!("length at most {n}"));
    }
    if field.unique {
        out.push("unique".to_owned());
    }
    if field.referenceable {
        out.push("may be a vault reference".to_owned());
    }
    out
}
