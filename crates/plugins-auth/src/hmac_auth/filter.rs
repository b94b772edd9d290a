//! What `hmac-auth` does with a request. Kong: `kong/plugins/hmac-auth/access.lua`.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cardinal_base::UnixMillis;
use cardinal_http::{HeaderList, eq_field_name};
use cardinal_sdk::{
    BuildCx, BuildError, CredentialEntry, CredentialRef, Directory, Filter, Flow, HeadCx, Phases, PrincipalEntry, Reply,
};
use serde::Deserialize;
use serde_json::Value;

use super::entities::{KIND, secret_of};
use super::parameters::Parameters;
use super::signing::{Algorithm, NAMES_MAX, is_signature, sign};
use crate::access::{Gate, admit, challenge, parse_config};

const AUTHORIZATION: &[u8] = b"Authorization";
const PROXY_AUTHORIZATION: &[u8] = b"Proxy-Authorization";
const DATES: [&[u8]; 2] = [b"X-Date", b"Date"];
const DIGEST: &[u8] = b"Digest";

const NO_DATE: &str =
    "HMAC signature cannot be verified, a valid date or x-date header is required for HMAC Authentication";
const NOT_VERIFIABLE: &str = "HMAC signature cannot be verified";
const NOT_EQUAL: &str = "HMAC signature does not match";

/// Longest body that is compared with its digest. It is read only after the signature has been verified.
const BODY_MAX: u64 = 64 << 20;

#[derive(Deserialize)]
struct Config {
    hide_credentials: bool,
    clock_skew: Option<f64>,
    anonymous: Option<Box<str>>,
    validate_request_body: bool,
    enforce_headers: Option<Vec<Box<str>>>,
    algorithms: Option<Vec<Box<str>>>,
    realm: Option<Box<str>>,
}

struct HmacAuth {
    gate: Gate,
    hide: bool,
    /// Seconds.
    clock_skew: f64,
    validate_body: bool,
    /// What signatures must cover.
    enforced: Vec<Box<str>>,
    algorithms: Vec<Algorithm>,
    challenge: Box<str>,
}

pub(super) fn build(config: &Value, _cx: &BuildCx<'_>) -> Result<Arc<dyn Filter>, BuildError> {
    let config: Config = parse_config(config)?;
    let named = config.algorithms.unwrap_or_default();
    let is_named = |algorithm: &Algorithm| named.iter().any(|name| **name == *algorithm.name());
    Ok(Arc::new(HmacAuth {
        gate: Gate { anonymous: config.anonymous, run_on_preflight: true },
        hide: config.hide_credentials,
        clock_skew: config.clock_skew.unwrap_or(300.0),
        validate_body: config.validate_request_body,
        enforced: config.enforce_headers.unwrap_or_default(),
        algorithms: Algorithm::ALL.into_iter().filter(is_named).collect(),
        challenge: challenge(config.realm.map_or("hmac".to_owned(), |realm| format!("hmac realm=\"{realm}\"")))?,
    }))
}

impl Filter for HmacAuth {
    fn phases(&self) -> Phases {
        Phases::REQUEST
    }

    fn owns_header(&self, name: &[u8]) -> bool {
        DATES.iter().any(|known| eq_field_name(known, name))
            || (self.validate_body && eq_field_name(DIGEST, name))
            || self.enforced.iter().any(|known| eq_field_name(known.as_bytes(), name))
    }

