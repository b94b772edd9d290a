//! The parts of a line that are secret because of where the line stands: within the value of a field with a secret name,
//! or where a text stands in the place of a credential.
//!
//! The lines may be no valid YAML: this reads indentation, brackets and quotes, and hides too much rather than too little.

use std::ops::Range;

use super::excerpt::is_secret;

/// Bytes of the lines before that are read.
const BEFORE_MAX: usize = 1 << 20;

/// What a value is, by the names of the fields it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nature {
    Plain,
    /// All of it is secret.
    Secret,
    /// A list of credentials, whose elements are records.
    Credentials,
    /// An element of such a list.
    Credential,
    /// What a transformer adds, by place: `add`.
    Additions,
    /// A list of `name:value`.
    Pairs,
}

use Nature::{Additions, Credential, Credentials, Pairs, Plain, Secret};

impl Nature {
    /// Of the value of a field.
    fn of_field(self, name: &str, names: &[String]) -> Self {
        if matches!(self, Secret | Credentials | Pairs) || is_secret(name) || names.iter().any(|known| known == name) {
            return Secret;
        }
        match name {
            "add" | "append" | "replace" => Additions,
            "body" | "headers" | "json" | "querystring" if self == Additions => Pairs,
            name if is_list_of_credentials(name) => Credentials,
            _ => Plain,
        }
    }

    /// Of the elements of a list.
    fn of_element(self) -> Self {
        match self {
            Credentials => Credential,
            Additions => Plain,
            other => other,
        }
    }

    /// Of what is in a map.
    fn of_map(self) -> Self {
        if self == Credential { Plain } else { self }
    }

    /// The secret part of a text.
    fn hidden(self, text: &str) -> Option<usize> {
        match self {
            Secret | Credentials | Credential => Some(0),
            Pairs => Some(text.find(':').map_or(0, |colon| colon + 1)),
            Plain | Additions => None,
        }
    }
}

pub(super) fn is_list_of_credentials(name: &str) -> bool {
    const LISTS: [&str; 10] = [
        "basicauth_credentials",
        "header_cert_auth_credentials",
        "hmacauth_credentials",
        "jwt_secrets",
        "keyauth_credentials",
        "keyauth_enc_credentials",
        "mtls_auth_credentials",
        "oauth2_authorization_codes",
        "oauth2_credentials",
        "oauth2_tokens",
    ];
    // Names are compared with all of these only where they are like them.
    let is_like =
        name.len() > 6 && name != "hide_credentials" && ["auth", "cred", "jwt"].iter().any(|part| name.contains(part));
    LISTS.contains(&name) || (is_like && cardinal_schema::suggest(name, LISTS).is_some())
}

/// A field or list element whose lines are indented more.
struct Block {
    /// Twice the column of a field, and one more for an element, which may begin in the column of the field it is in.
    indent: usize,
    nature: Nature,
    /// A plain text began in the line of the name: lines that follow continue it.
    has_text: bool,
}

/// A quoted text or the text after `|`.
enum Text {
    None,
    Quoted(char, Nature),
    /// With the column of the field it is of.
    Block(usize, Nature),
}

struct Reader<'n> {
    names: &'n [String],
    blocks: Vec<Block>,
    /// Open brackets: what is in them, and whether they hold names.
    brackets: Vec<(Nature, bool)>,
    /// Of the value that follows a name within brackets.
    value: Option<Nature>,
    text: Text,
}

/// The secret parts of the last line, in order.
pub(super) fn of_last(lines: &[&str], names: &[String]) -> Vec<Range<usize>> {
    let Some((last, before)) = lines.split_last() else { return Vec::new() };
    let mut bytes = 0;
    let first = before.iter().rposition(|line| {
        bytes += line.len();
        bytes > BEFORE_MAX
    });
    let text = Text::None;
    let mut reader = Reader { names, blocks: Vec::new(), brackets: Vec::new(), value: None, text };
    let mut hidden = Vec::new();
    for line in before.get(first.map_or(0, |at| at + 1)..).unwrap_or_default() {
        reader.line(line, &mut hidden);
        hidden.clear();
    }
    reader.line(last, &mut hidden);
    hidden
        .retain(|range| last.get(range.clone()).is_some_and(|text| !text.is_empty() && !text.starts_with("{vault://")));
    hidden
}

