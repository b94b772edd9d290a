//! Routes: what to match. The schema depends on the router flavor and on the route's protocols.

use cardinal_schema::{
    Check, CheckFailure, Errors, Field, Kind as FieldKind, Schema, boolean, conditional, conditional_at_least_one_of,
    custom, field, foreign, integer, record, rules, set, string, typedefs,
};
use serde_json::{Map, Value, json};

use super::{Kind, base_fields, tags_field};
use crate::pcre::PcreError;
use crate::settings::RouterFlavor;

pub(super) fn kind(schemas: &RouteSchemas) -> Kind {
    Kind::new("routes", schemas.base.clone()).key("name")
}

/// The schema of routes for each family of protocols.
#[derive(Clone, Debug)]
pub(super) struct RouteSchemas {
    base: Schema,
    http: Schema,
    stream: Schema,
    grpc: Schema,
}

impl RouteSchemas {
    pub(super) fn new(flavor: RouterFlavor) -> Self {
        let base = base(flavor);
        Self { http: http(&base, flavor), stream: stream(&base, flavor), grpc: grpc(&base, flavor), base }
    }

    /// The schema for the first protocol of the route that is known.
    pub(super) fn of(&self, route: &Map<String, Value>) -> Result<&Schema, Errors> {
        let none = Vec::new();
        let list = match route.get("protocols") {
            None => return Ok(&self.http),
            Some(Value::Null) => return Err(Errors::field("protocols", "required field missing")),
            Some(Value::Array(list)) => list,
            Some(_) => &none,
        };
        let names: Vec<&str> = match route.get("protocols") {
            Some(Value::String(name)) => vec![name],
            _ => list.iter().filter_map(Value::as_str).collect(),
        };
        let found = names.iter().find_map(|name| match *name {
            "http" | "https" => Some(&self.http),
            "grpc" | "grpcs" => Some(&self.grpc),
            "tcp" | "tls" | "udp" | "tls_passthrough" => Some(&self.stream),
            _ => None,
        });
        found.ok_or_else(|| {
            let first = match route.get("protocols") {
                Some(Value::String(name)) => name.clone(),
                _ => super::first_name(list),
            };
            Errors::field("protocols", format!("unknown type: {first}"))
        })
    }
}

fn base(flavor: RouterFlavor) -> Schema {
    let sni = if flavor == RouterFlavor::Traditional { typedefs::sni() } else { typedefs::wildcard_host() };
    let mut schema = record(base_fields())
        .with([
            field("name", typedefs::utf8_name().describe("Name of the route.")),
            field("protocols", protocols()),
            field(
                "https_redirect_status_code",
                integer()
                    .one_of([426, 301, 302, 307, 308])
                    .default(426)
                    .required()
                    .describe("Status of the reply when the request is clear text and the route wants TLS."),
            ),
            field("strip_path", boolean().required().default(true).describe("Take the matched prefix away.")),
            field("preserve_host", boolean().required().default(false).describe("Send the client's Host header.")),
            field("request_buffering", boolean().required().default(true)),
            field("response_buffering", boolean().required().default(true)),
            tags_field(),
            field("service", foreign("services").describe("Where matching requests go.")),
            field("snis", set(sni).describe("TLS server names to match.")),
            field("sources", typedefs::sources().describe("Peer addresses and ports to match.")),
            field("destinations", typedefs::sources().describe("Local addresses and ports to match.")),
            field("methods", set(typedefs::http_method()).describe("Methods to match.")),
            field("hosts", cardinal_schema::array(typedefs::route_host()).describe("Hosts to match.")),
            field("paths", cardinal_schema::array(path(flavor)).describe("Path prefixes, or `~` and a regex.")),
            field("headers", headers().describe("Headers to match: names and lists of values.")),
            field("regex_priority", integer().default(0).describe("Order among routes with regex paths.")),
            field("path_handling", string().default("v0").one_of(["v0", "v1"])),
        ])
        .check(
            conditional(
                "protocols",
                rules().elements(rules().not_one_of(["grpcs", "https", "tls", "tls_passthrough"])),
                "snis",
                rules().len_eq(0),
            )
            .message("'snis' can only be set when 'protocols' is 'grpcs', 'https', 'tls' or 'tls_passthrough'"),
        );
    if flavor == RouterFlavor::Expressions {
        schema = schema.with([
            field("expression", string().describe("The condition as an expression.")),
            field(
                "priority",
                integer()
                    .between(0, 70_368_744_177_663_f64)
                    .required()
                    .default(0)
                    .describe("Order among expressions: higher is tried first."),
            ),
        ]);
    }
    if flavor == RouterFlavor::Traditional { schema } else { schema.check(expression_check()) }
}

