//! [`Document`]: the user's object from which a record was lowered, without the parts that the record contains.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;

use crate::{Backend, Cluster, HostMatch, HostPattern, Matches, Origin, PathMatch, Principal, Route, Target};

/// The user's object as compact JSON, for log records; built on demand (see [`Route::document`] and similar methods).
/// It stores a template with gaps, which records of the same shape share, and the values that are neither in the
/// template nor in the record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document(Arc<Recipe>);

/// Gaps are control characters, which do not occur in JSON text.
#[derive(Debug, Default, PartialEq, Eq)]
struct Recipe {
    text: Arc<str>,
    /// The values of the [`Part::Value`] gaps, in order.
    values: Box<[Box<str>]>,
}

/// The content of a gap in a [`Document`], as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// [`Origin::id`].
    Id,
    /// [`Origin::name`].
    Name,
    /// The backend's id.
    Backend,
    /// The hosts that a route matches, as a list.
    Hosts,
    /// The paths that it matches.
    Paths,
    /// The host of a backend with a single host.
    Host,
    /// The port of that host.
    Port,
    /// [`Principal::custom_id`].
    CustomId,
    /// The next of the document's own values.
    Value,
}

impl Part {
    const ALL: [(Self, char); 9] = [
        (Self::Id, '\u{1}'),
        (Self::Name, '\u{2}'),
        (Self::Backend, '\u{3}'),
        (Self::Hosts, '\u{4}'),
        (Self::Paths, '\u{5}'),
        (Self::Host, '\u{6}'),
        (Self::Port, '\u{7}'),
        (Self::Value, '\u{8}'),
        (Self::CustomId, '\u{b}'),
    ];

    /// The character that represents the part in the template.
    pub fn gap(self) -> char {
        Self::ALL.iter().find(|(part, _)| *part == self).map_or('\u{8}', |(_, gap)| *gap)
    }

    fn of(gap: char) -> Option<Self> {
        Self::ALL.iter().find(|(_, other)| *other == gap).map(|(part, _)| *part)
    }
}

/// The record of a [`Document`].
pub trait Parts {
    /// Appends a part as JSON; returns whether the record has it.
    fn part(&self, part: Part, out: &mut String) -> bool;
}

impl Document {
    /// A template with gaps (see [`Part::gap`]), and the values of the gaps that the record does not fill.
    pub fn new(text: Arc<str>, values: Vec<Box<str>>) -> Self {
        Self(Arc::new(Recipe { text, values: values.into() }))
    }

    /// The template with its gaps filled.
    pub(crate) fn fill(&self, record: &impl Parts) -> Cow<'_, str> {
        let is_gap = |c: char| c < ' ';
        let Recipe { text, values } = &*self.0;
        if !text.contains(is_gap) {
            return Cow::Borrowed(text);
        }
        let mut out = String::with_capacity(text.len() + 128);
        let mut values = values.iter();
        let mut rest = &**text;
        while let Some(at) = rest.find(is_gap) {
            let (before, from) = rest.split_at(at);
            out.push_str(before);
            let mut from = from.chars();
            let filled = match from.next().and_then(Part::of) {
                Some(Part::Value) => values.next().map(|value| out.push_str(value)).is_some(),
                Some(part) => record.part(part, &mut out),
                None => false,
            };
            if !filled {
                out.push_str("null");
            }
            rest = from.as_str();
        }
        out.push_str(rest);
        Cow::Owned(out)
    }
}

impl From<&str> for Document {
    fn from(text: &str) -> Self {
        Self::new(text.into(), Vec::new())
    }
}

impl From<String> for Document {
    fn from(text: String) -> Self {
        Self::new(text.into(), Vec::new())
    }
}

impl<'de> serde::Deserialize<'de> for Document {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

impl Parts for Origin {
    fn part(&self, part: Part, out: &mut String) -> bool {
        match (part, &self.name) {
            (Part::Id, _) => id(&self.id, out),
            (Part::Name, Some(name)) => text(name, out),
            _ => false,
        }
    }
}

impl Parts for Route {
    fn part(&self, part: Part, out: &mut String) -> bool {
        match (part, &self.matches) {
            (Part::Backend, _) => self.action.backend().is_some_and(|backend| id(&backend, out)),
            (Part::Hosts, Matches::Conditions(conditions)) => list(&conditions.hosts, out, host),
            (Part::Paths, Matches::Conditions(conditions)) => list(&conditions.paths, out, |path, out| match path {
                PathMatch::Prefix(path) | PathMatch::Exact(path) | PathMatch::SegmentPrefix(path) => text(path, out),
                PathMatch::Regex(regex) | PathMatch::FullRegex(regex) => text(&format!("~{regex}"), out),
            }),
            _ => self.origin.part(part, out),
        }
    }
}

impl Parts for Backend {
    fn part(&self, part: Part, out: &mut String) -> bool {
        match (part, &self.target) {
            (Part::Host, Target::Host(host)) => text(&host.host, out),
            (Part::Port, Target::Host(host)) => write!(out, "{}", host.port).is_ok(),
            (Part::Port, Target::Cluster { port, .. }) => write!(out, "{port}").is_ok(),
            _ => self.origin.part(part, out),
        }
    }
}

impl Parts for Cluster {
    fn part(&self, part: Part, out: &mut String) -> bool {
        self.origin.part(part, out)
    }
}

impl Parts for Principal {
    fn part(&self, part: Part, out: &mut String) -> bool {
        match (part, &self.custom_id) {
            (Part::CustomId, Some(custom_id)) => text(custom_id, out),
            _ => self.origin.part(part, out),
        }
    }
}

fn id(id: &crate::Id, out: &mut String) -> bool {
    let mut buffer = [0; uuid::fmt::Hyphenated::LENGTH];
    out.push('"');
    out.push_str(id.hyphenated().encode_lower(&mut buffer));
    out.push('"');
    true
}

fn text(text: &str, out: &mut String) -> bool {
    if text.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\') {
        out.push('"');
        out.push_str(text);
        out.push('"');
        return true;
    }
    match serde_json::to_string(text) {
        Ok(text) => {
            out.push_str(&text);
            true
        }
        Err(_) => false,
    }
}

