//! Transforming a request: path, method, headers, body, query, in this order.

use std::sync::Arc;

use cardinal_http::{HeaderList, Method, RequestHead};
use cardinal_sdk::{BuildCx, BuildError, Filter, Flow, HeadCx, Phases, UpstreamRequest};
use serde_json::Value;

use super::arguments::Arguments;
use super::body::{self, Media};
use super::ops::{Ops, rendered};
use crate::template::{Environment, Template};

/// Longest body that is transformed; a longer one is answered with 413.
const BODY_MAX: u64 = 64 << 20;

struct RequestTransformer {
    uri: Option<Template>,
    method: Option<Method>,
    headers: Ops,
    query: Ops,
    body: Ops,
}

pub(super) fn build(config: &Value, _cx: &BuildCx<'_>) -> Result<Arc<dyn Filter>, BuildError> {
    let uri = config.pointer("/replace/uri").and_then(Value::as_str).map(Template::parse).transpose();
    let method = match config.get("http_method").and_then(Value::as_str) {
        None => None,
        Some(text) => Some(
            Method::parse(text.to_ascii_uppercase().as_bytes())
                .ok_or_else(|| BuildError::new("config.http_method", "is not a method"))?,
        ),
    };
    Ok(Arc::new(RequestTransformer {
        uri: uri.map_err(|reason| BuildError::new("config.replace.uri", reason))?,
        method,
        headers: Ops::read(config, "headers")?,
        query: Ops::read(config, "querystring")?,
        body: Ops::read(config, "body")?,
    }))
}

impl Filter for RequestTransformer {
    fn phases(&self) -> Phases {
        Phases::REQUEST
    }

    fn on_request_head<'a>(&'a self, cx: &'a mut HeadCx<'_>) -> Flow<'a> {
        if cx.body().is_none() && self.needs_body(&cx.request.headers) {
            return Flow::NeedBody { max: BODY_MAX };
        }
        let HeadCx { request, exchange, upstream, .. } = cx;
        // Expressions see the request as it came.
        let (headers, query) = (request.headers.clone(), request.query().map(<[u8]>::to_vec));
        let environment = Environment { headers: &headers, query: query.as_deref(), captures: &exchange.captures };
        match self.transform(request, upstream, &environment) {
            Ok(()) => Flow::Continue,
            Err(reason) => Flow::Fail(reason),
        }
    }
}

impl RequestTransformer {
    fn transform(
        &self,
        request: &mut RequestHead,
        upstream: &mut UpstreamRequest,
        environment: &Environment<'_>,
    ) -> Result<(), String> {
        if let Some(uri) = &self.uri {
            set_path(&uri.render(environment)?, request, upstream)?;
        }
        self.set_method(request, upstream);
        self.edit_headers(&mut request.headers, upstream, environment)?;
        self.edit_body(&request.headers, upstream, environment)?;
        if !self.query.is_empty() {
            let mut arguments = Arguments::parse(request.query().unwrap_or_default());
            arguments.apply(&self.query, environment)?;
            set_query(request, &arguments);
        }
        Ok(())
    }

    fn needs_body(&self, headers: &HeaderList) -> bool {
        let media = Media::of(headers);
        // A content type that is yet to be set may make the body one that can be transformed.
        let retyped = [&self.headers.rename, &self.headers.replace, &self.headers.add]
            .into_iter()
            .flatten()
            .any(|op| is_content_type(&op.name) || op.value.as_ref().is_some_and(|v| v.is_text(is_content_type)));
        let for_body = !self.body.is_empty() && (media.is_some() || retyped);
        for_body || (self.moves_form_to_query() && media == Some(Media::Form))
    }

    fn moves_form_to_query(&self) -> bool {
        matches!(self.method, Some(Method::Get | Method::Head | Method::Trace))
    }

    fn set_method(&self, request: &mut RequestHead, upstream: &UpstreamRequest) {
        let Some(method) = &self.method else { return };
        request.method = method.clone();
        if !self.moves_form_to_query() || Media::of(&request.headers) != Some(Media::Form) {
            return;
        }
        let form = Arguments::parse(upstream.body.as_deref().unwrap_or_default());
        if !form.is_empty() {
            let mut arguments = Arguments::parse(request.query().unwrap_or_default());
            arguments.extend(form);
            set_query(request, &arguments);
        }
    }

