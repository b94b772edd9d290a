//! [`Style`]: how values are written in a file, so that new ones look like their neighbours.

use std::collections::HashMap;
use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::super::scalars;
use super::tree::{NodeId, Shape, Style as ScalarStyle, Tree};

/// How values are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Style {
    /// The file is JSON.
    pub(super) json: bool,
    /// Spaces before the dashes of a list, from the key of the list.
    pub(super) list_offset: usize,
    /// Spaces before the keys of a map, from the key of the map.
    pub(super) indent: usize,
    /// Lists of scalars stand in brackets.
    pub(super) flow_lists: bool,
    /// The same for lists under some keys.
    pub(super) lists: HashMap<String, bool>,
    /// In brackets, each value of a list has a line of its own.
    pub(super) tall_lists: bool,
    /// In braces, each pair of a map has a line of its own.
    pub(super) tall_maps: bool,
    /// Texts are quoted although they need not be.
    pub(super) quoted: bool,
    /// Quotes are single ones.
    pub(super) single: bool,
}

/// What is counted in a file.
#[derive(Default)]
struct Counts {
    offsets: [usize; 9],
    indents: [usize; 9],
    flow_lists: usize,
    block_lists: usize,
    tall_lists: usize,
    tall_maps: usize,
    flow_maps: usize,
    plain: usize,
    single: usize,
    double: usize,
    /// By key: lists of scalars in brackets, and others.
    lists: HashMap<String, (usize, usize)>,
}

impl Style {
    /// The style of a file.
    pub(super) fn of(tree: &Tree<'_>) -> Self {
        let mut counts = Counts::default();
        tree.nodes().for_each(|(id, _)| counts.add(tree, id));
        let json =
            tree.text.trim_start().starts_with('{') && serde_json::from_str::<serde::de::IgnoredAny>(tree.text).is_ok();
        let usual = |counts: &[usize], default: usize| {
            let most = counts.iter().enumerate().rev().max_by_key(|(_, count)| **count);
            most.filter(|(_, count)| **count > 0).map_or(default, |(at, _)| at)
        };
        Self {
            json,
            list_offset: usual(&counts.offsets, 0),
            indent: usual(&counts.indents, usual(&counts.offsets, 0).max(2)).max(1),
            lists: counts.lists.into_iter().map(|(key, (flow, block))| (key, json || flow >= block)).collect(),
            flow_lists: json || counts.flow_lists >= counts.block_lists,
            tall_lists: counts.tall_lists * 2 > counts.flow_lists
                || (json && counts.flow_lists == 0 && counts.tall_maps > 0),
            tall_maps: counts.tall_maps * 2 > counts.flow_maps,
            quoted: counts.single + counts.double > counts.plain,
            single: counts.single > counts.double,
        }
    }
}

impl Counts {
    fn add(&mut self, tree: &Tree<'_>, id: NodeId) {
        let scalars = |items: &[NodeId]| {
            !items.is_empty() && items.iter().all(|item| matches!(tree.node(*item).shape, Shape::Scalar(..)))
        };
        match &tree.node(id).shape {
            Shape::List { flow, items } if scalars(items) => {
                self.flow_lists += usize::from(*flow);
                self.tall_lists += usize::from(*flow && tree.spans_lines(id));
                self.block_lists += usize::from(!*flow);
                if let Some(key) = tree.pair_of(id).and_then(|(.., key)| tree.key(key)) {
                    let (in_brackets, others) = self.lists.entry(key.to_owned()).or_default();
                    *(if *flow { in_brackets } else { others }) += 1;
                }
            }
            Shape::Map { flow: true, pairs } if !pairs.is_empty() => {
                self.flow_maps += 1;
                self.tall_maps += usize::from(tree.spans_lines(id));
                self.depth(tree, id, pairs);
            }
            Shape::Map { flow: false, pairs } => self.pairs(tree, id, pairs),
            Shape::Alias(_) | Shape::Scalar(..) | Shape::List { .. } | Shape::Map { .. } => {}
        }
    }

    /// How far the pairs of a map in braces are from the line that the map begins in.
    fn depth(&mut self, tree: &Tree<'_>, id: NodeId, pairs: &[(NodeId, NodeId)]) {
        let Some((first, _)) = pairs.first() else { return };
        let at = tree.node(id).range.start;
        if tree.line_start(at) != tree.line_start(tree.node(*first).start) {
            let step = tree.column(tree.node(*first).start).saturating_sub(margin(tree, at));
            if let Some(count) = self.indents.get_mut(step) {
                *count += 1;
            }
        }
    }

