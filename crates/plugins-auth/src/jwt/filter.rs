//! What `jwt` does with a request. Kong: `kong/plugins/jwt/handler.lua`; key sets are ours.

use std::borrow::Cow;
use std::sync::Arc;

use cardinal_http::eq_field_name;
use cardinal_sdk::{
    BuildCx, BuildError, CredentialEntry, CredentialRef, Filter, Flow, HeadCx, Phases, PrincipalEntry, Reply,
};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::entities::{KIND, Material, TokenKey};
use super::key_set::Selected;
use super::key_source::{Fetch, KeySource, Reason};
use super::retrieve::{Places, Retrieved};
use super::token::{Token, parse};
use crate::access::{Gate, admit, challenge, parse_config};

#[derive(Deserialize)]
struct Config {
    uri_param_names: Option<Vec<Box<str>>>,
    cookie_names: Option<Vec<Box<str>>>,
    key_claim_name: Option<Box<str>>,
    secret_is_base64: bool,
    claims_to_verify: Option<Vec<Claim>>,
    anonymous: Option<Box<str>>,
    run_on_preflight: bool,
    maximum_expiration: Option<f64>,
    header_names: Option<Vec<Box<str>>>,
    realm: Option<Box<str>>,
    jwks_uri: Option<Box<str>>,
    jwks_cache_ttl: Option<f64>,
}

/// A registered claim that can be verified.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Claim {
    Exp,
    Nbf,
}

struct Jwt {
    gate: Gate,
    places: Places,
    key_claim: Box<str>,
    secret_is_base64: bool,
    claims: Vec<Claim>,
    /// Seconds; 0 is no limit.
    expiration_max: f64,
    challenge: Box<str>,
    challenge_with_error: Box<str>,
    published: Option<Published>,
}

/// Keys of an identity provider.
struct Published {
    source: Arc<KeySource>,
    ttl_ms: u64,
}

pub(super) fn build(config: &Value, cx: &BuildCx<'_>) -> Result<Arc<dyn Filter>, BuildError> {
    let config: Config = parse_config(config)?;
    let (base, with_error) = match &config.realm {
        Some(realm) => {
            (format!("Bearer realm=\"{realm}\""), format!("Bearer realm=\"{realm}\", error=\"invalid_token\""))
        }
        None => ("Bearer".to_owned(), "Bearer error=\"invalid_token\"".to_owned()),
    };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 86,400 s")]
    let ttl_ms = (config.jwks_cache_ttl.unwrap_or(300.0) * 1_000.0) as u64;
    let published = config
        .jwks_uri
        .map(|uri| Published { source: cx.services.shared.get_or_insert(&uri, || KeySource::new(&uri)), ttl_ms });
    Ok(Arc::new(Jwt {
        gate: Gate { anonymous: config.anonymous, run_on_preflight: config.run_on_preflight },
        places: Places {
            arguments: config.uri_param_names.unwrap_or_default(),
            cookies: config.cookie_names.unwrap_or_default(),
            headers: config.header_names.unwrap_or_default(),
        },
        key_claim: config.key_claim_name.unwrap_or_else(|| "iss".into()),
        secret_is_base64: config.secret_is_base64,
        claims: config.claims_to_verify.unwrap_or_default(),
        expiration_max: config.maximum_expiration.unwrap_or_default(),
        challenge: challenge(base)?,
        challenge_with_error: challenge(with_error)?,
        published,
    }))
}

/// Why a token is not accepted.
enum Refusal {
    /// There is none.
    NoToken,
    /// Something is wrong with it.
    Invalid(String),
    /// Claims do not hold.
    Claims(Map<String, Value>),
    /// The token is valid, but its consumer is unknown.
    NoConsumer(String),
    /// It cannot be verified: there are no keys.
    NoKeys,
}

impl Refusal {
    fn invalid(text: impl Into<String>) -> Self {
        Self::Invalid(text.into())
    }
}

/// How far authentication came.
enum Step<'d> {
    Proven(Proof<'d>),
    /// The key is not here; it may be after this.
    Fetch(Fetch),
}

/// The subject of the token.
struct Proof<'d> {
    principal: &'d Arc<PrincipalEntry>,
    credential: CredentialRef,
    identifier: Cow<'d, str>,
}

