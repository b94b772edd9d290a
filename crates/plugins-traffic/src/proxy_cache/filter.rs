//! Answering from the cache, and filling it.

use std::sync::Arc;

use bytes::Bytes;
use cardinal_base::Reservation;
use cardinal_http::{HeaderList, Method, Name, ResponseHead};
use cardinal_sdk::{
    BodyCx, BodyMode, BuildCx, BuildError, Chunk, Filter, FilterStep, Flow, HeadCx, Phases, Reply, ReplyBody,
    ResponseCx, Source,
};
use serde_json::Value;

use super::control::Directives;
use super::key::{Key, Vary, variant};
use super::media::Media;
use super::store::{Area, BODY_MAX, Entry, Stored, area};
use super::variants::{self, Names};

struct ProxyCache {
    area: Arc<Area>,
    statuses: Vec<u64>,
    methods: Vec<Box<str>>,
    types: Vec<Media>,
    ttl: u64,
    storage_ttl: Option<u64>,
    cache_control: bool,
    vary: Vary,
    tell_age: bool,
    tell_status: bool,
    tell_key: bool,
}

/// Result of the request phase.
struct Seen {
    status: Option<&'static str>,
    key: Option<Key>,
    /// Set when the response may be kept.
    lookup: Option<Lookup>,
    debug: bool,
    draft: Option<Draft>,
}

/// A lookup without a usable response.
struct Lookup {
    /// The key without the headers that `Vary` names.
    base: Key,
    /// Names in the `Vary` of earlier responses.
    names: Names,
    /// The request's fields, as they were then.
    headers: HeaderList,
}

/// A response on its way into the cache.
struct Draft {
    key: Key,
    base: Key,
    /// The request headers that it depends on.
    names: Names,
    stored: Stored,
    body: Vec<u8>,
    /// Memory for the body, of the node's budget.
    held: Reservation,
}

pub(super) fn build(config: &Value, cx: &BuildCx<'_>) -> Result<Arc<dyn Filter>, BuildError> {
    let flag = |field: &str| config.get(field).and_then(Value::as_bool).unwrap_or(false);
    let tell =
        |field: &str| config.pointer(&format!("/response_headers/{field}")).and_then(Value::as_bool) == Some(true);
    let dictionary = config.pointer("/memory/dictionary_name").and_then(Value::as_str).unwrap_or("kong_db_cache");
    if config.get("strategy").and_then(Value::as_str) != Some("memory") {
        return Err(BuildError::new("config.strategy", "only memory is supported"));
    }
    Ok(Arc::new(ProxyCache {
        area: area(&cx.services.shared, dictionary),
        statuses: items(config, "response_code").filter_map(Value::as_u64).collect(),
        methods: texts(config, "request_method").collect(),
        types: texts(config, "content_type").map(|text| Media::parse(&text)).collect(),
        ttl: config.get("cache_ttl").and_then(Value::as_u64).unwrap_or(300),
        storage_ttl: config.get("storage_ttl").and_then(Value::as_u64),
        cache_control: flag("cache_control"),
        vary: Vary {
            ignore_case: flag("ignore_uri_case"),
            arguments: texts(config, "vary_query_params").collect(),
            headers: texts(config, "vary_headers").collect(),
        },
        tell_age: tell("age"),
        tell_status: tell("X-Cache-Status"),
        tell_key: tell("X-Cache-Key"),
    }))
}

fn items<'c>(config: &'c Value, field: &str) -> impl Iterator<Item = &'c Value> {
    config.get(field).and_then(Value::as_array).into_iter().flatten()
}

fn texts(config: &Value, field: &str) -> impl Iterator<Item = Box<str>> {
    items(config, field).filter_map(Value::as_str).map(Into::into)
}

impl Filter for ProxyCache {
    fn phases(&self) -> Phases {
        Phases::REQUEST.and(Phases::RESPONSE).and(Phases::RESPONSE_BODY)
    }

