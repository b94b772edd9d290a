//! A line of a file as it is shown beside an error: without secrets, and no wider than a screen.
//!
//! Errors end up in logs. A secret is recognized by the name of its field in the file: a misspelt name
//! is the usual cause of an error, so similar names are treated as secrets as well.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;

use serde_json::Value;

use super::masks;
use super::redact::redact;
use super::source::{Place, Source};

/// Widest line, characters.
const WIDTH_MAX: usize = 120;
/// Bytes on both sides of the place that are looked at.
const AROUND_MAX: usize = 64 << 10;
/// Lines before the place that may begin what it is in the middle of.
const LINES_MAX: usize = 1_000;
pub(super) const MASK: &str = "***";

/// Names of fields with secrets. Those of all schemas are pinned by a test.
const SECRETS: [&str; 22] = [
    "authorization",
    "auth_header",
    "client_secret",
    "cookie",
    "http_endpoint",
    "jwk",
    "key",
    "key_alt",
    "passphrase",
    "passwd",
    "password",
    "pem",
    "private_key",
    "rsa_private_key",
    "secret",
    "secret_key",
    "token",
    "access_token",
    "api_key",
    "apikey",
    "x_api_key",
    "proxy_authorization",
];
/// Names that are near to one of them, and no secrets.
const PLAIN: [&str; 13] = [
    "keys",
    "key_names",
    "key_sets",
    "key_in_header",
    "key_in_query",
    "key_in_body",
    "key_claim_name",
    "secret_is_base64",
    "jwt_secrets",
    "public_key",
    "rsa_public_key",
    "cookie_names",
    "kid",
];

/// Lines of files as they are shown beside errors. It remembers what it has examined: there may be many errors in one file,
/// and in one line.
#[derive(Default)]
pub struct Excerpts<'s> {
    /// The lines of the files, by the addresses of their texts.
    lines: HashMap<*const u8, Vec<&'s str>>,
    /// The secrets of a part of a line, with the address and the length of the part.
    secrets: Option<(*const u8, usize, Vec<Range<usize>>)>,
    /// The secrets of a line by where it stands, with the address of the line.
    masks: Option<(*const u8, Vec<Range<usize>>)>,
    /// Fields whose values are hidden besides those that are known to hold secrets.
    names: &'s [String],
}

impl<'s> Excerpts<'s> {
    /// Excerpts that hide the values of these fields, too.
    pub(super) fn without(names: &'s [String]) -> Self {
        Self { names, ..Self::default() }
    }

    /// The line of a place with a caret below it; nothing when there is no such line. Ends with a line end.
    ///
    /// Values of fields that hold secrets are replaced by `***`, and of a long line only what is around the place is shown.
    pub fn of(&mut self, source: &'s Source, place: Place) -> Option<String> {
        let text = source.text.as_str();
        let all = self.lines.entry(text.as_ptr()).or_insert_with(|| text.lines().collect());
        let last = (place.line as usize).checked_sub(1)?;
        let lines = all.get(last.saturating_sub(LINES_MAX)..=last)?;
        let line = lines.last()?.as_ptr();
        if self.masks.as_ref().is_none_or(|(known, _)| *known != line) {
            self.masks = Some((line, masks::of_last(all.get(..=last)?, self.names)));
        }
        let masks = self.masks.as_ref().map(|(_, masks)| &**masks).unwrap_or_default();
        let (shown, caret) = view(lines, (place.column, masks), self.names, &mut self.secrets);
        let number = place.line.to_string();
        let (gutter, caret) = (" ".repeat(number.len()), " ".repeat(caret));
        Some(format!("{gutter} |\n{number} | {shown}\n{gutter} | {caret}^\n"))
    }
}

