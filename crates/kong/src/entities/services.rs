//! Services: where requests go.

use cardinal_schema::{
    Field, Schema, array, boolean, conditional, field, foreign, integer, record, rules, shorthand, string, typedefs,
};
use serde_json::{Value, json};

use super::{Kind, base_fields, tags_field};

/// A service with this tag uses HTTP/2: by prior knowledge for `http`, negotiated with ALPN for `https`.
pub const TAG_UPSTREAM_HTTP2: &str = "upstream-http2";

/// A tag with this prefix allows clients of the service to switch to the protocol that follows, in addition to
/// `websocket`.
pub const TAG_UPGRADE_PROTOCOL: &str = "upgrade-protocol:";

/// The protocols of [`TAG_UPGRADE_PROTOCOL`], in lower case. `h2c` is none: by it requests would pass unseen. Nor is
/// anything else that is no name of a protocol.
pub fn upgrade_protocols<'a>(tags: impl Iterator<Item = &'a str>) -> Vec<Box<str>> {
    let named = tags.filter_map(|tag| tag.strip_prefix(TAG_UPGRADE_PROTOCOL)).map(str::to_ascii_lowercase);
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    named.filter(|name| name != "h2c" && !name.is_empty() && name.bytes().all(legal)).map(Into::into).collect()
}

pub(super) fn kind() -> Kind {
    Kind::new("services", schema()).key("name")
}

fn schema() -> Schema {
    record(base_fields())
        .with([
            field("name", typedefs::utf8_name().describe("Name of the service.")),
            field("retries", integer().default(5).between(0, 32_767).describe("Tries after the first one.")),
            field(
                "protocol",
                typedefs::protocol().required().default("http").describe(
                    "The protocol of the upstream: HTTP/1.1 for `http` and `https`, HTTP/2 for `grpc` and `grpcs`. With the tag \
                     `upstream-http2`, `http` is HTTP/2 by prior knowledge and `https` is negotiated with ALPN. Clients may \
                     switch to `websocket` with `Upgrade`, and with a tag such as `upgrade-protocol:spdy` to the protocol it \
                     names.",
                ),
            ),
            field("host", typedefs::host().required().describe("Host name, address, or name of an upstream.")),
            field("port", typedefs::port().required().default(80)),
            field("path", typedefs::path().describe("Prefix of the request's path.")),
            field("connect_timeout", timeout().describe("Milliseconds until connected.")),
            field("write_timeout", timeout().describe("Milliseconds between two writes.")),
            field("read_timeout", timeout().describe("Milliseconds between two reads.")),
            tags_field(),
            field("client_certificate", foreign("certificates").describe("Shown to the upstream.")),
            field("tls_verify", boolean().describe("Verify the upstream's certificate.")),
            field("tls_verify_depth", integer().between(0, 64).describe("Longest chain when verifying.")),
            field("ca_certificates", array(uuid()).describe("Ids of the authorities to verify against.")),
            field("enabled", boolean().required().default(true).describe("Routes of a disabled service do not exist.")),
        ])
        .check(conditional(
            "protocol",
            rules().one_of(["tcp", "tls", "udp", "grpc", "grpcs"]),
            "path",
            rules().eq(Value::Null),
        ))
        .check(tls_only("client_certificate"))
        .check(tls_only("tls_verify"))
        .check(tls_only("tls_verify_depth"))
        .check(tls_only("ca_certificates"))
        .shorthand(shorthand("url", string(), expand_url))
}

fn timeout() -> Field {
    integer().default(60_000).between(1, 2_147_483_646)
}

fn uuid() -> Field {
    let mut field = string();
    field.rules.uuid = true;
    field
}

fn tls_only(name: &'static str) -> cardinal_schema::Check {
    conditional("protocol", rules().not_one_of(["https", "tls"]), name, rules().eq(Value::Null))
}

/// `url` is a shorthand for protocol, host, port and path.
fn expand_url(url: &Value) -> Value {
    // Kong takes a null for the name that Lua has for it, which no service can be reached by.
    let text = url.as_str().unwrap_or("userdata: NULL");
    let parts = UrlParts::parse(text);
    let by_port = match parts.port {
        Some(80) => Some("http"),
        Some(443) => Some("https"),
        _ => None,
    };
    let protocol = parts.scheme.or(by_port).unwrap_or("http");
    let port = parts.port.unwrap_or(if protocol == "https" { 443 } else { 80 });
    json!({ "protocol": protocol, "host": parts.host, "port": port, "path": parts.path })
}

/// A URL taken apart as luasocket does: whatever is not there is `None`.
struct UrlParts<'t> {
    scheme: Option<&'t str>,
    host: Option<&'t str>,
    port: Option<u64>,
    path: Option<&'t str>,
}

impl<'t> UrlParts<'t> {
    fn parse(text: &'t str) -> Self {
        let text = text.split('#').next().unwrap_or_default();
        let is_scheme = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
        let (scheme, rest) = match text.split_once(':') {
            Some((scheme, rest)) if is_scheme(scheme) => (Some(scheme), rest),
            _ => (None, text),
        };
        let (authority, rest) = match rest.strip_prefix("//") {
            Some(rest) => {
                let end = rest.find(['/', '?']).unwrap_or(rest.len());
                (Some(&rest[..end]), &rest[end..])
            }
            None => (None, rest),
        };
        let path = rest.split('?').next().filter(|p| !p.is_empty());
        let authority = authority.map(|a| a.rsplit_once('@').map_or(a, |(_, a)| a));
        let (host, port) = match authority {
            None => (None, None),
            Some(a) => match a.rsplit_once(':') {
                Some((host, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
                    (Some(host), port.parse().ok())
                }
                _ => (Some(a.strip_suffix(':').unwrap_or(a)), None),
            },
        };
        let host = host.map(|h| h.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(h));
        Self { scheme, host: host.filter(|h| !h.is_empty()), port, path }
    }
}