    fn pairs(&mut self, tree: &Tree<'_>, id: NodeId, pairs: &[(NodeId, NodeId)]) {
        let column = tree.column(tree.node(id).range.start);
        for (_, value) in pairs {
            let node = tree.node(*value);
            let step = tree.column(node.range.start).checked_sub(column);
            let counts = match &node.shape {
                Shape::List { flow: false, .. } => &mut self.offsets,
                Shape::Map { flow: false, .. } => &mut self.indents,
                Shape::Scalar(style, text) => {
                    self.scalar(*style, text);
                    continue;
                }
                Shape::Alias(_) | Shape::List { .. } | Shape::Map { .. } => continue,
            };
            if let Some(count) = step.and_then(|step| counts.get_mut(step)) {
                *count += 1;
            }
        }
    }

    fn scalar(&mut self, style: ScalarStyle, text: &str) {
        match style {
            ScalarStyle::Single => self.single += 1,
            ScalarStyle::Double => self.double += 1,
            ScalarStyle::Plain if is_plain(text, false) => self.plain += 1,
            ScalarStyle::Plain | ScalarStyle::Block => {}
        }
    }
}

/// Spaces at the start of the line of a place.
pub(super) fn margin(tree: &Tree<'_>, at: usize) -> usize {
    let line = tree.line(at);
    line.len() - line.trim_start_matches(' ').len()
}

/// Spaces.
pub(super) fn spaces(count: usize) -> String {
    " ".repeat(count)
}

impl Style {
    /// A value in one line, if it can be written in one that fits the style.
    pub(super) fn inline(&self, value: &Value) -> Option<String> {
        match value {
            Value::Array(list) if list.is_empty() => Some("[]".to_owned()),
            Value::Object(map) if map.is_empty() => Some("{}".to_owned()),
            Value::Array(list) => {
                let is_flat = self.flow_lists && list.iter().all(|value| !value.is_array() && !value.is_object());
                is_flat.then(|| self.flow(value, None))
            }
            Value::Object(_) => None,
            Value::String(text) if is_literal(text) => None,
            scalar => Some(self.scalar(scalar, false)),
        }
    }

    /// The lines of a value below a key in `column`. Each of them ends with a line end.
    pub(super) fn lines(&self, value: &Value, column: usize) -> String {
        match value {
            Value::Object(map) => self.map_lines(map, column + self.indent, false),
            Value::Array(list) => {
                let dash = column + self.list_offset;
                list.iter().map(|value| format!("{}{}", spaces(dash), self.element(value, dash, 2))).collect()
            }
            scalar => format!("{}{}\n", spaces(column + self.indent), self.scalar(scalar, false)),
        }
    }

    /// An element of a list from its dash in `dash`, with its value `step` behind it.
    pub(super) fn element(&self, value: &Value, dash: usize, step: usize) -> String {
        let lead = format!("-{}", spaces(step.saturating_sub(1)));
        match value {
            Value::Object(map) if !map.is_empty() => format!("{lead}{}", self.map_lines(map, dash + step, true)),
            value => match self.inline(value) {
                Some(text) => format!("{lead}{text}\n"),
                None => format!("{lead}{}\n", self.flow(value, None)),
            },
        }
    }

    /// The pairs of a map with keys in `column`. The first one may follow a dash.
    pub(super) fn map_lines(&self, map: &Map<String, Value>, column: usize, after_dash: bool) -> String {
        let mut out = String::new();
        for (at, (key, value)) in map.iter().enumerate() {
            if at > 0 || !after_dash {
                out.push_str(&spaces(column));
            }
            out.push_str(&self.pair(key, value, column));
        }
        out
    }

    /// A pair with its key in `column`, without the spaces before it.
    pub(super) fn pair(&self, key: &str, value: &Value, column: usize) -> String {
        let flow_lists = self.lists.get(key).copied().unwrap_or(self.flow_lists);
        let key = self.key(key);
        let is_block = matches!(value, Value::Array(list) if !list.is_empty()) && !flow_lists;
        let style = if flow_lists == self.flow_lists { None } else { Some(Self { flow_lists, ..self.clone() }) };
        if let Some(text) = style.as_ref().unwrap_or(self).inline(value).filter(|_| !is_block) {
            return format!("{key}: {text}\n");
        }
        match value {
            Value::String(text) => format!("{key}: {}", literal(text, column + self.indent)),
            value => format!("{key}:\n{}", self.lines(value, column)),
        }
    }

    fn key(&self, key: &str) -> String {
        let plain = !self.json && is_plain(key, true);
        if plain { key.to_owned() } else { double(key) }
    }

