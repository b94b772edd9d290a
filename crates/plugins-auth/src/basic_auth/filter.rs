//! What `basic-auth` does with a request.

use std::sync::Arc;

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use cardinal_http::{HeaderList, trim};
use cardinal_sdk::{
    BuildCx, BuildError, CredentialEntry, CredentialRef, Directory, Filter, Flow, HeadCx, Phases, Reply,
};
use serde::Deserialize;
use serde_json::Value;

use super::entities::{KIND, is_password};
use crate::access::{Gate, admit, challenge, parse_config};

const PROXY_AUTHORIZATION: &[u8] = b"Proxy-Authorization";
const AUTHORIZATION: &[u8] = b"Authorization";

/// As lenient as nginx is about padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

#[derive(Deserialize)]
struct Config {
    anonymous: Option<Box<str>>,
    hide_credentials: bool,
    realm: Box<str>,
}

struct BasicAuth {
    gate: Gate,
    hide: bool,
    challenge: Box<str>,
}

pub(super) fn build(config: &Value, _cx: &BuildCx<'_>) -> Result<Arc<dyn Filter>, BuildError> {
    let config: Config = parse_config(config)?;
    Ok(Arc::new(BasicAuth {
        gate: Gate { anonymous: config.anonymous, run_on_preflight: true },
        hide: config.hide_credentials,
        challenge: challenge(format!("Basic realm=\"{}\"", config.realm))?,
    }))
}

impl Filter for BasicAuth {
    fn phases(&self) -> Phases {
        Phases::REQUEST
    }

    fn on_request_head<'a>(&'a self, cx: &'a mut HeadCx<'_>) -> Flow<'a> {
        if self.gate.skips(cx) {
            return Flow::Continue;
        }
        let directory = cx.directory;
        let principal_of = |entry: &'a Arc<CredentialEntry>| directory.principal(&entry.record.principal);
        match self.account(cx, directory).and_then(|entry| Some((entry, principal_of(entry)?))) {
            Some((entry, principal)) => admit(cx, principal, CredentialRef::of(entry), entry.lookup()),
            None => self
                .gate
                .refuse(cx, || Reply::error(401, "Unauthorized").with_header("WWW-Authenticate", &self.challenge)),
        }
    }
}

impl BasicAuth {
    /// The account that the request proves to have. `Authorization` counts only when `Proxy-Authorization` names no
    /// account.
    fn account<'d>(&self, cx: &mut HeadCx<'_>, directory: &'d Directory) -> Option<&'d Arc<CredentialEntry>> {
        let headers = &mut cx.request.headers;
        let mut login = self.login(headers, PROXY_AUTHORIZATION);
        let mut entry = login.as_ref().and_then(|login| directory.credential(KIND, login.username()?));
        if entry.is_none() {
            login = self.login(headers, AUTHORIZATION);
            entry = login.as_ref().and_then(|login| directory.credential(KIND, login.username()?));
        }
        is_password(entry, login?.password()).then_some(entry).flatten()
    }

    /// User name and password of a header; the header is removed if it must not reach the upstream.
    fn login(&self, headers: &mut HeaderList, name: &[u8]) -> Option<Login> {
        let login = headers.get(name).and_then(Login::parse);
        if self.hide {
            headers.remove(name);
        }
        login
    }
}

/// `user:password`; the place of the colon.
struct Login(Vec<u8>, usize);

impl Login {
    /// Takes `Basic <base64>` apart. The scheme may be in any case, and spaces are not required.
    fn parse(header: &[u8]) -> Option<Self> {
        let (scheme, rest) = trim(header).split_at_checked(b"basic".len())?;
        if !scheme.eq_ignore_ascii_case(b"basic") {
            return None;
        }
        let decoded = BASE64.decode(trim(rest)).ok()?;
        let colon = memchr::memchr(b':', &decoded).filter(|at| *at > 0)?;
        Some(Self(decoded, colon))
    }

    fn username(&self) -> Option<&str> {
        std::str::from_utf8(self.0.get(..self.1)?).ok()
    }

    fn password(&self) -> &[u8] {
        self.0.get(self.1 + 1..).unwrap_or_default()
    }
}
