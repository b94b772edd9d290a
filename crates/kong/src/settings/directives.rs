//! Directives of nginx that Kong takes as settings: `nginx_<block>_<directive>`, put into a block of its nginx
//! configuration. The table maps those with an equivalent to settings of this program and gives the reason where there
//! is none, so that no limit is lost without a message.

use super::nginx::{self, Unknown};
use super::shapes;

/// Which block of nginx's configuration a value is written to, for precedence among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// `nginx_http_*`: the default of every server.
    Http,
    /// `nginx_proxy_*`, `nginx_location_*`: overrides the `http` block.
    Server,
    /// Given by the name of the setting itself, or in a block without a counterpart.
    Setting,
}

/// What a directive does here.
#[derive(Clone, Copy, Debug)]
pub(super) enum Meaning {
    /// Gives these settings these values.
    Settings(fn(&str) -> Result<Pairs, String>),
    /// Nothing to do: the reason.
    NoEffect(&'static str),
    /// Users would miss it: the reason, or what to use instead.
    Unsupported(&'static str),
}

/// Settings and their values.
pub(super) type Pairs = Vec<(&'static str, String)>;

/// One directive.
#[derive(Clone, Copy, Debug)]
pub(super) struct Directive {
    blocks: &'static [&'static str],
    name: &'static str,
    /// The settings it gives values to; empty where there are none.
    settings: &'static [&'static str],
    pub(super) meaning: Meaning,
}

const HTTP: &[&str] = &["http", "proxy", "location"];
const MAIN: &[&str] = &["main", ""];
const EVENTS: &[&str] = &["events"];
const UPSTREAM: &[&str] = &["upstream", "http_upstream"];
const STREAM: &[&str] = &["stream", "sproxy"];
const HTTP_STREAM: &[&str] = &["http", "proxy", "location", "stream", "sproxy"];
const LOGGED: &[&str] = &["main", "http", "proxy", "location", "stream", "sproxy"];
const BALANCED: &[&str] = &["upstream", "http_upstream", "supstream"];

/// A directive whose value is that of the setting.
macro_rules! same {
    ($blocks:expr, $name:literal => $setting:literal) => {
        Directive {
            blocks: $blocks,
            name: $name,
            settings: &[$setting],
            meaning: Meaning::Settings(|text| Ok(vec![($setting, text.to_owned())])),
        }
    };
}

/// A directive whose first parameter is the value of the setting.
macro_rules! first {
    ($blocks:expr, $name:literal => $setting:literal) => {
        Directive {
            blocks: $blocks,
            name: $name,
            settings: &[$setting],
            meaning: Meaning::Settings(|text| {
                Ok(vec![($setting, text.split_whitespace().next().unwrap_or_default().to_owned())])
            }),
        }
    };
}

const fn no_effect(blocks: &'static [&'static str], name: &'static str, why: &'static str) -> Directive {
    Directive { blocks, name, settings: &[], meaning: Meaning::NoEffect(why) }
}

const fn unsupported(blocks: &'static [&'static str], name: &'static str, why: &'static str) -> Directive {
    Directive { blocks, name, settings: &[], meaning: Meaning::Unsupported(why) }
}