    /// A value in brackets, braces or quotes. With a margin, its values may have lines of their own, which are indented
    /// from there.
    pub(super) fn flow(&self, value: &Value, margin: Option<usize>) -> String {
        match value {
            Value::Array(list) if !list.is_empty() => {
                let is_tall = self.tall_lists || list.iter().any(|value| value.is_object() && self.tall_maps);
                let below = margin.filter(|_| is_tall).map(|margin| margin + self.indent);
                let values = list.iter().map(|value| self.flow(value, below.or(margin))).collect();
                enclosed(('[', ']'), values, below, margin, false)
            }
            Value::Object(map) if !map.is_empty() => {
                let below = margin.filter(|_| self.tall_maps).map(|margin| margin + self.indent);
                let of = |(key, value): (&String, &Value)| self.flow_pair(key, value, below.or(margin));
                enclosed(('{', '}'), map.iter().map(of).collect(), below, margin, self.json)
            }
            Value::Array(_) => "[]".to_owned(),
            Value::Object(_) => "{}".to_owned(),
            scalar => self.scalar(scalar, true),
        }
    }

    /// A pair in braces, without them.
    pub(super) fn flow_pair(&self, key: &str, value: &Value, margin: Option<usize>) -> String {
        format!("{}: {}", self.key(key), self.flow(value, margin))
    }

    /// A scalar in one line.
    pub(super) fn scalar(&self, value: &Value, in_flow: bool) -> String {
        match value {
            Value::String(text) if self.json => double(text),
            Value::String(text) if !self.quoted && is_plain(text, in_flow) => text.clone(),
            Value::String(text) => self.in_quotes(text, self.single),
            Value::Number(number) => match number.as_f64() {
                // Whole numbers have no fraction in Lua.
                #[allow(clippy::cast_possible_truncation, reason = "it is in the range of whole numbers")]
                Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 9e15 => {
                    (float as i64).to_string()
                }
                _ => number.to_string(),
            },
            other => other.to_string(),
        }
    }

    /// A text in the quotes of the file, if these can hold it.
    pub(super) fn in_quotes(&self, text: &str, single: bool) -> String {
        let is_printable = text.chars().all(|c| c == ' ' || c.is_ascii_graphic() || (c.is_alphanumeric()));
        if single && is_printable { format!("'{}'", text.replace('\'', "''")) } else { double(text) }
    }
}

fn enclosed(
    (open, close): (char, char),
    values: Vec<String>,
    below: Option<usize>,
    margin: Option<usize>,
    padded: bool,
) -> String {
    match below {
        Some(column) => {
            let values: Vec<String> = values.into_iter().map(|value| format!("{}{value}", spaces(column))).collect();
            format!("{open}\n{}\n{}{close}", values.join(",\n"), spaces(margin.unwrap_or_default()))
        }
        None if padded => format!("{open} {} {close}", values.join(", ")),
        None => format!("{open}{}{close}", values.join(", ")),
    }
}

/// Whether a text needs no quotes, wherever it stands.
pub(super) fn is_plain(text: &str, in_flow: bool) -> bool {
    const WORDS: [&str; 11] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf"];
    let starts = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == '/');
    let ends = text.ends_with(|c: char| c.is_ascii_alphanumeric() || "_/-.+=$*)".contains(c));
    let fits = |c: char| c.is_ascii_alphanumeric() || "_./-:@+=$*~()".contains(c) || (c == ' ' && !in_flow);
    starts
        && ends
        && text.chars().all(fits)
        && !text.contains(": ")
        && !text.contains("  ")
        && (text.chars().any(|c| c.is_ascii_alphabetic() || c == '/') || text.matches('.').count() > 1)
        && !WORDS.contains(&text.to_ascii_lowercase().as_str())
        && scalars::resolve(text).is_none()
        // The parser takes them for numbers.
        && !text.starts_with("0x")
        && !text.starts_with("0o")
        && text.parse::<f64>().is_err()
}

/// Whether a text is best written as a block of lines.
pub(super) fn is_literal(text: &str) -> bool {
    let body = text.strip_suffix('\n').unwrap_or(text);
    let fits = |line: &str| {
        !line.ends_with(' ') && line.chars().all(|c| c == ' ' || c.is_ascii_graphic() || c.is_alphanumeric())
    };
    body.contains('\n') && !body.ends_with('\n') && !body.starts_with([' ', '\n']) && body.split('\n').all(fits)
}

/// A text as a block of lines in `column`, from the bar.
pub(super) fn literal(text: &str, column: usize) -> String {
    let (bar, body) = match text.strip_suffix('\n') {
        Some(body) => ("|", body),
        None => ("|-", text),
    };
    let mut out = format!("{bar}\n");
    for line in body.split('\n') {
        if !line.is_empty() {
            out.push_str(&spaces(column));
            out.push_str(line);
        }
        out.push('\n');
    }
    out
}

/// A text in double quotes, which is both YAML and JSON.
pub(super) fn double(text: &str) -> String {
    let json = Value::from(text).to_string();
    let is_special =
        |c: char| matches!(c, '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}');
    json.chars().fold(String::with_capacity(json.len()), |mut out, c| {
        if is_special(c) {
            write!(out, "\\u{:04x}", u32::from(c)).ok();
        } else {
            out.push(c);
        }
        out
    })
}
