//! Kong's form of a description: its `/schemas` answer.

use serde_json::{Map, Value, json};

use crate::{Check, Field, Kind, Pattern, Rules, Schema, Shorthand};

impl Schema {
    /// What Kong's `GET /schemas/...` answers: `{fields: [{name: {type, ...}}], entity_checks: [...]}`.
    pub fn kong_form(&self) -> Value {
        let mut out = self.kong_record();
        let checks: Vec<Value> = self.checks.iter().chain(self.inner_checks()).map(kong_check).collect();
        out.insert("entity_checks".to_owned(), checks.into());
        Value::Object(out)
    }

    fn inner_checks(&self) -> impl Iterator<Item = &Check> {
        self.fields.iter().flat_map(|named| match &named.field.kind {
            Kind::Record(inner) => inner.outer_checks.as_slice(),
            _ => &[],
        })
    }

    fn kong_record(&self) -> Map<String, Value> {
        let mut out = Map::new();
        // Clients fill in what is described here, and what Kong does not have is not shown while it is unset.
        let fields = self.fields.iter().filter(|named| !named.field.addition);
        let fields: Vec<Value> = fields.map(|n| json!({ n.name: kong_field(&n.field) })).collect();
        out.insert("fields".to_owned(), fields.into());
        if !self.shorthands.is_empty() {
            let all: Vec<Value> = self.shorthands.iter().map(kong_shorthand).collect();
            out.insert("shorthand_fields".to_owned(), all.into());
        }
        out
    }
}

fn kong_shorthand(shorthand: &Shorthand) -> Value {
    let mut of = kong_field(&shorthand.field);
    if let (Some(path), Value::Object(of)) = (shorthand.replaced_with, &mut of) {
        let path: Vec<&str> = path.split('.').collect();
        of.insert("deprecation".to_owned(), json!({ "replaced_with": [{ "path": path }] }));
    }
    json!({ shorthand.name: of })
}

fn kong_field(field: &Field) -> Value {
    let mut out = match &field.kind {
        Kind::Record(schema) => schema.kong_record(),
        _ => Map::new(),
    };
    let mut put = |name: &str, value: Value| out.insert(name.to_owned(), value);
    put("type", field.kind.name().into());
    match &field.kind {
        Kind::Array(of) | Kind::Set(of) => {
            put("elements", kong_element(of));
        }
        Kind::Map(keys, values) => {
            put("keys", kong_element(keys));
            put("values", kong_element(values));
        }
        Kind::Foreign(entity) => {
            put("reference", (*entity).into());
        }
        _ => {}
    }
    if field.is_required() {
        put("required", true.into());
    } else if field.required == Some(false) {
        put("required", false.into());
    }
    if let Some(default) = &field.default {
        put("default", default.clone());
    }
    let flags = [
        ("auto", field.auto),
        ("unique", field.unique),
        ("referenceable", field.referenceable),
        ("encrypted", field.encrypted),
        ("immutable", field.immutable),
        ("uuid", field.rules.uuid),
        ("timestamp", field.rules.timestamp),
    ];
    for (name, _) in flags.iter().filter(|(_, on)| *on) {
        put(name, true.into());
    }
    if !field.description.is_empty() {
        put("description", field.description.into());
    }
    if let Some(deprecation) = &field.deprecation {
        put("deprecation", json!({ "message": deprecation.message }));
    }
    out.extend(kong_rules(&field.rules));
    if matches!(field.kind, Kind::String) && field.rules.len_min.is_none() {
        out.insert("len_min".to_owned(), 1.into());
    }
    Value::Object(out)
}

/// Elements are always required.
fn kong_element(field: &Field) -> Value {
    kong_field(&field.clone().required())
}

fn kong_rules(rules: &Rules) -> Map<String, Value> {
    let mut out = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            out.insert(name.to_owned(), value);
        }
    };
    let list = |values: &[Value]| (!values.is_empty()).then(|| Value::from(values.to_vec()));
    let patterns = |all: &[(Pattern, &str)]| {
        let all: Vec<Value> = all.iter().map(|(p, e)| json!({"pattern": p.as_str(), "err": e})).collect();
        (!all.is_empty()).then_some(Value::from(all))
    };
    put("required", rules.required.then_some(true.into()));
    put("eq", rules.eq.clone());
    put("ne", rules.ne.clone());
    put("one_of", list(&rules.one_of));
    put("not_one_of", list(&rules.not_one_of));
    put("gt", rules.gt.map(plain));
    put("between", rules.between.map(|(low, high)| json!([plain(low), plain(high)])));
    put("len_eq", rules.len_eq.map(Value::from));
    put("len_min", rules.len_min.map(Value::from));
    put("len_max", rules.len_max.map(Value::from));
    put("starts_with", rules.starts_with.map(Value::from));
    put("is_regex", rules.is_regex.then_some(true.into()));
    put("match", rules.matches.as_ref().map(|p| p.as_str().into()));
    put("not_match", rules.not_match.as_ref().map(|p| p.as_str().into()));
    put("match_none", patterns(&rules.match_none));
    put("match_all", patterns(&rules.match_all));
    put("contains", rules.contains.clone());
    if let Some((any, err)) = &rules.match_any {
        let any: Vec<&str> = any.iter().map(Pattern::as_str).collect();
        put("match_any", Some(json!({"patterns": any, "err": err})));
    }
    if !rules.exclusive_subsets.is_empty() {
        put("mutually_exclusive_subsets", Some(json!(rules.exclusive_subsets)));
    }
    out
}

fn kong_check(check: &Check) -> Value {
    match check {
        Check::MutuallyExclusiveSets(one, other) => json!({ check.name(): { "set1": one, "set2": other } }),
        Check::Conditional(c) => {
            let (if_field, if_match, then_field, then_match) = c.parts();
            json!({ check.name(): {
                "if_field": if_field, "if_match": kong_rules(if_match),
                "then_field": then_field, "then_match": kong_rules(then_match),
            } })
        }
        Check::ConditionalAtLeastOneOf(c) => {
            let (if_field, if_match, then) = c.parts();
            json!({ check.name(): {
                "if_field": if_field, "if_match": kong_rules(if_match), "then_at_least_one_of": then,
            } })
        }
        Check::Custom { fields, .. } => json!({ check.name(): { "field_sources": fields } }),
        _ => json!({ check.name(): check.fields() }),
    }
}

pub(crate) fn plain(n: f64) -> Value {
    if n.fract() == 0.0 { Value::from(n as i64) } else { Value::from(n) }
}
