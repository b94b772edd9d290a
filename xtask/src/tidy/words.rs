//! Words of user-visible text: phrases that readers do not search for, or whose meaning they have to guess.
//!
//! The check covers the pages and the texts of the program: every string literal outside of tests, which are messages,
//! log lines and help of metrics, and the doc comments that are the help texts of the command line. In some crates, it
//! also covers comments.

use std::path::Path;

use anyhow::Result;

use super::{entries, read, shown};
use crate::problem::Problem;

/// A phrase, and what to write instead.
const PHRASES: &[(&str, &str)] = &[
    ("a core is a core", "thread per core"),
    ("good-bye", "graceful shutdown"),
    ("goodbye", "graceful shutdown"),
    ("has nobody left", "upstream has no healthy targets"),
    ("how it is", "status"),
    ("is spoken to", "name the protocol that is used"),
    ("is told", "gets, receives; name what is sent"),
    ("are spoken to", "name the protocol that is used"),
    ("are told", "get, receive; name what is sent"),
    ("for want of", "because ... is missing, or a limit is reached"),
    ("goes on as", "is handled as"),
    ("last good configuration", "last known good configuration"),
    ("least severity", "minimum log level"),
    ("nobody", "no client, no process, ...: name the subject"),
    ("of no use", "useless, unnecessary, or what it costs"),
    ("one a core", "one per core"),
    ("one wish", "coalesce"),
    ("put the files right", "fix the files"),
    ("put to work", "instantiated, used"),
    ("say no to", "reject"),
    ("says no", "rejects, fails"),
    ("says so", "logs it, returns an error"),
    ("say so", "log it, return an error"),
    ("stands twice", "duplicate"),
    ("the rules of the house", "the rules of this repository"),
    ("threads that serve", "worker threads"),
    ("under way", "in progress, active, pending"),
    ("vouches for", "authenticates"),
    ("what is odd", "warnings"),
    ("who calls", "the client"),
    ("whoever", "name the subject"),
    ("whom", "name the subject"),
    ("whose fault", "cause"),
    ("which is not in this generation", "references unknown id"),
    ("without a word", "silently"),
    ("without asking the upstream", "responded locally"),
];

/// Crates whose comments are checked, too, outside of tests.
const WITH_COMMENTS: [&str; 5] = ["engine", "ir", "net", "sdk", "sync"];

/// Phrases that comments must not contain, in addition to [`PHRASES`].
const IN_COMMENTS: &[(&str, &str)] = &[
    ("a little later", "later"),
    ("at hand", "buffered, available"),
    ("be had", "be created, be opened, be buffered"),
    ("became of", "the outcome, the result"),
    ("came of", "the outcome, the result"),
    ("gives back", "returns, releases"),
    ("goes by", "uses, follows; name the criterion"),
    ("is looked", "is checked; name the subject"),
    ("lets go of", "drops, releases"),
    ("sees to it", "makes sure"),
    ("tells about", "contains, reports"),
    ("the facts", "the properties; name them"),
    ("turns out to be", "is"),
    ("what is wrong", "the problem, the error"),
];

/// Checks the pages, and the texts in the sources of all `crates`.
pub(super) fn check(root: &Path, crates: &[std::path::PathBuf], problems: &mut Vec<Problem>) -> Result<()> {
    for page in pages(root)? {
        check_text(&shown(root, &page), prose(&read(&page)?), PHRASES, problems);
    }
    for folder in crates {
        let is_product = folder.parent().is_some_and(|parent| parent.ends_with("crates"));
        let is_for_tests = ["testkit", "test-tools"].iter().any(|name| folder.ends_with(name));
        if is_product && !is_for_tests {
            let with_comments = WITH_COMMENTS.iter().any(|name| folder.ends_with(name));
            check_sources(root, &folder.join("src"), with_comments, problems)?;
        }
    }
    Ok(())
}

/// The pages for users and contributors. The change log is exempt, as it is a record of its time.
fn pages(root: &Path) -> Result<Vec<std::path::PathBuf>> {
    let mut pages = Vec::new();
    let mut folders = vec![root.join("docs"), root.join("crates")];
    pages.extend(entries(root)?.into_iter().filter(|path| is_page(path) && !path.ends_with("CHANGELOG.md")));
    while let Some(folder) = folders.pop().filter(|folder| folder.exists()) {
        for path in entries(&folder)? {
            if path.is_dir() {
                folders.push(path);
            } else if is_page(&path) {
                pages.push(path);
            }
        }
    }
    Ok(pages)
}

fn is_page(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "md")
}

