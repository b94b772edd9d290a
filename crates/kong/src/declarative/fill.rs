//! Fills in `${{ env "DECK_..." }}`, as decK does before it reads a file: on the text, with the functions `env`,
//! `toInt`, `toBool`, `toFloat` and `indent`. Expressions in comments stay.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::LoadErrors;
use super::report::Finding;
use super::source::{Place, Source};

/// What starts an expression.
const OPEN: &str = "${{";
const CLOSE: &str = "}}";
/// Only these variables may be named, as in decK.
const PREFIX: &str = "DECK_";
/// Largest text with everything filled in.
const FILLED_MAX: usize = super::BYTES_MAX;

/// A text with the values of variables in it. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Filled {
    pub(super) text: String,
    /// The line of the file that each line of the text is from.
    lines: Vec<u32>,
    /// Values with the expressions they replace.
    values: Vec<(String, String)>,
}

impl std::fmt::Debug for Filled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Filled").finish_non_exhaustive()
    }
}

impl Filled {
    /// The place in the file of a place in the text.
    pub(super) fn place(&self, place: Place) -> Place {
        let line = (place.line as usize).checked_sub(1).and_then(|i| self.lines.get(i));
        Place { line: line.copied().unwrap_or(place.line), ..place }
    }

    /// Values with the expressions they replace.
    pub(super) fn values(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.iter().map(|(value, expression)| (value.as_str(), expression.as_str()))
    }
}

/// The files with variables of the environment filled in.
///
/// # Errors
/// An expression is wrong, or names a variable that is not set.
pub fn fill(files: &[Source], env: &BTreeMap<String, String>) -> Result<Vec<Source>, Box<LoadErrors>> {
    let mut findings = Vec::new();
    let mut out = Vec::with_capacity(files.len());
    for (i, file) in files.iter().enumerate() {
        match filled(&file.text, env) {
            Ok(filled) => out.push(Source { filled: filled.map(Arc::new), ..file.clone() }),
            Err(wrong) => {
                findings.extend(wrong.iter().map(|(place, message)| Finding::at(i, *place, "", message, None)));
            }
        }
    }
    if findings.is_empty() { Ok(out) } else { Err(Box::new(LoadErrors::unreadable(findings, files))) }
}

/// The text with everything filled in, or all that is wrong.
fn filled(text: &str, env: &BTreeMap<String, String>) -> Result<Option<Filled>, Vec<(Place, String)>> {
    if !text.contains(OPEN) {
        return Ok(None);
    }
    let mut out = Filled { text: String::with_capacity(text.len()), lines: vec![1], values: Vec::new() };
    let (mut rest, mut line) = (text, 1_u32);
    let mut wrong = Vec::new();
    let mut at = 0;
    while let Some(start) = rest.find(OPEN) {
        let (before, expression) = rest.split_at(start);
        push(&mut out, before, &mut line);
        at += start;
        let place = place_of(text, at);
        let Some(end) = expression.find(CLOSE) else {
            wrong.push((place, "`${{` without `}}`".to_owned()));
            return Err(wrong);
        };
        let (whole, after) = expression.split_at(end + CLOSE.len());
        if is_comment(text, at) {
            push(&mut out, whole, &mut line);
        } else {
            let inner = whole.get(OPEN.len()..end).unwrap_or_default();
            let inner = inner.strip_prefix('-').unwrap_or(inner);
            let value = evaluate(inner.strip_suffix('-').unwrap_or(inner), env);
            let value = value.map_or_else(
                |why| {
                    wrong.push((place, why));
                    String::new()
                },
                |value| value.to_string(),
            );
            // A value may have lines of its own; they are reported as the line of the expression.
            out.lines.extend(std::iter::repeat_n(line, value.matches('\n').count()));
            out.text.push_str(&value);
            out.values.push((value, whole.to_owned()));
            line += u32::try_from(whole.matches('\n').count()).unwrap_or(0);
        }
        if out.text.len() > FILLED_MAX {
            wrong.push((place, format!("file is larger than {} MiB when it is filled in", FILLED_MAX >> 20)));
            return Err(wrong);
        }
        at += whole.len();
        rest = after;
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    push(&mut out, rest, &mut line);
    Ok(Some(out))
}

/// The text with letters in place of expressions, so that every place stays as it is, and where the expressions are.
pub(super) fn masked(text: &str) -> (String, Vec<Range<usize>>) {
    let (mut out, mut found, mut at) = (String::with_capacity(text.len()), Vec::new(), 0);
    while let Some(start) = text.get(at..).and_then(|rest| rest.find(OPEN)).map(|start| at + start)
        && let Some(end) = text.get(start..).and_then(|rest| rest.find(CLOSE)).map(|end| start + end + CLOSE.len())
    {
        out.push_str(text.get(at..start).unwrap_or_default());
        let expression = text.get(start..end).unwrap_or_default();
        if is_comment(text, start) {
            out.push_str(expression);
        } else {
            out.extend(expression.bytes().map(|byte| if byte == b'\n' { '\n' } else { 'x' }));
            found.push(start..end);
        }
        at = end;
    }
    out.push_str(text.get(at..).unwrap_or_default());
    (out, found)
}

fn push(out: &mut Filled, text: &str, line: &mut u32) {
    for _ in text.matches('\n') {
        *line = line.saturating_add(1);
        out.lines.push(*line);
    }
    out.text.push_str(text);
}

fn place_of(text: &str, at: usize) -> Place {
    let before = text.get(..at).unwrap_or_default();
    let start = before.rfind('\n').map_or(0, |i| i + 1);
    let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let column = before.get(start..).unwrap_or_default().chars().count();
    Place { line: small(before.matches('\n').count() + 1), column: small(column + 1) }
}

/// Whether the line up to there is a comment.
fn is_comment(text: &str, at: usize) -> bool {
    let before = text.get(..at).unwrap_or_default();
    before.rsplit('\n').next().unwrap_or_default().trim_start().starts_with('#')
}

/// A value of an expression.
#[derive(Clone, Debug, PartialEq)]
enum Term {
    Text(String),
    Flag(bool),
    Int(i64),
    Float(f64),
}

impl std::fmt::Display for Term {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Int(n) => write!(f, "{n}"),
            Self::Float(n) => write!(f, "{n}"),
        }
    }
}

