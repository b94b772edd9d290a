//! [`Ops`]: what is to be done to the nodes of a tree, and the text that comes of it. Only the lines of what changes are
//! touched.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde_json::{Map, Value};

use super::style::{Style, is_literal, literal, margin, spaces};
use super::tree::{NodeId, Shape, Style as ScalarStyle, Tree};

/// What is to be done to each node.
#[derive(Debug, Default)]
pub(super) struct Ops(BTreeMap<NodeId, Op>);

/// What is to be done to a node.
#[derive(Debug, Default)]
struct Op {
    /// Its value becomes another one.
    replaced: Option<Value>,
    /// Positions of elements or pairs that are removed.
    removed: BTreeSet<usize>,
    /// Elements that are added at the end.
    elements: Vec<Value>,
    /// Pairs that are added behind the pair at a position.
    pairs: Vec<(usize, String, Value)>,
}

impl Ops {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Replaces a value.
    pub(super) fn replace(&mut self, node: NodeId, value: Value) {
        self.0.entry(node).or_default().replaced = Some(value);
    }

    /// Removes an element of a list or a pair of a map.
    pub(super) fn remove(&mut self, node: NodeId, at: usize) {
        self.0.entry(node).or_default().removed.insert(at);
    }

    /// Whether a pair is added to a map.
    pub(super) fn inserts(&self, map: NodeId, key: &str) -> bool {
        self.0.get(&map).is_some_and(|op| op.pairs.iter().any(|(_, name, _)| name == key))
    }

    /// Removes lists that are nested in entities and have no elements any more, unless a comment is about them.
    pub(super) fn drop_empty_lists(&mut self, tree: &Tree<'_>) {
        let is_empty = |(list, op): (&NodeId, &Op)| {
            let count = tree.items(*list).len();
            (count > 0 && op.removed.len() == count && op.elements.is_empty()).then_some(*list)
        };
        let empty: Vec<NodeId> = self.0.iter().filter_map(is_empty).collect();
        for list in empty {
            let Some((map, at, key)) = tree.pair_of(list).filter(|(map, at, _)| *map != tree.root && *at > 0) else {
                continue;
            };
            let start = tree.line_start(tree.node(key).start);
            let above = tree.line(start.saturating_sub(1)).trim_start().starts_with('#');
            if !above && !tree.has_comment(&(start..tree.line_end(start))) {
                self.0.remove(&list);
                self.remove(map, at);
            }
        }
    }

    /// Adds an element to a list.
    pub(super) fn push(&mut self, list: NodeId, value: Value) {
        self.0.entry(list).or_default().elements.push(value);
    }

    /// Adds a pair to a map, behind the pair at a position.
    pub(super) fn insert(&mut self, map: NodeId, behind: usize, key: &str, value: Value) {
        self.0.entry(map).or_default().pairs.push((behind, key.to_owned(), value));
    }

    /// The text with everything done.
    pub(super) fn applied(&self, tree: &Tree<'_>, style: &Style, text: &str) -> Result<String, Refused> {
        let mut emitter = Emitter { tree, style, ops: self, patches: Patches::default() };
        emitter.node(tree.root, &Place { flow: false, holder: Holder::Root })?;
        Ok(emitter.patches.applied(text))
    }
}

/// Why something cannot be done: a message, and a place in the text.
pub(super) type Refused = (String, usize);

/// The text of new values in a style, indented from a column, each with the position of the value that it follows.
type Values<'v> = dyn Fn(&Style, Option<usize>) -> Vec<(usize, String)> + 'v;

/// Where a node stands.
struct Place {
    /// Within brackets or braces.
    flow: bool,
    holder: Holder,
}

enum Holder {
    Root,
    /// The value of this key.
    Pair(NodeId),
    Element,
}

/// Changes of a text.
#[derive(Debug, Default)]
struct Patches {
    removed: Vec<Range<usize>>,
    /// Places and texts; whether these are whole lines.
    inserted: Vec<(usize, String, bool)>,
}

impl Patches {
    fn remove(&mut self, range: Range<usize>) {
        self.removed.push(range);
    }

    fn insert(&mut self, at: usize, text: String) {
        self.inserted.push((at, text, false));
    }

    /// Inserts whole lines at the start of a line.
    fn insert_lines(&mut self, at: usize, text: String) {
        self.inserted.push((at, text, true));
    }