fn check_sources(root: &Path, folder: &Path, with_comments: bool, problems: &mut Vec<Problem>) -> Result<()> {
    for path in entries(folder)? {
        let place = shown(root, &path);
        if path.is_dir() {
            if !path.ends_with("tests") {
                check_sources(root, &path, with_comments, problems)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            let text = read(&path)?;
            // Test modules are the last item of a file.
            let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
            let with_help = place.starts_with("crates/cli/src/args/");
            check_text(&place, texts(text, with_help), PHRASES, problems);
            if with_comments {
                check_text(&place, comments(text), PHRASES, problems);
                check_text(&place, comments(text), IN_COMMENTS, problems);
            }
        }
    }
    Ok(())
}

/// Reports the phrases in texts, each with its line.
fn check_text(place: &str, texts: Vec<(usize, String)>, phrases: &[(&str, &str)], problems: &mut Vec<Problem>) {
    for (line, text) in texts {
        let text = text.to_lowercase();
        for (phrase, instead) in phrases {
            if holds(&text, phrase) {
                problems.push(Problem::new(format!("{place}:{line}"), format!("\"{phrase}\": write {instead}")));
            }
        }
    }
}

/// Whether a text contains a phrase as separate words.
fn holds(text: &str, phrase: &str) -> bool {
    let is_letter = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    text.match_indices(phrase).any(|(at, _)| {
        !is_letter(text.get(..at).and_then(|before| before.chars().next_back()))
            && !is_letter(text.get(at + phrase.len()..).and_then(|after| after.chars().next()))
    })
}

/// The paragraphs of a page, each as one line, with the number of their first line. Code is left out.
fn prose(page: &str) -> Vec<(usize, String)> {
    let mut in_code = false;
    paragraphs(page.lines().map(str::trim).map(|line| {
        let is_fence = line.starts_with("```");
        in_code ^= is_fence;
        if in_code || is_fence { "" } else { line }
    }))
}

/// The comments of a source that have lines of their own, by paragraph, with the number of their first line.
fn comments(source: &str) -> Vec<(usize, String)> {
    paragraphs(source.lines().map(|line| {
        let comment = line.trim_start().strip_prefix("//").unwrap_or_default();
        comment.trim_start_matches(['/', '!']).trim()
    }))
}

/// Joins adjacent lines that are not empty.
fn paragraphs<'l>(lines: impl Iterator<Item = &'l str>) -> Vec<(usize, String)> {
    let mut out: Vec<(usize, String)> = Vec::new();
    let mut continues = false;
    for (at, line) in lines.enumerate() {
        // Text in backquotes is a name.
        let text = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        match out.last_mut().filter(|_| continues) {
            Some((_, paragraph)) if !line.is_empty() => {
                paragraph.push(' ');
                paragraph.push_str(&text);
            }
            None if !line.is_empty() => out.push((at + 1, text)),
            _ => {}
        }
        continues = !line.is_empty();
    }
    out
}

/// The string literals of a source, and its doc comments where they are help texts, each with its line.
fn texts(source: &str, with_help: bool) -> Vec<(usize, String)> {
    let mut out = Vec::new();
    let (mut line, mut rest) = (1, source);
    while let Some(c) = rest.chars().next() {
        let end = if rest.starts_with("//") {
            let end = rest.find('\n').unwrap_or(rest.len());
            let comment = rest.get(..end).unwrap_or_default();
            if with_help && comment.starts_with("/// ") {
                out.push((line, comment.to_owned()));
            }
            end
        } else if let Some((start, end)) = literal(rest) {
            out.push((line, joined(rest.get(start..end).unwrap_or_default())));
            (end + 1).min(rest.len())
        } else if let Some((_, end)) = rest.strip_prefix('b').and_then(literal) {
            // Byte strings are not texts.
            (end + 2).min(rest.len())
        } else if rest.starts_with("'\"'") || rest.starts_with("'\\") {
            // A quote or an escape as a character literal does not begin a text.
            rest.get(2..).and_then(|after| after.find('\'')).map_or(rest.len(), |at| at + 3)
        } else {
            c.len_utf8()
        };
        line += rest.get(..end).unwrap_or_default().matches('\n').count();
        rest = rest.get(end..).unwrap_or_default();
    }
    out
}

/// The start and end of the text of a literal at the start of `rest`.
pub(super) fn literal(rest: &str) -> Option<(usize, usize)> {
    if let Some(after) = rest.strip_prefix('r') {
        let hashes = after.bytes().take_while(|b| *b == b'#').count();
        if after.get(hashes..)?.starts_with('"') {
            let start = hashes + 2;
            let closing = format!("\"{}", "#".repeat(hashes));
            let end = rest.get(start..)?.find(&closing).map_or(rest.len(), |at| start + at);
            return Some((start, end));
        }
    }
    let after = rest.strip_prefix('"')?;
    let mut escaped = false;
    let end = after.char_indices().find(|(_, c)| {
        let ends = *c == '"' && !escaped;
        escaped = *c == '\\' && !escaped;
        ends
    });
    Some((1, end.map_or(rest.len(), |(at, _)| at + 1)))
}

/// The text of a literal with its continued lines joined.
fn joined(text: &str) -> String {
    text.split("\\\n").map(str::trim_start).collect::<Vec<_>>().join("").replace("\\n", "\n")
}
