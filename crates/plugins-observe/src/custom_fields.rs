//! `custom_fields_by_lua`: fields that a logger sets in its records, or removes from them.
//!
//! Kong runs a Lua chunk for each record. Here a chunk is `return` and one expression of [`cardinal_sdk::lua`], which
//! may call the functions below. Anything else is refused when the configuration is loaded.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use cardinal_sdk::lua::{Budget, Environment, Expression, Failure, Names, Value as Lua};
use cardinal_sdk::{BuildError, LogCx, log};
use serde_json::{Number, Value};

/// Query arguments looked at, as in Kong.
const ARGUMENTS_MAX: usize = 100;

/// What an expression may call, in the order of [`Function::ALL`].
const NAMES: Names = Names {
    tables: &[],
    empty_tables: &[],
    functions: &[
        "kong.request.get_header",
        "kong.request.get_method",
        "kong.request.get_path",
        "kong.request.get_raw_path",
        "kong.request.get_path_with_query",
        "kong.request.get_raw_query",
        "kong.request.get_query_arg",
        "kong.request.get_host",
        "kong.request.get_port",
        "kong.request.get_scheme",
        "kong.client.get_ip",
        "kong.client.get_forwarded_ip",
        "kong.response.get_header",
        "kong.response.get_status",
    ],
};

#[derive(Clone, Copy)]
enum Function {
    RequestHeader,
    Method,
    Path,
    RawPath,
    PathWithQuery,
    RawQuery,
    QueryArgument,
    Host,
    Port,
    Scheme,
    PeerIp,
    ClientIp,
    ResponseHeader,
    Status,
}

impl Function {
    const ALL: [Self; 14] = [
        Self::RequestHeader,
        Self::Method,
        Self::Path,
        Self::RawPath,
        Self::PathWithQuery,
        Self::RawQuery,
        Self::QueryArgument,
        Self::Host,
        Self::Port,
        Self::Scheme,
        Self::PeerIp,
        Self::ClientIp,
        Self::ResponseHeader,
        Self::Status,
    ];
}

/// Dotted paths and what they are set to; `nil` removes.
#[derive(Debug, Default)]
pub(crate) struct CustomFields {
    fields: Vec<(Box<str>, Expression)>,
    /// The second in which a failure was last logged.
    complained: AtomicU64,
}

impl CustomFields {
    /// From a logger's configuration.
    pub(crate) fn read(config: &Value) -> Result<Self, BuildError> {
        let chunks = config.get("custom_fields_by_lua").and_then(Value::as_object);
        let fields = chunks.into_iter().flatten().map(|(path, chunk)| {
            let chunk = chunk.as_str().unwrap_or_default();
            parse(chunk).map(|expression| (path.as_str().into(), expression)).map_err(|reason| {
                let message = format!(
                    "cannot run the chunk: {reason}: only 'return' with an expression of literals, operators, string \
                     functions and {} is supported; other Lua code does not run here",
                    NAMES.functions.join(", ")
                );
                BuildError::new(format!("config.custom_fields_by_lua.{path}"), message)
            })
        });
        Ok(Self { fields: fields.collect::<Result<_, _>>()?, complained: AtomicU64::new(0) })
    }

    /// The record of an exchange, with these fields, as one line of JSON without a line end.
    pub(crate) fn line(&self, cx: &LogCx<'_>) -> Vec<u8> {
        let mut line = Vec::with_capacity(2_048);
        if self.fields.is_empty() {
            log::write(cx, &mut line);
            return line;
        }
        let mut record = log::record(cx);
        let request = Request(cx);
        for (path, expression) in &self.fields {
            // A field that cannot be computed is removed: the purpose of the configuration may be to hide its value.
            let value = expression.evaluate(&request, &mut Budget::default()).map(json);
            let reason = value.as_ref().err().map(ToString::to_string);
            let set = log::set_field(&mut record, path, value.unwrap_or_default());
            if let Some(reason) = reason.or_else(|| set.err().map(|reason| reason.to_string())) {
                self.complain(cx, path, &reason);
            }
        }
        record.to_string().into_bytes()
    }