/// Kong's message without the value, should it name one that is secret.
pub fn discreet(message: &str) -> String {
    // A reference that is no name may be anything.
    if let Some((head, value, tail)) = invalid_reference(message) {
        return format!("{head}{}{tail}", redact(&value, None));
    }
    let parts = message.split_once(" entity with ").and_then(|(head, rest)| {
        let (name, rest) = rest.split_once(" set to '")?;
        let (_, tail) = rest.rsplit_once("' already declared")?;
        (name != "primary key" && is_secret(name)).then_some((head, name, tail))
    });
    match parts {
        Some((head, name, tail)) => format!("{head} entity with {name} set to '{MASK}' already declared{tail}"),
        None => message.to_owned(),
    }
}

/// The parts of Kong's message about a reference that is an object.
fn invalid_reference(message: &str) -> Option<(&str, Value, &str)> {
    let start = message.strip_prefix("invalid reference '")?.find(": {")? + "invalid reference '".len() + 2;
    let end = message.rfind("' (no such entry in '")?;
    Some((message.get(..start)?, serde_json::from_str(message.get(start..end)?).ok()?, message.get(end..)?))
}

/// The last line as it is shown, and where the caret stands, in characters.
fn view(
    lines: &[&str],
    (column, masks): (u32, &[Range<usize>]),
    names: &[String],
    known: &mut Option<(*const u8, usize, Vec<Range<usize>>)>,
) -> (String, usize) {
    let line = lines.last().copied().unwrap_or_default();
    let at = place_of(line, column);
    // Parts begin and end at multiples, so that errors that are near to each other share one. The ends of the line are
    // always boundaries.
    let part = at / AROUND_MAX * AROUND_MAX;
    let from = (0..=part.saturating_sub(AROUND_MAX)).rev().find(|i| line.is_char_boundary(*i)).unwrap_or(0);
    let to =
        (part.saturating_add(2 * AROUND_MAX)..line.len()).find(|i| line.is_char_boundary(*i)).unwrap_or(line.len());
    let (part, at) = (line.get(from..to).unwrap_or_default(), at - from);
    let is_known = known.as_ref().is_some_and(|(start, length, _)| (*start, *length) == (part.as_ptr(), part.len()));
    let inside = is_inside_secret(lines, names).then(|| whole(part));
    if inside.is_none() && !is_known {
        *known = Some((part.as_ptr(), part.len(), secrets_and(part, names)));
    }
    let secrets = inside.as_deref().or(known.as_ref().map(|known| &*known.2)).unwrap_or_default();
    let masks = masks.iter().filter(|mask| mask.start < to && from < mask.end);
    let secrets = &united(secrets, masks.map(|mask| mask.start.max(from) - from..mask.end.min(to) - from));
    let near = near(part, at, secrets);
    let secrets = secrets.iter().filter(|secret| near.start <= secret.start && secret.end <= near.end).cloned();
    let (mut chars, mut caret, mut next) = (Vec::new(), 0, near.start);
    for Range { start, end } in secrets.chain(std::iter::once(near.end..near.end)) {
        let plain = part.get(next..start).unwrap_or_default();
        if (next..=start).contains(&at) {
            caret = chars.len() + part.get(next..at).unwrap_or_default().chars().count();
        } else if (start..end).contains(&at) {
            caret = chars.len() + plain.chars().count();
        }
        chars.extend(plain.chars());
        if start < end {
            chars.extend(MASK.chars());
        }
        next = end;
    }
    clip(&chars, caret, from + near.start > 0, from + near.end < line.len())
}

/// Both, in order, with what overlaps as one.
fn united(some: &[Range<usize>], others: impl Iterator<Item = Range<usize>>) -> Vec<Range<usize>> {
    let mut all: Vec<_> = some.iter().cloned().chain(others).collect();
    all.sort_by_key(|range| range.start);
    let mut out: Vec<Range<usize>> = Vec::with_capacity(all.len());
    for range in all {
        match out.last_mut().filter(|last| range.start < last.end) {
            Some(last) => last.end = last.end.max(range.end),
            None => out.push(range),
        }
    }
    out
}

