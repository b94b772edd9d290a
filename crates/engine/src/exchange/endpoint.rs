//! The endpoint of an attempt: its selection, its name in logs, and the health report when it fails.

use std::rc::Rc;

use cardinal_balance::{Group, NoHealthyEndpoint, Outcome, PickInput, Picked};
use cardinal_http::{Failure, Side};
use cardinal_ir::{Algorithm, HashInput, Wire};
use cardinal_sdk::TryState;

use super::failure_log::target_text;
use super::scratch::Scratch;
use crate::names::Names;
use crate::plan::BackendPlan;
use crate::policy::{circuit, telemetry};
use crate::worker::Worker;

/// Chooses an endpoint.
pub(crate) async fn pick(worker: &Rc<Worker>, backend: &BackendPlan, s: &mut Scratch) -> Result<Picked, Failure> {
    let hash = backend.endpoints.as_deref().and_then(|endpoints| hash_value(worker, endpoints, s));
    let cookie = sticky_cookie(backend, s);
    let mut resolved = false;
    // Stream sessions are counted as connections.
    let uncounted = !matches!(s.exchange.client.wire, Wire::Http | Wire::Https);
    loop {
        let now = s.now(worker);
        let input = PickInput { now, hash: hash.as_deref(), tried: &s.tried, cookie: cookie.as_deref(), uncounted };
        match worker.pick(&backend.group, &input) {
            Ok(picked) => {
                remember_cookie(backend, &picked, s);
                return Ok(picked);
            }
            Err(NoHealthyEndpoint::Overflow) => return Err(circuit::too_many_requests(&backend.group)),
            // A single host without addresses has failed by resolution, not by health: the resolver has the reason.
            Err(reason) if !resolved && (reason == NoHealthyEndpoint::Unresolved || backend.endpoints.is_none()) => {
                let outcome = Box::pin(worker.node.names.resolve(&backend.group)).await;
                s.time_passed();
                outcome?;
                resolved = true;
            }
            Err(NoHealthyEndpoint::Unhealthy) if backend.endpoints.is_some() => {
                return Err(Names::no_peer(&backend.group));
            }
            Err(NoHealthyEndpoint::Unresolved | NoHealthyEndpoint::Unhealthy) => {
                return Err(Names::unresolved(&backend.group));
            }
        }
    }
}

/// The value that consistent hashing hashes (Kong's rules; see `cardinal_balance::ring`).
fn hash_value(worker: &Worker, endpoints: &cardinal_ir::Cluster, s: &mut Scratch) -> Option<Vec<u8>> {
    if endpoints.algorithm != Algorithm::ConsistentHashing {
        return None;
    }
    hash_input(worker, &endpoints.hash_on, s).or_else(|| hash_input(worker, &endpoints.hash_fallback, s))
}

fn hash_input(worker: &Worker, input: &HashInput, s: &mut Scratch) -> Option<Vec<u8>> {
    match input {
        HashInput::None => None,
        HashInput::Principal => {
            let identity = &s.exchange.identity;
            let principal = identity.principal.as_ref().map(|p| p.id.to_string());
            principal.or_else(|| identity.credential.as_ref().map(|c| c.id().to_string())).map(String::into_bytes)
        }
        HashInput::Ip => Some(s.exchange.client.ip.to_string().into_bytes()),
        HashInput::Header(name) => {
            let values: Vec<&[u8]> = s.request.headers.get_all(name.as_bytes()).collect();
            (!values.is_empty()).then(|| values.concat())
        }
        HashInput::Cookie { name, path } => {
            if let Some(value) = cookie(s, name) {
                return Some(value.into_bytes());
            }
            // The first request has no cookie yet; its response sets one.
            let value = cardinal_ir::Id::from_u64_pair(worker.random(), worker.random()).to_string();
            let value = set_version_4(value);
            let field = format!("{name}={value}; Path={path}; Same-Site=Lax; HttpOnly");
            s.exchange.response_cookies.push(field);
            Some(value.into_bytes())
        }
        HashInput::Path => Some(s.path.clone()),
        HashInput::Query(name) => {
            let query = s.request.query()?;
            let mut values: Vec<Vec<u8>> = cardinal_http::query::arguments(query, 1_000)
                .filter(|(key, _)| key == name.as_bytes())
                .map(|(_, value)| value.unwrap_or_default())
                .collect();
            values.sort();
            (!values.is_empty()).then(|| values.concat())
        }
        HashInput::Capture(key) => s.exchange.captures.get(key).map(|value| value.as_bytes().to_vec()),
    }
}

/// Sets the version and variant bits of a random UUID.
fn set_version_4(mut text: String) -> String {
    text.replace_range(14..15, "4");
    text.replace_range(19..20, "a");
    text
}

/// The value of a request cookie.
fn cookie(s: &Scratch, name: &str) -> Option<String> {
    s.request.headers.known_all(cardinal_http::Name::Cookie).find_map(|value| {
        let text = std::str::from_utf8(value).ok()?;
        let pairs = text.split(';').filter_map(|pair| pair.trim().split_once('='));
        pairs.filter(|(key, _)| *key == name).map(|(_, value)| value.to_owned()).next()
    })
}

fn sticky_cookie(backend: &BackendPlan, s: &Scratch) -> Option<String> {
    match &backend.endpoints.as_deref()?.algorithm {
        Algorithm::Sticky { cookie: name, .. } => cookie(s, name),
        _ => None,
    }
}

fn remember_cookie(backend: &BackendPlan, picked: &Picked, s: &mut Scratch) {
    if let Some(Algorithm::Sticky { cookie, path }) = backend.endpoints.as_deref().map(|e| &e.algorithm)
        && let Some(value) = picked.new_cookie()
    {
        s.exchange.response_cookies.clear();
        s.exchange.response_cookies.push(format!("{cookie}={value}; Path={path}; SameSite=Lax; HttpOnly"));
    }
}

/// Records a failed attempt for logs and, unless the node itself failed, for health checks.
pub(crate) fn report_failure(worker: &Worker, group: &Group, picked: &Picked, s: &mut Scratch, failure: &Failure) {
    let timeout = failure.kind().status() == 504;
    if failure.kind().side() == Side::Upstream {
        let outcome = if timeout { Outcome::Timeout } else { Outcome::TcpFailure };
        group.report_with(picked, outcome, Some(failure), worker.now());
    }
    if let Some(attempt) = s.exchange.tries.last_mut() {
        attempt.state = Some(TryState::Failed);
        attempt.status = Some(failure.kind().status());
    }
    if s.trace.is_some() {
        telemetry::attempt_failed(s, failure.kind(), worker.now());
    }
}

/// The endpoint as text for logs.
pub(crate) fn picked_text(picked: &Picked) -> Box<str> {
    target_text(picked.host(), picked.address()).into()
}