/// All directives with an equivalent, or a reason of their own. The others that nginx has get one common reason.
const DIRECTIVES: &[Directive] = &[
    // Limits and timeouts of clients
    same!(HTTP, "client_max_body_size" => "client_max_body_size"),
    same!(HTTP, "client_body_timeout" => "client_body_timeout"),
    same!(HTTP, "client_header_timeout" => "client_head_timeout"),
    same!(HTTP, "send_timeout" => "client_send_timeout"),
    first!(HTTP, "keepalive_timeout" => "client_keepalive_timeout"),
    same!(HTTP, "keepalive_requests" => "client_keepalive_requests"),
    same!(HTTP, "http2_max_concurrent_streams" => "client_max_streams"),
    Directive {
        blocks: HTTP,
        name: "large_client_header_buffers",
        settings: &["client_max_head_size", "client_max_line_size"],
        meaning: Meaning::Settings(header_buffers),
    },
    no_effect(HTTP, "client_header_buffer_size", "the buffer grows as needed, up to client_max_head_size"),
    no_effect(HTTP, "client_body_buffer_size", "bodies are streamed; body_buffer_max limits what plugins buffer"),
    no_effect(HTTP, "http2_max_field_size", "obsolete in nginx; client_max_head_size applies to HTTP/2"),
    no_effect(HTTP, "http2_max_header_size", "obsolete in nginx; client_max_head_size applies to HTTP/2"),
    no_effect(HTTP, "http2_max_requests", "obsolete in nginx; client_keepalive_requests applies to HTTP/2"),
    same!(HTTP, "proxy_buffer_size" => "upstream_max_head_size"),
    // Client addresses
    same!(HTTP, "real_ip_header" => "real_ip_header"),
    same!(HTTP, "real_ip_recursive" => "real_ip_recursive"),
    same!(HTTP, "set_real_ip_from" => "trusted_ips"),
    // TLS
    same!(HTTP, "ssl_protocols" => "ssl_protocols"),
    Directive {
        blocks: HTTP,
        name: "ssl_ciphers",
        settings: &["ssl_ciphers"],
        meaning: Meaning::Settings(|text| {
            Ok(vec![("ssl_cipher_suite", "custom".to_owned()), ("ssl_ciphers", text.to_owned())])
        }),
    },
    same!(&["http", "location"], "ssl_verify_client" => "nginx_proxy_ssl_verify_client"),
    same!(&["http", "location"], "ssl_client_certificate" => "nginx_proxy_ssl_client_certificate"),
    unsupported(HTTP, "ssl_crl", "revocation lists are not read; a revoked client certificate is accepted"),
    unsupported(STREAM, "ssl_protocols", "listeners of streams use ssl_protocols"),
    unsupported(STREAM, "ssl_ciphers", "listeners of streams use ssl_cipher_suite and ssl_ciphers"),
    same!(STREAM, "ssl_handshake_timeout" => "client_handshake_timeout"),
    // Connections to upstreams
    same!(UPSTREAM, "keepalive" => "upstream_keepalive_pool_size"),
    same!(UPSTREAM, "keepalive_requests" => "upstream_keepalive_max_requests"),
    same!(UPSTREAM, "keepalive_timeout" => "upstream_keepalive_idle_timeout"),
    // The process
    same!(MAIN, "worker_shutdown_timeout" => "drain_timeout"),
    same!(EVENTS, "worker_connections" => "client_max_connections"),
    no_effect(MAIN, "worker_rlimit_nofile", "the soft limit of open files is raised to the hard limit at start"),
    no_effect(MAIN, "daemon", "the process stays in the foreground"),
    no_effect(MAIN, "user", "the process keeps the user that started it"),
    no_effect(MAIN, "pid", "no pid file is written"),
    // What users would miss
    unsupported(HTTP, "gzip", "responses are not compressed"),
    unsupported(HTTP, "limit_req", "use the plugin rate-limiting"),
    unsupported(HTTP, "limit_conn", "connections are limited by client_max_connections"),
    unsupported(HTTP, "limit_rate", "the rate of responses is not limited"),
    unsupported(HTTP, "allow", "use the plugin ip-restriction"),
    unsupported(HTTP, "deny", "use the plugin ip-restriction"),
    unsupported(HTTP, "auth_basic", "use the plugin basic-auth"),
    unsupported(HTTP, "add_header", "use the plugin response-transformer"),
    unsupported(HTTP, "more_set_headers", "use the plugin response-transformer"),
    unsupported(HTTP, "include", "files of nginx are not read"),
    unsupported(HTTP, "brotli", "responses are not compressed"),
    unsupported(HTTP, "proxy_bind", "the address for connections to upstreams cannot be set"),
    unsupported(HTTP, "ssl_early_data", "early data is not accepted"),
    unsupported(HTTP, "ssl_stapling", "OCSP responses are not stapled"),
    unsupported(HTTP, "auth_request", "no request is made to an authorization service"),
    unsupported(MAIN, "load_module", "modules of nginx are not loaded"),
    // Other settings, entities and plugins that do the same
    no_effect(LOGGED, "access_log", "use proxy_access_log"),
    no_effect(LOGGED, "error_log", "use proxy_error_log"),
    no_effect(HTTP_STREAM, "resolver", "use dns_resolver"),
    no_effect(HTTP_STREAM, "resolver_timeout", "lookups count for the service's connect_timeout"),
    no_effect(HTTP_STREAM, "listen", "use proxy_listen or stream_listen"),
    no_effect(HTTP, "http2", "use the flag http2 in proxy_listen"),
    no_effect(HTTP, "server_tokens", "use headers and server_identity"),
    no_effect(HTTP, "server_name", "use hosts of the route"),
    no_effect(
        HTTP,
        "error_page",
        "use error_template_json, error_template_html, error_template_plain or error_template_xml",
    ),
    no_effect(HTTP, "default_type", "error_default_type is the media type of errors"),
    no_effect(HTTP_STREAM, "return", "use the plugin request-termination"),
    no_effect(HTTP, "rewrite", "use the plugin request-transformer"),
    no_effect(HTTP, "limit_req_zone", "use the plugin rate-limiting"),
    no_effect(HTTP_STREAM, "limit_conn_zone", "connections are limited by client_max_connections"),
    no_effect(HTTP, "keepalive_time", "use client_keepalive_requests"),
    no_effect(HTTP, "http2_idle_timeout", "obsolete in nginx; client_keepalive_timeout applies to HTTP/2"),
    no_effect(HTTP, "http2_recv_timeout", "obsolete in nginx; client_head_timeout applies to HTTP/2"),
    no_effect(HTTP_STREAM, "proxy_connect_timeout", "use connect_timeout of the service"),
    no_effect(HTTP, "proxy_read_timeout", "use read_timeout of the service"),
    no_effect(HTTP, "proxy_send_timeout", "use write_timeout of the service"),
    no_effect(STREAM, "proxy_timeout", "use read_timeout and write_timeout of the service"),
    no_effect(HTTP_STREAM, "proxy_next_upstream", "use retries of the service"),
    no_effect(HTTP_STREAM, "proxy_next_upstream_tries", "use retries of the service"),
    no_effect(HTTP_STREAM, "proxy_next_upstream_timeout", "use retries of the service"),
    no_effect(HTTP_STREAM, "proxy_pass", "use the service"),
    no_effect(HTTP, "proxy_set_header", "use the plugin request-transformer"),
    no_effect(HTTP, "proxy_hide_header", "use the plugin response-transformer"),
    no_effect(HTTP, "proxy_cache", "use the plugin proxy-cache"),
    no_effect(HTTP, "proxy_cache_path", "use the plugin proxy-cache"),
    no_effect(HTTP, "proxy_cache_valid", "use the plugin proxy-cache"),
    no_effect(HTTP, "proxy_request_buffering", "use request_buffering of the route"),
    no_effect(HTTP, "proxy_buffering", "use response_buffering of the route"),
    no_effect(HTTP, "proxy_buffers", "responses are streamed; upstream_max_head_size limits their heads"),
    no_effect(HTTP, "proxy_busy_buffers_size", "responses are streamed"),
    no_effect(HTTP_STREAM, "proxy_ssl_verify", "use tls_verify of the service"),
    no_effect(HTTP_STREAM, "proxy_ssl_verify_depth", "use tls_verify_depth of the service"),
    no_effect(
        HTTP_STREAM,
        "proxy_ssl_trusted_certificate",
        "use lua_ssl_trusted_certificate, or ca_certificates of the service",
    ),
    no_effect(HTTP_STREAM, "proxy_ssl_certificate", "use client_certificate of the service"),
    no_effect(HTTP_STREAM, "proxy_ssl_certificate_key", "use client_certificate of the service"),
    no_effect(HTTP_STREAM, "ssl_certificate", "use ssl_cert"),
    no_effect(HTTP_STREAM, "ssl_certificate_key", "use ssl_cert_key"),
    no_effect(HTTP_STREAM, "ssl_prefer_server_ciphers", "the server's order is always used"),
    no_effect(HTTP_STREAM, "ssl_dhparam", "finite-field Diffie-Hellman is not supported"),
    no_effect(HTTP_STREAM, "ssl_session_cache", "sessions are resumed by tickets"),
    no_effect(HTTP_STREAM, "proxy_protocol", "use the flag proxy_protocol in proxy_listen or stream_listen"),
    no_effect(HTTP_STREAM, "tcp_nodelay", "it is always on"),
    no_effect(STREAM, "set_real_ip_from", "use trusted_ips"),
    no_effect(STREAM, "proxy_protocol_timeout", "use client_handshake_timeout"),
    no_effect(STREAM, "preread_timeout", "use client_handshake_timeout"),
    no_effect(BALANCED, "server", "use targets of the upstream"),
    no_effect(BALANCED, "hash", "use algorithm and hash_on of the upstream"),
    no_effect(BALANCED, "ip_hash", "use algorithm and hash_on of the upstream"),
    no_effect(BALANCED, "least_conn", "use algorithm of the upstream"),
    no_effect(BALANCED, "random", "use algorithm of the upstream"),
    no_effect(UPSTREAM, "keepalive_time", "use upstream_keepalive_max_requests"),
];

