//! [`Pattern`]: a compiled regular expression with its limits, and [`Captures`].

use std::ops::Range;

use fancy_regex::{BytesMode, RegexBuilder as FancyBuilder};
use regex::bytes::{Regex, RegexBuilder};
use regex_syntax::ParserBuilder;
use regex_syntax::ast::ErrorKind as AstError;
use regex_syntax::hir::Look;
use regex_syntax::hir::literal::Extractor;
use smallvec::SmallVec;

/// Longest text of a pattern, bytes.
const TEXT_MAX: usize = 64 << 10;
/// Largest compiled form, bytes.
pub(crate) const COMPILED_MAX: usize = 10 << 20;
/// Steps of the backtracking engine before a pattern counts as not matching.
const BACKTRACK_MAX: usize = 100_000;
/// Longest program of the backtracking engine, instructions; calls of groups multiply them.
const PROGRAM_MAX: usize = 100_000;
/// What patterns about bytes start with.
const BYTES: &str = "(?-u)";
/// Literals that one pattern may be indexed by.
const LITERALS_MAX: usize = 16;

/// Why a pattern cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PatternError {
    /// The text is too long.
    #[error("the regular expression is longer than {TEXT_MAX} bytes")]
    TooLong,
    /// The compiled form is too large.
    #[error("the regular expression compiles to more than {COMPILED_MAX} bytes")]
    TooLarge,
    /// The text does not parse; the message may have several lines.
    #[error("the regular expression is wrong: {0}")]
    Syntax(String),
}

/// A compiled regular expression.
///
/// The engine is linear in the text. Only a pattern with look-around, back-references and the like, as PCRE has them,
/// runs on an engine that backtracks; there the steps are limited. Both match bytes where the pattern starts with
/// `(?-u)`.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    engine: Engine,
    groups: usize,
}

#[derive(Clone, Debug)]
enum Engine {
    Linear(Regex),
    Backtracking(Box<fancy_regex::Regex>),
}

impl Pattern {
    /// A pattern that matches from the start of the text.
    pub(crate) fn from_start(text: &str) -> Result<Self, PatternError> {
        check_text(text)?;
        match text.strip_prefix(BYTES) {
            Some(text) => Self::compile_bytes(&format!("^(?:{text})")),
            None => Self::compile(&format!("^(?:{text})")),
        }
    }

    /// A pattern that matches the whole text. It has to be a pattern by itself, too: `a)|(b` would leave the group that
    /// binds it to both ends.
    pub(crate) fn whole(text: &str) -> Result<Self, PatternError> {
        Self::anywhere(text)?;
        match text.strip_prefix(BYTES) {
            Some(text) => Self::compile_bytes(&format!(r"\A(?:{text})\z")),
            None => Self::compile(&format!(r"\A(?:{text})\z")),
        }
    }

    /// A pattern found anywhere in the text.
    pub(crate) fn anywhere(text: &str) -> Result<Self, PatternError> {
        check_text(text)?;
        match text.strip_prefix(BYTES) {
            Some(text) => Self::compile_bytes(text),
            None => Self::compile(text),
        }
    }

    fn compile_bytes(text: &str) -> Result<Self, PatternError> {
        match RegexBuilder::new(text).unicode(false).size_limit(COMPILED_MAX).build() {
            Ok(regex) => Ok(Self { groups: regex.captures_len(), engine: Engine::Linear(regex) }),
            Err(regex::Error::CompiledTooBig(_)) => Err(PatternError::TooLarge),
            Err(_) => Self::backtracking(FancyBuilder::new(text).bytes_mode(BytesMode::Ascii)),
        }
    }

    fn compile(text: &str) -> Result<Self, PatternError> {
        let linear = RegexBuilder::new(text).size_limit(COMPILED_MAX).build();
        let error = match linear {
            Ok(regex) => {
                return Ok(Self { groups: regex.captures_len(), engine: Engine::Linear(regex) });
            }
            Err(regex::Error::CompiledTooBig(_)) => return Err(PatternError::TooLarge),
            Err(error) => PatternError::Syntax(error.to_string()),
        };
        if !needs_backtracking(text) {
            return Err(error);
        }
        Self::backtracking(FancyBuilder::new(text).bytes_mode(BytesMode::UnicodeBytes))
    }

    fn backtracking(builder: &mut FancyBuilder) -> Result<Self, PatternError> {
        let limited = builder.backtrack_limit(BACKTRACK_MAX).delegate_size_limit(COMPILED_MAX);
        match limited.max_prog_size(PROGRAM_MAX).build() {
            Ok(regex) => Ok(Self { groups: regex.captures_len(), engine: Engine::Backtracking(Box::new(regex)) }),
            Err(error) => Err(PatternError::Syntax(error.to_string())),
        }
    }

