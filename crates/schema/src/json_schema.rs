//! JSON Schema (2020-12) of a description.

use serde_json::{Map, Value, json};

use crate::forms::plain;
use crate::rules::TIMESTAMP_MAX;
use crate::{Field, Kind, Named, Pattern, Schema};

/// Seconds that an entity may live at most. Kong: `DAO_MAX_TTL`.
pub const TTL_MAX: f64 = 100_000_000.0;
/// A vault reference.
const REFERENCE: &str = r"^\{vault://[\s\S]*/[\s\S]*\}$";

/// Which values a JSON Schema describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// What a user may write for a new value.
    New,
    /// What a user may write to change a value. Nothing is required, since the rest stays.
    Change,
    /// Complete values, as they are shown.
    Shown,
}

/// How to describe values in JSON Schema.
pub struct JsonForm<'f> {
    /// Which values.
    pub view: View,
    /// The schema of a reference to an entity of this kind.
    pub foreign: &'f dyn Fn(&str) -> Value,
}

impl std::fmt::Debug for JsonForm<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JsonForm").field("view", &self.view).finish_non_exhaustive()
    }
}

impl Schema {
    /// JSON Schema (2020-12) of what a user may write into a file.
    pub fn json_schema(&self) -> Value {
        let foreign = |_: &str| json!({ "type": ["object", "string"] });
        self.json_schema_as(&JsonForm { view: View::New, foreign: &foreign })
    }

    /// JSON Schema (2020-12) of some values. It accepts whatever [`Schema::process`] does, apart from what only Lua takes
    /// for a record or list; rules in code are not in it, so that it may accept more.
    pub fn json_schema_as(&self, form: &JsonForm<'_>) -> Value {
        Value::Object(self.json_record(form))
    }

    fn json_record(&self, form: &JsonForm<'_>) -> Map<String, Value> {
        let mut properties = Map::new();
        let mut required = Vec::new();
        for Named { name, field } in &self.fields {
            properties.insert((*name).to_owned(), of_field(name, field, form));
            if is_required(field, form.view) {
                required.push(Value::from(*name));
            }
        }
        for shorthand in self.shorthands.iter().filter(|of| form.view != View::Shown || of.replaced_with.is_some()) {
            let mut of = of_field(shorthand.name, &shorthand.field.clone().optional(), form);
            if let (Some(_), Value::Object(of)) = (shorthand.replaced_with, &mut of) {
                of.insert("deprecated".to_owned(), true.into());
            }
            properties.insert(shorthand.name.to_owned(), of);
        }
        if self.ttl {
            properties.insert("ttl".to_owned(), ttl());
        }
        let mut out = Map::new();
        out.insert("type".to_owned(), "object".into());
        if !self.description.is_empty() {
            out.insert("description".to_owned(), self.description.into());
        }
        out.insert("additionalProperties".to_owned(), false.into());
        out.insert("properties".to_owned(), properties.into());
        // A shorthand may replace a required field, so no field of what is written can be required then.
        if !required.is_empty() && (self.shorthands.is_empty() || form.view == View::Shown) {
            out.insert("required".to_owned(), required.into());
        }
        out
    }
}

fn ttl() -> Value {
    json!({
        "type": ["integer", "null"],
        "minimum": 0,
        "maximum": plain(TTL_MAX),
        "description": "Seconds until it expires. It does not expire when absent.",
    })
}

/// Whether a value has the field.
fn is_required(field: &Field, view: View) -> bool {
    match view {
        View::New => {
            let is_given = field.default.is_some() || field.auto || matches!(field.kind, Kind::Record(_));
            field.is_required() && !is_given
        }
        View::Change => false,
        View::Shown => !field.addition,
    }
}

fn of_field(name: &str, field: &Field, form: &JsonForm<'_>) -> Value {
    let mut out = if name == "updated_at" && form.view != View::Shown {
        // Whatever is given is replaced.
        Map::from_iter([("readOnly".to_owned(), true.into())])
    } else {
        of_values(field, form)
    };
    if !field.description.is_empty() {
        out.insert("description".to_owned(), field.description.into());
    }
    if let Some(default) = field.default.as_ref().filter(|_| form.view == View::New) {
        out.insert("default".to_owned(), default.clone());
    }
    let flags = [
        ("deprecated", field.deprecation.is_some()),
        ("x-secret", field.encrypted),
        ("x-unique", field.unique),
        ("x-referenceable", field.referenceable),
        ("x-immutable", field.immutable),
        ("x-addition", field.addition),
    ];
    out.extend(flags.into_iter().filter(|(_, on)| *on).map(|(name, _)| (name.to_owned(), true.into())));
    Value::Object(out)
}

