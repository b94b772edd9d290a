//! What `cors` does with requests and responses. Kong: `kong/plugins/cors/handler.lua`.

use std::sync::Arc;

use cardinal_http::{HeaderList, Method, is_value, list_contains};
use cardinal_sdk::{BuildCx, BuildError, Filter, FilterStep, Flow, HeadCx, Phases, Reply, ResponseCx};
use serde::Deserialize;
use serde_json::Value;

use super::origins::{Origins, Verdict};
use super::schema::METHODS;
use crate::parse_config;

const ALLOW_ORIGIN: &[u8] = b"Access-Control-Allow-Origin";
const ALLOW_CREDENTIALS: &[u8] = b"Access-Control-Allow-Credentials";
const REQUEST_METHOD: &[u8] = b"Access-Control-Request-Method";

#[derive(Deserialize)]
struct Config {
    origins: Option<Vec<Box<str>>>,
    headers: Option<Vec<String>>,
    exposed_headers: Option<Vec<String>>,
    methods: Option<Vec<String>>,
    max_age: Option<f64>,
    credentials: bool,
    private_network: bool,
    preflight_continue: bool,
    allow_origin_absent: bool,
}

struct Cors {
    origins: Origins,
    headers: Option<String>,
    exposed_headers: Option<String>,
    methods: String,
    max_age: Option<String>,
    credentials: bool,
    private_network: bool,
    preflight_continue: bool,
    allow_origin_absent: bool,
}

/// The response is to a preflight request and has its headers, or gets them from the upstream.
struct Preflight;

pub(super) fn build(config: &Value, _cx: &BuildCx<'_>) -> Result<Arc<dyn Filter>, BuildError> {
    let config: Config = parse_config(config)?;
    let origins = config.origins.unwrap_or_default();
    if let Some(origin) = origins.iter().find(|origin| !is_value(origin.as_bytes())) {
        return Err(BuildError::new("origins", format!("{origin:?} cannot stand in a header")));
    }
    Ok(Arc::new(Cors {
        origins: Origins::new(&origins).map_err(|error| BuildError::new("origins", error.to_string()))?,
        headers: joined("headers", config.headers)?,
        exposed_headers: joined("exposed_headers", config.exposed_headers)?,
        methods: config.methods.map_or_else(|| METHODS.join(","), |methods| methods.join(",")),
        max_age: config.max_age.map(|seconds| seconds.to_string()),
        credentials: config.credentials,
        private_network: config.private_network,
        preflight_continue: config.preflight_continue,
        allow_origin_absent: config.allow_origin_absent,
    }))
}

fn joined(field: &str, names: Option<Vec<String>>) -> Result<Option<String>, BuildError> {
    let Some(names) = names.filter(|names| !names.is_empty()) else { return Ok(None) };
    let text = names.join(",");
    if is_value(text.as_bytes()) { Ok(Some(text)) } else { Err(BuildError::new(field, "cannot stand in a header")) }
}

impl Filter for Cors {
    fn phases(&self) -> Phases {
        Phases::REQUEST.and(Phases::RESPONSE)
    }

    fn on_request_head<'a>(&'a self, cx: &'a mut HeadCx<'_>) -> Flow<'a> {
        let headers = &cx.request.headers;
        let is_preflight =
            cx.request.method == Method::Options && origin_of(headers).is_some() && headers.contains(REQUEST_METHOD);
        if !is_preflight {
            return Flow::Continue;
        }
        let answer = (!self.preflight_continue).then(|| self.answer(headers));
        cx.set_state(Preflight);
        answer.map_or(Flow::Continue, Flow::reply)
    }

    fn on_response_head<'a>(&'a self, cx: &'a mut ResponseCx<'_>) -> FilterStep<'a> {
        if cx.state::<Preflight>().is_some() {
            return FilterStep::Continue;
        }
        let origin = origin_of(&cx.request.headers);
        if origin.is_none() && !self.allow_origin_absent {
            return FilterStep::Continue;
        }
        self.write_origin(&mut cx.response.headers, origin);
        if let Some(names) = &self.exposed_headers {
            cx.response.headers.set(b"Access-Control-Expose-Headers", names.as_bytes());
        }
        FilterStep::Continue
    }
}

/// The origin of the request; empty for none.
fn origin_of(headers: &HeaderList) -> Option<&[u8]> {
    headers.get(b"Origin").filter(|origin| !origin.is_empty())
}

impl Cors {
    /// The answer to a preflight request.
    fn answer(&self, request: &HeaderList) -> Reply {
        let mut reply = Reply::new(200);
        let headers = &mut reply.headers;
        self.write_origin(headers, origin_of(request));
        let allowed = self.headers.as_deref().map(str::as_bytes);
        if let Some(names) = allowed.or_else(|| request.get(b"Access-Control-Request-Headers")) {
            headers.set(b"Access-Control-Allow-Headers", names);
        }
        headers.set(b"Access-Control-Allow-Methods", self.methods.as_bytes());
        if let Some(seconds) = &self.max_age {
            headers.set(b"Access-Control-Max-Age", seconds.as_bytes());
        }
        if self.private_network && request.get(b"Access-Control-Request-Private-Network") == Some(b"true") {
            headers.set(b"Access-Control-Allow-Private-Network", b"true");
        }
        reply
    }

    /// Sets the headers that allow the origin, and credentials.
    fn write_origin(&self, headers: &mut HeaderList, origin: Option<&[u8]>) {
        let caller = origin.and_then(|origin| std::str::from_utf8(origin).ok());
        if !matches!(self.origins, Origins::Any) {
            vary_by_origin(headers);
        }
        let any = match self.origins.judge(caller) {
            Verdict::Any => headers.set(ALLOW_ORIGIN, b"*"),
            Verdict::Only(allowed) => {
                headers.set(ALLOW_ORIGIN, allowed.as_bytes());
                false
            }
            Verdict::No => {
                headers.remove(ALLOW_ORIGIN);
                false
            }
        };
        if !self.credentials {
            return;
        }
        match origin {
            // With credentials, browsers do not accept `*`.
            Some(origin) if any => {
                vary_by_origin(headers);
                headers.set(ALLOW_ORIGIN, origin);
                headers.set(ALLOW_CREDENTIALS, b"true");
            }
            None if any => {}
            _ => drop(headers.set(ALLOW_CREDENTIALS, b"true")),
        }
    }
}

/// Caches must keep the answers to different callers apart.
fn vary_by_origin(headers: &mut HeaderList) {
    if !headers.get_all(b"Vary").any(|value| list_contains(value, b"Origin")) {
        headers.append(b"Vary", b"Origin");
    }
}