fn evaluate(text: &str, env: &BTreeMap<String, String>) -> Result<Term, String> {
    let tokens = tokens(text)?;
    let mut parser = Parser { tokens: &tokens, env, depth: 0 };
    let value = parser.pipeline()?;
    if parser.tokens.is_empty() { Ok(value) } else { Err(wrong(text)) }
}

fn wrong(text: &str) -> String {
    format!("cannot read the expression '{}'; write ${{{{ env \"DECK_NAME\" }}}}", text.trim())
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Mark(char),
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut out = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let taken = match first {
            '(' | ')' | '|' => {
                out.push(Token::Mark(first));
                1
            }
            '"' | '`' => {
                let end = rest.get(1..).and_then(|inner| inner.find(first)).ok_or_else(|| wrong(text))?;
                out.push(Token::Text(rest.get(1..=end).unwrap_or_default().to_owned()));
                end + 2
            }
            _ => {
                let end = rest.find(|c: char| c.is_whitespace() || "()|\"`".contains(c)).unwrap_or(rest.len());
                out.push(Token::Word(rest.get(..end).unwrap_or_default().to_owned()));
                end
            }
        };
        rest = rest.get(taken..).unwrap_or_default().trim_start();
    }
    Ok(out)
}

struct Parser<'t> {
    tokens: &'t [Token],
    env: &'t BTreeMap<String, String>,
    depth: usize,
}

impl Parser<'_> {
    fn next(&mut self) -> Option<Token> {
        let (first, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        Some(first.clone())
    }

    /// `a | b | c`: each command gets the value of the one before as its last argument.
    fn pipeline(&mut self) -> Result<Term, String> {
        self.depth += 1;
        if self.depth > 8 {
            return Err("the expression is nested too deeply".to_owned());
        }
        let mut value = self.command(None)?;
        while self.tokens.first() == Some(&Token::Mark('|')) {
            self.next();
            value = self.command(Some(value))?;
        }
        self.depth -= 1;
        Ok(value)
    }

    fn command(&mut self, piped: Option<Term>) -> Result<Term, String> {
        let name = match self.tokens.first() {
            Some(Token::Word(name)) if name.starts_with(|c: char| c.is_ascii_alphabetic()) => name.clone(),
            _ if piped.is_none() => return self.term(),
            _ => return Err("a function must follow '|'".to_owned()),
        };
        self.next();
        if matches!(name.as_str(), "true" | "false") && piped.is_none() {
            return Ok(Term::Flag(name == "true"));
        }
        let mut arguments = Vec::new();
        while !matches!(self.tokens.first(), None | Some(Token::Mark('|' | ')'))) {
            arguments.push(self.term()?);
        }
        arguments.extend(piped);
        call(&name, &arguments, self.env)
    }

    fn term(&mut self) -> Result<Term, String> {
        match self.next() {
            Some(Token::Text(text)) => Ok(Term::Text(text)),
            Some(Token::Word(word)) => match word.parse() {
                Ok(n) => Ok(Term::Int(n)),
                Err(_) => word.parse().map(Term::Float).map_err(|_| format!("'{word}' is neither text nor a number")),
            },
            Some(Token::Mark('(')) => {
                let value = self.pipeline()?;
                if self.next() == Some(Token::Mark(')')) { Ok(value) } else { Err("')' is missing".to_owned()) }
            }
            _ => Err("the expression is not complete".to_owned()),
        }
    }
}

