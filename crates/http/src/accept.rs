//! Content negotiation by `Accept` (RFC 9110 section 12.5.1).

use crate::token::{split_list, trim};

/// The offer that the header values prefer. Offers are `type/subtype`, lower-case, best first; ties go to the range
/// that stands first in the header, then to the earlier offer. `None` when nothing offered is acceptable.
pub fn negotiate<'a>(values: impl Iterator<Item = &'a [u8]>, offers: &[&'static str]) -> Option<&'static str> {
    let mut best: Option<(u32, &'static str)> = None;
    for value in values {
        for range in split_list(value).take(64) {
            let (media, quality) = parse_range(range);
            if quality == 0 || best.is_some_and(|(q, _)| q >= quality) {
                continue;
            }
            if let Some(offer) = offers.iter().find(|offer| matches(media, offer.as_bytes())) {
                best = Some((quality, offer));
            }
        }
    }
    best.map(|(_, offer)| offer)
}

/// A media range and its quality in thousandths.
fn parse_range(range: &[u8]) -> (&[u8], u32) {
    let mut parts = range.split(|b| *b == b';').map(trim);
    let media = parts.next().unwrap_or_default();
    let quality = parts
        .filter_map(|p| p.strip_prefix(b"q=").or_else(|| p.strip_prefix(b"Q=")))
        .find_map(|q| std::str::from_utf8(q).ok()?.parse::<f32>().ok())
        .map_or(1000, |q| {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
            let thousandths = (q.clamp(0.0, 1.0) * 1000.0) as u32;
            thousandths
        });
    (media, quality)
}

fn matches(range: &[u8], offer: &[u8]) -> bool {
    if range == b"*/*" || range == b"*" {
        return true;
    }
    match range.strip_suffix(b"/*") {
        Some(kind) => {
            offer.get(..kind.len()).is_some_and(|o| o.eq_ignore_ascii_case(kind))
                && offer.get(kind.len()) == Some(&b'/')
        }
        None => range.eq_ignore_ascii_case(offer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quality_decides_then_order() {
        let offers = ["application/json", "text/html", "text/plain", "application/xml"];
        let check = |accept: &str, expect: Option<&str>| {
            assert_eq!(negotiate([accept.as_bytes()].into_iter(), &offers), expect, "{accept}");
        };
        check("text/html", Some("text/html"));
        check("*/*", Some("application/json"));
        check("text/*", Some("text/html"));
        check("text/html;q=0.3, application/xml;q=0.9", Some("application/xml"));
        check("image/png", None);
        check("text/plain;q=0, */*;q=0.1", Some("application/json"));
        check("", None);
    }
}
