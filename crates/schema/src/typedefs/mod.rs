//! Ready-made types: Kong's `kong/db/schema/typedefs.lua`, `kong/tools/redis/schema.lua`,
//! `kong/tools/queue_schema.lua`.

mod net;
mod path;
mod records;

use serde_json::{Value, json};

pub use net::{HostKind, NetHost, is_ip, is_ip_or_cidr, normalize_host};
pub use path::{check_router_path_by, normalize_path};
pub use records::{queue, queue_flat_names, redis, redis_flat_names};

use crate::{Field, array, at_least_one_of, field, foreign, integer, map, number, record, set, string};

/// Protocols a service, route or plugin may be for.
pub const PROTOCOLS: [&str; 8] = ["grpc", "grpcs", "http", "https", "tcp", "tls", "tls_passthrough", "udp"];

/// The protocols that are served as HTTP.
pub const HTTP_PROTOCOLS: [&str; 4] = ["grpc", "grpcs", "http", "https"];

/// A method name in capitals.
pub fn http_method() -> Field {
    string().matches("^[A-Z]+$").describe("A method name in capital letters.")
}

/// A protocol.
pub fn protocol() -> Field {
    string().one_of(PROTOCOLS)
}

/// Protocols a plugin acts on; all HTTP ones by default.
pub fn protocols() -> Field {
    set(protocol()).required().default(json!(HTTP_PROTOCOLS)).describe("Protocols the plugin acts on.")
}

/// Protocols of a plugin that acts on HTTP only.
pub fn protocols_http() -> Field {
    let of = string().one_of(HTTP_PROTOCOLS);
    set(of).required().default(json!(HTTP_PROTOCOLS)).describe("Protocols the plugin acts on.")
}

/// A host name or address without port.
pub fn host() -> Field {
    string().shape(r"^[A-Za-z0-9._:\[\]-]+$").validate_str(net::check_host).describe("A host name or an IP address.")
}

/// A host name or address, perhaps with a port.
pub fn host_with_optional_port() -> Field {
    string().validate_str(net::check_host_with_port)
}

/// A host name, perhaps with `*` at one end.
pub fn wildcard_host() -> Field {
    string().validate_str(net::check_wildcard_host)
}

/// A TLS server name.
pub fn sni() -> Field {
    string().validate_str(net::check_sni).describe("A TLS server name.")
}

/// An IP address.
pub fn ip() -> Field {
    string().validate_str(net::check_ip)
}

/// An IP address or network (`10.0.0.0/8`).
pub fn ip_or_cidr() -> Field {
    string().validate_str(net::check_ip_or_cidr)
}

/// A port, 0 to 65535.
pub fn port() -> Field {
    integer().between(0, 65_535)
}

/// Milliseconds, 0 to 2^31-2.
pub fn timeout() -> Field {
    integer().between(0, 2_147_483_646)
}

/// A path of a URL.
pub fn path() -> Field {
    string().starts_with("/").match_none("//", "must not have empty segments").validate_str(path::check_path)
}

/// A path of a route: a prefix in normal form, or `~` and a regular expression.
pub fn router_path() -> Field {
    router_path_by(path::check_router_path)
}

/// [`router_path`] with another check, such as one that makes use of [`check_router_path_by`].
pub fn router_path_by(check: fn(&str) -> Result<(), String>) -> Field {
    string()
        .match_any(["^/", "^~/"], "should start with: / (fixed path) or ~/ (regex path)")
        .match_none("//", "must not have empty segments")
        .validate_str(check)
}

/// A host condition of a route: at most one `*`, as the first or last label; perhaps a port.
pub fn route_host() -> Field {
    string()
        .match_all(r"^[^*]*\*?[^*]*$", "invalid wildcard: must have at most one wildcard")
        .match_any([r"^\*\.", r"\.\*$", "^[^*]*$"], "invalid wildcard: must be placed at leftmost or rightmost label")
        .validate_str(net::check_route_host)
}

/// The name of a header.
pub fn header_name() -> Field {
    string().shape("^[A-Za-z0-9_-]+$").validate_str(check_header_name)
}

/// The name of a cookie: a token of RFC 2616.
pub fn cookie_name() -> Field {
    string().validate_str(check_token)
}

/// Header names and lists of values.
pub fn headers() -> Field {
    map(header_name(), array(string()))
}