impl Reader<'_> {
    fn line(&mut self, line: &str, hidden: &mut Vec<Range<usize>>) {
        let indent = line.len() - line.trim_start_matches([' ', '\t']).len();
        let end = line.trim_end().len();
        if let Text::Block(owner, nature) = self.text {
            if indent >= end || indent > owner {
                hidden.extend((nature != Plain && nature != Additions).then_some(indent..end.max(indent)));
                return;
            }
            self.text = Text::None;
        }
        if let Text::Quoted(..) = self.text {
            let from = self.quoted(line, indent.min(end), hidden);
            self.flow_or_rest(line, from, hidden);
        } else if !self.brackets.is_empty() {
            self.flow(line, indent, hidden);
        } else if indent < end {
            self.block_line(line, indent, hidden);
        }
    }

    /// The rest of a line after a quoted text that began before.
    fn flow_or_rest(&mut self, line: &str, from: usize, hidden: &mut Vec<Range<usize>>) {
        if !self.brackets.is_empty() {
            self.flow(line, from, hidden);
        }
    }

    /// A line that begins outside of brackets and texts.
    fn block_line(&mut self, line: &str, indent: usize, hidden: &mut Vec<Range<usize>>) {
        let mut at = indent;
        let rest = |at: usize| line.get(at..).unwrap_or_default();
        let mut owner = None;
        while rest(at).starts_with("- ") || rest(at).trim_end() == "-" {
            self.blocks.retain(|block| block.indent <= 2 * at);
            let nature = self.blocks.last().map_or(Plain, |block| block.nature).of_element();
            self.blocks.push(Block { indent: 2 * at + 1, nature, has_text: false });
            owner = Some(at);
            at += 1;
            at += rest(at).len() - rest(at).trim_start().len();
        }
        if rest(at).trim().is_empty() || rest(at).starts_with('#') {
            return;
        }
        self.blocks.retain(|block| block.indent < 2 * at);
        let (outer, continues) = self.blocks.last().map_or((Plain, false), |block| (block.nature, block.has_text));
        let Some((name, value)) = key(rest(at)).filter(|_| !(continues && outer == Secret)) else {
            let column = owner.or(self.blocks.last().map(|block| block.indent / 2)).unwrap_or(0);
            self.block_value(line, at, (column, outer), hidden);
            return;
        };
        let nature = outer.of_field(name, self.names);
        let value = at + value;
        let text = rest(value).trim();
        self.blocks.push(Block { indent: 2 * at, nature, has_text: !text.is_empty() && !text.starts_with('#') });
        let value = value + (rest(value).len() - rest(value).trim_start().len());
        self.block_value(line, value, (at, nature), hidden);
    }

    fn block_value(&mut self, line: &str, at: usize, (owner, nature): (usize, Nature), hidden: &mut Vec<Range<usize>>) {
        let start = without_properties(line, at);
        let end = line.trim_end().len();
        let text = line.get(start..end).unwrap_or_default();
        match text.chars().next() {
            None | Some('#') => {}
            Some('|' | '>') => self.text = Text::Block(owner, nature),
            Some('{' | '[') => {
                self.value = Some(nature);
                self.flow(line, start, hidden);
            }
            Some(quote @ ('"' | '\'')) => {
                self.text = Text::Quoted(quote, nature);
                self.quoted_from(line, start + 1, start + 1, hidden);
            }
            Some(_) => hidden.extend(nature.hidden(text).map(|from| start + from..end)),
        }
    }

    /// The rest of a quoted text that began in a line before; where it ends.
    fn quoted(&mut self, line: &str, from: usize, hidden: &mut Vec<Range<usize>>) -> usize {
        if let Text::Quoted(quote, Pairs) = self.text {
            // The name stands in a line before.
            self.text = Text::Quoted(quote, Secret);
        }
        self.quoted_from(line, from, from, hidden)
    }

    fn quoted_from(&mut self, line: &str, from: usize, shown: usize, hidden: &mut Vec<Range<usize>>) -> usize {
        let Text::Quoted(quote, nature) = self.text else { return from };
        let inner = line.get(from..).unwrap_or_default();
        let length = super::excerpt::closing(inner, quote);
        let end = length.map_or(line.trim_end().len().max(from), |length| from + length);
        let text = line.get(shown..end).unwrap_or_default();
        hidden.extend(nature.hidden(text).map(|start| shown + start..end));
        if length.is_some() {
            self.text = Text::None;
            return end + 1;
        }
        line.len()
    }

    /// A part of a line within brackets, or that begins with one.
    fn flow(&mut self, line: &str, from: usize, hidden: &mut Vec<Range<usize>>) {
        let mut at = from;
        while let Some(c) = line.get(at..).and_then(|rest| rest.chars().next()) {
            at = match c {
                '{' | '[' => self.open(c, at),
                '}' | ']' => {
                    self.brackets.pop();
                    self.value = None;
                    if self.brackets.is_empty() {
                        return;
                    }
                    at + 1
                }
                ',' => {
                    self.value = None;
                    at + 1
                }
                c if c.is_whitespace() || c == ':' => at + c.len_utf8(),
                '#' if line.get(..at).is_none_or(|before| before.is_empty() || before.ends_with([' ', '\t'])) => return,
                _ => self.flow_text(line, at, hidden),
            };
        }
    }

    fn open(&mut self, bracket: char, at: usize) -> usize {
        let nature = self.value.take().unwrap_or_else(|| self.element());
        self.brackets.push(if bracket == '{' { (nature.of_map(), true) } else { (nature, false) });
        at + 1
    }

    /// Of a text or bracket that no name stands before.
    fn element(&self) -> Nature {
        self.brackets.last().map_or(Plain, |(nature, _)| nature.of_element())
    }

    /// A name or a text within brackets; where it ends.
    fn flow_text(&mut self, line: &str, at: usize, hidden: &mut Vec<Range<usize>>) -> usize {
        let rest = line.get(at..).unwrap_or_default();
        let outer = self.brackets.last().map_or(Plain, |(nature, _)| *nature);
        if self.value.is_none()
            && let Some((name, length)) = flow_key(rest)
        {
            // A name in a list is that of a map with one field.
            let outer =
                if self.brackets.last().is_some_and(|(_, is_map)| *is_map) { outer } else { self.element().of_map() };
            self.value = Some(outer.of_field(name, self.names));
            return at + length;
        }
        let nature = self.value.unwrap_or_else(|| self.element());
        if let Some(quote @ ('"' | '\'')) = rest.chars().next() {
            self.text = Text::Quoted(quote, nature);
            return self.quoted_from(line, at + 1, at + 1, hidden);
        }
        let end = at + rest.find([',', '}', ']']).unwrap_or(rest.trim_end().len()).max(1);
        let text = line.get(at..end).unwrap_or_default().trim_end();
        hidden.extend(nature.hidden(text).map(|from| at + from..at + text.len()));
        end.max(at + rest.chars().next().map_or(1, char::len_utf8))
    }
}