    fn on_request_head<'a>(&'a self, cx: &'a mut HeadCx<'_>) -> Flow<'a> {
        let debug = cx.request.headers.contains(b"kong-debug");
        let seen = Seen { status: Some("Bypass"), key: None, lookup: None, debug, draft: None };
        let asked = Directives::of(&cx.request.headers);
        if !self.takes_request(cx, &asked) {
            cx.set_state(seen);
            return Flow::Continue;
        }
        let now = cx.services.clock.unix().seconds();
        let base = self.vary.key(cx);
        let (mut key, mut names, mut found) = (base, Names::new(), self.area.get(&base, now));
        if let Some(Entry::Varies(known)) = &found {
            names.extend(known.iter().cloned());
            key = variant(&base, &names, &cx.request.headers);
            found = self.area.get(&key, now);
        }
        let status = match found {
            Some(Entry::Response(stored)) if self.is_fresh(&stored, &asked, now) => {
                let mut reply = self.replay(&stored, &key, debug, now);
                if cx.request.method == Method::Head {
                    omit_body(&mut reply, &stored);
                }
                return Flow::reply(reply);
            }
            Some(Entry::Response(_)) => "Refresh",
            _ if self.cache_control && asked.only_if_cached => {
                cx.set_state(Seen { status: None, key: Some(key), ..seen });
                return Flow::reply(Reply::new(504));
            }
            _ => "Miss",
        };
        let lookup = Some(Lookup { base, names, headers: cx.request.headers.clone() });
        cx.set_state(Seen { status: Some(status), key: Some(key), lookup, ..seen });
        Flow::Continue
    }

    fn on_response_head<'a>(&'a self, cx: &'a mut ResponseCx<'_>) -> FilterStep<'a> {
        let now = cx.services.clock.unix().seconds();
        let lookup = match cx.state::<Seen>() {
            None => return FilterStep::Continue,
            Some(seen) => seen.lookup.take(),
        };
        let watched = lookup.is_some();
        let draft = lookup.and_then(|lookup| self.draft(cx, lookup, now));
        let without_body = *method_of(cx) == Method::Head
            || cx.response.status == 204
            || cx.response.headers.known(Name::ContentLength) == Some(b"0");
        let Some(seen) = cx.state::<Seen>() else { return FilterStep::Continue };
        if watched && draft.is_none() {
            seen.status = Some("Bypass");
        }
        if let Some(draft) = &draft {
            seen.key = Some(draft.key);
        }
        let (status, key, debug) = (seen.status, seen.key, seen.debug);
        match draft {
            Some(draft) if without_body => self.keep(draft),
            Some(draft) => {
                seen.draft = Some(draft);
                cx.want_body(BodyMode::Chunks);
            }
            None => {}
        }
        let headers = &mut cx.response.headers;
        if let Some(status) = status.filter(|_| self.tell_status || debug) {
            headers.set(b"X-Cache-Status", status.as_bytes());
        }
        if let Some(key) = key.filter(|_| self.tell_key || debug) {
            headers.set(b"X-Cache-Key", &key);
        }
        FilterStep::Continue
    }

    fn on_response_body(&self, cx: &mut BodyCx<'_>, chunk: &mut Chunk) {
        let promised = cx
            .response
            .headers
            .known(Name::ContentLength)
            .and_then(|text| std::str::from_utf8(text).ok()?.parse::<usize>().ok());
        let memory = &cx.services.memory;
        let Some(seen) = cx.state::<Seen>() else { return };
        let Some(mut draft) = seen.draft.take() else { return };
        let Draft { body, held, .. } = &mut draft;
        let fits = body.len() + chunk.data.len() <= BODY_MAX;
        let expected = if chunk.last { 0 } else { promised.unwrap_or(BODY_MAX) };
        // Where memory is short, the response passes and is not kept.
        if !fits || held.make_room(memory, body, chunk.data.len(), expected).is_err() {
            return;
        }
        draft.body.extend_from_slice(&chunk.data);
        if !chunk.last {
            seen.draft = Some(draft);
            return;
        }
        let complete = promised.is_none_or(|length| length == draft.body.len());
        if complete {
            self.keep(draft);
        }
    }
}

fn method_of<'c>(cx: &'c ResponseCx<'_>) -> &'c Method {
    &cx.request.method
}

impl ProxyCache {
    fn takes_request(&self, cx: &HeadCx<'_>, asked: &Directives) -> bool {
        let (method, headers) = (cx.request.method.as_str(), &cx.request.headers);
        let refuses = asked.no_store || asked.no_cache || headers.known(Name::Authorization).is_some();
        self.methods.iter().any(|wanted| **wanted == *method)
            && !(self.cache_control && refuses)
            // The body is not part of the key.
            && cx.body_length == Some(0)
            && headers.known(Name::Upgrade).is_none()
            && !headers.iter().any(|(name, _)| is_override(name))
    }

    fn is_fresh(&self, stored: &Stored, asked: &Directives, now: u64) -> bool {
        let age = now.saturating_sub(stored.at);
        if !self.cache_control {
            return age <= self.ttl;
        }
        let (age, ttl) = (i64::try_from(age).unwrap_or(i64::MAX), i64::try_from(stored.ttl).unwrap_or(i64::MAX));
        asked.max_age.is_none_or(|max| age <= max)
            && asked.max_stale.is_none_or(|max| age.saturating_sub(ttl) <= max)
            && asked.min_fresh.is_none_or(|min| ttl.saturating_sub(age) >= min)
    }