impl Filter for Jwt {
    fn phases(&self) -> Phases {
        Phases::REQUEST
    }

    fn owns_header(&self, name: &[u8]) -> bool {
        self.places.headers.iter().any(|known| eq_field_name(known.as_bytes(), name))
    }

    fn on_request_head<'a>(&'a self, cx: &'a mut HeadCx<'_>) -> Flow<'a> {
        if self.gate.skips(cx) {
            return Flow::Continue;
        }
        match self.authenticate(cx, true) {
            Ok(Step::Fetch(fetch)) => Flow::Wait(Box::pin(async move {
                fetch.ended().await;
                let step = self.authenticate(cx, false);
                self.conclude(cx, step).settle().await
            })),
            done => self.conclude(cx, done),
        }
    }
}

impl Jwt {
    fn conclude(&self, cx: &mut HeadCx<'_>, step: Result<Step<'_>, Refusal>) -> Flow<'static> {
        match step {
            Ok(Step::Proven(proof)) => admit(cx, proof.principal, proof.credential, &proof.identifier),
            Ok(Step::Fetch(_)) => self.gate.refuse(cx, || self.reply(Refusal::NoKeys)),
            Err(refusal) => self.gate.refuse(cx, || self.reply(refusal)),
        }
    }

    fn reply(&self, refusal: Refusal) -> Reply {
        let (reply, challenge) = match refusal {
            Refusal::NoToken => (Reply::message(401, "Unauthorized"), &self.challenge),
            Refusal::Invalid(text) => (Reply::message(401, text), &self.challenge_with_error),
            Refusal::Claims(errors) => (Reply::json(401, &Value::Object(errors)), &self.challenge_with_error),
            Refusal::NoConsumer(text) => return Reply::message(401, text),
            Refusal::NoKeys => return Reply::message(503, "The keys to verify tokens with are unavailable"),
        };
        reply.with_header("WWW-Authenticate", challenge)
    }

    /// Kong's order: token, key claim, credential, algorithm, key, signature, claims, consumer.
    fn authenticate<'d>(&self, cx: &HeadCx<'d>, may_wait: bool) -> Result<Step<'d>, Refusal> {
        let text = match self.places.search(cx.request) {
            Retrieved::One(text) => text,
            Retrieved::Nothing => return Err(Refusal::NoToken),
            Retrieved::Several => return Err(Refusal::invalid("Multiple tokens provided")),
            Retrieved::Valueless => return Err(Refusal::invalid("Unrecognizable token")),
        };
        let token = parse(&text).map_err(|error| Refusal::Invalid(format!("Bad token; {error}")))?;
        let name = &self.key_claim;
        let key = match token.claim_or_parameter(name) {
            None => return Err(Refusal::Invalid(format!("No mandatory '{name}' in claims"))),
            Some(Value::String(key)) if !key.is_empty() => key,
            Some(_) => return Err(Refusal::Invalid(format!("Invalid '{name}' in claims"))),
        };
        let directory = cx.directory;
        match (directory.credential(KIND, key), &self.published) {
            (Some(entry), _) => self.by_credential(cx, &token, entry).map(Step::Proven),
            (None, Some(published)) => self.by_published_key(cx, &token, key, published, may_wait),
            (None, None) => Err(Refusal::Invalid(format!("No credentials found for given '{name}'"))),
        }
    }

    fn by_credential<'d>(
        &self,
        cx: &HeadCx<'d>,
        token: &Token<'_>,
        entry: &'d Arc<CredentialEntry>,
    ) -> Result<Proof<'d>, Refusal> {
        let key = entry.prepared.as_ref().and_then(|prepared| prepared.downcast_ref::<TokenKey>());
        let key = key.ok_or_else(|| Refusal::invalid("Invalid key/secret"))?;
        if token.algorithm != key.algorithm {
            return Err(Refusal::invalid("Invalid algorithm"));
        }
        let verified = match &key.material {
            Material::Shared(secret) => secret.verifies(token.signed, &token.signature, self.secret_is_base64),
            Material::Public(key) => key.as_ref().map(|key| key.verifies(token.signed, &token.signature)),
        };
        if !verified.ok_or_else(|| Refusal::invalid("Invalid key/secret"))? {
            return Err(Refusal::invalid("Invalid signature"));
        }
        self.check_claims(cx, token, |claim| self.claims.contains(&claim))?;
        let lookup = entry.lookup();
        let directory = cx.directory;
        match directory.principal(&entry.record.principal) {
            Some(principal) => {
                Ok(Proof { principal, credential: CredentialRef::of(entry), identifier: Cow::Borrowed(lookup) })
            }
            None => Err(self.no_consumer(lookup)),
        }
    }

    fn by_published_key<'d>(
        &self,
        cx: &HeadCx<'d>,
        token: &Token<'_>,
        key: &str,
        published: &Published,
        may_wait: bool,
    ) -> Result<Step<'d>, Refusal> {
        // A public key must never be taken for a shared secret.
        if token.algorithm.hmac().is_some() {
            return Err(Refusal::invalid("Invalid algorithm"));
        }
        let wait = |reason| may_wait.then(|| published.source.fetch(cx.services, reason)).flatten();
        let current = published.source.current(cx.services, published.ttl_ms);
        let Some(fetched) = current.as_deref() else {
            return wait(Reason::Stale).map(Step::Fetch).ok_or(Refusal::NoKeys);
        };
        let kid = token.header.get("kid").and_then(Value::as_str);
        let public = match fetched.keys.select(kid, token.algorithm) {
            Selected::Key(public) => public,
            Selected::OtherAlgorithm => return Err(Refusal::invalid("Invalid algorithm")),
            Selected::Ambiguous => return Err(Refusal::invalid("No mandatory 'kid' in header")),
            Selected::Unknown => {
                let unknown = || Refusal::invalid("No key found for given 'kid'");
                return wait(Reason::UnknownKey).map(Step::Fetch).ok_or_else(unknown);
            }
        };
        if !public.verifies(token.signed, &token.signature) {
            return Err(Refusal::invalid("Invalid signature"));
        }
        let present = |claim| token.claims.contains_key(claim_name(claim));
        self.check_claims(cx, token, |claim| self.claims.contains(&claim) || present(claim))?;
        let directory = cx.directory;
        let found = directory.principal_by_custom_id(key).or_else(|| directory.principal_by_name(key));
        let principal = found.ok_or_else(|| self.no_consumer(key))?;
        let credential = CredentialRef::foreign(key, Some(principal.id));
        Ok(Step::Proven(Proof { principal, credential, identifier: Cow::Owned(key.to_owned()) }))
    }

    fn no_consumer(&self, key: &str) -> Refusal {
        Refusal::NoConsumer(format!("Could not find consumer for '{}={key}'", self.key_claim))
    }

    fn check_claims(&self, cx: &HeadCx<'_>, token: &Token<'_>, wanted: impl Fn(Claim) -> bool) -> Result<(), Refusal> {
        // 2^53 seconds are 285 million years.
        #[allow(clippy::cast_precision_loss, reason = "seconds since 1970")]
        let now = cx.services.clock.unix().seconds() as f64;
        let mut errors = Map::new();
        for claim in [Claim::Exp, Claim::Nbf].into_iter().filter(|claim| wanted(*claim)) {
            let name = claim_name(claim);
            let error = match (claim, token.claims.get(name).and_then(Value::as_f64)) {
                (_, None) => "must be a number",
                (Claim::Exp, Some(end)) if end <= now => "token expired",
                (Claim::Nbf, Some(start)) if start > now => "token not valid yet",
                _ => continue,
            };
            errors.insert(name.to_owned(), error.into());
        }
        if errors.is_empty() && self.expiration_max > 0.0 {
            let end = token.claims.get("exp").and_then(Value::as_f64);
            if end.is_none_or(|end| end - now > self.expiration_max) {
                errors.insert("exp".to_owned(), "exceeds maximum allowed expiration".into());
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(Refusal::Claims(errors)) }
    }
}

const fn claim_name(claim: Claim) -> &'static str {
    match claim {
        Claim::Exp => "exp",
        Claim::Nbf => "nbf",
    }
}
