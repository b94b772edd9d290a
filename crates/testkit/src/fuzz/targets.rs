//! The targets.

use std::sync::OnceLock;

use cardinal_kong::declarative::parse_bytes;
use cardinal_kong::{Registry, Settings, Source};
use cardinal_net::proxy_protocol::{self, Parsed};
use cardinal_plugins_auth::jwt;
use cardinal_route::{expression, normalize_path};
use cardinal_sdk::lua;

use super::{Target, h1, h2, hpack, identity, sniff, stream, trace};

/// All targets.
pub const TARGETS: &[&Target] = &[
    &DECLARATIVE,
    &EXPRESSION,
    &H1_BODY,
    &H1_HEAD,
    &H2_CONNECTION,
    &HPACK,
    &JWT,
    &LUA_EXPRESSION,
    &PATH_NORMALISER,
    &PROXY_PROTOCOL,
    &SNIFF,
    &SPIFFE_ID,
    &STREAM,
    &TRACE_CONTEXT,
    &TRUST_BUNDLE,
    &X509_SVID,
];

/// Heads of HTTP/1.1 messages.
pub const H1_HEAD: Target = Target { name: "h1_head", seeds: h1::HEADS, iterations: 20_000, check: h1::check_head };

/// Chunked bodies of HTTP/1.1 messages.
pub const H1_BODY: Target = Target { name: "h1_body", seeds: h1::BODIES, iterations: 20_000, check: h1::check_body };

/// Connections of HTTP/2.
pub const H2_CONNECTION: Target =
    Target { name: "h2_connection", seeds: h2::CONNECTIONS, iterations: 10_000, check: h2::check_connection };

/// Header blocks of HTTP/2.
pub const HPACK: Target =
    Target { name: "hpack", seeds: hpack::BLOCKS, iterations: 20_000, check: hpack::check_blocks };

/// First bytes of connections, from which the protocol is told.
pub const SNIFF: Target =
    Target { name: "sniff", seeds: sniff::FIRST_BYTES, iterations: 10_000, check: sniff::check_first_bytes };

/// SPIFFE IDs.
pub const SPIFFE_ID: Target =
    Target { name: "spiffe_id", seeds: identity::IDS, iterations: 60_000, check: identity::check_id };

/// Messages of the configuration stream.
pub const STREAM: Target =
    Target { name: "stream", seeds: stream::MESSAGES, iterations: 3_000, check: stream::check_messages };

/// SPIFFE bundles.
pub const TRUST_BUNDLE: Target =
    Target { name: "trust_bundle", seeds: identity::BUNDLES, iterations: 10_000, check: identity::check_bundle };

/// Trace contexts in request headers.
pub const TRACE_CONTEXT: Target =
    Target { name: "trace_context", seeds: trace::HEADERS, iterations: 40_000, check: trace::check_context };

/// X.509-SVIDs, CA certificates and certificate signing requests.
pub const X509_SVID: Target =
    Target { name: "x509_svid", seeds: identity::CERTIFICATES, iterations: 3_000, check: identity::check_certificate };

/// Headers of the PROXY protocol.
pub const PROXY_PROTOCOL: Target = Target {
    name: "proxy_protocol",
    seeds: &[
        b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\nGET / HTTP/1.1\r\n",
        b"PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n",
        b"PROXY UNKNOWN ffff:f...f:ffff 65535\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc6\x33\x64\x07\xdc\x04\x01\xbbrest",
        b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x27\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02\0\x01\0\x02\x04\0\0",
    ],
    iterations: 60_000,
    check: check_proxy_protocol,
};

fn check_proxy_protocol(input: &[u8]) {
    let Ok(Parsed::Complete(used, header)) = proxy_protocol::parse(input) else { return };
    assert!(used <= input.len());
    assert_eq!(proxy_protocol::parse(&input[..used]), Ok(Parsed::Complete(used, header)), "nothing after it counts");
    for end in 0..used {
        assert_eq!(proxy_protocol::parse(&input[..end]), Ok(Parsed::Partial), "cut at {end}");
    }
}

/// Paths of requests.
pub const PATH_NORMALISER: Target = Target {
    name: "path_normaliser",
    seeds: &[b"/", b"/a/b/../c/./d//e/", b"/%41%2f%2E%2e/x%20y%zz%", b"/a%252fb/..%2f../...", b"a/../../b", b""],
    iterations: 60_000,
    check: check_path,
};

fn check_path(input: &[u8]) {
    let normal = normalize_path(input);
    assert!(normal.len() <= input.len(), "it only gets shorter");
    assert!(
        !normal.windows(2).any(|pair| pair == b"//"),
        "slashes are merged: {:?}",
        normal.escape_ascii().to_string()
    );
    let climbs = normal.split(|byte| *byte == b'/').any(|segment| segment == b"." || segment == b"..");
    assert!(!climbs, "no dot segment stays: {:?}", normal.escape_ascii().to_string());
    if input.starts_with(b"/") {
        assert!(normal.starts_with(b"/"), "an absolute path stays one");
    }
}

/// Route expressions.
pub const EXPRESSION: Target = Target {
    name: "expression",
    seeds: &[
        br##"http.method == "GET" && (http.path ^= "/a" || http.path ~ r#"^/b/\d+$"#)"##,
        br#"!(any(lower(http.headers.x_a)) contains "b") && net.src.ip in 10.0.0.0/8"#,
        br#"http.path.segments.0_1 == "a/b" && tls.sni =^ ".example.com" && net.dst.port >= 0x50"#,
        br#"http.queries.a[*] not in ["x"] || http.path == "\"\\""#,
    ],
    iterations: 30_000,
    check: check_expression,
};

