//! Warnings about values that hold an unresolved variable (`$NAME`, `${NAME}`, `${{ env "NAME" }}`): the text is used
//! literally, so that a placeholder may become a credential that is easy to guess.

use cardinal_ir::{Code, Diagnostic};

use super::report::{variable, variable_hint};
use super::source::{Data, Node, Place, Scalar, Source};

/// Maximum number of warnings of one file; the last one has the number of further values.
const TOLD_MAX: usize = 20;
/// What the text is used for.
const LITERAL: &str = "is not filled in: the text is used as it is written";
/// Keys below which texts are no values, or are programs.
const SKIPPED: [&str; 6] = ["_comment", "_ignore", "_info", "_konnect", "_workspace", "custom_fields_by_lua"];

/// A warning for each value of a file that holds an unresolved variable.
pub(super) fn unresolved(root: &Node, file: &Source) -> Vec<Diagnostic> {
    let mut walk = Walk { file, path: Vec::new(), told: Vec::new(), more: 0 };
    walk.node(root, root.place);
    if let (more @ 1.., Some(last)) = (walk.more, walk.told.last_mut()) {
        last.message.push_str(&format!(" (and {more} more values of this file)"));
    }
    walk.told
}

enum Step<'n> {
    Key(&'n str),
    Index(usize),
}

struct Walk<'n, 'f> {
    file: &'f Source,
    path: Vec<Step<'n>>,
    told: Vec<Diagnostic>,
    more: usize,
}

impl<'n> Walk<'n, '_> {
    fn node(&mut self, node: &'n Node, place: Place) {
        match &node.data {
            Data::Scalar(Scalar::String(text)) => self.text(text, place),
            Data::Scalar(_) => {}
            Data::List(list) => {
                for (at, node) in list.iter().enumerate() {
                    self.path.push(Step::Index(at));
                    self.node(node, node.place);
                    self.path.pop();
                }
            }
            Data::Map(map) => {
                for (key, place, node) in map.iter().filter(|(key, ..)| !SKIPPED.contains(&&**key)) {
                    self.path.push(Step::Key(key));
                    self.node(node, *place);
                    self.path.pop();
                }
            }
        }
    }

    fn text(&mut self, text: &str, place: Place) {
        let Some((message, hint)) = problem(text, self.file) else { return };
        if self.told.len() == TOLD_MAX {
            self.more += 1;
            return;
        }
        let path = self.path();
        let told = super::warning(self.file, ("value", Some(&path)), place, Code::Unsupported, message);
        self.told.push(Diagnostic { hint: Some(hint), ..told });
    }

    fn path(&self) -> String {
        let mut out = String::new();
        for step in &self.path {
            match step {
                Step::Key(key) if out.is_empty() => out.push_str(key),
                Step::Key(key) => out.push_str(&format!(".{key}")),
                Step::Index(at) => out.push_str(&format!("[{at}]")),
            }
        }
        out
    }
}

/// What is wrong with a text, and what to do.
fn problem(text: &str, file: &Source) -> Option<(String, String)> {
    if !text.contains('$') {
        return None;
    }
    if let Some((_, rest)) = text.split_once("${{")
        && rest.contains("env")
    {
        // A value that was filled in may hold anything.
        return file.filled.is_none().then_some((format!("`${{{{ env ... }}}}` {LITERAL}"), variable_hint(text)?));
    }
    let name = variable(text)?;
    let (plain, braced) = (format!("${name}"), format!("${{{name}}}"));
    let is_written = |token: &str| file.filled.is_none() || file.text.contains(token);
    if text.contains(&braced) {
        return is_written(&braced).then_some((format!("{braced} {LITERAL}"), variable_hint(text)?));
    }
    if !is_written(&plain) {
        return None;
    }
    if text == plain {
        return Some((format!("{plain} {LITERAL}"), variable_hint(text)?));
    }
    // The text may be a secret that only looks as if it held a variable: no part of it is shown.
    let hint = "fill in variables with a template tool, or use {vault://env/...} in fields that may hold secrets";
    Some((format!("what looks like a variable ($NAME) in this value {LITERAL}"), hint.to_owned()))
}