/// The values of a field.
fn of_values(field: &Field, form: &JsonForm<'_>) -> Map<String, Value> {
    let single = |name: &str, value: Value| Map::from_iter([(name.to_owned(), value)]);
    if field.rules.eq.as_ref().is_some_and(Value::is_null) {
        return single("type", "null".into());
    }
    let is_shown_always = form.view == View::Shown && field.auto;
    let is_nullable = !field.is_required() && !is_shown_always;
    if let Kind::Foreign(kind) = &field.kind {
        let mut of = vec![(form.foreign)(kind)];
        of.extend(is_nullable.then(|| json!({ "type": "null" })));
        return single("anyOf", of.into());
    }
    let mut out = of_kind(field, form);
    let mut rules = of_rules(field);
    if field.referenceable && !rules.is_empty() {
        rules = single("anyOf", json!([rules, { "pattern": REFERENCE }]));
    }
    out.extend(rules);
    if is_nullable {
        if let Some(of) = out.get_mut("type") {
            *of = json!([of.clone(), "null"]);
        } else if !out.is_empty() {
            return single("anyOf", json!([out, { "type": "null" }]));
        }
        if let Some(Value::Array(values)) = out.get_mut("enum") {
            values.push(Value::Null);
        }
    }
    out
}

/// The type, without `null`.
fn of_kind(field: &Field, form: &JsonForm<'_>) -> Map<String, Value> {
    // Records are merged when an entity is changed, other values are replaced.
    let view = if form.view == View::Change { View::New } else { form.view };
    let element = |of: &Field| of_field("", &of.clone().required(), &JsonForm { view, foreign: form.foreign });
    let mut out = match &field.kind {
        Kind::Record(schema) => schema.json_record(form),
        _ => Map::new(),
    };
    let mut put = |name: &str, value: Value| out.insert(name.to_owned(), value);
    match &field.kind {
        Kind::String | Kind::Integer | Kind::Number | Kind::Boolean => {
            put("type", field.kind.name().into());
        }
        Kind::Array(of) | Kind::Set(of) => {
            put("type", "array".into());
            put("items", element(of));
            if matches!(field.kind, Kind::Set(_)) && form.view == View::Shown {
                put("uniqueItems", true.into());
            }
        }
        Kind::Map(keys, values) => {
            put("type", "object".into());
            put("propertyNames", element(keys));
            put("additionalProperties", element(values));
        }
        Kind::Record(_) | Kind::Foreign(_) | Kind::Any | Kind::Json => {}
    }
    out
}

/// The rules that JSON Schema can say.
fn of_rules(field: &Field) -> Map<String, Value> {
    let rules = &field.rules;
    let mut out = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        out.extend(value.map(|value| (name.to_owned(), value)));
    };
    put("const", rules.eq.clone());
    put("enum", Some(&rules.one_of).filter(|values| !values.is_empty()).map(|values| values.clone().into()));
    let unwanted: Vec<Value> = rules.not_one_of.iter().chain(rules.ne.as_ref()).cloned().collect();
    put("not", Some(unwanted).filter(|values| !values.is_empty()).map(|values| json!({ "enum": values })));
    put("minimum", rules.between.map(|(low, _)| plain(low)));
    put("maximum", rules.between.map(|(_, high)| plain(high)));
    put("exclusiveMinimum", rules.gt.map(plain));
    if rules.timestamp {
        put("exclusiveMinimum", Some(0.into()));
        put("maximum", Some(plain(TIMESTAMP_MAX)));
    }
    let (min, max) = match field.kind {
        Kind::Array(_) | Kind::Set(_) => ("minItems", "maxItems"),
        Kind::Map(..) => ("minProperties", "maxProperties"),
        _ => ("minLength", "maxLength"),
    };
    let floor = matches!(field.kind, Kind::String).then_some(1);
    put(min, rules.len_eq.or(rules.len_min).or(floor).filter(|n| *n > 0).map(Value::from));
    put(max, rules.len_eq.or(rules.len_max).map(Value::from));
    put("format", rules.uuid.then(|| "uuid".into()));
    put("contains", rules.contains.as_ref().map(|value| json!({ "const": value })));
    let all = patterns(field);
    match all.as_slice() {
        [Value::Object(one)] => out.extend(one.clone()),
        [] => {}
        _ => {
            out.insert("allOf".to_owned(), all.into());
        }
    }
    out
}

/// The rules about the form of a text, a schema each.
fn patterns(field: &Field) -> Vec<Value> {
    let rules = &field.rules;
    let found = |text: &str| json!({ "pattern": text });
    let absent = |text: &str| json!({ "not": { "type": "string", "pattern": text } });
    let mut out: Vec<Value> =
        rules.starts_with.map(|text| found(&format!("^{}", regex::escape(text)))).into_iter().collect();
    out.extend(rules.matches.as_ref().and_then(portable).map(found));
    out.extend(rules.shape.map(found));
    out.extend(rules.match_all.iter().filter_map(|(pattern, _)| portable(pattern)).map(found));
    out.extend(rules.not_match.as_ref().and_then(portable).map(absent));
    out.extend(rules.match_none.iter().filter_map(|(pattern, _)| portable(pattern)).map(absent));
    if let Some((any, _)) = &rules.match_any
        && let Some(any) = any.iter().map(portable).collect::<Option<Vec<&str>>>()
    {
        out.push(json!({ "anyOf": any.into_iter().map(found).collect::<Vec<_>>() }));
    }
    out
}

/// A pattern that means the same in ECMAScript.
fn portable(pattern: &Pattern) -> Option<&str> {
    let text = pattern.as_str();
    let text = text.strip_prefix("(?s)").filter(|rest| !rest.contains('.')).unwrap_or(text);
    (!text.contains("(?")).then_some(text)
}