/// What of a text can be shown around a place: no secret is cut.
fn near(text: &str, at: usize, secrets: &[Range<usize>]) -> Range<usize> {
    let around = 8 * WIDTH_MAX;
    let mut start = (0..=at.saturating_sub(around)).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    let mut end = (at.saturating_add(around)..text.len()).find(|i| text.is_char_boundary(*i)).unwrap_or(text.len());
    for secret in secrets {
        if secret.contains(&start) {
            start = secret.start;
        }
        if secret.start < end && end < secret.end {
            end = secret.end;
        }
    }
    start..end
}

/// Where a column begins, from 1, in bytes.
fn place_of(line: &str, column: u32) -> usize {
    let before = (column as usize).saturating_sub(1);
    // Of a long line in ASCII the characters need not be counted.
    if line.get(..before).is_some_and(str::is_ascii) {
        return before;
    }
    line.char_indices().nth(before).map_or(line.len(), |(i, _)| i)
}

/// What is around the caret.
fn clip(chars: &[char], caret: usize, more_before: bool, more_behind: bool) -> (String, usize) {
    let last = chars.len().saturating_sub(WIDTH_MAX);
    // More is to be seen behind the caret: what is wrong begins there.
    let first = if chars.len() > WIDTH_MAX { caret.saturating_sub(WIDTH_MAX / 3).min(last) } else { 0 };
    let (cut_before, cut_behind) = (more_before || first > 0, more_behind || first + WIDTH_MAX < chars.len());
    let mut shown = String::from(if cut_before { "..." } else { "" });
    // A tab is as wide as a character here, so that the caret stands where it should.
    shown.extend(chars.iter().skip(first).take(WIDTH_MAX).map(|c| if c.is_control() { ' ' } else { *c }));
    shown.push_str(if cut_behind { "..." } else { "" });
    (shown, caret - first + if cut_before { 3 } else { 0 })
}

fn whole(line: &str) -> Vec<Range<usize>> {
    let text = line.trim();
    let start = line.len() - line.trim_start().len();
    (!text.is_empty()).then(|| start..start + text.len()).into_iter().collect()
}

/// Names whose nature is remembered at most; then all are forgotten.
const NAMES_MAX: usize = 4_096;

thread_local! {
    static NATURE: RefCell<HashMap<Box<str>, bool>> = RefCell::default();
}

/// Whether a field of this name holds a secret.
pub fn is_secret(name: &str) -> bool {
    if let Some(known) = NATURE.with_borrow(|known| known.get(name).copied()) {
        return known;
    }
    let is_secret = tells_secret(name);
    NATURE.with_borrow_mut(|known| {
        if known.len() >= NAMES_MAX {
            known.clear();
        }
        known.insert(name.into(), is_secret);
    });
    is_secret
}

/// The answer of [`is_secret`], which costs the comparison with many names.
fn tells_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('-', "_");
    if PLAIN.contains(&name.as_str()) {
        return false;
    }
    let word = ["password", "passwd", "secret", "token", "private_key", "api_key", "apikey", "authorization"];
    SECRETS.contains(&name.as_str())
        // `jwt_secrets` and what is like it are lists of entities.
        || word.iter().any(|word| name.ends_with(word))
        || (name.len() > 2 && cardinal_schema::suggest(&name, SECRETS).is_some())
}

/// Whether the last line continues a secret value of a line before.
fn is_inside_secret(lines: &[&str], names: &[String]) -> bool {
    let Some((line, above)) = lines.split_last() else { return false };
    let armor = above.iter().rev().find(|l| l.contains("-----BEGIN ") || l.contains("-----END "));
    if armor.is_some_and(|l| !l.contains("-----END ")) || is_encoded(line) {
        return true;
    }
    let indent = |line: &str| line.len() - line.trim_start_matches([' ', '\t']).len();
    // The elements of a list may stand as far left as the key of it.
    let is_element = |line: &str| line.trim_start().starts_with("- ");
    let mut limit = indent(line) + usize::from(is_element(line));
    for above in above.iter().rev().filter(|l| !l.trim().is_empty()) {
        if indent(above) >= limit || (indent(above) + 1 == limit && is_element(line) && is_element(above)) {
            continue;
        }
        limit = indent(above);
        let Some((name, value)) = fields(above).last() else { continue };
        let value = above.get(value..).unwrap_or_default().trim();
        let is_open = match value.chars().next() {
            None => fields(line).next().is_none(),
            Some('|' | '>') => true,
            Some(quote @ ('"' | '\'')) => value.len() == 1 || !value.ends_with(quote),
            // A plain scalar that continues.
            Some(_) => fields(line).next().is_none(),
        };
        return is_open && (is_secret(name) || names.iter().any(|known| known == name));
    }
    false
}

