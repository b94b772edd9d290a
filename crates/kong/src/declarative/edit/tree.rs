//! [`Tree`]: the text of a file as nodes with their places in bytes, as they are needed to change the text and nothing
//! else. What the values mean is not known here.

use std::ops::Range;

use granit_parser::{Event, Parser, ScalarStyle, Span, StructureStyle};

use super::super::source::{DEPTH_MAX, Data, Node, Scalar};

/// The position of a node in its tree.
pub(super) type NodeId = usize;

/// The nodes of the first document of a text.
#[derive(Debug)]
pub(super) struct Tree<'t> {
    pub(super) text: &'t str,
    nodes: Vec<Syntax>,
    /// The node that holds each node.
    holders: Vec<Option<NodeId>>,
    /// Comments, without the line ends.
    comments: Vec<Range<usize>>,
    /// Expressions that are filled in from the environment; letters stand for them.
    fills: Vec<Range<usize>>,
    pub(super) root: NodeId,
}

/// A node of the syntax.
#[derive(Debug)]
pub(super) struct Syntax {
    /// The value, without anchor and tag.
    pub(super) range: Range<usize>,
    /// Where it starts with anchor and tag.
    pub(super) start: usize,
    /// The number of its anchor; 0 is none.
    pub(super) anchor: usize,
    /// There is a tag (`!!str`).
    pub(super) has_tag: bool,
    pub(super) shape: Shape,
}

/// What a node is.
#[derive(Debug)]
pub(super) enum Shape {
    /// `*name`: the number of the anchor.
    Alias(usize),
    Scalar(Style, Box<str>),
    List {
        flow: bool,
        items: Vec<NodeId>,
    },
    /// Keys and values.
    Map {
        flow: bool,
        pairs: Vec<(NodeId, NodeId)>,
    },
}

/// How a scalar is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Single,
    Double,
    /// `|` and `>`.
    Block,
}

/// Why a text has no tree: a message and the line.
pub(super) type Unreadable = (String, usize);

impl<'t> Tree<'t> {
    /// Reads the first document.
    pub(super) fn read(text: &'t str, fills: Vec<Range<usize>>) -> Result<Self, Unreadable> {
        let tree = Self { text, nodes: Vec::new(), holders: Vec::new(), comments: Vec::new(), fills, root: 0 };
        let mut reader = Reader { tree, depth: 0 };
        let options = granit_parser::options! { emit_anchor_events: true };
        let mut events = Events { parser: Parser::new_from_str_with_options(text, options) };
        loop {
            match events.next(&mut reader.tree)? {
                (Event::StreamStart | Event::DocumentStart(..), _) => {}
                (Event::StreamEnd | Event::DocumentEnd, span) => {
                    return Err(("the file is empty".to_owned(), span.start.line()));
                }
                (event, span) => {
                    reader.tree.root = reader.node(event, span, &mut events)?;
                    break;
                }
            }
        }
        // Comments after the last value.
        while !matches!(events.next(&mut reader.tree)?.0, Event::DocumentEnd | Event::StreamEnd) {}
        reader.tree.note_holders();
        Ok(reader.tree)
    }

    fn note_holders(&mut self) {
        self.holders = vec![None; self.nodes.len()];
        for (id, node) in self.nodes.iter().enumerate() {
            let held: Vec<NodeId> = match &node.shape {
                Shape::List { items, .. } => items.clone(),
                Shape::Map { pairs, .. } => pairs.iter().flat_map(|(key, value)| [*key, *value]).collect(),
                Shape::Alias(_) | Shape::Scalar(..) => Vec::new(),
            };
            for held in held {
                if let Some(holder) = self.holders.get_mut(held) {
                    *holder = Some(id);
                }
            }
        }
    }

    /// The list that holds an element, and the position of the element.
    pub(super) fn list_of(&self, id: NodeId) -> Option<(NodeId, usize)> {
        let list = self.holders.get(id).copied().flatten()?;
        Some((list, self.items(list).iter().position(|item| *item == id)?))
    }