/// Kong checks regular expressions with PCRE, and its oldest router executes them with it too.
fn path(flavor: RouterFlavor) -> Field {
    match flavor {
        RouterFlavor::Traditional => typedefs::router_path_by(check_pcre_path),
        RouterFlavor::TraditionalCompatible | RouterFlavor::Expressions => typedefs::router_path(),
    }
}

/// Patterns that PCRE accepts and the matcher cannot execute are reported when the route is lowered.
fn check_pcre_path(text: &str) -> Result<(), String> {
    typedefs::check_router_path_by(text, |pattern| match crate::pcre::translate(pattern) {
        Ok(_) | Err(PcreError::Unsupported { .. }) => Ok(()),
        Err(error @ PcreError::Invalid { .. }) => Err(format!("invalid regex: '{pattern}' (PCRE returned: {error})")),
    })
}

fn protocols() -> Field {
    set(typedefs::protocol())
        .len_min(1)
        .required()
        .exclusive_subsets(&[&["http", "https"], &["tcp", "tls", "udp"], &["tls_passthrough"], &["grpc", "grpcs"]])
        .default(json!(["http", "https"]))
        .describe("Protocols the route serves.")
}

fn headers() -> Field {
    let mut of = typedefs::headers();
    if let FieldKind::Map(keys, _) = &mut of.kind {
        let plain = (**keys).clone();
        **keys = plain.match_none(
            "^[Hh][Oo][Ss][Tt]$",
            "cannot contain 'host' header, which must be specified in the 'hosts' attribute",
        );
    }
    of
}

/// What may be set together with an expression, and whether the expression parses. Kong: `validate_route`.
fn expression_check() -> Check {
    let fields = ["protocols", "snis", "sources", "destinations", "methods", "hosts", "paths", "headers"];
    let fields = fields.into_iter().chain(["id", "expression", "regex_priority", "priority"]);
    custom(fields, |route| {
        let empty = |name: &str| match route.get(name) {
            None | Some(Value::Null) => true,
            Some(Value::Array(list)) => list.is_empty(),
            Some(Value::Object(map)) => map.is_empty(),
            Some(_) => false,
        };
        let failed = |text: &str| Err(CheckFailure::Entity(format!("Router Expression failed validation: {text}")));
        let others = ["snis", "sources", "destinations", "methods", "hosts", "paths", "headers"];
        let others_empty = others.iter().all(|n| empty(n));
        let zero = |name: &str| route.get(name).and_then(Value::as_i64).unwrap_or(0) == 0;
        const FIELDS: &str =
            "'methods', 'hosts', 'paths', 'headers', 'snis', 'sources' or 'destinations' simultaneously";
        let Some(expression) = route.get("expression").and_then(Value::as_str) else {
            if !others_empty && !zero("priority") {
                return failed(&format!("cannot set 'priority' with {FIELDS}"));
            }
            let headers = route.get("headers").and_then(Value::as_object).into_iter().flatten();
            let mut without_values = headers.filter(|(_, v)| v.as_array().is_some_and(Vec::is_empty));
            return match without_values.next() {
                Some((name, _)) => failed(&format!("header '{name}' has no values")),
                None => Ok(()),
            };
        };
        if !others_empty {
            return failed(&format!("cannot set 'expression' with {FIELDS}"));
        }
        if !zero("regex_priority") {
            return failed("cannot set 'regex_priority' with 'expression' simultaneously");
        }
        let stream = ["tcp", "tls", "udp", "tls_passthrough"];
        let list = route.get("protocols").and_then(Value::as_array).cloned().unwrap_or_default();
        let is_stream = list.iter().filter_map(Value::as_str).any(|p| stream.contains(&p));
        let traffic = if is_stream { cardinal_ir::Traffic::Stream } else { cardinal_ir::Traffic::Http };
        match cardinal_route::expression::parse_for(expression, traffic) {
            Ok(_) => Ok(()),
            Err(e) => failed(&e.to_string()),
        }
    })
    .when_missing()
}