/// Whether a line is nothing but one long encoded text.
fn is_encoded(line: &str) -> bool {
    let text = line.trim();
    text.len() >= 40 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=_-".contains(&b))
}

/// Names followed by a colon, with the place where the value begins.
fn fields(line: &str) -> impl Iterator<Item = (&str, usize)> {
    let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    line.match_indices(':').filter_map(move |(colon, _)| {
        let head = line.get(..colon)?.trim_end();
        let head = head
            .strip_suffix(['"', '\''])
            .unwrap_or(head)
            .strip_suffix('\\')
            .unwrap_or_else(|| head.strip_suffix(['"', '\'']).unwrap_or(head));
        let length = head.bytes().rev().take_while(|b| is_name(*b)).count();
        let name = head.get(head.len() - length..).filter(|name| !name.is_empty())?;
        Some((name, colon + 1))
    })
}

/// The values of a line that are secret, in order.
pub(super) fn secrets(line: &str) -> Vec<Range<usize>> {
    secrets_and(line, &[])
}

/// The same with the values of these fields, whatever they are.
fn secrets_and(line: &str, names: &[String]) -> Vec<Range<usize>> {
    let mut out: Vec<Range<usize>> = Vec::new();
    for (name, from) in fields(line) {
        if out.last().is_some_and(|last| from < last.end) {
            continue;
        }
        if names.iter().any(|known| known == name) {
            // The fields of a map or list within the line have names of their own: the rest of the line is hidden.
            let rest = line.get(from..).unwrap_or_default().trim();
            let is_nested = rest.starts_with(['{', '[', '&', '!', '*']);
            out.extend(if is_nested {
                Some(line.len() - line.get(from..).unwrap_or_default().trim_start().len()..line.trim_end().len())
            } else {
                value(line, from)
            });
        } else if is_secret(name) {
            out.extend(value(line, from));
        } else if line.get(from..).is_some_and(|rest| rest.starts_with("//")) {
            out.extend(user_of_url(line, from + 2));
        }
    }
    out
}

/// The user info in `https://user:password@host`.
fn user_of_url(line: &str, from: usize) -> Option<Range<usize>> {
    let rest = line.get(from..)?;
    let end = rest.find(['/', ' ', '"', '\'', '?', '#']).unwrap_or(rest.len());
    let at = rest.get(..end)?.rfind('@')?;
    Some(from..from + at)
}

/// The value that begins there, unless it is no secret by itself.
fn value(line: &str, from: usize) -> Option<Range<usize>> {
    let rest = line.get(from..)?;
    let start = from + (rest.len() - rest.trim_start().len());
    let text = line.get(start..)?;
    let quoted =
        |quote: char| text.get(1..).and_then(|inner| closing(inner, quote)).map_or(line.len(), |i| start + 1 + i);
    let range = match text.chars().next()? {
        '|' | '>' if text.trim_end().len() <= 3 => return None,
        // What is in there has names of its own.
        '{' => return None,
        '[' if text.get(1..)?.trim_start().starts_with(['{', '[']) => return None,
        '[' => start + 1..text.find(']').map_or(line.len(), |i| start + i),
        quote @ ('"' | '\'') => start + 1..quoted(quote),
        _ => {
            start..if is_flow(line.get(..from)?) {
                text.find([',', '}', ']', '"', '\'']).map_or(line.len(), |i| start + i)
            } else {
                start + text.trim_end().len()
            }
        }
    };
    // A reference names a secret and does not contain it.
    let text = line.get(range.clone())?;
    if range.is_empty() || text.starts_with("{vault://") { None } else { Some(range) }
}