    /// The map that holds a value, the position of the pair, and its key.
    pub(super) fn pair_of(&self, value: NodeId) -> Option<(NodeId, usize, NodeId)> {
        let map = self.holders.get(value).copied().flatten()?;
        let mut pairs = self.pairs(map).iter().enumerate();
        pairs.find(|(_, (_, own))| *own == value).map(|(at, (key, _))| (map, at, *key))
    }

    /// Where the dash of an element of a block stands.
    pub(super) fn dash(&self, item: NodeId) -> Option<usize> {
        let mut end = self.node(item).start;
        loop {
            let start = self.line_start(end);
            let line = self.slice(start..end);
            let line = line.split_once(" #").map_or(line, |(line, _)| line).trim_end();
            match line.trim_start() {
                found if found.ends_with('-') => return Some(start + line.len() - 1),
                found if !found.is_empty() && !found.starts_with('#') => return None,
                _ => end = start.checked_sub(1)?,
            }
        }
    }

    pub(super) fn node(&self, id: NodeId) -> &Syntax {
        static NONE: Syntax = Syntax { range: 0..0, start: 0, anchor: 0, has_tag: false, shape: Shape::Alias(0) };
        self.nodes.get(id).unwrap_or(&NONE)
    }

    /// Every node.
    pub(super) fn nodes(&self) -> impl Iterator<Item = (NodeId, &Syntax)> {
        self.nodes.iter().enumerate()
    }

    /// The value under a key; of equal keys the last one.
    pub(super) fn get(&self, map: NodeId, key: &str) -> Option<NodeId> {
        let (_, _, value) = self.pair(map, key)?;
        Some(value)
    }

    /// The position of a key, its node and its value.
    pub(super) fn pair(&self, map: NodeId, key: &str) -> Option<(usize, NodeId, NodeId)> {
        let pairs = self.pairs(map).iter().enumerate().rev();
        pairs.map(|(at, (name, value))| (at, *name, *value)).find(|(_, name, _)| self.key(*name) == Some(key))
    }

    /// The pairs of a map.
    pub(super) fn pairs(&self, map: NodeId) -> &[(NodeId, NodeId)] {
        match &self.node(map).shape {
            Shape::Map { pairs, .. } => pairs,
            Shape::Alias(_) | Shape::Scalar(..) | Shape::List { .. } => &[],
        }
    }

    /// The elements of a list.
    pub(super) fn items(&self, list: NodeId) -> &[NodeId] {
        match &self.node(list).shape {
            Shape::List { items, .. } => items,
            Shape::Alias(_) | Shape::Scalar(..) | Shape::Map { .. } => &[],
        }
    }

    /// The text of a key.
    pub(super) fn key(&self, name: NodeId) -> Option<&str> {
        match &self.node(name).shape {
            Shape::Scalar(_, text) => Some(text),
            Shape::Alias(_) | Shape::List { .. } | Shape::Map { .. } => None,
        }
    }

    /// Where the bar of a block of lines stands that starts there.
    fn bar(&self, lines: usize) -> Option<usize> {
        let mut end = self.line_start(lines);
        loop {
            let start = self.line_start(end.checked_sub(1)?);
            let line = self.slice(start..end);
            let line = line.split_once(" #").map_or(line, |(line, _)| line).trim_end();
            if !line.is_empty() {
                let token = line.rfind(char::is_whitespace).map_or(0, |at| at + 1);
                return line.get(token..).filter(|token| token.starts_with(['|', '>'])).map(|_| start + token);
            }
            end = start;
        }
    }

    /// The node of the name in a reference: a text, or a map with one.
    pub(super) fn name_node(&self, value: NodeId) -> Option<NodeId> {
        match &self.node(value).shape {
            Shape::Scalar(..) => Some(value),
            Shape::Map { .. } => ["name", "username", "id"].iter().find_map(|key| self.get(value, key)),
            Shape::Alias(_) | Shape::List { .. } => None,
        }
    }

