//! Tables in Markdown.

use cardinal_schema::{DocRow, Schema};

/// A table with these headings.
pub(super) fn table<const N: usize>(headings: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut out = line(&headings.map(str::to_owned));
    out.push_str(&format!("|{}\n", "---|".repeat(N)));
    for row in rows {
        out.push_str(&line(&row.map(|cell| cell.replace('|', "\\|").replace('\n', " "))));
    }
    out
}

/// The fields of a record.
pub(super) fn fields(schema: &Schema) -> String {
    rows_table(&schema.doc_rows())
}

/// These rows.
pub(super) fn rows_table(rows: &[DocRow]) -> String {
    table(["field", "type", "default", "meaning"], rows.iter().map(field))
}

fn field(row: &DocRow) -> [String; 4] {
    let default = match &row.default {
        Some(default) => code(default),
        None if row.required => "required".to_owned(),
        None => String::new(),
    };
    let mut meaning = row.text.clone();
    if !row.rules.is_empty() {
        let rules = row.rules.join("; ");
        meaning = if meaning.is_empty() { capital(&rules) + "." } else { format!("{meaning} {}.", capital(&rules)) };
    }
    [code(&row.path), row.kind.clone(), default, meaning]
}

/// Formats a code span, with any backticks inside.
pub(super) fn code(text: &str) -> String {
    if text.contains('`') { format!("`` {text} ``") } else { format!("`{text}`") }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}