    fn on_request_head<'a>(&'a self, cx: &'a mut HeadCx<'_>) -> Flow<'a> {
        if self.gate.skips(cx) {
            return Flow::Continue;
        }
        let headers = &cx.request.headers;
        let (authorization, proxy) = (headers.get(AUTHORIZATION), headers.get(PROXY_AUTHORIZATION));
        if authorization.is_none() && proxy.is_none() {
            return self.refuse(cx, "Unauthorized");
        }
        if !self.is_recent(headers, cx.services.clock.unix()) {
            return self.refuse(cx, NO_DATE);
        }
        let (read, parameters) = match proxy.and_then(Parameters::parse) {
            Some(parameters) => (PROXY_AUTHORIZATION, Some(parameters)),
            None => (AUTHORIZATION, authorization.and_then(Parameters::parse)),
        };
        let directory = cx.directory;
        let mut verified = match parameters {
            Some(parameters) => self.verify(cx, directory, &parameters),
            None => Err(NOT_VERIFIABLE),
        };
        if self.validate_body && verified.is_ok() {
            match has_digest_of_body(cx) {
                Some(true) => {}
                Some(false) => verified = Err(NOT_EQUAL),
                None => return Flow::NeedBody { max: BODY_MAX },
            }
        }
        if self.hide {
            cx.request.headers.remove(read);
        }
        match verified {
            Ok((entry, principal)) => admit(cx, principal, CredentialRef::of(entry), entry.lookup()),
            Err(why) => self.refuse(cx, why),
        }
    }
}

impl HmacAuth {
    fn refuse(&self, cx: &mut HeadCx<'_>, why: &'static str) -> Flow<'static> {
        self.gate.refuse(cx, || Reply::error(401, why).with_header("WWW-Authenticate", &self.challenge))
    }

    /// Whether one of the request's dates is near enough.
    fn is_recent(&self, headers: &HeaderList, now: UnixMillis) -> bool {
        let seconds = |value: &[u8]| {
            let date = httpdate::parse_http_date(std::str::from_utf8(value).ok()?).ok()?;
            Some(date.duration_since(UNIX_EPOCH).ok()?.as_secs())
        };
        // Dates end with the year 9999.
        #[allow(clippy::cast_precision_loss, reason = "seconds of 8000 years")]
        let is_near = |date: u64| date.abs_diff(now.seconds()) as f64 <= self.clock_skew;
        DATES.iter().any(|name| headers.get(name).and_then(seconds).is_some_and(is_near))
    }

    /// The credential that signed the request, and whose it is.
    fn verify<'d>(
        &self,
        cx: &HeadCx<'_>,
        directory: &'d Directory,
        parameters: &Parameters<'_>,
    ) -> Result<(&'d Arc<CredentialEntry>, &'d Arc<PrincipalEntry>), &'static str> {
        let is_listed = |name: &str| parameters.names().any(|listed| listed == name.as_bytes());
        if parameters.names().nth(NAMES_MAX).is_some() || !self.enforced.iter().all(|name| is_listed(name)) {
            return Err(NOT_VERIFIABLE);
        }
        let is_meant = |algorithm: &&Algorithm| algorithm.name().as_bytes() == parameters.algorithm;
        let algorithm = self.algorithms.iter().find(is_meant).ok_or(NOT_VERIFIABLE)?;
        let username = std::str::from_utf8(parameters.username).map_err(|_| NOT_VERIFIABLE)?;
        let entry = directory.credential(KIND, username).ok_or(NOT_VERIFIABLE)?;
        let secret = secret_of(entry).ok_or(NOT_VERIFIABLE)?;
        let principal = directory.principal(&entry.record.principal).ok_or(NOT_VERIFIABLE)?;
        let signature = sign(&algorithm.key(secret), (cx.request, cx.exchange), parameters).ok_or(NOT_VERIFIABLE)?;
        if is_signature(&signature, parameters.signature) { Ok((entry, principal)) } else { Err(NOT_EQUAL) }
    }
}

/// Whether the `Digest` header is the body's, or both are absent; `None` when the body has to be read first.
fn has_digest_of_body(cx: &HeadCx<'_>) -> Option<bool> {
    let digest_received = cx.request.headers.get(DIGEST);
    let body: &[u8] = match (cx.body(), cx.body_length) {
        (Some(body), _) => body,
        (None, Some(0)) => b"",
        // Whatever the body is, it has no digest.
        (None, Some(_)) if digest_received.is_none() => return Some(false),
        (None, _) => return None,
    };
    let Some(received) = digest_received else { return Some(body.is_empty()) };
    let expected = STANDARD.encode(digest(&SHA256, body));
    Some(received.strip_prefix(b"SHA-256=") == Some(expected.as_bytes()))
}
