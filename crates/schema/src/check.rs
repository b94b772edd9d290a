//! [`Check`]: rules across the fields of a record. Behaviour and texts are those of `Schema.entity_checkers` in
//! `kong/db/schema/init.lua`.

use std::sync::OnceLock;

use serde_json::{Map, Value};

use crate::validate::{is_reference, quoted, validate_field, value_at};
use crate::{Errors, Field, Kind, Rules, Schema};

/// A rule across fields. Fields are named by dotted paths.
#[derive(Clone, Debug)]
pub enum Check {
    /// At least one is there.
    AtLeastOneOf(Vec<&'static str>),
    /// Exactly one is there.
    ExactlyOneOf(Vec<&'static str>),
    /// At most one is there.
    MutuallyExclusive(Vec<&'static str>),
    /// All are there or none is.
    AllOrNone(Vec<&'static str>),
    /// No two have the same value.
    Distinct(Vec<&'static str>),
    /// Not both of these sets have members that are there.
    MutuallyExclusiveSets(Vec<&'static str>, Vec<&'static str>),
    /// When one field is so, another must be so.
    Conditional(Box<Conditional>),
    /// When one field is so, at least one of some others is there.
    ConditionalAtLeastOneOf(Box<ConditionalAtLeastOneOf>),
    /// A check in code over the whole record.
    Custom {
        /// The fields it reads; it runs only if all of them are valid.
        fields: Vec<&'static str>,
        /// Run even when a field is missing.
        when_missing: bool,
        /// Run even when a field has errors.
        when_unsound: bool,
        /// The check.
        run: fn(&Value) -> Result<(), CheckFailure>,
    },
}

/// A record that checks look at.
#[derive(Clone, Copy)]
pub(crate) struct Record<'a> {
    pub(crate) whole: &'a Value,
    /// The fields of `whole`.
    pub(crate) data: &'a Map<String, Value>,
    /// Fields may be missing.
    pub(crate) is_partial: bool,
}

/// See [`conditional`].
#[derive(Clone, Debug)]
pub struct Conditional {
    if_field: &'static str,
    if_match: Rules,
    then_field: &'static str,
    then_match: Rules,
    then_err: Option<&'static str>,
    if_overlay: Overlay,
    then_overlay: Overlay,
}

/// See [`conditional_at_least_one_of`].
#[derive(Clone, Debug)]
pub struct ConditionalAtLeastOneOf {
    if_field: &'static str,
    if_match: Rules,
    then: Vec<&'static str>,
    then_err: Option<&'static str>,
    otherwise: Option<(Rules, Vec<&'static str>, Option<&'static str>)>,
    if_overlay: Overlay,
    otherwise_overlay: Overlay,
}

/// A field with the rules of a condition laid over its own: made when it is first looked at, and made anew in a clone,
/// whose schema may get other fields.
#[derive(Debug, Default)]
struct Overlay(OnceLock<Box<Field>>);

impl Clone for Overlay {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Overlay {
    /// The field of this name in the schema. An unknown field has only the condition's rules.
    fn of(&self, schema: &Schema, name: &str, rules: &Rules) -> &Field {
        self.0.get_or_init(|| {
            Box::new(match schema.field_at(name) {
                Some(field) => rules.over(field),
                None => rules.over(&Field::new(Kind::Any)),
            })
        })
    }

    /// Whether a field's value passes the field's rules with those of a condition laid over them.
    fn holds(&self, schema: &Schema, name: &str, rules: &Rules, value: &Value) -> bool {
        !rules.plainly_fails(value) && validate_field(self.of(schema, name, rules), value).is_ok()
    }
}

/// The result of a [`custom`] check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckFailure {
    /// About the record: goes under `@entity`.
    Entity(String),
    /// About one field, at a dotted path.
    Field(&'static str, String),
}

impl From<String> for CheckFailure {
    fn from(text: String) -> Self {
        Self::Entity(text)
    }
}

impl From<&str> for CheckFailure {
    fn from(text: &str) -> Self {
        Self::Entity(text.to_owned())
    }
}

/// At least one of these fields must be there (and not empty).
pub fn at_least_one_of(fields: impl IntoIterator<Item = &'static str>) -> Check {
    Check::AtLeastOneOf(fields.into_iter().collect())
}

/// Exactly one of these fields must be there (Kong: `only_one_of`).
pub fn exactly_one_of(fields: impl IntoIterator<Item = &'static str>) -> Check {
    Check::ExactlyOneOf(fields.into_iter().collect())
}

/// At most one of these fields may be there.
pub fn mutually_exclusive(fields: impl IntoIterator<Item = &'static str>) -> Check {
    Check::MutuallyExclusive(fields.into_iter().collect())
}

/// All of these fields must be there, or none (Kong: `mutually_required`).
pub fn all_or_none(fields: impl IntoIterator<Item = &'static str>) -> Check {
    Check::AllOrNone(fields.into_iter().collect())
}

/// No two of these fields may have the same value.
pub fn distinct(fields: impl IntoIterator<Item = &'static str>) -> Check {
    Check::Distinct(fields.into_iter().collect())
}

/// Members of only one of two sets of fields may be there.
pub fn mutually_exclusive_sets(
    one: impl IntoIterator<Item = &'static str>,
    other: impl IntoIterator<Item = &'static str>,
) -> Check {
    Check::MutuallyExclusiveSets(one.into_iter().collect(), other.into_iter().collect())
}

/// When `if_field` passes `if_match`, `then_field` must pass `then_match`.
pub fn conditional(if_field: &'static str, if_match: Rules, then_field: &'static str, then_match: Rules) -> Check {
    let (if_overlay, then_overlay) = Default::default();
    Check::Conditional(Box::new(Conditional {
        if_field,
        if_match,
        then_field,
        then_match,
        then_err: None,
        if_overlay,
        then_overlay,
    }))
}

/// When `if_field` passes `if_match`, at least one of `then` must be there.
pub fn conditional_at_least_one_of(
    if_field: &'static str,
    if_match: Rules,
    then: impl IntoIterator<Item = &'static str>,
) -> Check {
    let then = then.into_iter().collect();
    Check::ConditionalAtLeastOneOf(Box::new(ConditionalAtLeastOneOf {
        if_field,
        if_match,
        then,
        then_err: None,
        otherwise: None,
        if_overlay: Overlay::default(),
        otherwise_overlay: Overlay::default(),
    }))
}

/// A check in code over the record, complete with defaults. `fields` are the ones it reads: it does not run while one
/// of them has errors, or holds a vault reference.
pub fn custom(fields: impl IntoIterator<Item = &'static str>, run: fn(&Value) -> Result<(), CheckFailure>) -> Check {
    Check::Custom { fields: fields.into_iter().collect(), when_missing: false, when_unsound: false, run }
}

impl Check {
    /// Replaces the check's own message; `%s` is the field or the list of fields. For conditional
    /// checks only; others are unchanged.
    pub fn message(mut self, text: &'static str) -> Self {
        match &mut self {
            Self::Conditional(c) => c.then_err = Some(text),
            Self::ConditionalAtLeastOneOf(c) => c.then_err = Some(text),
            _ => {}
        }
        self
    }

    /// For [`conditional_at_least_one_of`]: another condition for when the first does not hold.
    pub fn otherwise(
        mut self,
        if_match: Rules,
        then: impl IntoIterator<Item = &'static str>,
        message: Option<&'static str>,
    ) -> Self {
        if let Self::ConditionalAtLeastOneOf(c) = &mut self {
            c.otherwise = Some((if_match, then.into_iter().collect(), message));
        }
        self
    }

    /// For [`custom`]: run even when a field is missing.
    pub fn when_missing(mut self) -> Self {
        if let Self::Custom { when_missing, .. } = &mut self {
            *when_missing = true;
        }
        self
    }

    /// For [`custom`]: run even when a field is missing or has errors.
    pub fn always(mut self) -> Self {
        if let Self::Custom { when_missing, when_unsound, .. } = &mut self {
            (*when_missing, *when_unsound) = (true, true);
        }
        self
    }

    /// Kong's name of the check.
    pub fn name(&self) -> &'static str {
        match self {
            Self::AtLeastOneOf(_) => "at_least_one_of",
            Self::ExactlyOneOf(_) => "only_one_of",
            Self::MutuallyExclusive(_) => "mutually_exclusive",
            Self::AllOrNone(_) => "mutually_required",
            Self::Distinct(_) => "distinct",
            Self::MutuallyExclusiveSets(..) => "mutually_exclusive_sets",
            Self::Conditional(_) => "conditional",
            Self::ConditionalAtLeastOneOf(_) => "conditional_at_least_one_of",
            Self::Custom { .. } => "custom_entity_check",
        }
    }

    /// The fields it is about.
    pub fn fields(&self) -> Vec<&'static str> {
        match self {
            Self::AtLeastOneOf(f)
            | Self::ExactlyOneOf(f)
            | Self::MutuallyExclusive(f)
            | Self::AllOrNone(f)
            | Self::Distinct(f)
            | Self::Custom { fields: f, .. } => f.clone(),
            Self::MutuallyExclusiveSets(a, b) => a.iter().chain(b).copied().collect(),
            Self::Conditional(c) => vec![c.if_field, c.then_field],
            Self::ConditionalAtLeastOneOf(c) => {
                let more = c.otherwise.iter().flat_map(|(_, then, _)| then);
                [c.if_field].iter().chain(&c.then).chain(more).copied().collect()
            }
        }
    }

    /// Whether one of the [`fields`](Self::fields) is so.
    fn any_field(&self, mut is_so: impl FnMut(&'static str) -> bool) -> bool {
        match self {
            Self::AtLeastOneOf(f)
            | Self::ExactlyOneOf(f)
            | Self::MutuallyExclusive(f)
            | Self::AllOrNone(f)
            | Self::Distinct(f)
            | Self::Custom { fields: f, .. } => f.iter().any(|f| is_so(f)),
            Self::MutuallyExclusiveSets(a, b) => a.iter().chain(b).any(|f| is_so(f)),
            Self::Conditional(c) => is_so(c.if_field) || is_so(c.then_field),
            Self::ConditionalAtLeastOneOf(c) => {
                let more = c.otherwise.iter().flat_map(|(_, then, _)| then);
                is_so(c.if_field) || c.then.iter().chain(more).any(|f| is_so(f))
            }
        }
    }

    /// Runs the check over a record and adds what is wrong to `errors`. A partial record may lack all fields of the
    /// check.
    pub(crate) fn run(&self, schema: &Schema, record: Record<'_>, errors: &mut Errors) {
        let Record { whole, data, is_partial } = record;
        let value = |name: &str| value_at(data, name);
        let holds_reference = |name: &str| {
            value(name).is_some_and(is_reference) && schema.field_at(name).is_some_and(|f| f.referenceable)
        };
        if self.any_field(holds_reference) {
            return;
        }
        if self.skips_unsound() && self.any_field(|f| errors.get(f).is_some()) {
            return;
        }
        let is_blank = !self.any_field(|f| value(f).is_some());
        if is_blank && is_partial {
            return;
        }
        if !self.runs_when_missing() && self.any_field(|_| true) {
            if is_blank {
                return;
            }
            let missing: Vec<_> = self.needs().into_iter().filter(|f| value(f).is_none()).collect();
            if !missing.is_empty() {
                for name in missing {
                    errors.set_at(name, "field required for entity check".into());
                }
                return;
            }
        }
        match self.verdict(schema, whole, data) {
            Ok(()) => {}
            Err(Failure::Entity(message)) => errors.push_entity(message),
            Err(Failure::Field(path, found, message)) => {
                errors.set_at(path, found);
                errors.push_entity(message);
            }
            Err(Failure::FieldOnly(path, found)) => errors.set_at(path, found),
        }
    }

    fn runs_when_missing(&self) -> bool {
        match self {
            Self::AtLeastOneOf(_)
            | Self::MutuallyExclusive(_)
            | Self::AllOrNone(_)
            | Self::MutuallyExclusiveSets(..)
            | Self::ConditionalAtLeastOneOf(_) => true,
            Self::Custom { when_missing, .. } => *when_missing,
            Self::ExactlyOneOf(_) | Self::Distinct(_) | Self::Conditional(_) => false,
        }
    }

    fn skips_unsound(&self) -> bool {
        match self {
            Self::Custom { when_unsound, .. } => !when_unsound,
            Self::MutuallyExclusive(_) | Self::AllOrNone(_) | Self::MutuallyExclusiveSets(..) => true,
            _ => false,
        }
    }

    fn needs(&self) -> Vec<&'static str> {
        match self {
            Self::Conditional(c) => vec![c.if_field],
            _ => self.fields(),
        }
    }

    fn verdict(&self, schema: &Schema, whole: &Value, data: &Map<String, Value>) -> Result<(), Failure> {
        let count = |fields: &[&'static str]| fields.iter().filter(|f| is_there(value_at(data, f))).count();
        let entity = |text: &str, fields: &[&'static str]| {
            Err(Failure::Entity(format!("{text} of these fields must be {}", fields_tail(text, fields))))
        };
        match self {
            Self::AtLeastOneOf(f) if count(f) == 0 => entity("at least one", f),
            Self::ExactlyOneOf(f) if count(f) != 1 => entity("exactly one", f),
            Self::MutuallyExclusive(f) if count(f) > 1 => entity("only one or none", f),
            Self::AllOrNone(f) if count(f) != 0 && count(f) != f.len() => entity("all or none", f),
            Self::Distinct(f) => distinct_verdict(f, data),
            Self::MutuallyExclusiveSets(a, b) => {
                let there = |f: &[&'static str]| -> Vec<&'static str> {
                    f.iter().copied().filter(|f| is_there(value_at(data, f))).collect()
                };
                let (a, b) = (there(a), there(b));
                if a.is_empty() || b.is_empty() {
                    return Ok(());
                }
                Err(Failure::Entity(format!("these sets are mutually exclusive: ({}), ({})", quoted(&a), quoted(&b))))
            }
            Self::Conditional(c) => c.verdict(schema, data),
            Self::ConditionalAtLeastOneOf(c) => c.verdict(schema, data),
            Self::Custom { run, .. } => run(whole).map_err(|failure| match failure {
                CheckFailure::Entity(text) => Failure::Entity(text),
                CheckFailure::Field(path, text) => Failure::FieldOnly(path, Errors::Message(text)),
            }),
            _ => Ok(()),
        }
    }
}

enum Failure {
    Entity(String),
    Field(&'static str, Errors, String),
    FieldOnly(&'static str, Errors),
}

impl Conditional {
    pub(crate) fn parts(&self) -> (&'static str, &Rules, &'static str, &Rules) {
        (self.if_field, &self.if_match, self.then_field, &self.then_match)
    }

    fn verdict(&self, schema: &Schema, data: &Map<String, Value>) -> Result<(), Failure> {
        let null = Value::Null;
        let if_value = value_at(data, self.if_field).unwrap_or(&null);
        let then_value = value_at(data, self.then_field).unwrap_or(&null);
        if !self.if_overlay.holds(schema, self.if_field, &self.if_match, if_value) {
            return Ok(());
        }
        let standard = || format!("failed conditional validation given value of field '{}'", self.if_field);
        if self.then_match.required && then_value.is_null() {
            return Err(Failure::Field(self.then_field, "required field missing".into(), standard()));
        }
        match validate_field(self.then_overlay.of(schema, self.then_field, &self.then_match), then_value) {
            Ok(()) => Ok(()),
            Err(found) => {
                let message = self.then_err.map_or_else(standard, |text| text.replace("%s", self.if_field));
                Err(Failure::Field(self.then_field, found, message))
            }
        }
    }
}

impl ConditionalAtLeastOneOf {
    pub(crate) fn parts(&self) -> (&'static str, &Rules, &[&'static str]) {
        (self.if_field, &self.if_match, &self.then)
    }

    fn verdict(&self, schema: &Schema, data: &Map<String, Value>) -> Result<(), Failure> {
        let Some(if_value) = value_at(data, self.if_field) else { return Ok(()) };
        let (then, message) = if self.if_overlay.holds(schema, self.if_field, &self.if_match, if_value) {
            (&self.then, self.then_err)
        } else {
            match &self.otherwise {
                Some((rules, then, message))
                    if self.otherwise_overlay.holds(schema, self.if_field, rules, if_value) =>
                {
                    (then, *message)
                }
                _ => return Ok(()),
            }
        };
        if then.iter().any(|f| is_there(value_at(data, f))) {
            return Ok(());
        }
        let list = quoted(then);
        Err(Failure::Entity(match message {
            Some(text) => text.replace("%s", &list),
            None => format!("at least one of these fields must be non-empty: {list}"),
        }))
    }
}

fn distinct_verdict(fields: &[&'static str], data: &Map<String, Value>) -> Result<(), Failure> {
    let mut seen: Vec<&Value> = Vec::new();
    for value in fields.iter().filter_map(|f| value_at(data, f)).filter(|v| is_there(Some(v))) {
        if seen.contains(&value) {
            return Err(Failure::Entity(format!("values of these fields must be distinct: {}", quoted(fields))));
        }
        seen.push(value);
    }
    Ok(())
}

fn fields_tail(text: &str, fields: &[&'static str]) -> String {
    let what = match text {
        "at least one" | "exactly one" => "non-empty",
        _ => "set",
    };
    format!("{what}: {}", quoted(fields))
}

/// Kong's `is_nonempty`.
fn is_there(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => false,
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(list)) => !list.is_empty(),
        Some(Value::Object(map)) => !map.is_empty(),
        Some(Value::Bool(_) | Value::Number(_)) => true,
    }
}
