//! [`Text`]: metrics in Prometheus exposition format.

use std::borrow::Cow;
use std::fmt::{Display, Write as _};

/// Exposition format. All names begin with `cardinal_`.
pub(super) struct Text(pub(super) String);

impl Text {
    /// A metric without labels.
    pub(super) fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.head(name, kind, help);
        self.line(name, &[], value);
    }

    pub(super) fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.write(format_args!("# HELP cardinal_{name} {help}\n# TYPE cardinal_{name} {kind}\n"));
    }

    /// Writes a sample. Label values may be names chosen by users.
    pub(super) fn line(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.write(format_args!("cardinal_{name}"));
        for (at, (label, text)) in labels.iter().enumerate() {
            let text = escaped(text);
            self.write(format_args!("{}{label}=\"{text}\"", if at == 0 { '{' } else { ',' }));
        }
        self.write(format_args!("{} {value}\n", if labels.is_empty() { "" } else { "}" }));
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        self.0.write_fmt(text).unwrap_or_default();
    }
}

/// The escaped value of a label: backslashes, quotes and line ends.
fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(['\\', '"', '\n']) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut text = Text(String::new());
        text.line("x", &[("upstream", "a\\b\"c\nd"), ("limit", "requests")], 1);
        assert_eq!(text.0, "cardinal_x{upstream=\"a\\\\b\\\"c\\nd\",limit=\"requests\"} 1\n");
    }
}