fn list<T>(items: &[T], out: &mut String, mut item: impl FnMut(&T, &mut String) -> bool) -> bool {
    out.push('[');
    for (n, value) in items.iter().enumerate() {
        if n > 0 {
            out.push(',');
        }
        if !item(value, out) {
            return false;
        }
    }
    out.push(']');
    true
}

fn host(host: &HostMatch, out: &mut String) -> bool {
    let (before, name, after) = match &host.host {
        HostPattern::Exact(name) => ("", name, ""),
        HostPattern::Suffix(name) => ("*", name, ""),
        HostPattern::Prefix(name) => ("", name, "*"),
    };
    match host.port {
        None if before.is_empty() && after.is_empty() => text(name, out),
        None => text(&format!("{before}{name}{after}"), out),
        Some(port) => text(&format!("{before}{name}{after}:{port}"), out),
    }
}

/// Whether a sparse field of a record has its default value.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Equality, serial form and document of a record with a document: the gaps are filled from its other fields.
macro_rules! documented {
    ($record:ident { $($field:ident),* }) => {
        $crate::document::documented!($record { $($field),* } sparse {});
    };
    // Sparse fields are not written if they have their default values.
    ($record:ident { $($field:ident),* } sparse { $($sparse:ident),* }) => {
        impl $record {
            /// The user's object as compact JSON, for log records.
            pub fn document(&self) -> std::borrow::Cow<'_, str> {
                self.document.fill(self)
            }
        }

        impl PartialEq for $record {
            fn eq(&self, other: &Self) -> bool {
                let Self { $($field,)* $($sparse,)* document } = self;
                $(*$field == other.$field &&)* $(*$sparse == other.$sparse &&)* (*document == other.document || self.document() == other.document())
            }
        }

        impl serde::Serialize for $record {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeStruct as _;
                let Self { $($field,)* $($sparse,)* document: _ } = self;
                let written = [false $(, !$crate::document::is_default($sparse))*].into_iter().filter(|written| *written).count();
                let fields = [$(stringify!($field)),*].len() + written + 1;
                let mut out = serializer.serialize_struct(stringify!($record), fields)?;
                $(out.serialize_field(stringify!($field), $field)?;)*
                $(if !$crate::document::is_default($sparse) {
                    out.serialize_field(stringify!($sparse), $sparse)?;
                })*
                out.serialize_field("document", &self.document())?;
                out.end()
            }
        }
    };
}

pub(crate) use documented;

#[cfg(test)]
mod tests {
    use super::*;

    fn route() -> Route {
        let mut route: Route = serde_json::from_value(serde_json::json!({
            "origin": {"id": "00000000-0000-0000-0000-000000000007", "name": "a\"b"},
            "rank": {"weight": "1", "tie": "7"}, "traffic": "http",
            "matches": {"conditions": {
                "hosts": [{"host": {"suffix": ".a"}, "port": 8}, {"host": {"exact": "x"}, "port": null}],
                "paths": [{"prefix": "/p"}, {"regex": "q\\d"}]}},
            "action": "none", "rewrite": {}, "require": {}, "request_buffering": true, "response_buffering": true,
            "document": "{}",
        }))
        .unwrap();
        route.document = Document::new("[\u{1},\u{2},\u{4},\u{5},\u{8},\u{3},\u{8}]".into(), vec!["5".into()]);
        route
    }

    #[test]
    fn gaps_are_filled_from_the_record() {
        let expected = "[\"00000000-0000-0000-0000-000000000007\",\"a\\\"b\",[\"*.a:8\",\"x\"],[\"/p\",\"~q\\\\d\"],5,\
                        null,null]";
        assert_eq!(route().document(), expected);
    }

    #[test]
    fn a_record_that_travelled_is_equal() {
        let text = serde_json::to_string(&route()).unwrap();
        let back: Route = serde_json::from_str(&text).unwrap();
        assert_eq!(back, route());
        assert_eq!(serde_json::to_string(&back).unwrap(), text);
        let mut other = back;
        other.document = "[]".into();
        assert_ne!(other, route());
    }
}