/// Where a quoted text ends.
pub(super) fn closing(inner: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    let mut chars = inner.char_indices().peekable();
    while let Some((i, c)) = chars.next() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quote == '"' => escaped = true,
            c if c == quote && quote == '\'' && chars.peek().is_some_and(|(_, c)| *c == '\'') => {
                chars.next();
            }
            c if c == quote => return Some(i),
            _ => {}
        }
    }
    None
}

/// Whether brackets are open at the end of the text, or a quoted text is.
fn is_flow(text: &str) -> bool {
    let (mut depth, mut quote, mut begins) = (0_usize, None, true);
    for c in text.chars() {
        match (quote, c) {
            (Some(q), c) if q == c => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') if begins => quote = Some(c),
            (None, '{' | '[') => depth += 1,
            (None, '}' | ']') => depth = depth.saturating_sub(1),
            (None, _) => {}
        }
        begins = c.is_whitespace() || "[{,:-".contains(c);
    }
    depth > 0 || quote.is_some()
}

#[cfg(test)]
mod tests {
    use cardinal_schema::{Kind, Schema};

    use super::*;

    fn shown(text: &str, line: u32, column: u32) -> String {
        Excerpts::default().of(&Source::new("x", text), Place { line, column }).unwrap()
    }

    fn check(line: &str, expect: &str) {
        assert_eq!(view(&[line], (1, &masks::of_last(&[line], &[])), &[], &mut None).0, expect);
    }