    fn replace(&mut self, range: Range<usize>, text: String) {
        self.insert(range.start, text);
        self.remove(range);
    }

    fn applied(mut self, text: &str) -> String {
        let line_end = if text.split('\n').next().is_some_and(|line| line.ends_with('\r')) { "\r\n" } else { "\n" };
        self.removed.sort_by_key(|range| (range.start, range.end));
        // The order of insertions at one place is that of their making.
        self.inserted.sort_by_key(|(at, ..)| *at);
        let mut removed = self.removed.into_iter().peekable();
        let (mut out, mut at) = (String::with_capacity(text.len() + 256), 0);
        let mut copy = |out: &mut String, to: usize| {
            while at < to {
                while removed.next_if(|range| range.end <= at).is_some() {}
                match removed.peek() {
                    Some(range) if range.start <= at => at = range.end.min(to),
                    Some(range) if range.start < to => {
                        out.push_str(text.get(at..range.start).unwrap_or_default());
                        at = range.start;
                    }
                    _ => {
                        out.push_str(text.get(at..to).unwrap_or_default());
                        at = to;
                    }
                }
            }
        };
        for (place, inserted, is_lines) in self.inserted {
            copy(&mut out, place);
            if is_lines && !out.is_empty() && !out.ends_with('\n') {
                out.push_str(line_end);
            }
            out.push_str(&inserted.replace('\n', line_end));
        }
        copy(&mut out, text.len());
        out
    }
}

struct Emitter<'e, 't> {
    tree: &'e Tree<'t>,
    style: &'e Style,
    ops: &'e Ops,
    patches: Patches,
}

impl Emitter<'_, '_> {
    fn node(&mut self, id: NodeId, place: &Place) -> Result<(), Refused> {
        let none = Op::default();
        let (tree, ops) = (self.tree, self.ops);
        let op = ops.0.get(&id).unwrap_or(&none);
        if let Some(value) = &op.replaced {
            self.replace(id, value, place);
            return Ok(());
        }
        match &tree.node(id).shape {
            Shape::Alias(_) | Shape::Scalar(..) => Ok(()),
            Shape::List { flow: true, items } if items.is_empty() && !op.elements.is_empty() => {
                self.replace(id, &Value::Array(op.elements.clone()), place);
                Ok(())
            }
            Shape::Map { flow: true, pairs } if pairs.is_empty() && !op.pairs.is_empty() => {
                let pairs: Map<_, _> = op.pairs.iter().map(|(_, key, value)| (key.clone(), value.clone())).collect();
                self.replace(id, &Value::Object(pairs), place);
                Ok(())
            }
            Shape::List { flow, items } => {
                for (_, item) in items.iter().enumerate().filter(|(at, _)| !op.removed.contains(at)) {
                    self.node(*item, &Place { flow: *flow || place.flow, holder: Holder::Element })?;
                }
                if *flow { self.flow_list(id, items, op) } else { self.list(items, op) }
            }
            Shape::Map { flow, pairs } => {
                for (_, (key, value)) in pairs.iter().enumerate().filter(|(at, _)| !op.removed.contains(at)) {
                    self.node(*value, &Place { flow: *flow || place.flow, holder: Holder::Pair(*key) })?;
                }
                if *flow { self.flow_map(id, pairs, op) } else { self.map(pairs, op) }
            }
        }
    }