    /// Length of the leftmost match.
    pub(crate) fn find(&self, text: &[u8]) -> Option<usize> {
        match &self.engine {
            Engine::Linear(regex) => regex.find(text).map(|found| found.len()),
            Engine::Backtracking(regex) => {
                let found = regex.find(text).ok()??;
                Some(found.end() - found.start())
            }
        }
    }

    /// Whether the pattern has groups.
    pub(crate) fn has_groups(&self) -> bool {
        self.groups > 1
    }

    /// What the groups matched; `None` where the pattern has none or does not match.
    pub(crate) fn captures(&self, text: &[u8]) -> Option<Captures> {
        if !self.has_groups() {
            return None;
        }
        match &self.engine {
            Engine::Linear(regex) => {
                let found = regex.captures(text)?;
                let groups = found.iter().map(|group| group.map(|group| group.range())).collect();
                Some(Captures { groups, names: group_names(regex.capture_names()) })
            }
            Engine::Backtracking(regex) => {
                let found = regex.captures(text).ok()??;
                let groups = found.iter().map(|group| group.map(|group| group.start()..group.end())).collect();
                Some(Captures { groups, names: group_names(regex.capture_names()) })
            }
        }
    }
}

/// What the groups of a pattern matched, as ranges of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captures {
    groups: SmallVec<[Option<Range<usize>>; 6]>,
    names: SmallVec<[(Box<str>, usize); 2]>,
}

impl Captures {
    /// A group by number; 0 is the whole match. `None` where it took no part in the match.
    pub fn group(&self, number: usize) -> Option<Range<usize>> {
        self.groups.get(number).cloned().flatten()
    }

    /// A group by name.
    pub fn name(&self, name: &str) -> Option<Range<usize>> {
        let (_, number) = self.names.iter().find(|(n, _)| &**n == name)?;
        self.group(*number)
    }

    /// All groups in order, the whole match first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Option<Range<usize>>> + '_ {
        self.groups.iter().cloned()
    }

    /// Named groups that took part in the match.
    pub fn named(&self) -> impl Iterator<Item = (&str, Range<usize>)> + '_ {
        self.names.iter().filter_map(|(name, number)| Some((&**name, self.group(*number)?)))
    }
}

fn group_names<'n>(names: impl Iterator<Item = Option<&'n str>>) -> SmallVec<[(Box<str>, usize); 2]> {
    names.enumerate().filter_map(|(number, name)| Some((name?.into(), number))).collect()
}

fn check_text(text: &str) -> Result<(), PatternError> {
    if text.len() > TEXT_MAX { Err(PatternError::TooLong) } else { Ok(()) }
}

/// Whether the linear engine refuses the text for what it cannot do, rather than for what is wrong.
fn needs_backtracking(text: &str) -> bool {
    match ParserBuilder::new().utf8(false).build().parse(text) {
        Err(regex_syntax::Error::Parse(error)) => {
            matches!(error.kind(), AstError::UnsupportedLookAround | AstError::UnsupportedBackreference)
        }
        _ => false,
    }
}

/// Literals, one of which each match from the start of a text begins with. `None` where there is no such set.
pub(crate) fn leading_literals(text: &str) -> Option<Vec<Box<[u8]>>> {
    let hir = ParserBuilder::new().utf8(false).build().parse(text).ok()?;
    let literals = Extractor::new().extract(&hir);
    let found = literals.literals()?;
    if found.is_empty() || found.iter().any(|literal| literal.as_bytes().is_empty()) {
        return None;
    }
    if found.len() <= LITERALS_MAX {
        return Some(found.iter().map(|literal| literal.as_bytes().into()).collect());
    }
    literals.longest_common_prefix().filter(|common| !common.is_empty()).map(|common| vec![common.into()])
}

