//! Media types, compared as Kong compares them (`kong/tools/mime_type.lua`).

use cardinal_http::is_token;

/// A media type or a range of them. What cannot be read is equal to nothing but `*`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Media {
    kind: String,
    subtype: String,
    parameters: Vec<(String, String)>,
}

impl Media {
    pub(super) fn parse(text: &str) -> Self {
        Self::read(text).unwrap_or_default()
    }

    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let essence = parts.next()?;
        let (kind, subtype) = match essence.split_once('/') {
            _ if essence == "*" => ("*", "*"),
            Some(halves) => halves,
            None => return None,
        };
        let mut media = Self {
            kind: token(kind)?.to_ascii_lowercase(),
            subtype: token(subtype)?.to_ascii_lowercase(),
            parameters: Vec::new(),
        };
        for parameter in parts {
            let (name, value) = parameter.split_once('=')?;
            let value = match value.strip_prefix('"') {
                Some(quoted) => quoted.strip_suffix('"')?,
                None => token(value)?,
            };
            media.parameters.push((token(name)?.to_ascii_lowercase(), value.to_owned()));
        }
        media.parameters.sort_unstable();
        Some(media)
    }

    /// Whether `found` is one of those this range names.
    pub(super) fn includes(&self, found: &Self) -> bool {
        !self.kind.is_empty()
            && (self.kind == "*" || self.kind == found.kind)
            && (self.subtype == "*" || self.subtype == found.subtype)
            && self.parameters == found.parameters
    }
}

fn token(text: &str) -> Option<&str> {
    is_token(text.as_bytes()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::Media;

    #[test]
    fn parameters_must_be_the_same() {
        let check = |range: &str, found: &str, expect: bool| {
            assert_eq!(Media::parse(range).includes(&Media::parse(found)), expect, "{range} {found}");
        };
        check("text/plain", "Text/PLAIN", true);
        check("text/plain", "text/plain; charset=utf-8", false);
        check("text/plain; Charset=utf-8", "text/plain;charset=\"utf-8\"", true);
        check("text/plain; charset=utf-8", "text/plain;charset=UTF-8", false);
        check("text/*", "text/html", true);
        check("*/*", "image/png", true);
        check("*", "image/png", true);
        check("*/*; a=1", "image/png; a=1", true);
        check("text/plain", "image/png", false);
        check("broken", "broken", false);
        check("*/*", "broken", true);
    }
}