/// A URL with scheme and host.
pub fn url() -> Field {
    string().validate_str(path::check_url).describe("A URL with scheme and host.")
}

/// An id: made when absent.
pub fn uuid() -> Field {
    let mut field = string().auto();
    field.rules.uuid = true;
    field
}

/// Seconds since the epoch, set by the program.
pub fn auto_timestamp_s() -> Field {
    let mut field = integer().auto();
    field.rules.timestamp = true;
    field
}

/// Seconds since the epoch with milliseconds, set by the program.
pub fn auto_timestamp_ms() -> Field {
    let mut field = number().auto();
    field.rules.timestamp = true;
    field
}

/// A unique name of letters, digits, `.`, `-`, `_`, `~`.
pub fn name() -> Field {
    string().unique().shape("^[A-Za-z0-9._~-]*$").validate_str(|text| {
        let ok = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-~".contains(&b));
        let message = "it must only contain alphanumeric and '., -, _, ~' characters";
        if ok { Ok(()) } else { Err(format!("invalid value '{text}': {message}")) }
    })
}

/// A unique name of letters, digits, `.`, `-`, `_`, `~`, and any letters beyond ASCII.
pub fn utf8_name() -> Field {
    string().unique().shape(r"^[^\u0000-,/:-@\[-^`{-}\u007f]*$").validate_str(|text| {
        let ok = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-~".contains(&b) || b >= 128);
        let message = "the only accepted ascii characters are alphanumerics or ., -, _, and ~";
        if ok { Ok(()) } else { Err(format!("invalid value '{text}': {message}")) }
    })
}

/// Bytes of a tag. Stores keep no longer ones.
const TAG_BYTES_MAX: usize = 1_024;

/// A tag.
pub fn tag() -> Field {
    string().required().shape(r"^[^\u0000-\u001f,/\u007f]*$").validate_str(|text| {
        let ok = text.bytes().all(|b| matches!(b, b' '..=b'+' | b'-' | b'.' | b'0'..=b'~' | 128..));
        if text.len() > TAG_BYTES_MAX {
            return Err(format!("a tag must not have more than {TAG_BYTES_MAX} bytes"));
        }
        let message = "expected printable ascii (except `,` and `/`) or valid utf-8 sequences";
        if ok { Ok(()) } else { Err(format!("invalid tag '{text}': {message}")) }
    })
}

/// The tags of an entity.
pub fn tags() -> Field {
    set(tag()).describe("Labels for grouping and filtering.")
}

/// Addresses and ports, at least one of both each.
pub fn sources() -> Field {
    let of = record([field("ip", ip_or_cidr()), field("port", port())]);
    set(of.check(at_least_one_of(["ip", "port"])))
}

/// Names with snippets of Lua. They are accepted as text; which ones it understands is up to the plugin.
pub fn lua_code() -> Field {
    map(string(), string())
}

/// The plugin cannot be scoped to a consumer.
pub fn no_consumer() -> Field {
    foreign("consumers").eq_null()
}

/// The plugin cannot be scoped to a route.
pub fn no_route() -> Field {
    foreign("routes").eq_null()
}

/// The plugin cannot be scoped to a service.
pub fn no_service() -> Field {
    foreign("services").eq_null()
}

/// The plugin cannot be scoped to a consumer group.
pub fn no_consumer_group() -> Field {
    foreign("consumer_groups").eq_null()
}

fn check_header_name(text: &str) -> Result<(), String> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
        return Ok(());
    }
    Err(format!("bad header name '{text}', allowed characters are A-Z, a-z, 0-9, '_', and '-'"))
}

fn check_token(text: &str) -> Result<(), String> {
    let forbidden = |b: u8| b <= b' ' || b >= 127 || b"()<>@,;:\\\"/?={}[]".contains(&b);
    if !text.bytes().any(forbidden) {
        return Ok(());
    }
    Err("contains one or more invalid characters. ASCII control characters (0-31;127), space, tab and the characters \
         ()<>@,;:\\\"/?={}[] are not allowed."
        .to_owned())
}

/// `{ head: { tail: value } }` for a dotted path.
pub(crate) fn nest(path: &str, value: &Value) -> Value {
    match path.split_once('.') {
        None => json!({ path: value }),
        Some((head, tail)) => json!({ head: nest(tail, value) }),
    }
}
