//! Names of fields.

use cardinal_ir::{Field, Traffic};

const HEADERS: &str = "http.headers.";
const QUERIES: &str = "http.queries.";
const SEGMENTS: &str = "http.path.segments.";

/// Fields with a fixed name. `net.port` is an old name that Kong still takes.
const FIXED: [(&str, Field); 12] = [
    ("net.protocol", Field::Protocol),
    ("tls.sni", Field::Sni),
    ("net.src.ip", Field::SourceIp),
    ("net.src.port", Field::SourcePort),
    ("net.dst.ip", Field::DestinationIp),
    ("net.dst.port", Field::DestinationPort),
    ("net.port", Field::DestinationPort),
    ("http.method", Field::Method),
    ("http.host", Field::Host),
    ("http.path", Field::Path),
    ("http.path.segments.len", Field::SegmentCount),
    ("http.path.segments.0", Field::Segments(0, 0)),
];

/// The field of a name.
pub(super) fn field(name: &str, traffic: Traffic) -> Option<Field> {
    if traffic == Traffic::Stream && name.starts_with("http.") {
        return None;
    }
    if let Some((_, field)) = FIXED.iter().find(|(fixed, _)| *fixed == name) {
        return Some(field.clone());
    }
    let plain = |rest: &str| !rest.is_empty() && !rest.contains('.');
    if let Some(header) = name.strip_prefix(HEADERS).filter(|rest| plain(rest)) {
        return Some(Field::Header(header.to_ascii_lowercase().into()));
    }
    if let Some(query) = name.strip_prefix(QUERIES).filter(|rest| plain(rest)) {
        return Some(Field::Query(query.into()));
    }
    segments(name.strip_prefix(SEGMENTS)?)
}

/// `N` or `N_M`. A range that does not rise has no value in Kong; it becomes one that never has.
fn segments(range: &str) -> Option<Field> {
    let number = |digits: &str| -> Option<u16> {
        let plain = digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
        if plain { digits.parse().ok() } else { None }
    };
    match range.split_once('_') {
        None => number(range).map(|at| Field::Segments(at, at)),
        Some((first, last)) => {
            let (first, last) = (number(first)?, number(last).filter(|last| *last > 0)?);
            Some(if first < last { Field::Segments(first, last) } else { Field::Segments(1, 0) })
        }
    }
}

/// The field whose name is most like a wrong one.
pub(super) fn nearest(name: &str, traffic: Traffic) -> Option<String> {
    let name: String = name.chars().take(64).collect::<String>().to_ascii_lowercase();
    let fixed = FIXED.iter().map(|(fixed, _)| *fixed).filter(|fixed| *fixed != "net.port");
    let candidates = fixed
        .chain([HEADERS, QUERIES])
        .filter(|fixed| field(&format!("{fixed}x"), traffic).is_some() || field(fixed, traffic).is_some());
    let (distance, best) = candidates
        .map(|candidate| {
            // A family is compared by its own part of the name.
            let own = candidate.ends_with('.').then(|| name.match_indices('.').nth(1)).flatten();
            match own {
                Some((at, _)) => {
                    let (family, rest) = name.split_at(at + 1);
                    (distance(family, candidate), format!("{candidate}{rest}"))
                }
                None => (distance(&name, candidate), candidate.to_owned()),
            }
        })
        .min_by_key(|(distance, _)| *distance)?;
    (distance <= 4 && distance * 2 < name.len()).then_some(best)
}

/// Edit distance.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, y) in row.iter_mut().skip(1).zip(b.bytes()) {
            let cost = (diagonal + usize::from(x != y)).min(left + 1).min(*cell + 1);
            diagonal = *cell;
            *cell = cost;
            left = cost;
        }
    }
    row.last().copied().unwrap_or_default()
}
