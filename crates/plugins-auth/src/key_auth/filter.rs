//! What `key-auth` does with a request.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use cardinal_http::{HeaderList, eq_field_name};
use cardinal_sdk::{
    BuildCx, BuildError, CredentialEntry, CredentialId, CredentialRef, Directory, Filter, Flow, HeadCx, Phases, Reply,
};
use serde::Deserialize;
use serde_json::Value;

use super::body_form::{Encoding, Form, Found};
use super::entities::{KIND, is_expired};
use crate::access::{Gate, admit, challenge, parse_config};
use crate::query_values;

/// Bytes of body that are searched for a key.
const BODY_MAX: u64 = 1 << 20;

#[derive(Deserialize)]
struct Config {
    key_names: Vec<Box<str>>,
    hide_credentials: bool,
    anonymous: Option<Box<str>>,
    key_in_header: bool,
    key_in_query: bool,
    key_in_body: bool,
    run_on_preflight: bool,
    realm: Option<Box<str>>,
}

struct KeyAuth {
    gate: Gate,
    names: Vec<KeyName>,
    hide: bool,
    in_header: bool,
    in_query: bool,
    in_body: bool,
    challenge: Box<str>,
}

struct KeyName {
    name: Box<str>,
    /// The name as a header that is spelt with dashes: `api_key` also means `api-key`.
    dashed: Option<Box<str>>,
}

pub(super) fn build(config: &Value, _cx: &BuildCx<'_>) -> Result<Arc<dyn Filter>, BuildError> {
    let config: Config = parse_config(config)?;
    let names = config
        .key_names
        .into_iter()
        .map(|name| KeyName { dashed: name.contains('_').then(|| name.replace('_', "-").into()), name });
    Ok(Arc::new(KeyAuth {
        gate: Gate { anonymous: config.anonymous, run_on_preflight: config.run_on_preflight },
        names: names.collect(),
        hide: config.hide_credentials,
        in_header: config.key_in_header,
        in_query: config.key_in_query,
        in_body: config.key_in_body,
        challenge: challenge(config.realm.map_or("Key".to_owned(), |realm| format!("Key realm=\"{realm}\"")))?,
    }))
}

/// What the search for a key brought.
enum Search<'d> {
    /// The name it was found under, and the credential it names.
    Key(usize, Result<&'d Arc<CredentialEntry>, &'static str>),
    Refused(&'static str),
    NeedBody,
}

impl Filter for KeyAuth {
    fn phases(&self) -> Phases {
        Phases::REQUEST
    }

    fn owns_header(&self, name: &[u8]) -> bool {
        self.names.iter().any(|known| eq_field_name(known.name.as_bytes(), name))
    }

    fn on_request_head<'a>(&'a self, cx: &'a mut HeadCx<'_>) -> Flow<'a> {
        if self.gate.skips(cx) {
            return Flow::Continue;
        }
        let (at, credential) = match self.search(cx, cx.directory) {
            Search::NeedBody => return Flow::NeedBody { max: BODY_MAX },
            Search::Refused(why) => return self.refuse(cx, why),
            Search::Key(at, credential) => (at, credential),
        };
        if let (true, Some(name)) = (self.hide, self.names.get(at)) {
            self.strip(cx, name);
        }
        let entry = match credential {
            Ok(entry) if !is_expired(entry, || cx.services.clock.unix()) => entry,
            Ok(_) => return self.refuse(cx, "Unauthorized"),
            Err(why) => return self.refuse(cx, why),
        };
        let directory = cx.directory;
        match directory.principal(&entry.record.principal) {
            Some(principal) => admit(cx, principal, CredentialRef::of(entry), &CredentialId::of(entry)),
            None => self.refuse(cx, "Unauthorized"),
        }
    }
}

impl KeyAuth {
    fn refuse(&self, cx: &mut HeadCx<'_>, why: &'static str) -> Flow<'static> {
        self.gate.refuse(cx, || Reply::error(401, why).with_header("WWW-Authenticate", &self.challenge))
    }

    /// Kong's order: for each name header, query, body; a value that is not text is skipped.
    fn search<'d>(&self, cx: &HeadCx<'_>, directory: &'d Directory) -> Search<'d> {
        let encoding = if self.in_body { Encoding::of(&cx.request.headers) } else { None };
        let mut form: Option<Option<Form<'_>>> = None;
        for (at, name) in self.names.iter().enumerate() {
            let mut found = self.in_head(cx, name);
            if let (Found::Nothing, Some(encoding)) = (&found, &encoding) {
                let Some(body) = cx.body() else { return Search::NeedBody };
                let form = form.get_or_insert_with(|| Form::read(encoding, body));
                found = form.as_ref().map_or(Found::Nothing, |form| owned(form.find(&name.name)));
            }
            let key = match found {
                Found::Nothing | Found::NotText => continue,
                Found::Many => return Search::Refused("Duplicate API key found"),
                Found::One(key) => key,
            };
            if self.hide && encoding.is_some() && cx.body().is_none() {
                return Search::NeedBody;
            }
            if key.is_empty() {
                return Search::Key(at, Err("No API key found in request"));
            }
            let credential = std::str::from_utf8(&key).ok().and_then(|key| directory.credential(KIND, key));
            return Search::Key(at, credential.ok_or("Unauthorized"));
        }
        Search::Refused("No API key found in request")
    }

    fn in_head<'r>(&self, cx: &'r HeadCx<'_>, name: &KeyName) -> Found<'r> {
        let mut found = Found::Nothing;
        if self.in_header {
            found = in_headers(&cx.request.headers, &name.name);
            if let (Found::Nothing, Some(dashed)) = (&found, &name.dashed) {
                found = in_headers(&cx.request.headers, dashed);
            }
        }
        match (&found, cx.request.query()) {
            (Found::Nothing, Some(query)) if self.in_query => {
                Found::of(query_values::values(query, name.name.as_bytes()))
            }
            _ => found,
        }
    }

    /// Removes the key wherever it may stand.
    fn strip(&self, cx: &mut HeadCx<'_>, name: &KeyName) {
        if let Some(query) = cx.request.query()
            && query_values::values(query, name.name.as_bytes()).next().is_some()
        {
            let left = query_values::without(query, name.name.as_bytes());
            cx.request.set_query(left.as_deref());
        }
        cx.request.headers.remove(name.name.as_bytes());
        if let Some(dashed) = &name.dashed {
            cx.request.headers.remove(dashed.as_bytes());
        }
        if !self.in_body {
            return;
        }
        if let (Some(encoding), Some(body)) = (Encoding::of(&cx.request.headers), cx.body().cloned())
            && let Some(form) = Form::read(&encoding, &body)
            && form.find(&name.name) != Found::Nothing
        {
            cx.set_body(Bytes::from(form.without(&name.name)));
        }
    }
}

fn in_headers<'r>(headers: &'r HeaderList, name: &str) -> Found<'r> {
    Found::of(headers.get_all(name.as_bytes()).map(|value| Some(Cow::Borrowed(value))))
}

/// What a form lent must not outlive it.
fn owned(found: Found<'_>) -> Found<'static> {
    match found {
        Found::Nothing => Found::Nothing,
        Found::NotText => Found::NotText,
        Found::Many => Found::Many,
        Found::One(text) => Found::One(Cow::Owned(text.into_owned())),
    }
}