/// The directive of a setting `nginx_<block>_<directive>`, and the block's level.
pub(super) fn find(name: &str) -> Option<(Level, &'static Directive)> {
    let rest = name.strip_prefix("nginx_")?;
    DIRECTIVES.iter().find_map(|directive| {
        let is_in = |block: &&&str| match **block {
            "" => rest == directive.name,
            block => rest.strip_prefix(block).and_then(|r| r.strip_prefix('_')) == Some(directive.name),
        };
        directive.blocks.iter().find(is_in).map(|block| (level(block), directive))
    })
}

/// Why a setting `nginx_...` that is not in the table has no effect; or that nginx has no such directive, with the name
/// that was perhaps meant. `None` for a name of another form.
pub(super) fn unknown(name: &str) -> Option<Result<String, Option<String>>> {
    let (block, directive) = match nginx::classify(name, DIRECTIVES.iter().map(|directive| directive.name))? {
        Unknown::Directive { block, directive } => (block, directive),
        Unknown::Misspelt(near) => return Some(Err(near)),
    };
    let elsewhere = DIRECTIVES.iter().find(|known| known.name == directive && !known.settings.is_empty());
    Some(Ok(match (block, elsewhere) {
        ("admin" | "admin_gui", _) => {
            "the Admin API has limits of its own, and its console is not served by this version".to_owned()
        }
        ("status" | "debug", _) => "directives of this block are not supported".to_owned(),
        ("wasm", _) => "there is no Wasm runtime".to_owned(),
        (_, Some(known)) => {
            format!("the directive is not supported in this block: use {}", known.settings.join(" and "))
        }
        _ if directive.contains("lua") => "there is no Lua".to_owned(),
        _ => "no setting here corresponds to this directive of nginx".to_owned(),
    }))
}