    /// A part of the text.
    pub(super) fn slice(&self, range: Range<usize>) -> &'t str {
        self.text.get(range).unwrap_or_default()
    }

    /// Where the line of a place starts.
    pub(super) fn line_start(&self, at: usize) -> usize {
        self.slice(0..at).rfind('\n').map_or(0, |found| found + 1)
    }

    /// Where the line of a place ends: after its line end.
    pub(super) fn line_end(&self, at: usize) -> usize {
        self.slice(at..self.text.len()).find('\n').map_or(self.text.len(), |found| at + found + 1)
    }

    /// The line of a place, without what ends it.
    pub(super) fn line(&self, at: usize) -> &'t str {
        self.slice(self.line_start(at)..self.line_end(at)).trim_end_matches(['\n', '\r'])
    }

    /// Its number, from 1.
    pub(super) fn line_number(&self, at: usize) -> usize {
        self.slice(0..at).matches('\n').count() + 1
    }

    /// Bytes from the start of the line.
    pub(super) fn column(&self, at: usize) -> usize {
        at - self.line_start(at)
    }

    /// Whether there is a comment in the range.
    pub(super) fn has_comment(&self, range: &Range<usize>) -> bool {
        let from = self.comments.partition_point(|comment| comment.start < range.start);
        self.comments.get(from).is_some_and(|comment| comment.start < range.end)
    }

    /// The first expression in the range.
    pub(super) fn fill(&self, range: &Range<usize>) -> Option<usize> {
        let from = self.fills.partition_point(|fill| fill.end <= range.start);
        self.fills.get(from).filter(|fill| fill.start < range.end).map(|fill| fill.start)
    }

    /// Whether a node and what it holds are written in more than one line.
    pub(super) fn spans_lines(&self, id: NodeId) -> bool {
        self.slice(self.node(id).range.clone()).contains('\n')
    }

    /// Checks that the tree is that of the values, and calls `found` with each value and its node.
    pub(super) fn pair_with<'n>(
        &self,
        (value, id): (&'n Node, NodeId),
        found: &mut dyn FnMut(&'n Node, NodeId),
    ) -> Result<(), Unreadable> {
        found(value, id);
        let differs = || {
            let line = self.line_number(self.node(id).start);
            (format!("the text in line {line} is written in a form that cannot be changed here"), line)
        };
        match (&value.data, &self.node(id).shape) {
            // What an alias repeats is written elsewhere.
            (_, Shape::Alias(_)) => Ok(()),
            (Data::Map(values), Shape::Map { .. }) => {
                for (key, _, value) in values {
                    // Other keys come from a merge.
                    match self.get(id, key) {
                        Some(node) => self.pair_with((value, node), found)?,
                        None if self.get(id, "<<").is_some() => {}
                        None => return Err(differs()),
                    }
                }
                Ok(())
            }
            (Data::List(values), Shape::List { items, .. }) if values.len() == items.len() => {
                values.iter().zip(items).try_for_each(|(value, node)| self.pair_with((value, *node), found))
            }
            (Data::Scalar(Scalar::String(text)), Shape::Scalar(Style::Plain, written)) => {
                // Text that was filled in is not known here.
                let is_filled = self.fill(&self.node(id).range).is_some();
                if **text == **written || is_filled { Ok(()) } else { Err(differs()) }
            }
            (Data::Scalar(_), Shape::Scalar(..)) => Ok(()),
            _ => Err(differs()),
        }
    }
}

struct Events<'t> {
    parser: Parser<'t, granit_parser::StrInput<'t>>,
}

impl<'t> Events<'t> {
    /// The next event that is no comment; comments are noted.
    fn next(&mut self, tree: &mut Tree<'t>) -> Result<(Event<'t>, Span), Unreadable> {
        loop {
            let event = self.parser.next_event().ok_or_else(|| ("the file ends early".to_owned(), 1))?;
            let (event, span) = event.map_err(|error| (error.to_string(), error.marker().line()))?;
            match event {
                Event::Comment(..) => tree.comments.push(bytes(&span)?),
                event => return Ok((event, span)),
            }
        }
    }
}