    /// The same, to be queued.
    pub(crate) fn entry(&self, cx: &LogCx<'_>) -> Bytes {
        self.line(cx).into()
    }

    /// At most once a second.
    fn complain(&self, cx: &LogCx<'_>, field: &str, reason: &str) {
        let now = cx.services.clock.unix().seconds();
        if self.complained.swap(now, Ordering::Relaxed) != now {
            tracing::error!(field, reason, "custom_fields_by_lua: a field cannot be set");
        }
    }
}

fn parse(chunk: &str) -> Result<Expression, String> {
    let chunk = chunk.trim().trim_end_matches(';').trim_end();
    let rest = chunk.strip_prefix("return").ok_or("it must start with 'return'")?;
    if rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
        return Err("it must start with 'return'".to_owned());
    }
    Expression::parse(if rest.trim().is_empty() { "nil" } else { rest }, &NAMES)
}

/// What `nil` sets, removes.
fn json(value: Lua<'_>) -> Option<Value> {
    match value {
        Lua::Nil => None,
        Lua::Boolean(value) => Some(value.into()),
        #[allow(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
        Lua::Number(number) if number.fract() == 0.0 && number.abs() < 9e15 => Some((number as i64).into()),
        Lua::Number(number) => Number::from_f64(number).map(Value::Number),
        Lua::Text(text) => Some(String::from_utf8_lossy(&text).into()),
    }
}

/// A request that is over.
struct Request<'r, 'x>(&'r LogCx<'x>);

