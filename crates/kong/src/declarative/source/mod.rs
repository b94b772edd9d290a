//! One file: text to a tree of values with their places.
//!
//! YAML is read as Kong reads it: by lyaml's rules for plain scalars (`scalars`), the last of two equal keys counts,
//! and only the first document does. JSON is read by the same parser. Depth, size and the expansion of aliases are
//! limited.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::options::DuplicateKeyPolicy;
use serde_saphyr::{Error, Spanned};

use super::fill::Filled;
use super::{quick, scalars};

/// Largest file, bytes.
pub const BYTES_MAX: usize = 256 << 20;
/// Deepest nesting of values.
pub const DEPTH_MAX: usize = 64;
/// Most values in a file, aliases expanded.
pub const VALUES_MAX: usize = 20_000_000;

/// Most values that aliases repeat.
const ALIASED_MAX: usize = 1_000_000;
/// Most bytes of text that aliases repeat.
const ALIASED_BYTES_MAX: usize = 32 << 20;
/// Maximum number of duplicate keys that are reported.
const DUPLICATES_MAX: usize = 100;

/// A file as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The name to show in messages.
    pub name: String,
    /// Its contents.
    pub text: String,
    /// The contents with variables filled in, if there are any.
    pub(super) filled: Option<Arc<Filled>>,
}

impl Source {
    /// A file with this name and contents.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into(), filled: None }
    }

    /// What is read: the contents, with variables filled in.
    pub(super) fn read(&self) -> &str {
        self.filled.as_ref().map_or(&self.text, |filled| &filled.text)
    }

    /// A line of the text, counted from 1.
    pub fn line(&self, line: u32) -> Option<&str> {
        self.text.lines().nth((line as usize).checked_sub(1)?)
    }
}

/// Line and column, from 1; 0 is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line.
    pub line: u32,
    /// Column in characters.
    pub column: u32,
}

/// A value with its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where.
    pub place: Place,
    /// The value.
    pub data: Data,
}

/// The value of a [`Node`]. A large file is millions of them, so that they are kept small.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Null, boolean, number or text.
    Scalar(Scalar),
    /// A list.
    List(Box<[Node]>),
    /// Keys with their places, and values. No key occurs twice.
    Map(Box<[(Key, Place, Node)]>),
}

/// A value that holds no others.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    /// Nothing.
    Null,
    /// A boolean.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A text.
    String(Box<str>),
}

/// A key of a map. Equal keys of a file share their text.
pub type Key = Arc<str>;

impl From<&Scalar> for Value {
    fn from(scalar: &Scalar) -> Self {
        match scalar {
            Scalar::Null => Self::Null,
            Scalar::Bool(flag) => Self::Bool(*flag),
            Scalar::Number(number) => Self::Number(number.clone()),
            Scalar::String(text) => Self::String(text.to_string()),
        }
    }
}

impl From<&str> for Scalar {
    fn from(text: &str) -> Self {
        Self::String(text.into())
    }
}

/// Why a file cannot be read at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// What is wrong.
    pub message: String,
    /// Where, if that is known.
    pub place: Place,
}

/// A key that stands twice in one map.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duplicate {
    /// Where it stands again.
    pub place: Place,
    /// The key.
    pub key: String,
    /// Where it stood before: that value does not count.
    pub before: Place,
}

/// Warnings about a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Oddities {
    /// Keys that stand twice in one map: their earlier values are left out of the tree.
    pub duplicates: Vec<Duplicate>,
    /// Where a second document starts, which is not read.
    pub second_document: Option<Place>,
}

/// Reads the first document of YAML, or JSON. An empty file is null. Of equal keys the last one counts.
///
/// # Errors
/// The text is not YAML, or over a limit.
pub fn parse(text: &str) -> Result<Node, ParseError> {
    parse_noting(text).map(|(root, _)| root)
}

/// The same, with warnings about the text.
///
/// # Errors
/// The text is not YAML, or over a limit.
pub fn parse_noting(text: &str) -> Result<(Node, Oddities), ParseError> {
    if text.len() > BYTES_MAX {
        let message = format!("file is larger than {} MiB", BYTES_MAX >> 20);
        return Err(ParseError { message, place: Place::default() });
    }
    if let Some(root) = quick::parse(text, &meaning) {
        return Ok((root, Oddities::default()));
    }
    let (end, second_document) = first_document(text);
    let (root, duplicates) = parse_whole(text.get(..end).unwrap_or_default())?;
    Ok((root, Oddities { duplicates, second_document }))
}

