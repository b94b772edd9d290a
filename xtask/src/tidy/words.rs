//! Words of user-visible text: phrases that readers do not search for, or that a reader has to guess the meaning of.
//!
//! Checked are the pages and the texts of the program: every string literal outside of tests, which are messages, log
//! lines and help of metrics, and the doc comments that are the help texts of the command line.

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

/// Checks the pages, and the texts in the sources of all `crates`.
pub(super) fn check(root: &Path, crates: &[std::path::PathBuf], problems: &mut Vec<Problem>) -> Result<()> {
    for page in pages(root)? {
        check_text(&shown(root, &page), prose(&read(&page)?).into_iter(), problems);
    }
    for folder in crates {
        let is_product = folder.parent().is_some_and(|parent| parent.ends_with("crates"));
        let is_for_tests = ["testkit", "test-tools"].iter().any(|name| folder.ends_with(name));
        if is_product && !is_for_tests {
            check_sources(root, &folder.join("src"), problems)?;
        }
    }
    Ok(())
}

/// The pages that users and contributors read. The change log is a record of its time.
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

fn check_sources(root: &Path, folder: &Path, problems: &mut Vec<Problem>) -> Result<()> {
    for path in entries(folder)? {
        let place = shown(root, &path);
        if path.is_dir() {
            if !path.ends_with("tests") {
                check_sources(root, &path, problems)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            let text = read(&path)?;
            // Modules of tests are the last item of a file.
            let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
            let with_help = place.starts_with("crates/cli/src/args/");
            check_text(&place, texts(text, with_help).into_iter(), problems);
        }
    }
    Ok(())
}

/// Looks for the phrases in texts, each with its line.
fn check_text(place: &str, texts: impl Iterator<Item = (usize, String)>, problems: &mut Vec<Problem>) {
    for (line, text) in texts {
        let text = text.to_lowercase();
        for (phrase, instead) in PHRASES {
            if holds(&text, phrase) {
                problems.push(Problem::new(format!("{place}:{line}"), format!("\"{phrase}\": write {instead}")));
            }
        }
    }
}

/// Whether a text has a phrase as words of their own.
fn holds(text: &str, phrase: &str) -> bool {
    let is_letter = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    text.match_indices(phrase).any(|(at, _)| {
        !is_letter(text.get(..at).and_then(|before| before.chars().next_back()))
            && !is_letter(text.get(at + phrase.len()..).and_then(|after| after.chars().next()))
    })
}

/// The paragraphs of a page, each as one line, with the number of their first line. Code is left out.
fn prose(page: &str) -> Vec<(usize, String)> {
    let mut out: Vec<(usize, String)> = Vec::new();
    let (mut in_code, mut goes_on) = (false, false);
    for (at, line) in page.lines().enumerate() {
        let line = line.trim();
        if line.starts_with("```") {
            (in_code, goes_on) = (!in_code, false);
        } else if in_code || line.is_empty() {
            goes_on = false;
        } else {
            // What is in backquotes is a name.
            let text = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
            match out.last_mut().filter(|_| goes_on) {
                Some((_, paragraph)) => {
                    paragraph.push(' ');
                    paragraph.push_str(&text);
                }
                None => out.push((at + 1, text)),
            }
            goes_on = true;
        }
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
            // Bytes are no text.
            (end + 2).min(rest.len())
        } else if rest.starts_with("'\"'") || rest.starts_with("'\\") {
            // A quote or an escape as a character begins no text.
            rest.get(2..).and_then(|after| after.find('\'')).map_or(rest.len(), |at| at + 3)
        } else {
            c.len_utf8()
        };
        line += rest.get(..end).unwrap_or_default().matches('\n').count();
        rest = rest.get(end..).unwrap_or_default();
    }
    out
}

/// Where the text of a literal begins and ends that is at the start of `rest`.
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

/// A literal with its continued lines joined.
fn joined(text: &str) -> String {
    text.split("\\\n").map(str::trim_start).collect::<Vec<_>>().join("").replace("\\n", "\n")
}