    fn edit_headers(
        &self,
        headers: &mut HeaderList,
        upstream: &mut UpstreamRequest,
        environment: &Environment<'_>,
    ) -> Result<(), String> {
        for op in self.headers.remove.iter().filter(|op| !is_host(&op.name)) {
            headers.remove(op.name.as_bytes());
        }
        for pair in rendered(&self.headers.rename, environment) {
            let (op, new) = pair?;
            if !is_host(op) && headers.contains(op.as_bytes()) {
                rename(headers, upstream, op, &new);
            }
        }
        for pair in rendered(&self.headers.replace, environment) {
            let (name, value) = pair?;
            if is_host(name) {
                set_host(upstream, &value);
            } else if headers.contains(name.as_bytes()) && !headers.set(name.as_bytes(), &value) {
                // What cannot be a header value must not leave the client's own in place.
                headers.remove(name.as_bytes());
            }
        }
        for pair in rendered(&self.headers.add, environment) {
            let (name, value) = pair?;
            if !is_host(name) && !headers.contains(name.as_bytes()) {
                headers.append(name.as_bytes(), &value);
            }
        }
        for pair in rendered(&self.headers.append, environment) {
            let (name, value) = pair?;
            if !is_host(name) {
                headers.append(name.as_bytes(), &value);
            }
        }
        Ok(())
    }

    fn edit_body(
        &self,
        headers: &HeaderList,
        upstream: &mut UpstreamRequest,
        environment: &Environment<'_>,
    ) -> Result<(), String> {
        if self.body.is_empty() {
            return Ok(());
        }
        let Some(media) = Media::of(headers) else { return Ok(()) };
        let body = upstream.body.as_deref().unwrap_or_default();
        if let Some(new) = body::transform(media, headers, body, &self.body, environment)? {
            upstream.body = Some(new.into());
        }
        Ok(())
    }
}

fn rename(headers: &mut HeaderList, upstream: &mut UpstreamRequest, old: &str, new: &[u8]) {
    if new.eq_ignore_ascii_case(b"host") {
        set_host(upstream, headers.get(old.as_bytes()).unwrap_or_default());
        headers.remove(old.as_bytes());
        return;
    }
    if !cardinal_http::is_token(new) {
        return;
    }
    if !new.eq_ignore_ascii_case(old.as_bytes()) {
        headers.remove(new);
    }
    headers.rename(old.as_bytes(), new);
}

/// Like a header, the Host is unchanged when the new value is invalid.
fn set_host(upstream: &mut UpstreamRequest, value: &[u8]) {
    if !upstream.set_host(value) {
        tracing::debug!(value = %value.escape_ascii(), "request-transformer: not a host, the request's Host is unchanged");
    }
}

fn is_host(name: &str) -> bool {
    name.eq_ignore_ascii_case("host")
}

fn is_content_type(name: &str) -> bool {
    name.eq_ignore_ascii_case("content-type")
}

/// Kong: `kong.service.request.set_path`. What follows `?` goes before the request's own query.
fn set_path(uri: &[u8], request: &mut RequestHead, upstream: &mut UpstreamRequest) -> Result<(), String> {
    if uri.first() != Some(&b'/') {
        return Err("config.replace.uri: path must start with /".to_owned());
    }
    let mut parts = uri.splitn(2, |b| *b == b'?');
    upstream.path.clear();
    for byte in parts.next().unwrap_or_default() {
        if byte.is_ascii_alphanumeric() || b"!$&'()*+,/:;=@[]-_.~%".contains(byte) {
            upstream.path.push(*byte);
        } else {
            upstream.path.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
    if let Some(query) = parts.next() {
        let mut whole = query.to_vec();
        if let Some(own) = request.query() {
            whole.push(b'&');
            whole.extend_from_slice(own);
        }
        request.set_query(Some(&whole));
    }
    Ok(())
}

fn set_query(request: &mut RequestHead, arguments: &Arguments) {
    let text = arguments.write();
    request.set_query(Some(text.as_slice()).filter(|text| !text.is_empty()));
}