    /// Writes another value in place of one.
    fn replace(&mut self, id: NodeId, value: &Value, place: &Place) {
        let (tree, style) = (self.tree, self.style);
        let node = tree.node(id);
        let range = node.start..node.range.end;
        if place.flow || style.json {
            let text =
                self.scalar_like(id, value, true).unwrap_or_else(|| style.flow(value, Some(margin(tree, node.start))));
            return self.patches.replace(range, text);
        }
        let Holder::Pair(key) = place.holder else {
            let text = self.scalar_like(id, value, false).unwrap_or_else(|| style.flow(value, None));
            return self.patches.replace(range, text);
        };
        let column = tree.column(tree.node(key).start);
        let colon = tree.slice(tree.node(key).range.end..tree.text.len()).find(':').unwrap_or_default();
        let colon = tree.node(key).range.end + colon + 1;
        let is_below = tree.line_start(range.start) > tree.line_start(colon);
        let end = self.block_end(range.end, column);
        match self.scalar_like(id, value, false).or_else(|| style.inline(value)) {
            Some(text) if is_below => {
                self.patches.insert(colon, format!(" {text}"));
                self.patches.remove(tree.line_start(range.start)..end);
            }
            Some(text) if range.is_empty() => self.patches.insert(colon, format!(" {text}")),
            Some(text) => self.patches.replace(range, text),
            None => match value {
                Value::String(text) => {
                    let text = literal(text, column + style.indent);
                    self.patches.replace(colon..range.end, format!(" {}", text.trim_end()));
                }
                value if is_below => {
                    self.patches.insert_lines(tree.line_start(range.start), style.lines(value, column));
                    self.patches.remove(tree.line_start(range.start)..tree.line_end(range.end));
                }
                value => {
                    self.patches.remove(colon..range.end);
                    self.patches.insert_lines(tree.line_end(range.end), style.lines(value, column));
                }
            },
        }
    }

    /// A scalar in the form of the one that it replaces, if the form can hold it.
    fn scalar_like(&self, old: NodeId, value: &Value, in_flow: bool) -> Option<String> {
        let Value::String(text) = value else {
            return (!value.is_array() && !value.is_object()).then(|| self.style.scalar(value, in_flow));
        };
        if is_literal(text) && !in_flow {
            return None;
        }
        match &self.tree.node(old).shape {
            Shape::Scalar(ScalarStyle::Single, _) => Some(self.style.in_quotes(text, true)),
            Shape::Scalar(ScalarStyle::Double, _) => Some(super::style::double(text)),
            Shape::Scalar(ScalarStyle::Plain, _) => {
                let style = Style { quoted: false, ..self.style.clone() };
                Some(style.scalar(value, in_flow))
            }
            _ => Some(self.style.scalar(value, in_flow)),
        }
    }

    /// The end of what belongs to a block in `column`: after comments that follow it and are indented more.
    fn block_end(&self, end: usize, column: usize) -> usize {
        let mut at = self.tree.line_end(end);
        while at < self.tree.text.len() {
            let line = self.tree.line(at);
            let text = line.trim_start();
            if !text.starts_with('#') || line.len() - text.len() <= column {
                break;
            }
            at = self.tree.line_end(at);
        }
        at
    }

    /// Where the comments directly above the line of a place start that are indented as it is.
    fn attached(&self, at: usize, column: usize) -> usize {
        let mut start = self.tree.line_start(at);
        while let Some(above) = start.checked_sub(1) {
            let line = self.tree.line(above);
            let text = line.trim_start();
            if !text.starts_with('#') || line.len() - text.len() != column {
                break;
            }
            start = self.tree.line_start(above);
        }
        start
    }

    fn is_blank(&self, at: usize) -> bool {
        at < self.tree.text.len() && self.tree.line(at).trim().is_empty()
    }

    /// A block of elements.
    fn list(&mut self, items: &[NodeId], op: &Op) -> Result<(), Refused> {
        let tree = self.tree;
        for at in &op.removed {
            let Some(item) = items.get(*at) else { continue };
            let (dash, _) = self.dash(*item)?;
            if !tree.slice(tree.line_start(dash)..dash).trim().is_empty() {
                return Err(("an element that stands in the line of another list cannot be removed".to_owned(), dash));
            }
            let range = self.element_lines(items, *at)?;
            self.patches.remove(range);
        }
        let Some(last) = items.last() else { return Ok(()) };
        let (dash, column) = self.dash(*last)?;
        if op.removed.len() == items.len() && op.elements.is_empty() {
            // The planner removes the list where nothing else refers to it.
            let first = self.dash(*items.first().unwrap_or(last))?.0;
            let end = self.value_start(first);
            self.patches.insert(end, " []".to_owned());
        }
        let start = tree.node(*last).start;
        let step = if tree.line_start(start) == tree.line_start(dash) { start - dash } else { 2 };
        let end = self.block_end(tree.node(*last).range.end, column);
        let gap = match items.len().checked_sub(2).and_then(|before| items.get(before)) {
            Some(before) => self.is_blank(self.block_end(tree.node(*before).range.end, column)),
            None => false,
        };
        for value in &op.elements {
            let element = format!("{}{}", spaces(column), self.style.element(value, column, step));
            self.patches.insert_lines(end, if gap { format!("\n{element}") } else { element });
        }
        Ok(())
    }

