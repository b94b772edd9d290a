//! What goes upstream, without the secrets that the configuration adds to it. What the request itself has is shown.

use cardinal_engine::explain::Question;
use cardinal_kong::declarative::is_secret;

const MASK: &str = "***";

/// A path with its query.
pub(super) fn uri(uri: &str, question: &Question) -> String {
    let Some((path, query)) = uri.split_once('?') else { return uri.to_owned() };
    let shown = |argument: &str| match argument.split_once('=') {
        Some((name, value)) if !value.is_empty() && is_secret(name) && !question.url.contains(argument) => {
            format!("{name}={MASK}")
        }
        _ => argument.to_owned(),
    };
    format!("{path}?{}", query.split('&').map(shown).collect::<Vec<_>>().join("&"))
}

/// A line of a message head.
pub(super) fn line(line: &str, question: &Question) -> String {
    let Some((name, value)) = line.split_once(": ") else {
        // The request line.
        let parts: Vec<String> = line.split(' ').map(|part| uri(part, question)).collect();
        return parts.join(" ");
    };
    let is_own = question.headers.iter().any(|(_, own)| own.trim() == value.trim());
    if is_secret(name) && !is_own { format!("{name}: {MASK}") } else { line.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_the_configuration_are_not_shown() {
        let question = Question {
            method: "GET".into(),
            url: "http://a.example/x?token=mine&q=1".into(),
            headers: vec![("authorization".into(), "Basic own".into())],
            client_ip: None,
            sni: None,
            http2: false,
            body: bytes::Bytes::new(),
            group: None,
        };
        assert_eq!(uri("/x?token=mine&q=1&api_key=abc&page=2", &question), "/x?token=mine&q=1&api_key=***&page=2");
        assert_eq!(uri("/x", &question), "/x");
        assert_eq!(line("Authorization: Basic own", &question), "Authorization: Basic own");
        assert_eq!(line("Authorization: Bearer theirs", &question), "Authorization: ***");
        assert_eq!(line("Accept: a", &question), "Accept: a");
        assert_eq!(line("GET /x?secret=s HTTP/1.1", &question), "GET /x?secret=*** HTTP/1.1");
    }
}