/// Where the first document ends, and where the second one starts. A line that starts with one of the marks is never
/// part of a scalar.
fn first_document(text: &str) -> (usize, Option<Place>) {
    let (mut at, mut has_begun, mut ended_at) = (0, false, None);
    for (n, line) in text.split_inclusive('\n').enumerate() {
        let is_mark = |mark: &str| {
            line.strip_prefix(mark).is_some_and(|rest| rest.trim_start().len() < rest.len() || rest.is_empty())
        };
        let is_blank = matches!(line.trim_start().as_bytes().first(), None | Some(b'#'));
        let place = Place { line: u32::try_from(n + 1).unwrap_or(u32::MAX), column: 1 };
        if is_mark("---") {
            if has_begun {
                return (ended_at.unwrap_or(at), Some(place));
            }
            has_begun = true;
        } else if is_mark("...") {
            ended_at = ended_at.or(has_begun.then_some(at + line.len()));
        } else if let (Some(end), false) = (ended_at, is_blank) {
            return (end, Some(place));
        } else if !is_blank && (has_begun || !line.starts_with('%')) {
            has_begun = true;
        }
        at += line.len();
    }
    (text.len(), None)
}

/// What a plain scalar means.
fn meaning(text: &str) -> Option<Scalar> {
    match parse_whole(text).ok()?.0.data {
        Data::Scalar(value) => Some(value),
        Data::List(_) | Data::Map(_) => None,
    }
}

/// Any text, by the parser of the whole language.
fn parse_whole(text: &str) -> Result<(Node, Vec<Duplicate>), ParseError> {
    let mut duplicates = BTreeSet::new();
    // Hardly any file has equal keys, and the parser finds them best.
    let root = read(text, DuplicateKeyPolicy::Error).or_else(|error| {
        let Some(found) = duplicate(&error) else { return Err(error) };
        let mut root = read(text, DuplicateKeyPolicy::LastWins)?;
        last_counts(&mut root, &mut duplicates);
        if duplicates.is_empty() {
            duplicates.insert(found);
        }
        Ok(root)
    });
    let mut root = root.map_err(|error| {
        let place = error.location().map(place_of).unwrap_or_default();
        ParseError { message: words(&error), place }
    })?;
    let lines: Vec<&str> = text.split('\n').collect();
    resolve_scalars(&mut root, &lines);
    share_keys(&mut root, &mut HashSet::new());
    Ok((root, duplicates.into_iter().collect()))
}