impl Environment for Request<'_, '_> {
    fn index(&self, _table: usize, _key: &[u8]) -> Lua<'_> {
        Lua::Nil
    }

    fn call(&self, function: usize, arguments: &[Lua<'_>]) -> Result<Lua<'_>, Failure> {
        let cx = self.0;
        let (client, original) = (&cx.exchange.client, &cx.exchange.original);
        let name = || match arguments.first() {
            Some(Lua::Text(name)) => Ok(name),
            _ => Err(Failure("the name must be a string".into())),
        };
        let Some(function) = Function::ALL.get(function) else { return Ok(Lua::Nil) };
        Ok(match function {
            Function::RequestHeader => header(&cx.request.headers, name()?),
            Function::ResponseHeader => match cx.response {
                Some(response) => header(&response.headers, name()?),
                None => Lua::Nil,
            },
            Function::Method => Lua::text(original.method.as_str().as_bytes()),
            Function::Path => Lua::text(cx.path),
            Function::RawPath => Lua::text(original.target.split(|b| *b == b'?').next().unwrap_or_default()),
            Function::PathWithQuery => Lua::text(&*original.target),
            Function::RawQuery => Lua::text(cx.request.query().unwrap_or_default()),
            Function::QueryArgument => {
                let name = name()?;
                let query = cx.request.query().unwrap_or_default();
                match cardinal_http::query::arguments(query, ARGUMENTS_MAX).find(|(known, _)| *known == **name) {
                    None => Lua::Nil,
                    Some((_, None)) => Lua::Boolean(true),
                    Some((_, Some(value))) => Lua::text(value),
                }
            }
            Function::Host => Lua::text(original.host.as_bytes()),
            Function::Port => Lua::Number(client.local.port().into()),
            Function::Scheme => Lua::text(if client.tls.is_some() { &b"https"[..] } else { b"http" }),
            Function::PeerIp => Lua::text(client.peer.ip().to_canonical().to_string().into_bytes()),
            Function::ClientIp => Lua::text(client.ip.to_string().into_bytes()),
            Function::Status => cx.response.map_or(Lua::Nil, |response| Lua::Number(response.status.into())),
        })
    }
}

/// A field by its name, in which `_` matches `-`.
fn header<'h>(headers: &'h cardinal_http::HeaderList, name: &[u8]) -> Lua<'h> {
    match headers.get(name) {
        None if name.contains(&b'_') => {
            let dashed: Vec<u8> = name.iter().map(|byte| if *byte == b'_' { b'-' } else { *byte }).collect();
            Lua::optional(headers.get(&dashed))
        }
        found => Lua::optional(found),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::CustomFields;
    use crate::file_log;

    async fn set_to(chunk: &str) -> Value {
        let config = json!({"path": "/dev/null", "custom_fields_by_lua": {"found": chunk}});
        let mut bench = cardinal_sdk::testing::Bench::new(&file_log::PLUGIN, config.clone());
        bench.get("/a//%62?x=1&flag");
        bench.path = b"/a/b".to_vec();
        bench.header("X-Request-Id", "r1");
        let mut response = cardinal_http::ResponseHead::new(404);
        response.headers.append(b"X-Own", b"yes");
        let cx = cardinal_sdk::LogCx {
            request: &bench.request,
            response: Some(&response),
            exchange: &bench.exchange,
            path: &bench.path,
            services: &bench.services,
            slot: 0,
        };
        let line = CustomFields::read(&config).unwrap().line(&cx);
        let record: Value = serde_json::from_slice(&line).unwrap();
        assert!(record["request"]["uri"].is_string());
        record.get("found").cloned().unwrap_or(json!("removed"))
    }

    #[tokio::test]
    async fn fields_are_set_to_what_chunks_return() {
        for (chunk, expect) in [
            ("return 'a'", json!("a")),
            (" return \"a \\\"b\\\" \\\\ \\n\" ; ", json!("a \"b\" \\ \n")),
            ("return''", json!("")),
            ("return 5", json!(5)),
            ("return -0.5", json!(-0.5)),
            ("return true", json!(true)),
            ("return\tfalse", json!(false)),
            ("return nil", json!("removed")),
            ("return", json!("removed")),
            ("return kong.request.get_header('x-request-id') or 'none'", json!("r1")),
            ("return kong.request.get_header(\"X_Request_ID\") or \"none\"", json!("r1")),
            ("return kong.request.get_header('absent') or 'none'", json!("none")),
            ("return kong.request.get_method():lower() .. ' ' .. kong.request.get_path()", json!("get /a/b")),
            ("return kong.request.get_raw_path()", json!("/a//%62")),
            ("return kong.request.get_path_with_query()", json!("/a//%62?x=1&flag")),
            ("return kong.request.get_raw_query()", json!("x=1&flag")),
            ("return kong.request.get_query_arg('x')", json!("1")),
            ("return kong.request.get_query_arg('flag')", json!(true)),
            ("return kong.request.get_host() .. ':' .. kong.request.get_port()", json!("example.com:8000")),
            ("return kong.request.get_scheme()", json!("http")),
            ("return kong.client.get_ip() == kong.client.get_forwarded_ip()", json!(true)),
            ("return kong.response.get_header('x-own')", json!("yes")),
            ("return kong.response.get_status() >= 400 and 'failed' or 'fine'", json!("failed")),
            // What cannot be computed is removed.
            ("return kong.request.get_header('absent'):sub(1)", json!("removed")),
            ("return kong.request.get_header()", json!("removed")),
        ] {
            assert_eq!(set_to(chunk).await, expect, "{chunk}");
        }
    }

    #[test]
    fn code_is_refused_with_the_reason() {
        for (chunk, reason) in [
            ("return kong.client.get_consumer().username", "'kong.client.get_consumer' is not known"),
            ("return 'a", "a text without an end"),
            ("return 'a\\'", "a text without an end"),
            ("returnx", "must start with 'return'"),
            ("return5", "must start with 'return'"),
            ("return inf", "'inf' is not known"),
            ("local x = 1 return x", "must start with 'return'"),
            ("", "must start with 'return'"),
            ("return 1, 2", "unexpected ','"),
        ] {
            let config = json!({"custom_fields_by_lua": {"a.b": chunk}});
            let error = CustomFields::read(&config).unwrap_err();
            assert_eq!(error.path, "config.custom_fields_by_lua.a.b");
            assert!(error.message.contains(reason), "{chunk}: {error}");
            assert!(error.message.contains("other Lua code does not run here"), "{chunk}: {error}");
        }
    }
}