    /// The lines of an element, with the comments above it.
    fn element_lines(&self, items: &[NodeId], at: usize) -> Result<Range<usize>, Refused> {
        let tree = self.tree;
        let item = items.get(at).copied().unwrap_or_default();
        let (dash, column) = self.dash(item)?;
        let mut range = self.attached(dash, column)..self.block_end(tree.node(item).range.end, column);
        let above = range.start.checked_sub(1).filter(|above| self.is_blank(*above));
        match above {
            // One of two gaps is enough.
            Some(above) if range.end == tree.text.len() || self.is_blank(range.end) => {
                range.start = tree.line_start(above);
            }
            None if at == 0 && items.len() > 1 => {
                while self.is_blank(range.end) {
                    range.end = tree.line_end(range.end);
                }
            }
            _ => {}
        }
        Ok(range)
    }

    /// Where the dash of an element stands, and its column.
    fn dash(&self, item: NodeId) -> Result<(usize, usize), Refused> {
        let found = self.tree.dash(item).map(|dash| (dash, self.tree.column(dash)));
        found.ok_or_else(|| {
            (
                "an element of this list is written in a form that cannot be changed here".to_owned(),
                self.tree.node(item).start,
            )
        })
    }

    /// Behind the colon before a block that begins there.
    fn value_start(&self, at: usize) -> usize {
        let mut start = self.tree.line_start(at);
        while let Some(above) = start.checked_sub(1) {
            let line = self.tree.line(above);
            start = self.tree.line_start(above);
            let line = line.split_once(" #").map_or(line, |(line, _)| line).trim_end();
            if line.ends_with(':') {
                return start + line.len();
            }
        }
        at
    }

    /// A block of pairs.
    fn map(&mut self, pairs: &[(NodeId, NodeId)], op: &Op) -> Result<(), Refused> {
        let tree = self.tree;
        let Some((first, _)) = pairs.first() else { return Ok(()) };
        let start = tree.node(*first).start;
        let column = tree.column(start);
        let is_changed = !op.removed.is_empty() || !op.pairs.is_empty();
        if is_changed && tree.slice(tree.line_start(start)..start).contains('?') {
            return Err(("a map with explicit keys (? key) cannot be changed here".to_owned(), start));
        }
        for at in &op.removed {
            let Some((key, value)) = pairs.get(*at) else { continue };
            let start = tree.node(*key).start;
            let is_first_in_line = tree.slice(tree.line_start(start)..start).trim().is_empty();
            if is_first_in_line {
                let end = self.block_end(tree.node(*value).range.end.max(start), column);
                self.patches.remove(self.attached(start, column)..end);
                continue;
            }
            // The next pair moves up behind the dash.
            let next = pairs.iter().enumerate().skip(at + 1).find(|(at, _)| !op.removed.contains(at));
            let next = next.map(|(_, (key, _))| tree.node(*key).start);
            match next {
                Some(next) if !tree.has_comment(&(start..next)) => self.patches.remove(start..next),
                _ => return Err(("the first field of this entity cannot be removed here".to_owned(), start)),
            }
        }
        for (behind, key, value) in &op.pairs {
            let Some((name, before)) = pairs.get((*behind).min(pairs.len() - 1)) else { continue };
            let end = tree.node(*before).range.end.max(tree.node(*name).range.end);
            let at = match tree.node(*before).shape {
                // What is below the pair is its end.
                Shape::List { flow: false, .. } | Shape::Map { flow: false, .. } => self.block_end(end, column),
                _ => tree.line_end(end),
            };
            let pair = format!("{}{}", spaces(column), self.style.pair(key, value, column));
            self.patches.insert_lines(at, pair);
        }
        Ok(())
    }

    fn flow_list(&mut self, id: NodeId, items: &[NodeId], op: &Op) -> Result<(), Refused> {
        let ranges = items.iter().map(|item| self.tree.node(*item)).map(|node| node.start..node.range.end).collect();
        let values =
            |style: &Style, margin| op.elements.iter().map(|value| (usize::MAX, style.flow(value, margin))).collect();
        self.enclosed(id, ranges, op, &values)
    }