fn bytes(span: &Span) -> Result<Range<usize>, Unreadable> {
    let range = span.start.byte_offset().zip(span.end.byte_offset()).map(|(start, end)| start..end);
    range.ok_or_else(|| ("a place of the text is not known".to_owned(), span.start.line()))
}

struct Reader<'t> {
    tree: Tree<'t>,
    depth: usize,
}

impl<'t> Reader<'t> {
    fn node(&mut self, event: Event<'t>, span: Span, events: &mut Events<'t>) -> Result<NodeId, Unreadable> {
        if self.depth > DEPTH_MAX {
            return Err((format!("values are nested deeper than {DEPTH_MAX} levels"), span.start.line()));
        }
        let mut range = bytes(&span)?;
        let tag = span.tag_start.and_then(|at| at.byte_offset());
        let (anchor, has_tag) = match &event {
            Event::Scalar(.., anchor, tag)
            | Event::SequenceStart(_, anchor, tag)
            | Event::MappingStart(_, anchor, tag) => (*anchor, tag.is_some()),
            _ => (0, false),
        };
        let mut start = tag.map_or(range.start, |tag| tag.min(range.start));
        if anchor != 0 {
            let (_, span) = events.next(&mut self.tree)?;
            start = start.min(bytes(&span)?.start);
        }
        self.depth += 1;
        let shape = self.shape(event, &mut range, events, span.start.line())?;
        self.depth -= 1;
        start = start.min(range.start);
        self.tree.nodes.push(Syntax { range, start, anchor, has_tag, shape });
        Ok(self.tree.nodes.len() - 1)
    }

    /// What a node holds; moves the end of its range to where it ends.
    fn shape(
        &mut self,
        event: Event<'t>,
        range: &mut Range<usize>,
        events: &mut Events<'t>,
        line: usize,
    ) -> Result<Shape, Unreadable> {
        Ok(match event {
            Event::Alias(anchor) => Shape::Alias(anchor),
            Event::Scalar(text, style, ..) => {
                let style = match style {
                    ScalarStyle::Plain => Style::Plain,
                    ScalarStyle::SingleQuoted => Style::Single,
                    ScalarStyle::DoubleQuoted => Style::Double,
                    ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
                };
                let written = self.tree.slice(range.clone());
                range.end -= written.len() - written.trim_end().len();
                if style == Style::Block {
                    range.start = self.tree.bar(range.start).unwrap_or(range.start);
                }
                Shape::Scalar(style, text.into())
            }
            Event::SequenceStart(style, ..) => self.list(style, range, events)?,
            Event::MappingStart(style, ..) => self.map(style, range, events)?,
            _ => return Err(("the text cannot be read".to_owned(), line)),
        })
    }

    fn list(
        &mut self,
        style: StructureStyle,
        range: &mut Range<usize>,
        events: &mut Events<'t>,
    ) -> Result<Shape, Unreadable> {
        let (mut items, is_flow) = (Vec::new(), style == StructureStyle::Flow);
        loop {
            match events.next(&mut self.tree)? {
                (Event::SequenceEnd, span) => {
                    if let Some(dash) = items.first().filter(|_| !is_flow).and_then(|first| self.tree.dash(*first)) {
                        range.start = dash;
                    }
                    self.close(style, range, &span, items.last().copied())?;
                    return Ok(Shape::List { flow: is_flow, items });
                }
                (event, span) => items.push(self.node(event, span, events)?),
            }
        }
    }

    fn map(
        &mut self,
        style: StructureStyle,
        range: &mut Range<usize>,
        events: &mut Events<'t>,
    ) -> Result<Shape, Unreadable> {
        let mut pairs: Vec<(NodeId, NodeId)> = Vec::new();
        loop {
            match events.next(&mut self.tree)? {
                (Event::MappingEnd, span) => {
                    self.close(style, range, &span, pairs.last().map(|(_, value)| *value))?;
                    return Ok(Shape::Map { flow: style == StructureStyle::Flow, pairs });
                }
                (event, span) => {
                    let key = self.node(event, span, events)?;
                    let (event, span) = events.next(&mut self.tree)?;
                    let value = self.value(key, event, span, events)?;
                    pairs.push((key, value));
                }
            }
        }
    }