fn check_expression(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Err(error) = expression::parse(text) {
        assert!(error.offset <= text.len());
        assert!(error.line >= 1 && error.column >= 1, "{error}");
        assert!(text.is_char_boundary(error.offset), "{error}");
    }
}

/// Expressions in templates and log fields.
pub const LUA_EXPRESSION: Target = Target {
    name: "lua_expression",
    seeds: &[
        br#"(headers.authorization ~= nil and headers.authorization:sub(1, 9) ~= 'Bearer k_') or headers["apikey"]"#,
        br#"headers.a:match("^(%a+)%s-=()[^%]%d-x]*%b()%f[%w].?%1$") .. tostring(not nil == #'\x41\65' >= 0x1F)"#,
        br#"string.gsub(headers.a, '(.)(%w*)', '%2%%%1', 3):rep(2 ^ 3 % 4, ','):find('+', -1, true)"#,
        br#"call(headers[1 .. 'x'], tonumber('z', 36), -1 < 2 and type(shared.a.b):upper() == 'NIL')"#,
        b"headers.a:find(headers.b) or headers.b:gsub(headers.a, headers.c)",
    ],
    iterations: 20_000,
    check: check_lua_expression,
};

/// Tables with values that are patterns, too.
struct LuaValues;

impl lua::Environment for LuaValues {
    fn index(&self, _table: usize, key: &[u8]) -> lua::Value<'_> {
        match key {
            b"a" => lua::Value::text(&b"a = (b) [c] %d 2024-01-02 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"[..]),
            b"b" => lua::Value::text(&b"(a*)(.-)%1[^b-]+%f[%s]()"[..]),
            b"c" => lua::Value::Number(-0.5),
            _ => lua::Value::Nil,
        }
    }

    fn call(&self, _function: usize, arguments: &[lua::Value<'_>]) -> Result<lua::Value<'_>, lua::Failure> {
        Ok(lua::Value::Boolean(arguments.is_empty()))
    }
}

fn check_lua_expression(input: &[u8]) {
    const NAMES: lua::Names = lua::Names { tables: &["headers"], empty_tables: &["shared"], functions: &["call"] };
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok((expression, rest)) = lua::Expression::parse_prefix(text, &NAMES) else { return };
    assert!(text.ends_with(rest));
    let once = expression.evaluate(&LuaValues, &mut lua::Budget::default());
    let again = expression.evaluate(&LuaValues, &mut lua::Budget::default());
    match (once, again) {
        (Ok(lua::Value::Number(one)), Ok(lua::Value::Number(two))) => assert_eq!(one.to_bits(), two.to_bits()),
        (one, two) => {
            assert_eq!(one, two);
            if let Ok(value) = one {
                let mut out = Vec::new();
                value.write(&mut out);
                assert!(out.len() <= 256 << 10, "{}", out.len());
            }
        }
    }
}

/// JSON web tokens.
pub const JWT: Target = Target {
    name: "jwt",
    seeds: &[
        b"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJhIiwiZXhwIjoxNzAwMDAwMDAwfQ.c2lnbmF0dXJl",
        b"eyJhbGciOiJub25lIn0.e30.",
        b"e30.e30.e30",
        b"..",
    ],
    iterations: 60_000,
    check: check_jwt,
};

fn check_jwt(input: &[u8]) {
    let Ok(token) = jwt::parse(input) else { return };
    assert!(input.len() <= jwt::TOKEN_MAX);
    assert!(input.starts_with(token.signed), "what is signed is what was sent");
    assert_eq!(token.signed.iter().filter(|byte| **byte == b'.').count(), 1);
}

/// Declarative files: reading, checking and lowering.
pub const DECLARATIVE: Target = Target {
    name: "declarative",
    seeds: &[
        br#"_format_version: "3.0"
services:
- name: a
  url: http://127.0.0.1:80/p
  routes:
  - name: b
    paths: ["/x", "~/y/\\d+$"]
    hosts: ["*.example.com"]
consumers:
- username: c
  keyauth_credentials:
  - key: k
plugins:
- name: key-auth
  config: {key_names: [apikey]}
"#,
        br#"{"_format_version":"1.1","_transform":false,"upstreams":[{"name":"u","targets":[{"target":"a:1","weight":1}]}]}"#,
        b"_format_version: \"2.1\"\nroutes: [{paths: [\"/a(\"], service: {name: nobody}}]\nx: &a [*a]\n",
        b"a: &a {b: 1}\nc: {<<: *a}\n---\nd: !!binary x\n",
    ],
    iterations: 1_500,
    check: check_declarative,
};

fn check_declarative(input: &[u8]) {
    static NODE: OnceLock<(Registry, Settings)> = OnceLock::new();
    let (registry, settings) =
        NODE.get_or_init(|| (Registry::new(cardinal_plugins_auth::PLUGINS), Settings::default()));
    let parsed = parse_bytes(input);
    let Ok(text) = std::str::from_utf8(input) else {
        assert!(parsed.is_err(), "what is not UTF-8 is no file");
        return;
    };
    match cardinal_kong::load(&[Source::new("fuzz.yaml", text)], registry, settings) {
        Ok(snapshot) => {
            let (ir, ..) = cardinal_kong::lower(&snapshot, registry, settings);
            assert!(ir.verify().is_empty(), "what is lowered is sound: {:?}", ir.verify());
        }
        Err(errors) => {
            assert!(!errors.render().is_empty(), "a refusal says why");
            assert!(errors.to_kong_json(true)["message"].is_string());
        }
    }
}
