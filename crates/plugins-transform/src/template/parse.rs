//! Reading templates.

use super::{Expression, Literal, Part, Source};

/// How deep parentheses may be nested.
const DEPTH_MAX: usize = 16;

const UNDERSTOOD: &str = "only headers, query_params, uri_captures and shared, literals, 'or', 'and' and '..' are \
                          understood; other Lua code does not run here";

pub(super) fn template(text: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("$(") {
        if !before.is_empty() {
            parts.push(Part::Text(before.into()));
        }
        let mut reader = Reader { rest: after, depth: 0 };
        let expression = reader.expression().and_then(|found| reader.expect(")").map(|()| found));
        match expression {
            Ok(expression) => parts.push(Part::Value(expression)),
            Err(reason) => return Err(format!("cannot read the expression '$({after}': {reason}: {UNDERSTOOD}")),
        }
        rest = reader.rest;
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest.into()));
    }
    Ok(parts)
}

struct Reader<'t> {
    rest: &'t str,
    depth: usize,
}

impl<'t> Reader<'t> {
    fn expression(&mut self) -> Result<Expression, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err("too deeply nested".to_owned());
        }
        let mut left = self.conjunction()?;
        while self.word("or") {
            left = Expression::Or(Box::new(left), Box::new(self.conjunction()?));
        }
        self.depth -= 1;
        Ok(left)
    }

    fn conjunction(&mut self) -> Result<Expression, String> {
        let mut left = self.join()?;
        while self.word("and") {
            left = Expression::And(Box::new(left), Box::new(self.join()?));
        }
        Ok(left)
    }

    fn join(&mut self) -> Result<Expression, String> {
        let mut left = self.primary()?;
        while self.token("..") {
            left = Expression::Join(Box::new(left), Box::new(self.primary()?));
        }
        Ok(left)
    }

    fn primary(&mut self) -> Result<Expression, String> {
        if self.token("(") {
            let inner = self.expression()?;
            self.expect(")")?;
            return Ok(inner);
        }
        if let Some(text) = self.text()? {
            return Ok(Expression::Literal(Literal::Text(text)));
        }
        if let Some(number) = self.number() {
            return Ok(Expression::Literal(Literal::Text(number.as_bytes().to_vec())));
        }
        let source = match self.name() {
            Some("nil") => return Ok(Expression::Literal(Literal::Nil)),
            Some("true") => return Ok(Expression::Literal(Literal::Boolean(true))),
            Some("false") => return Ok(Expression::Literal(Literal::Boolean(false))),
            Some("headers") => Source::Headers,
            Some("query_params") => Source::QueryParams,
            Some("uri_captures") => Source::UriCaptures,
            Some("shared") => Source::Shared,
            Some(other) => return Err(format!("'{other}' is not known")),
            None => return Err(format!("unexpected '{}'", self.rest)),
        };
        let key = self.key()?.ok_or("a name must follow, as in headers.host")?;
        if source == Source::Shared {
            // Tables within: all of it comes to nothing.
            while self.key()?.is_some() {}
        }
        Ok(Expression::Lookup(source, key.into()))
    }

    /// `.name`, `["name"]` or `[1]`.
    fn key(&mut self) -> Result<Option<String>, String> {
        if self.peek("..") {
            return Ok(None);
        }
        if self.token(".") {
            return self.name().map(|name| Some(name.to_owned())).ok_or_else(|| "a name must follow '.'".to_owned());
        }
        if !self.token("[") {
            return Ok(None);
        }
        let key = match self.text()? {
            Some(text) => String::from_utf8(text).map_err(|_| "a key must be UTF-8".to_owned())?,
            None => self.number().ok_or("a text or a number must follow '['")?.to_owned(),
        };
        self.expect("]")?;
        Ok(Some(key))
    }

    fn space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn peek(&mut self, token: &str) -> bool {
        self.space();
        self.rest.starts_with(token)
    }

    fn token(&mut self, token: &str) -> bool {
        self.space();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, token: &str) -> Result<(), String> {
        if self.token(token) { Ok(()) } else { Err(format!("'{token}' expected at '{}'", self.rest)) }
    }

    /// A whole word.
    fn word(&mut self, word: &str) -> bool {
        self.space();
        let before = self.rest;
        if self.name() == Some(word) {
            return true;
        }
        self.rest = before;
        false
    }

    fn name(&mut self) -> Option<&'t str> {
        self.space();
        let ok = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = self.rest.find(|c| !ok(c)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        self.rest = rest;
        Some(name)
    }

    fn number(&mut self) -> Option<&'t str> {
        self.space();
        let ok = |c: char| c.is_ascii_digit() || c == '.';
        let end = self.rest.find(|c| !ok(c)).unwrap_or(self.rest.len());
        let (number, rest) = self.rest.split_at(end);
        number.parse::<f64>().ok()?;
        self.rest = rest;
        Some(number)
    }

    fn text(&mut self) -> Result<Option<Vec<u8>>, String> {
        self.space();
        let Some(quote @ ('"' | '\'')) = self.rest.chars().next() else { return Ok(None) };
        let mut out = String::new();
        let mut characters = self.rest.char_indices().skip(1);
        while let Some((at, character)) = characters.next() {
            match character {
                '\\' => match characters.next() {
                    Some((_, 'n')) => out.push('\n'),
                    Some((_, 't')) => out.push('\t'),
                    Some((_, plain @ ('\\' | '"' | '\''))) => out.push(plain),
                    _ => return Err("unknown escape in a text".to_owned()),
                },
                other if other == quote => {
                    self.rest = self.rest.get(at + 1..).unwrap_or_default();
                    return Ok(Some(out.into_bytes()));
                }
                other => out.push(other),
            }
        }
        Err("a text without an end".to_owned())
    }
}