    /// The value of a key. One that is not written stands behind the colon.
    fn value(
        &mut self,
        key: NodeId,
        event: Event<'t>,
        span: Span,
        events: &mut Events<'t>,
    ) -> Result<NodeId, Unreadable> {
        let value = self.node(event, span, events)?;
        let end = self.tree.node(key).range.end;
        let colon = self.tree.slice(end..self.tree.text.len()).find(':').map(|found| end + found + 1);
        if let (Some(node), Some(colon)) = (self.tree.nodes.get_mut(value), colon)
            && node.range.is_empty()
            && node.anchor == 0
            && !node.has_tag
        {
            (node.range, node.start) = (colon..colon, colon);
        }
        Ok(value)
    }

    /// A block ends where its last value does: the event comes with what follows.
    fn close(
        &self,
        style: StructureStyle,
        range: &mut Range<usize>,
        span: &Span,
        last: Option<NodeId>,
    ) -> Result<(), Unreadable> {
        range.end = match (style, last) {
            (StructureStyle::Block, Some(last)) => self.tree.node(last).range.end,
            _ => bytes(span)?.end,
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(tree: &Tree<'_>, id: NodeId) -> String {
        let node = tree.node(id);
        let own = tree.slice(node.start..node.range.end);
        let anchor = if node.anchor > 0 { format!("&{} ", node.anchor) } else { String::new() };
        match &node.shape {
            Shape::Alias(anchor) => format!("*{anchor}{own:?}"),
            Shape::Scalar(..) => format!("{anchor}{own:?}"),
            Shape::List { items, .. } => {
                let items: Vec<_> = items.iter().map(|item| show(tree, *item)).collect();
                format!("{anchor}{own:?}[{}]", items.join(","))
            }
            Shape::Map { pairs, .. } => {
                let pairs: Vec<_> =
                    pairs.iter().map(|(key, value)| format!("{}={}", show(tree, *key), show(tree, *value))).collect();
                format!("{anchor}{own:?}{{{}}}", pairs.join(","))
            }
        }
    }

    #[test]
    fn nodes_have_the_places_of_their_text() {
        let check = |text: &str, expected: &str| {
            let tree = Tree::read(text, Vec::new()).unwrap();
            assert_eq!(show(&tree, tree.root), expected, "{text}");
        };
        check("a: 1 # x\n\n# y\n", r#""a: 1"{"a"="1"}"#);
        check(
            "# é\na:\n- &x b # c\n# d\n- 'e'\n",
            r#""a:\n- &x b # c\n# d\n- 'e'"{"a"="- &x b # c\n# d\n- 'e'"[&1 "&x b","'e'"]}"#,
        );
        check(
            "- k:\n  l: |\n    t\n\n    u\n\n- *z\n".replace("*z", "z").as_str(),
            "\"- k:\\n  l: |\\n    t\\n\\n    u\\n\\n- z\"[\"k:\\n  l: |\\n    t\\n\\n    u\"{\"k\"=\"\",\"l\"=\"|\\n    t\\n\\n    u\"},\"z\"]",
        );
        check(
            "{\"a\": [1, {b: \"c\"}], d: ~}",
            r#""{\"a\": [1, {b: \"c\"}], d: ~}"{"\"a\""="[1, {b: \"c\"}]"["1","{b: \"c\"}"{"b"="\"c\""}],"d"="~"}"#,
        );
        check(
            "a: &n !!map\n  b: c\nd: *n\n",
            r#""a: &n !!map\n  b: c\nd: *n"{"a"=&1 "&n !!map\n  b: c"{"b"="c"},"d"=*1"*n"}"#,
        );
        assert!(Tree::read("a: [", Vec::new()).is_err() && Tree::read("", Vec::new()).is_err());
    }
}