    fn flow_map(&mut self, id: NodeId, pairs: &[(NodeId, NodeId)], op: &Op) -> Result<(), Refused> {
        let tree = self.tree;
        let range = |(key, value): &(NodeId, NodeId)| {
            tree.node(*key).start..tree.node(*value).range.end.max(tree.node(*key).range.end)
        };
        let values = |style: &Style, margin| {
            let pair = |(behind, key, value): &(usize, String, Value)| (*behind, style.flow_pair(key, value, margin));
            op.pairs.iter().map(pair).collect()
        };
        self.enclosed(id, pairs.iter().map(range).collect(), op, &values)
    }

    /// Values between brackets or braces.
    fn enclosed(&mut self, id: NodeId, ranges: Vec<Range<usize>>, op: &Op, values: &Values<'_>) -> Result<(), Refused> {
        let tree = self.tree;
        let (Some(first), Some(last)) = (ranges.first(), ranges.last()) else { return Ok(()) };
        let own = tree.node(id).range.clone();
        let all_removed = op.removed.len() == ranges.len();
        let starts = ranges.iter().map(|range| range.start).chain([own.end]);
        let ends = [own.start].into_iter().chain(ranges.iter().map(|range| range.end));
        let has_comment = ends.zip(starts).any(|(end, start)| tree.has_comment(&(end..start)));
        let is_tall = tree.line_start(own.start) != tree.line_start(first.start);
        let margin = is_tall.then(|| tree.column(first.start));
        let values = values(self.style, margin);
        if all_removed && values.is_empty() && !has_comment {
            self.patches.remove(own.start + 1..own.end - 1);
            return Ok(());
        }
        let comma = margin.map_or_else(|| ", ".to_owned(), |column| format!(",\n{}", spaces(column)));
        for (at, (behind, value)) in values.into_iter().enumerate() {
            let before = ranges.iter().enumerate().take(behind.saturating_add(1)).rev();
            let place = before.clone().find(|(at, _)| !op.removed.contains(at)).map_or(last, |(_, range)| range);
            let is_first = all_removed && at == 0;
            self.patches.insert(place.end, if is_first { value } else { format!("{comma}{value}") });
        }
        if has_comment {
            return self.line_removals(&ranges, op);
        }
        self.removals(&ranges, op, all_removed);
        Ok(())
    }

    /// Removes values between brackets that have lines of their own, with the comments above and behind them. The comma of
    /// the value before stays: one before the bracket is allowed.
    fn line_removals(&mut self, ranges: &[Range<usize>], op: &Op) -> Result<(), Refused> {
        let tree = self.tree;
        for range in ranges.iter().enumerate().filter(|(at, _)| op.removed.contains(at)).map(|(_, range)| range) {
            let (start, end) = (tree.line_start(range.start), tree.line_end(range.end));
            let before = tree.slice(start..range.start).trim();
            let behind = tree.slice(range.end..end).trim();
            let behind = behind.strip_prefix(',').unwrap_or(behind).trim_start();
            if !before.is_empty() || !(behind.is_empty() || behind.starts_with('#')) {
                let message = "a value between brackets that shares its line with others, and has comments around it, cannot \
                               be removed here";
                return Err((message.to_owned(), range.start));
            }
            self.patches.remove(self.attached(range.start, tree.column(range.start))..end);
        }
        Ok(())
    }

    /// Removes values between brackets, each with one comma.
    fn removals(&mut self, ranges: &[Range<usize>], op: &Op, all_removed: bool) {
        let mut kept_before: Option<&Range<usize>> = None;
        for (at, range) in ranges.iter().enumerate() {
            if !op.removed.contains(&at) {
                kept_before = Some(range);
                continue;
            }
            let is_tail = (at..ranges.len()).all(|at| op.removed.contains(&at));
            match (ranges.get(at + 1), kept_before) {
                _ if all_removed => {
                    let end = ranges.get(at + 1).map_or(range.end, |next| next.start);
                    self.patches.remove(range.start..end);
                }
                (_, Some(before)) if is_tail => self.patches.remove(before.end..range.end),
                (Some(next), _) => self.patches.remove(range.start..next.start),
                (None, _) => self.patches.remove(range.clone()),
            }
        }
    }
}