fn none(base: &Schema, name: &'static str, message: &'static str) -> Field {
    let field = base.field(name).cloned().unwrap_or_else(cardinal_schema::any);
    field.eq_null().message(message)
}

/// The fields of which one must be set, with `expression` where there is one.
fn one_of(flavor: RouterFlavor, fields: &[&'static str]) -> Vec<&'static str> {
    let more: &[&str] = if flavor == RouterFlavor::Expressions { &["expression"] } else { &[] };
    fields.iter().chain(more).copied().collect()
}

fn http(base: &Schema, flavor: RouterFlavor) -> Schema {
    let mut schema = base.clone();
    if flavor != RouterFlavor::Expressions {
        let of = |name, message| none(base, name, message);
        schema = schema
            .replace("sources", of("sources", "cannot set 'sources' when 'protocols' is 'http' or 'https'"))
            .replace(
                "destinations",
                of("destinations", "cannot set 'destinations' when 'protocols' is 'http' or 'https'"),
            );
    }
    let https = one_of(flavor, &["methods", "hosts", "headers", "paths", "snis"]);
    let http = one_of(flavor, &["methods", "hosts", "headers", "paths"]);
    schema.check(
        conditional_at_least_one_of("protocols", rules().contains("https"), https)
            .message("must set one of %s when 'protocols' is 'https'")
            .otherwise(rules().contains("http"), http, Some("must set one of %s when 'protocols' is 'http'")),
    )
}

fn stream(base: &Schema, flavor: RouterFlavor) -> Schema {
    let of = |name, message| none(base, name, message);
    base.clone()
        .replace(
            "methods",
            of("methods", "cannot set 'methods' when 'protocols' is 'tcp', 'tls', 'tls_passthrough' or 'udp'"),
        )
        .replace(
            "hosts",
            of("hosts", "cannot set 'hosts' when 'protocols' is 'tcp', 'tls', 'tls_passthrough' or 'udp'"),
        )
        .replace(
            "paths",
            of("paths", "cannot set 'paths' when 'protocols' is 'tcp', 'tls', 'tls_passthrough' or 'udp'"),
        )
        .replace(
            "headers",
            of("headers", "cannot set 'headers' when 'protocols' is 'tcp', 'tls', 'tls_passthrough' or 'udp'"),
        )
        .check(
            conditional_at_least_one_of(
                "protocols",
                rules().elements(rules().one_of(["tcp", "tls", "udp"])),
                one_of(flavor, &["sources", "destinations", "snis"]),
            )
            .message("must set one of %s when 'protocols' is 'tcp', 'tls' or 'udp'"),
        )
        .check(
            conditional_at_least_one_of(
                "protocols",
                rules().elements(rules().one_of(["tls_passthrough"])),
                one_of(flavor, &["snis"]),
            )
            .message("must set snis when 'protocols' is 'tls_passthrough'"),
        )
}

fn grpc(base: &Schema, flavor: RouterFlavor) -> Schema {
    let of = |name, message| none(base, name, message);
    let strip = boolean()
        .required()
        .default(false)
        .ne(true)
        .message("cannot set 'strip_path' when 'protocols' is 'grpc' or 'grpcs'");
    let mut schema = base
        .clone()
        .replace("strip_path", strip)
        .replace("methods", of("methods", "cannot set 'methods' when 'protocols' is 'grpc' or 'grpcs'"));
    if flavor != RouterFlavor::Expressions {
        schema = schema
            .replace("sources", of("sources", "cannot set 'sources' when 'protocols' is 'grpc' or 'grpcs'"))
            .replace(
                "destinations",
                of("destinations", "cannot set 'destinations' when 'protocols' is 'grpc' or 'grpcs'"),
            );
    }
    let grpcs = one_of(flavor, &["hosts", "headers", "paths", "snis"]);
    let grpc = one_of(flavor, &["hosts", "headers", "paths"]);
    schema.check(
        conditional_at_least_one_of("protocols", rules().contains("grpcs"), grpcs)
            .message("must set one of %s when 'protocols' is 'grpcs'")
            .otherwise(rules().contains("grpc"), grpc, Some("must set one of %s when 'protocols' is 'grpc'")),
    )
}