/// Where a value begins after its tag and anchor.
fn without_properties(line: &str, mut at: usize) -> usize {
    while let Some(rest) = line.get(at..).filter(|rest| rest.starts_with(['!', '&'])) {
        let word = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let tail = rest.get(word..).unwrap_or_default();
        at += word + (tail.len() - tail.trim_start().len());
    }
    at
}

/// The name that a text begins with, and where the value of it begins.
fn key(text: &str) -> Option<(&str, usize)> {
    if let Some(quote @ ('"' | '\'')) = text.chars().next() {
        let inner = text.get(1..)?;
        let length = super::excerpt::closing(inner, quote)?;
        let behind = inner.get(length + 1..)?;
        let colon = behind.trim_start().strip_prefix(':')?;
        return Some((inner.get(..length)?, text.len() - colon.len()));
    }
    let colon = text.match_indices(':').map(|(at, _)| at).find(|at| {
        let behind = text.get(at + 1..).unwrap_or_default();
        behind.is_empty() || behind.starts_with(char::is_whitespace)
    })?;
    let name = text.get(..colon)?.trim_end();
    let is_name = !name.starts_with(['{', '[', '|', '>', '#']) && !name.contains(" #");
    is_name.then_some((name, colon + 1))
}

/// The same within brackets, where a quoted name needs no space behind its colon.
fn flow_key(text: &str) -> Option<(&str, usize)> {
    let end = match text.chars().next()? {
        '"' | '\'' => text.len(),
        _ => text.find([',', '{', '}', '[', ']']).unwrap_or(text.len()),
    };
    let is_at_bracket = end < text.len();
    let head = text.get(..end)?;
    match key(head) {
        Some(found) => Some(found),
        // `{a:[...]}`: what follows the colon shows that it ends a name.
        None => head.strip_suffix(':').filter(|_| is_at_bracket).map(|name| (name, end)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The last line with `***` in the place of what is secret.
    fn check(text: &str, expect: &str) {
        let lines: Vec<&str> = text.lines().collect();
        let last = lines.last().copied().unwrap_or_default();
        let (mut out, mut next) = (String::new(), 0);
        for range in of_last(&lines, &[]) {
            out.push_str(&last[next..range.start]);
            out.push_str("***");
            next = range.end;
        }
        out.push_str(&last[next..]);
        assert_eq!(out, expect, "{text}");
    }

    #[test]
    fn lines_within_a_secret_field_are_hidden() {
        check("config:\n  password:\n    value: S", "    value: ***");
        check("config:\n  password:\n    deep:\n    - S", "    - ***");
        check("config:\n  password:\n    deep:\n      deeper: [S, {a: S}]", "      deeper: [***, {a: ***}]");
        check("config:\n  password:\n    deep: S\n  host: h", "  host: h");
        check("secret:\n- a: S\n  b: S", "  b: ***");
        check("secret:\n- S\nhost: h", "host: h");
        check("- secret:\n    x: S\n- host: h", "- host: h");
        check("password: {a: S, b: [S, 'S']}", "password: {a: ***, b: [***, '***']}");
        check("a: [{password: [[S], {x: S}], host: h}]", "a: [{password: [[***], {x: ***}], host: h}]");
        check("password: {a: S,\n  b: S}", "  b: ***}");
        check("{\"password\": [\n  \"S\",\n  {\"x\":\"S\"}", "  {\"x\":\"***\"}");
        check("{\"password\": [\n  \"S\"\n], \"host\": \"h\"}", "], \"host\": \"h\"}");
        check("password: \"one\n  two: S\n  three\"", "  ***\"");
        check("password: \"one\n  two\"\nhost: h", "host: h");
        check("password: !!str |\n  one\n  two: S", "  ***");
        check("password: &a >-\n  one\n\n  two: S", "  ***");
        check("password: |\n  one\nhost: h", "host: h");
        check("password: one\n  two: S", "  ***");
        check("key: '{vault://env/key}'", "key: '{vault://env/key}'");
    }

    #[test]
    fn texts_in_the_place_of_credentials_are_hidden() {
        for list in
            ["keyauth_credentials", "basicauth_credentials", "jwt_secrets", "oauth2_credentials", "keyauth_credential"]
        {
            check(&format!("{list}:\n- S"), "- ***");
            check(&format!("{list}:\n- user:S"), "- ***");
            check(&format!("{list}:\n- - S"), "- - ***");
            check(&format!("{list}:\n- tags: a\n  ttl: 1"), "  ttl: 1");
            check(&format!("{list}:\n  one: S"), "  one: ***");
            check(&format!("{list}: S"), &format!("{list}: ***"));
            check(&format!("{list}: [S, {{ttl: 1}}, [S]]"), &format!("{list}: [***, {{ttl: 1}}, [***]]"));
            check(&format!("{list}: {{one: S}}"), &format!("{list}: {{one: ***}}"));
            check(&format!("{list}:\n- |\n  S"), "  ***");
        }
        check("consumers:\n- username: a\n  jwt_secrets:\n  - S", "  - ***");
        check("consumers:\n- username: a\n  jwt_secrets:\n  - S\n- b", "- b");
    }

    #[test]
    fn values_that_transformers_add_are_hidden() {
        check("add:\n  headers:\n  - x-a:S", "  - x-a:***");
        check("add:\n  headers:\n  - \"x-a:S\"", "  - \"x-a:***\"");
        check("add:\n  headers:\n  - x-a: S", "  - x-a: ***");
        check("add:\n  headers:\n  - S", "  - ***");
        check(
            "config: {add: {headers: [\"x-a:S\", x-b:S], body: [S]}}",
            "config: {add: {headers: [\"x-a:***\", x-b:***], body: [***]}}",
        );
        check("remove:\n  headers:\n  - x-a", "  - x-a");
        check("routes:\n- headers:\n    x-a: [b]", "    x-a: [b]");
    }
}
