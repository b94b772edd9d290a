//! The same answers by looking at every route: what [`Router`](crate::Router) is tested against, and its specification
//! in short. It compiles patterns as it goes, so it is slow.

use std::ops::ControlFlow;

use cardinal_http::query;
use cardinal_ir::{
    Conditions, Field, HostPattern, ImpliedPort, Literal, Matches, Op, PathMatch, Predicate, Route, TextMatch,
    ValueMatch,
};
use regex::bytes::Regex;

use crate::request::Request;

/// The route of highest rank that fits, as its position in the list, with the length of the path that matched.
/// Patterns that do not compile, or only on a backtracking engine, match nothing.
pub fn find<'r>(routes: impl IntoIterator<Item = &'r Route>, request: &Request<'_>) -> Option<(usize, Option<usize>)> {
    let mut best: Option<(usize, &Route, Option<usize>)> = None;
    for (number, route) in routes.into_iter().enumerate() {
        if best.is_some_and(|(_, other, _)| other.rank >= route.rank) {
            continue;
        }
        let mut path_len = None;
        let fits = match &route.matches {
            Matches::Conditions(conditions) => fits_conditions(conditions, request, &mut path_len),
            Matches::Predicate(predicate) => fits_predicate(predicate, request, &mut path_len),
        };
        if fits {
            best = Some((number, route, path_len));
        }
    }
    best.map(|(number, _, path_len)| (number, path_len))
}

fn fits_conditions(conditions: &Conditions, request: &Request<'_>, path_len: &mut Option<usize>) -> bool {
    let port = request.destination.port();
    let wires = &conditions.wires;
    let over_tls = !matches!(request.wire.as_str(), "http" | "tcp" | "udp");
    (wires.is_empty() || wires.contains(&request.wire))
        && any(&conditions.methods, |method| &**method == request.method)
        && any(&conditions.hosts, |host| {
            let sent = match host.implied_port {
                ImpliedPort::Listener => Some(port),
                ImpliedPort::Scheme => request.host_port.or(Some(if over_tls { 443 } else { 80 })),
                ImpliedPort::None => request.host_port,
            };
            fits_name(&host.host, request.host) && (host.port.is_none() || host.port == sent)
        })
        && (!over_tls || any(&conditions.snis, |sni| fits_name(sni, request.sni)))
        && any(&conditions.sources, |addr| {
            addr.net.is_none_or(|net| net.contains(&request.source_ip()))
                && addr.port.is_none_or(|port| port == request.source.port())
        })
        && any(&conditions.destinations, |addr| {
            addr.net.is_none_or(|net| net.contains(&request.destination_ip())) && addr.port.unwrap_or(port) == port
        })
        && any(&conditions.paths, |path| {
            let matched = match path {
                PathMatch::Prefix(prefix) => request.path.starts_with(prefix.as_bytes()).then_some(prefix.len()),
                PathMatch::Regex(text) => search(&format!("^(?:{text})"), request.path),
                PathMatch::Exact(text) => (request.path == text.as_bytes()).then_some(text.len()),
                PathMatch::SegmentPrefix(text) => {
                    let text = text.trim_end_matches('/');
                    let longer = [request.path, b"/"].concat();
                    longer.starts_with(format!("{text}/").as_bytes()).then_some(text.len())
                }
                PathMatch::FullRegex(text) => search(&format!("^(?:{text})$"), request.path),
            };
            *path_len = matched;
            matched.is_some()
        })
        && conditions.headers.iter().all(|header| {
            let values = header_values(request, &header.name);
            header.any_of.iter().any(|wanted| match wanted {
                TextMatch::Exact(text) => values.iter().any(|value| text.as_bytes() == lower(value)),
                TextMatch::Regex(text) => values.iter().any(|value| search(text, &lower(value)).is_some()),
                TextMatch::Value(wanted) => values.iter().any(|value| fits_value(wanted, value)),
                TextMatch::Absent => values.is_empty(),
            })
        })
        && conditions.queries.iter().all(|parameter| {
            let mut all = query::arguments(request.query, 100);
            all.find(|(name, _)| *name == parameter.name.as_bytes()).is_some_and(|(_, value)| {
                let value = value.unwrap_or_default();
                parameter.any_of.iter().any(|wanted| fits_value(wanted, &value))
            })
        })
}

fn fits_value(wanted: &ValueMatch, value: &[u8]) -> bool {
    match wanted {
        ValueMatch::Present => true,
        ValueMatch::Exact(text) => value == text.as_bytes(),
        ValueMatch::Prefix(text) => value.starts_with(text.as_bytes()),
        ValueMatch::Regex(text) => search(&format!("^(?:{text})$"), value).is_some(),
    }
}

fn any<T>(list: &[T], fits: impl FnMut(&T) -> bool) -> bool {
    list.is_empty() || list.iter().any(fits)
}

fn fits_name(pattern: &HostPattern, name: Option<&str>) -> bool {
    let Some(name) = name else { return false };
    match pattern {
        HostPattern::Exact(text) => name == &**text,
        HostPattern::Suffix(text) => name.ends_with(&**text),
        HostPattern::Prefix(text) => name.starts_with(&**text),
    }
}