    #[test]
    fn values_of_secret_fields_are_not_shown() {
        check("keyauth_credentials: [{key: SECRET, keyy: 1}]", "keyauth_credentials: [{key: ***, keyy: ***}]");
        check(r#"  key: "-----BEGIN PRIVATE KEY-----\nMII\"x" # why"#, r#"  key: "***" # why"#);
        check("  passwrod: a,b}c: d", "  passwrod: ***");
        check("- {username: u, password: 'it''s', tags: [a]}", "- {username: u, password: '***', tags: [a]}");
        check(
            r#"{"redis": {"password":"p","port":1}, "client_secret" : "s"}"#,
            r#"{"redis": {"password":"***","port":1}, "client_secret" : "***"}"#,
        );
        check(r#"    - "Authorization: Bearer abc""#, r#"    - "Authorization: ***""#);
        check("  session_secret: [a, b]", "  session_secret: [***]");
        check("  url: https://me:pass@host/path", "  url: https://***@host/path");
        check("  private_key: |", "  private_key: |");
        check("  key: '{vault://env/key}'", "  key: '{vault://env/key}'");
        check(r#"  body: "{\"secret\": \"s3\", \"a\": 1}""#, r#"  body: "{\"secret\": ***"#);
        check("  key_names: [apikey]", "  key_names: [apikey]");
        check("  hots: example.com", "  hots: example.com");
        check("jwt_secrets: [{key: a, secrt: b}]", "jwt_secrets: [{key: ***, secrt: ***}]");
    }

    #[test]
    fn values_of_named_fields_are_not_shown() {
        let check = |line: &str, expect: &str| {
            let names = ["bogus".to_owned()];
            assert_eq!(view(&[line], (1, &masks::of_last(&[line], &names)), &names, &mut None).0, expect);
        };
        check("  bogus: SECRET", "  bogus: ***");
        check("[{bogus: SECRET, tags: [a]}]", "[{bogus: ***, tags: [a]}]");
        check("  bogus: {a: SECRET}", "  bogus: ***");
        check("- {tags: [a], bogus: [SECRET, b]}", "- {tags: [a], bogus: ***");
        let (names, source) = (["bogus".to_owned()], Source::new("x", "a:\n  bogus:\n    SECRET\n"));
        let lines = Excerpts::without(&names).of(&source, Place { line: 3, column: 1 });
        assert!(!lines.unwrap().contains("SECRET"));
    }

    #[test]
    fn values_of_several_lines_are_not_shown_either() {
        let pem = "certificates:\n- key: |\n    -----BEGIN PRIVATE KEY-----\n    MIIEvQIBADANB\n\tx\n";
        assert_eq!(shown(pem, 4, 5), "  |\n4 |     ***\n  |     ^\n");
        assert_eq!(shown(pem, 5, 1), "  |\n5 |  ***\n  | ^\n");
        assert!(!shown("a:\n  password:\n    s3cret\n", 3, 1).contains("s3cret"));
        assert!(!shown("a:\n  secret: >-\n    one\n      two: 3\n", 4, 1).contains("two"));
        assert!(!shown("a:\n  password: \"one\n    two\n", 3, 1).contains("two"));
        assert!(!shown("a:\n  password: one\n    two\n", 3, 1).contains("two"));
        assert!(!shown("secrets:\n  secret:\n  - one\n  - two\n", 4, 1).contains("two"));
        assert!(shown("basicauth_credentials:\n- username: a\n  pasword: b\n  hots: c\n", 4, 3).contains("hots: c"));
    }

    #[test]
    fn messages_do_not_name_secrets() {
        let said = |name: &str| format!("uniqueness violation: 'x' entity with {name} set to 'abc' already declared");
        assert_eq!(discreet(&said("key")), said("key").replace("abc", "***"));
        for name in ["primary key", "username", "custom_id"] {
            assert_eq!(discreet(&said(name)), said(name));
        }
    }

    #[test]
    fn the_caret_stays_below_its_place() {
        assert_eq!(
            shown("{password: secret, hots: x}", 1, 20),
            "  |\n1 | {password: ***, hots: x}\n  |                 ^\n"
        );
        assert_eq!(
            shown("{password: secret, hots: x}", 1, 14),
            "  |\n1 | {password: ***, hots: x}\n  |            ^\n"
        );
        assert_eq!(shown("\u{e4}\u{f6}: b", 1, 5), "  |\n1 | \u{e4}\u{f6}: b\n  |     ^\n");
        assert!(Excerpts::default().of(&Source::new("x", "a"), Place { line: 2, column: 1 }).is_none());
    }

    #[test]
    fn of_a_long_line_only_the_place_is_shown() {
        let line = format!("{{{}\"hots\": 1{}}}", "\"a\": 1, ".repeat(50_000), ", \"a\": 1".repeat(50_000));
        let column = u32::try_from(line.find("\"hots").unwrap() + 1).unwrap();
        let text = shown(&line, 1, column);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].chars().count() <= WIDTH_MAX + 10, "{text}");
        let caret = lines[2].find('^').unwrap();
        assert!(lines[1][caret..].starts_with("\"hots\""), "{text}");
    }

    /// Every field that a schema marks as secret, and everything that requests name a consumer by unless it is public.
    #[test]
    fn all_secrets_of_schemas_are_known() {
        let families = [
            cardinal_plugins_auth::PLUGINS,
            cardinal_plugins_observe::PLUGINS,
            cardinal_plugins_security::PLUGINS,
            cardinal_plugins_traffic::PLUGINS,
            cardinal_plugins_transform::PLUGINS,
        ];
        let registry = crate::Registry::new(&families.concat());
        let mut found = Vec::new();
        for kind in registry.kinds() {
            encrypted(&kind.schema, &mut found);
        }
        for plugin in registry.plugins() {
            encrypted(&plugin.schema, &mut found);
        }
        assert!(found.len() > 3, "{found:?}");
        let missed: Vec<_> = found.into_iter().filter(|name| !is_secret(name)).collect();
        assert_eq!(missed, Vec::<&str>::new());
    }

    fn encrypted(schema: &Schema, found: &mut Vec<&'static str>) {
        for named in &schema.fields {
            let mut field = &named.field;
            while let Kind::Array(of) | Kind::Set(of) | Kind::Map(_, of) = &field.kind {
                field = of;
            }
            if named.field.encrypted || field.encrypted {
                found.push(named.name);
            }
            if let Kind::Record(record) = &field.kind {
                encrypted(record, found);
            }
        }
    }
}