    fn replay(&self, stored: &Stored, key: &Key, debug: bool, now: u64) -> Reply {
        let mut headers = HeaderList::new();
        for (name, value) in stored.headers.iter().filter(|(name, _)| is_replayed(name)) {
            headers.append(name, value);
        }
        if self.tell_age || debug {
            headers.set(b"Age", itoa::Buffer::new().format(now.saturating_sub(stored.at)).as_bytes());
        }
        if self.tell_status || debug {
            headers.set(b"X-Cache-Status", b"Hit");
        }
        if self.tell_key || debug {
            headers.set(b"X-Cache-Key", key);
        }
        Reply { status: stored.status, headers, body: ReplyBody::Bytes(stored.body.clone()) }
    }

    /// What to keep of the response, if it may be kept.
    fn draft(&self, cx: &ResponseCx<'_>, lookup: Lookup, now: u64) -> Option<Draft> {
        let response = &*cx.response;
        if cx.source() != Source::Upstream || !self.is_kept(response) {
            return None;
        }
        let said = Directives::of(&response.headers);
        let mut ttl = self.ttl;
        if self.cache_control {
            ttl = said.ttl(&response.headers, now);
            if said.private || said.no_store || said.no_cache || ttl == 0 {
                return None;
            }
        }
        let Lookup { base, names, headers: seen } = lookup;
        let names = variants::union(&names, variants::names(response)?);
        if !variants::unchanged(&names, &seen, &cx.request.headers) {
            return None;
        }
        let key = if names.is_empty() { base } else { variant(&base, &names, &seen) };
        let headers = response.headers.iter().map(|(name, value)| (name.into(), value.into())).collect();
        let expires = now.saturating_add(self.storage_ttl.unwrap_or(ttl));
        let stored = Stored { status: response.status, headers, body: Bytes::new(), at: now, ttl, expires };
        Some(Draft { key, base, names, stored, body: Vec::new(), held: Reservation::default() })
    }

    /// Whether responses like this one are kept, going by status and type.
    fn is_kept(&self, response: &ResponseHead) -> bool {
        if !self.statuses.contains(&u64::from(response.status)) || is_for_one_client(response) {
            return false;
        }
        let mut types = response.headers.known_all(Name::ContentType);
        let Some(found) = types.next().filter(|text| !text.is_empty()) else { return false };
        if types.next().is_some() {
            return false;
        }
        let found = Media::parse(&String::from_utf8_lossy(found));
        self.types.iter().any(|range| range.includes(&found))
    }

    fn keep(&self, draft: Draft) {
        let Draft { key, base, names, stored, body, held: _held } = draft;
        if !names.is_empty() {
            self.area.put_names(&base, &names, stored.expires);
        }
        // Without what its vector has too much.
        self.area.put(&key, Stored { body: Bytes::from(body.into_boxed_slice()), ..stored });
    }
}

/// Request headers by which some frameworks take another method or path than those of the request line.
const OVERRIDES: [&[u8]; 5] =
    [b"x-http-method-override", b"x-http-method", b"x-method-override", b"x-original-url", b"x-rewrite-url"];

/// Whether a request header is one of [`OVERRIDES`]. Servers read `_` as `-`.
fn is_override(name: &[u8]) -> bool {
    let same = |(a, b): (&u8, &u8)| a.to_ascii_lowercase() == *b || (*a == b'_' && *b == b'-');
    OVERRIDES.iter().any(|known| known.len() == name.len() && name.iter().zip(*known).all(same))
}

/// Whether a response answers a condition, a range or a protocol change that one client asked for, or gives it a
/// session.
fn is_for_one_client(response: &ResponseHead) -> bool {
    matches!(response.status, ..200 | 206 | 304 | 412 | 416) || response.headers.contains(b"set-cookie")
}

/// Makes a reply one to a HEAD: of the length that the upstream's answer had.
fn omit_body(reply: &mut Reply, stored: &Stored) {
    let lengths = stored.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(b"content-length"));
    for (name, value) in lengths {
        reply.headers.append(name, value);
    }
    reply.body = ReplyBody::Omitted;
}

/// Whether a stored field is sent again: not those of the connection, not what other plugins count.
fn is_replayed(name: &[u8]) -> bool {
    let lower = name.to_ascii_lowercase();
    let dead: [&[u8]; 12] = [
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailers",
        b"transfer-encoding",
        b"upgrade",
        b"content-length",
        b"age",
        b"x-cache-status",
        b"x-cache-key",
    ];
    !dead.contains(&lower.as_slice()) && !lower.windows(19).any(|part| part == b"ratelimit-remaining")
}