fn level(block: &str) -> Level {
    match block {
        "http" => Level::Http,
        "proxy" | "location" => Level::Server,
        _ => Level::Setting,
    }
}

/// The names of the directives that give `setting` a value.
pub(super) fn spellings(setting: &str) -> impl Iterator<Item = String> {
    DIRECTIVES.iter().filter(move |d| d.settings.contains(&setting)).flat_map(spelled).filter(move |n| n != setting)
}

/// The names of a directive; those of rarely used blocks are left out.
fn spelled(directive: &Directive) -> impl Iterator<Item = String> {
    let blocks = directive.blocks.iter().filter(|block| !matches!(**block, "" | "location" | "http_upstream"));
    blocks.map(|block| format!("nginx_{block}_{}", directive.name))
}

/// `<number> <size>`: a request line fits into one buffer, a head into all of them.
fn header_buffers(text: &str) -> Result<Pairs, String> {
    let bad = || format!("expected a number of buffers and their size, such as 4 8k, not '{text}'");
    let (number, size) = text.split_once(char::is_whitespace).ok_or_else(bad)?;
    let number = number.parse::<u64>().ok().filter(|n| *n > 0).ok_or_else(bad)?;
    let size = shapes::size(size.trim())?;
    let all = number.checked_mul(size).ok_or_else(bad)?;
    Ok(vec![("client_max_head_size", all.to_string()), ("client_max_line_size", size.to_string())])
}