fn search(pattern: &str, text: &[u8]) -> Option<usize> {
    Some(Regex::new(pattern).ok()?.find(text)?.len())
}

fn lower(value: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(value) {
        Ok(text) => text.to_lowercase().into(),
        Err(_) => value.to_ascii_lowercase(),
    }
}

fn header_values(request: &Request<'_>, name: &str) -> Vec<Vec<u8>> {
    let mut values = Vec::new();
    request.headers.each(&name.to_lowercase().replace('_', "-"), &mut |value| {
        values.push(value.to_vec());
        ControlFlow::Continue(())
    });
    values
}

enum Value {
    Text(Vec<u8>),
    Int(i64),
    Ip(std::net::IpAddr),
}

fn fits_predicate(predicate: &Predicate, request: &Request<'_>, path_len: &mut Option<usize>) -> bool {
    match predicate {
        Predicate::All(all) => all.iter().all(|one| fits_predicate(one, request, path_len)),
        Predicate::Any(any) => any.iter().any(|one| fits_predicate(one, request, path_len)),
        Predicate::Not(one) => !fits_predicate(one, request, path_len),
        Predicate::Compare { field, lower: to_lower, any, op, value } => {
            let mut fits = |field_value: Value| {
                let field_value = match field_value {
                    Value::Text(text) if *to_lower => Value::Text(lower(&text)),
                    other => other,
                };
                let (fits, len) = compare(&field_value, *op, value);
                if *field == Field::Path && fits && len.is_some() {
                    *path_len = len;
                }
                fits
            };
            let values = values(field, request);
            if *any { values.into_iter().any(fits) } else { !values.is_empty() && values.into_iter().all(&mut fits) }
        }
    }
}

fn values(field: &Field, request: &Request<'_>) -> Vec<Value> {
    let text = |text: &[u8]| Some(Value::Text(text.to_vec()));
    let path = String::from_utf8_lossy(request.path).into_owned();
    let path = path.strip_prefix('/').unwrap_or_default().trim_end_matches('/');
    let segments: Vec<&str> = if path.is_empty() { Vec::new() } else { path.split('/').collect() };
    let one = match field {
        Field::Protocol => text(request.wire.as_str().as_bytes()),
        Field::Sni => request.sni.and_then(|sni| text(sni.as_bytes())),
        Field::Method => text(request.method.as_bytes()),
        Field::Host => request.host.and_then(|host| text(host.as_bytes())),
        Field::Path => text(request.path),
        Field::SegmentCount => i64::try_from(segments.len()).ok().map(Value::Int),
        Field::Segments(from, to) if from > to => None,
        Field::Segments(from, to) => {
            segments.get(usize::from(*from)..=usize::from(*to)).and_then(|range| text(range.join("/").as_bytes()))
        }
        Field::SourceIp => Some(Value::Ip(request.source_ip())),
        Field::SourcePort => Some(Value::Int(request.source.port().into())),
        Field::DestinationIp => Some(Value::Ip(request.destination_ip())),
        Field::DestinationPort => Some(Value::Int(request.destination.port().into())),
        Field::Header(name) => return header_values(request, name).into_iter().map(Value::Text).collect(),
        Field::Query(name) => return query_values(request.query, name),
    };
    one.into_iter().collect()
}

fn query_values(text: &[u8], name: &str) -> Vec<Value> {
    let all = query::arguments(text, 100).filter(|(key, _)| *key == name.as_bytes());
    all.map(|(_, value)| Value::Text(value.unwrap_or_default())).collect()
}

/// Whether a value compares, and the length of the text that did so.
fn compare(value: &Value, op: Op, operand: &Literal) -> (bool, Option<usize>) {
    match (value, operand) {
        (Value::Text(value), Literal::Text(text)) => {
            let wanted = text.as_bytes();
            match op {
                Op::Equal => (value == wanted, Some(wanted.len())),
                Op::StartsWith => (value.starts_with(wanted), Some(wanted.len())),
                Op::EndsWith => (value.ends_with(wanted), Some(wanted.len())),
                Op::NotEqual => (value != wanted, None),
                Op::Contains => (wanted.is_empty() || value.windows(wanted.len()).any(|part| part == wanted), None),
                Op::Regex => {
                    let found = search(text, value);
                    (found.is_some(), found)
                }
                _ => (false, None),
            }
        }
        (Value::Int(value), Literal::Int(wanted)) => {
            let holds = match op {
                Op::Equal => value == wanted,
                Op::NotEqual => value != wanted,
                Op::Greater => value > wanted,
                Op::GreaterOrEqual => value >= wanted,
                Op::Less => value < wanted,
                Op::LessOrEqual => value <= wanted,
                _ => false,
            };
            (holds, None)
        }
        (Value::Ip(value), Literal::Ip(wanted)) => ((value == wanted) == (op == Op::Equal), None),
        (Value::Ip(value), Literal::Net(net)) => (net.contains(value) == (op == Op::In), None),
        _ => (false, None),
    }
}