fn read(text: &str, duplicate_keys: DuplicateKeyPolicy) -> Result<Node, Error> {
    // Every value needs a byte of its own; what is beyond that comes from aliases.
    let values_max = VALUES_MAX.min(text.len() + ALIASED_MAX);
    let budget = serde_saphyr::budget! {
        max_depth: DEPTH_MAX,
        max_nodes: values_max,
        max_events: 2 * values_max,
        max_total_scalar_bytes: BYTES_MAX.min(text.len() + ALIASED_BYTES_MAX),
        max_documents: 1,
    };
    let options = serde_saphyr::options! {
        budget: budget,
        duplicate_keys: duplicate_keys,
        legacy_octal_numbers: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options::<Node>(text, options)
}

/// The error itself, without the way to it.
fn innermost(mut error: &Error) -> &Error {
    while let Error::AliasError { error: inner, .. } | Error::WithSnippet { error: inner, .. } = error {
        error = inner;
    }
    error
}

fn duplicate(error: &Error) -> Option<Duplicate> {
    let Error::DuplicateMappingKey { key, location } = innermost(error) else { return None };
    let key = key.clone().unwrap_or_default();
    Some(Duplicate { place: place_of(*location), key, before: Place::default() })
}

/// Lets equal keys share their text.
fn share_keys(node: &mut Node, keys: &mut HashSet<Key>) {
    match &mut node.data {
        Data::Scalar(_) => {}
        Data::List(list) => list.iter_mut().for_each(|node| share_keys(node, keys)),
        Data::Map(map) => {
            for (key, _, node) in map {
                *key = shared(key, keys);
                share_keys(node, keys);
            }
        }
    }
}

/// The one key with this text.
pub(super) fn shared(text: &str, keys: &mut HashSet<Key>) -> Key {
    // A file whose keys are all different has no shared keys.
    const KEYS_MAX: usize = 4_096;
    if let Some(key) = keys.get(text) {
        return Arc::clone(key);
    }
    let key: Key = text.into();
    if keys.len() < KEYS_MAX {
        keys.insert(Arc::clone(&key));
    }
    key
}

/// Leaves of equal keys the last one.
fn last_counts(node: &mut Node, duplicates: &mut BTreeSet<Duplicate>) {
    match &mut node.data {
        Data::Scalar(_) => {}
        Data::List(list) => list.iter_mut().for_each(|node| last_counts(node, duplicates)),
        Data::Map(map) => {
            let mut last: HashMap<&str, Place> = HashMap::with_capacity(map.len());
            let mut found = Vec::new();
            for (key, place, _) in map.iter() {
                if let Some(before) = last.insert(key, *place) {
                    found.push(Duplicate { place: *place, key: key.to_string(), before });
                }
            }
            if !found.is_empty() {
                let mut seen = HashSet::new();
                let mut kept = std::mem::take(map).into_vec();
                kept.reverse();
                kept.retain(|(key, ..)| seen.insert(Arc::clone(key)));
                kept.reverse();
                *map = kept.into();
            }
            if duplicates.len() < DUPLICATES_MAX {
                duplicates.extend(found.into_iter().take(DUPLICATES_MAX));
            }
            map.iter_mut().for_each(|(.., node)| last_counts(node, duplicates));
        }
    }
}

/// The parser's error as text.
fn words(error: &Error) -> String {
    let breach = match innermost(error) {
        Error::Budget { breach, .. } => breach,
        Error::AliasReplayLimitExceeded { .. } | Error::AliasExpansionLimitExceeded { .. } => {
            return "aliases repeat too many values".to_owned();
        }
        _ => return first_line(&error.to_string()),
    };
    match breach {
        BudgetBreach::Depth { .. } => format!("values are nested deeper than {DEPTH_MAX} levels"),
        BudgetBreach::Nodes { .. } | BudgetBreach::Events { .. } | BudgetBreach::ScalarBytes { .. } => {
            "too many values, counting each one that an alias repeats".to_owned()
        }
        BudgetBreach::Aliases { .. } | BudgetBreach::AliasAnchorRatio { .. } => "too many aliases".to_owned(),
        BudgetBreach::Anchors { .. } => "too many anchors".to_owned(),
        BudgetBreach::RecordedAnchorEvents { .. } | BudgetBreach::RecordedAnchorBytes { .. } => {
            "aliases within anchors multiply to too many values".to_owned()
        }
        BudgetBreach::MergeKeys { .. } => "too many merge keys (<<)".to_owned(),
        _ => "the file is over a limit of the parser".to_owned(),
    }
}

/// The parser resolves plain scalars by other rules than Kong.
fn resolve_scalars(node: &mut Node, lines: &[&str]) {
    match &mut node.data {
        Data::Scalar(value) => {
            if !may_resolve(value) {
                return;
            }
            let line =
                (node.place.line as usize).checked_sub(1).and_then(|i| lines.get(i)).copied().unwrap_or_default();
            let column = (node.place.column as usize).saturating_sub(1);
            let start = line.char_indices().nth(column).map_or(line.len(), |(i, _)| i);
            let (before, written) = line.split_at(start);
            if before.split_whitespace().rev().take(2).any(|word| word.starts_with('!')) {
                // A tag gives the type of the scalar.
                return;
            }
            let text = match value {
                Scalar::String(text) => Some(text.to_string()),
                _ => None,
            };
            match text.as_deref() {
                Some(text) if written.starts_with(text) => {
                    if let Some(resolved) = scalars::resolve(text) {
                        *value = resolved;
                    }
                }
                Some(_) => {}
                None => {
                    let end = written.find(|c: char| c.is_whitespace() || matches!(c, ',' | ']' | '}'));
                    let text = written.get(..end.unwrap_or(written.len())).unwrap_or_default();
                    // Quotes, tags and aliases define the type of a scalar.
                    if !text.is_empty() && !text.starts_with(['"', '\'', '!', '&', '*', '|', '>', '#']) {
                        let text = text.strip_suffix(':').unwrap_or(text);
                        *value = scalars::resolve(text).unwrap_or_else(|| text.into());
                    }
                }
            }
        }
        Data::List(list) => list.iter_mut().for_each(|node| resolve_scalars(node, lines)),
        Data::Map(map) => map.iter_mut().for_each(|(.., node)| resolve_scalars(node, lines)),
    }
}

/// Whether a scalar may mean something else to Kong: it is no text, or looks like a number.
fn may_resolve(value: &Scalar) -> bool {
    match value {
        Scalar::String(text) => {
            text.len() <= scalars::LEN_MAX && text.starts_with(|c: char| c.is_ascii_digit() || "+-._".contains(c))
        }
        Scalar::Null => false,
        Scalar::Bool(_) | Scalar::Number(_) => true,
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

fn place_of(location: serde_saphyr::Location) -> Place {
    let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    Place { line: small(location.line()), column: small(location.column()) }
}

impl Node {
    /// The plain value.
    pub fn to_value(&self) -> Value {
        match &self.data {
            Data::Scalar(value) => value.into(),
            Data::List(list) => list.iter().map(Node::to_value).collect(),
            Data::Map(map) => map.iter().map(|(k, _, v)| (k.to_string(), v.to_value())).collect::<Map<_, _>>().into(),
        }
    }

    /// The value under a key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.data {
            Data::Map(map) => map.iter().find(|(k, ..)| **k == *key).map(|(.., v)| v),
            Data::Scalar(_) | Data::List(_) => None,
        }
    }

    /// The elements of a list.
    pub fn list(&self) -> Option<&[Node]> {
        match &self.data {
            Data::List(list) => Some(list),
            // An empty object and an empty list are the same in Lua.
            Data::Map(map) if map.is_empty() => Some(&[]),
            Data::Scalar(_) | Data::Map(_) => None,
        }
    }

    /// Whether it is null.
    pub fn is_null(&self) -> bool {
        matches!(&self.data, Data::Scalar(Scalar::Null))
    }

    /// Replaces all places.
    pub(super) fn set_places(&mut self, of: &dyn Fn(Place) -> Place) {
        self.place = of(self.place);
        match &mut self.data {
            Data::Scalar(_) => {}
            Data::List(list) => list.iter_mut().for_each(|node| node.set_places(of)),
            Data::Map(map) => map.iter_mut().for_each(|(_, place, node)| {
                *place = of(*place);
                node.set_places(of);
            }),
        }
    }

    /// Where the key at the end of a dotted path (`config.paths[0]`) stands; as far as the path leads.
    pub fn place_of(&self, path: &str) -> Place {
        let mut node = self;
        let mut place = self.place;
        for step in path.split(['.', '[']).filter(|s| !s.is_empty()) {
            let found = match &node.data {
                Data::Map(map) => map.iter().find(|(k, ..)| **k == *step).map(|(_, p, n)| (*p, n)),
                Data::List(list) => {
                    let index = step.strip_suffix(']').and_then(|s| s.parse::<usize>().ok());
                    index.and_then(|i| list.get(i)).map(|n| (n.place, n))
                }
                Data::Scalar(_) => None,
            };
            let Some((at, next)) = found else { break };
            (place, node) = (at, next);
        }
        place
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Raw>::deserialize(deserializer)?;
        // What a scalar means depends on its letters: they stand where it is defined, not where an alias names it.
        let is_word = matches!(&spanned.value.0, Data::Scalar(Scalar::Bool(_) | Scalar::Number(_)));
        let place = if is_word { spanned.defined } else { spanned.referenced };
        Ok(Self { place: place_of(place), data: spanned.value.0 })
    }
}

struct Raw(Data);

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor).map(Self)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Data;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Data, E> {
        Ok(Data::Scalar(Scalar::Null))
    }

    fn visit_none<E>(self) -> Result<Data, E> {
        Ok(Data::Scalar(Scalar::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Data, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Data, E> {
        Ok(Data::Scalar(Scalar::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Data, E> {
        Ok(Data::Scalar(Scalar::Number(value.into())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Data, E> {
        Ok(Data::Scalar(Scalar::Number(value.into())))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Data, E> {
        match Number::from_f64(value) {
            Some(number) => Ok(Data::Scalar(Scalar::Number(number))),
            None => Err(E::custom("numbers must be finite")),
        }
    }

    fn visit_str<E>(self, value: &str) -> Result<Data, E> {
        Ok(Data::Scalar(value.into()))
    }

    fn visit_string<E>(self, value: String) -> Result<Data, E> {
        Ok(Data::Scalar(Scalar::String(value.into())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Data, A::Error> {
        let mut list = Vec::new();
        while let Some(node) = seq.next_element()? {
            list.push(node);
        }
        Ok(Data::List(list.into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Data, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = access.next_key::<Spanned<String>>()? {
            let node = access.next_value()?;
            map.push((key.value.into(), place_of(key.referenced), node));
        }
        Ok(Data::Map(map.into()))
    }
}

#[cfg(test)]
mod tests;