/// Whether a pattern that is searched for anywhere can match at the start only.
pub(crate) fn is_anchored(text: &str) -> bool {
    ParserBuilder::new()
        .utf8(false)
        .build()
        .parse(text)
        .is_ok_and(|hir| hir.properties().look_set_prefix().contains(Look::Start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_groups() {
        let pattern = Pattern::from_start(r"/users/(?<id>\d+)(/x)?").unwrap();
        assert_eq!(pattern.find(b"/users/12/profile"), Some(9));
        assert_eq!(pattern.find(b"/a/users/12"), None);
        let captures = pattern.captures(b"/users/12/profile").unwrap();
        assert_eq!(captures.group(0), Some(0..9));
        assert_eq!(captures.name("id"), Some(7..9));
        assert_eq!(captures.group(2), None);
        assert_eq!(captures.iter().len(), 3);
        assert_eq!(captures.named().collect::<Vec<_>>(), [("id", 7..9)]);
        assert_eq!(Pattern::from_start("/a").unwrap().captures(b"/a"), None);
    }

    #[test]
    fn patterns_of_whole_texts() {
        let check = |text: &str, path: &str, expect: Option<usize>| {
            assert_eq!(Pattern::whole(text).unwrap().find(path.as_bytes()), expect, "{text} {path}");
        };
        check("/a|/a/b", "/a/b", Some(4));
        check("/a", "/a/b", None);
        check("/a", "x/a", None);
        check("(?m)/a$", "/a\n", None);
        check("(?m)^/a", "/b\n/a", None);
        // On the engine that backtracks, too.
        check("/(?!b)[a-z]+", "/cd", Some(3));
        check("/(?!b)[a-z]+", "/cd/", None);
        check(r"(?-u)/caf\xC3\xA9", "/caf\u{e9}", Some(6));
        assert!(Pattern::whole("/(").is_err());
        assert!(Pattern::whole("a)|(b").is_err() && Pattern::whole("(?-u)a)|(b").is_err());
    }

    #[test]
    fn look_around_runs_on_the_other_engine_and_is_bounded() {
        let pattern = Pattern::from_start(r"/(?!admin)(\w+)").unwrap();
        assert!(matches!(pattern.engine, Engine::Backtracking(_)));
        assert_eq!(pattern.find(b"/user"), Some(5));
        assert_eq!(pattern.find(b"/admin"), None);
        assert_eq!(pattern.captures(b"/user").unwrap().group(1), Some(1..5));
        let slow = Pattern::from_start(r"/(a+)+(?=b)\1c").unwrap();
        assert_eq!(slow.find(format!("/{}", "a".repeat(4000)).as_bytes()), None);
    }

    #[test]
    fn patterns_about_bytes() {
        let check = |text: &str, path: &str, expect: Option<usize>| {
            assert_eq!(Pattern::from_start(text).unwrap().find(path.as_bytes()), expect, "{text} {path}");
        };
        check(r"(?-u)/[0-9A-Za-z]+(?:\n?\z)", "/caf\u{e9}", None);
        check(r"\w+$", "caf\u{e9}", Some(5));
        check(r"(?-u)/caf[^/][^/]/x", "/caf\u{e9}/x", Some(8));
        check(r"(?-u)/caf\xC3\xA9", "/caf\u{e9}", Some(6));
        check(r"(?-u)/(?i)caf\xC3\xA9", "/CAF\u{c9}", None);
        // The same on the engine that backtracks.
        check(r"(?-u)/(?!b)[0-9A-Za-z]+(?:\n?\z)", "/caf\u{e9}", None);
        check(r"(?-u)/(?!b)caf[^/][^/]/x", "/caf\u{e9}/x", Some(8));
        check(r"(?-u)/(?>a+)(?:\n?\z)", "/aaa\n", Some(5));
        check(r"(?-u)/([ab])(?:\1)\g<1>", "/aab", Some(4));
        check(r"(?-u)/(?<n>a)?(?(<n>)b|c)", "/ab", Some(3));
        check(r"(?-u)/(?<n>a)?(?(<n>)b|c)", "/ac", None);
        check(r"(?-u)/(?>\r\n|[\x0A-\x0D\x85])x", "/\r\nx", Some(4));
        let named = Pattern::from_start(r"(?-u)/(?!b)(?<id>[0-9]+)").unwrap();
        assert_eq!(named.captures(b"/12").unwrap().name("id"), Some(1..3));
    }

    #[test]
    fn mistakes_are_told() {
        assert!(matches!(Pattern::from_start("/("), Err(PatternError::Syntax(_))));
        assert!(matches!(Pattern::from_start(r"(?>a)("), Err(PatternError::Syntax(_))));
        assert_eq!(Pattern::from_start(r"(\pL{500}){500}").unwrap_err(), PatternError::TooLarge);
        assert_eq!(Pattern::anywhere(&"a".repeat(TEXT_MAX + 1)).unwrap_err(), PatternError::TooLong);
    }

    #[test]
    fn literals() {
        let check = |text: &str, expect: Option<&[&str]>| {
            let found = leading_literals(text);
            let expect: Option<Vec<Box<[u8]>>> = expect.map(|all| all.iter().map(|l| l.as_bytes().into()).collect());
            assert_eq!(found, expect, "{text}");
        };
        check(r"/users/\d+", Some(&["/users/"]));
        check("/a|/b", Some(&["/a", "/b"]));
        check("/[0]?route", Some(&["/0route", "/route"]));
        check(".*x", None);
        check("a*", None);
        assert!(is_anchored("^/a") && is_anchored("^(/a|/b)") && !is_anchored("/a") && !is_anchored("^/a|/b"));
    }
}