fn call(name: &str, arguments: &[Term], env: &BTreeMap<String, String>) -> Result<Term, String> {
    match (name, arguments) {
        ("env", [Term::Text(variable)]) => {
            if !variable.starts_with(PREFIX) {
                return Err(format!("the name of the variable must start with '{PREFIX}', found '{variable}'"));
            }
            let value = env.get(variable).cloned().map(Term::Text);
            value.ok_or_else(|| format!("the environment variable '{variable}' is not set"))
        }
        // The value may be a secret: it is not shown.
        ("toInt", [Term::Text(text)]) => {
            text.parse().map(Term::Int).map_err(|_| "toInt: the value is no whole number".to_owned())
        }
        ("toFloat", [Term::Text(text)]) => {
            text.parse().map(Term::Float).map_err(|_| "toFloat: the value is no number".to_owned())
        }
        ("toBool", [Term::Text(text)]) => match text.as_str() {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(Term::Flag(true)),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(Term::Flag(false)),
            _ => Err("toBool: the value is neither true nor false".to_owned()),
        },
        ("indent", [Term::Int(spaces @ 0..=1000), Term::Text(text)]) => {
            let pad = format!("\n{}", " ".repeat(usize::try_from(*spaces).unwrap_or(0)));
            Ok(Term::Text(text.replace('\n', &pad)))
        }
        ("env" | "toInt" | "toFloat" | "toBool" | "indent", _) => Err(format!("{name}: wrong arguments")),
        _ => Err(format!("there is no function '{name}': there are env, toInt, toBool, toFloat and indent")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, (u32, u32, &str)>) {
        let set = [("DECK_HOST", "h.test"), ("DECK_N", "80"), ("DECK_PEM", "a\nb"), ("DECK_F", "1.5"), ("HOME", "/")];
        let env = set.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let got = filled(text, &env);
        match (got, expected) {
            (Ok(got), Ok(expected)) => assert_eq!(got.map_or(text.to_owned(), |f| f.text), expected, "{text}"),
            (Err(wrong), Err((line, column, part))) => {
                let (place, why) = wrong.first().cloned().unwrap();
                assert!(why.contains(part), "{text}: {why}");
                assert_eq!(place, Place { line, column }, "{text}");
            }
            (got, _) => panic!("{text}: {got:?}"),
        }
    }

    #[test]
    fn expressions_of_deck_are_filled_in() {
        check("host: ${{ env \"DECK_HOST\" }}", Ok("host: h.test"));
        check("port: ${{ env \"DECK_N\" | toInt }}", Ok("port: 80"));
        check("port: ${{toInt (env \"DECK_N\")}}!", Ok("port: 80!"));
        check("x: ${{ env `DECK_F` | toFloat }}", Ok("x: 1.5"));
        check("x: |\n  ${{ env \"DECK_PEM\" | indent 2 }}\n", Ok("x: |\n  a\n  b\n"));
        check("x: ${{ indent 4 (env \"DECK_PEM\") }}", Ok("x: a\n    b"));
        check("  # ${{ env \"NOPE\" }}\na: 1", Ok("  # ${{ env \"NOPE\" }}\na: 1"));
        check("a: $x", Ok("a: $x"));
        check("a: 1\nb: ${{ env \"DECK_NOPE\" }}", Err((2, 4, "'DECK_NOPE' is not set")));
        check("b: ${{ env \"HOME\" }}", Err((1, 4, "must start with 'DECK_'")));
        check("b: ${{ env \"DECK_HOST\" | toInt }}", Err((1, 4, "no whole number")));
        check("b: ${{ env \"DECK_HOST\" | upper }}", Err((1, 4, "no function 'upper'")));
        check("b: ${{ env \"DECK_HOST\"", Err((1, 4, "without")));
        check("b: ${{ }}", Err((1, 4, "not complete")));
        check("b: ${{ ((((((((((1 }}", Err((1, 4, "")));
    }

    #[test]
    fn places_are_those_of_the_file() {
        let env = [("DECK_PEM".to_owned(), "first\nsecond".to_owned())].into();
        let filled = filled("a: 1\nb: ${{ env \"DECK_PEM\" }}\nc: 2\n", &env).unwrap().unwrap();
        let line = |line| filled.place(Place { line, column: 1 }).line;
        assert_eq!([line(1), line(2), line(3), line(4)], [1, 2, 2, 3]);
        assert_eq!(filled.values().next(), Some(("first\nsecond", "${{ env \"DECK_PEM\" }}")));
        assert!(!format!("{filled:?}").contains("second"));
    }
}
