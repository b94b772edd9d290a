//! The table of settings: one row each, which is also the manual.

/// What a value looks like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// `on` or `off`.
    Flag,
    /// A whole number within limits.
    Int(i64, i64),
    /// A number of bytes: `8k`, `10m`, `1g`.
    Size,
    /// A time in seconds: `60`, `500ms`, `1m`, `1d`.
    Time,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Free text.
    Text,
    /// Texts separated by commas.
    List,
    /// Addresses to listen on, with flags; or `off`.
    Listen,
}

/// Whether the setting does something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is supported.
    Served,
    /// Known, but this version cannot do it: a warning unless it is `off`.
    NotServed,
    /// Has no meaning in this program; accepted, so that files need not be changed.
    NoMeaning,
}

/// One setting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// Kong's name.
    pub name: &'static str,
    /// Another name for the same.
    pub alias: &'static str,
    /// What a value looks like.
    pub shape: Shape,
    /// The default value; empty is none.
    pub default: &'static str,
    /// Whether it does something.
    pub status: Status,
    /// What it does.
    pub text: &'static str,
}

const fn served(name: &'static str, shape: Shape, default: &'static str, text: &'static str) -> Row {
    Row { name, alias: "", shape, default, status: Status::Served, text }
}

const fn alias(alias: &'static str, row: Row) -> Row {
    Row { alias, ..row }
}

const fn not_served(name: &'static str, default: &'static str, text: &'static str) -> Row {
    Row { name, alias: "", shape: Shape::Text, default, status: Status::NotServed, text }
}

const fn no_meaning(name: &'static str, text: &'static str) -> Row {
    Row { name, alias: "", shape: Shape::Text, default: "", status: Status::NoMeaning, text }
}

/// A setting without meaning whose value must be one that Kong accepts: a mistake in it would show only there.
const fn checked(name: &'static str, shape: Shape, text: &'static str) -> Row {
    Row { shape, ..no_meaning(name, text) }
}

const MAX: i64 = i64::MAX;
const LEVELS: &[&str] = &["debug", "info", "notice", "warn", "error", "crit", "alert", "emerg"];

/// Why a setting of Kong Enterprise does nothing.
const ENTERPRISE: &str = "it belongs to Kong Enterprise";

/// Names that start so are known as a family.
pub const FAMILIES: &[(&str, &str)] = &[
    ("pg_", "this setting of Kong's PostgreSQL client does nothing here"),
    ("cluster_", "this setting of Kong's hybrid mode does nothing here"),
    ("wasm_", "there is no Wasm runtime"),
    ("cassandra_", "there is no database"),
    ("pluginserver_", "there are no plugin servers"),
    ("debug_ssl_cert", "Kong's debug listener is not served by this version"),
    ("admin_approved_email", ENTERPRISE),
    ("admin_auth", ENTERPRISE),
    ("admin_emails", ENTERPRISE),
    ("admin_gui_", ENTERPRISE),
    ("admin_invitation", ENTERPRISE),
    ("analytics_", ENTERPRISE),
    ("audit_log", ENTERPRISE),
    ("debug_listen", ENTERPRISE),
    ("event_hooks", ENTERPRISE),
    ("fallback_config_", ENTERPRISE),
    ("feature_conf", ENTERPRISE),
    ("fips", ENTERPRISE),
    ("keyring_", ENTERPRISE),
    ("konnect_", ENTERPRISE),
    ("license_", ENTERPRISE),
    ("portal", ENTERPRISE),
    ("rbac", ENTERPRISE),
    ("route_validation_strategy", ENTERPRISE),
    ("smtp_", ENTERPRISE),
    ("tracing_debug", ENTERPRISE),
    ("tracing_from", ENTERPRISE),
    ("tracing_time", ENTERPRISE),
    ("tracing_types", ENTERPRISE),
    ("tracing_write", ENTERPRISE),
    ("vault_aws_", ENTERPRISE),
    ("vault_azure_", ENTERPRISE),
    ("vault_conjur_", ENTERPRISE),
    ("vault_gcp_", ENTERPRISE),
    ("vault_hcv_", ENTERPRISE),
    ("vitals", ENTERPRISE),
];

/// All settings.
pub const TABLE: &[Row] = &[
    // Sockets
    served(
        "proxy_listen",
        Shape::Listen,
        "0.0.0.0:8000 reuseport backlog=16384, 0.0.0.0:8443 http2 ssl reuseport backlog=16384",
        "Addresses for HTTP: `<address>:<port>` with the flags `ssl`, `http2`, `proxy_protocol`, `reuseport`, \
         `backlog=N`, `deferred`, `bind`, `so_keepalive=...`, `ipv6only=...`; or `off`.",
    ),
    served(
        "stream_listen",
        Shape::Listen,
        "off",
        "Addresses for TCP, TLS and UDP: flags as `proxy_listen`, and `udp`; or `off`.",
    ),
    served("status_listen", Shape::Listen, "127.0.0.1:8007", "Addresses for `/status` and `/metrics`."),
    served(
        "port_maps",
        Shape::List,
        "",
        "`<outer>:<inner>`: the port that clients use, if a load balancer maps it to the listening port.",
    ),
    served(
        "admin_listen",
        Shape::Listen,
        "127.0.0.1:8001",
        "Addresses for the Admin API, with the flag `ssl` over TLS; or `off`. Without a database the API is read-only, except for `/config`.",
    ),
    served(
        "admin_version",
        Shape::Text,
        "3.9.3",
        "The version of Kong that the Admin API reports. Clients choose features by it.",
    ),
    served(
        "enforce_rbac",
        Shape::Word(&["on", "off", "entity", "both", "endpoint"]),
        "",
        "Role-based access control of the Admin API: `on` (or `endpoint`) enforces the rules of roles about endpoints, `entity` \
         those about entities, `both` both; `off`: every client may do everything. By default `off` where all addresses of \
         `admin_listen` are loopback addresses or there is no database, else `on`.",
    ),
    served(
        "password",
        Shape::Text,
        "",
        "The token of the user `kong_admin` with the role `super-admin`, who is created at the start if the database has no \
         users. Without it, `cardinal rbac bootstrap` creates the first user.",
    ),
    served(
        "admin_session_idle_timeout",
        Shape::Time,
        "900s",
        "How long after the last request a session of the Admin API ends.",
    ),
    served(
        "admin_session_absolute_timeout",
        Shape::Time,
        "43200s",
        "How long after the login a session of the Admin API ends.",
    ),
    not_served("admin_gui_listen", "off", "Addresses for the console."),
    served(
        "cluster_listen",
        Shape::Listen,
        "0.0.0.0:8005",
        "Addresses that data planes connect to, over mutual TLS. Served by control planes, and by other nodes with entities if it \
         is given.",
    ),
    // Configuration
    served(
        "database",
        Shape::Text,
        "",
        "Where entities are stored: `sqlite` (in the data directory), `postgres`, or `off` (they come from \
         `declarative_config`). By default `off` where files are given, else `sqlite`.",
    ),
    served("pg_host", Shape::Text, "127.0.0.1", "Host of the PostgreSQL server, or the directory of its Unix socket."),
    served("pg_port", Shape::Int(1, 65_535), "5432", "Port of the PostgreSQL server."),
    served("pg_user", Shape::Text, "kong", "User of the PostgreSQL database."),
    served("pg_password", Shape::Text, "", "Password of that user."),
    served("pg_database", Shape::Text, "kong", "Name of the PostgreSQL database."),
    served("pg_ssl", Shape::Flag, "off", "Connect to PostgreSQL over TLS."),
    served("pg_ssl_verify", Shape::Flag, "off", "Verify the certificate of the PostgreSQL server, with `pg_ssl`."),
    served(
        "store_key",
        Shape::Text,
        "",
        "The key that encrypts secrets in the database: `file:PATH`, `env:NAME` or `command:PROGRAM ARGUMENTS`; 32 bytes in \
         hexadecimal or base64. By default the file `store.key` in the data directory, which is created.",
    ),
    served(
        "history_retention",
        Shape::Int(0, 36_500),
        "0",
        "Days that changes are kept in the change log of the database; 0 is for ever.",
    ),
    served(
        "history_revisions_max",
        Shape::Int(0, 1_000_000_000),
        "0",
        "Revisions that are kept in the change log of the database at most; 0 is without a limit.",
    ),
    served("declarative_config", Shape::List, "", "Files to read entities from."),
    served("declarative_config_string", Shape::Text, "", "Entities as YAML or JSON text."),
    served(
        "router_flavor",
        Shape::Word(&["traditional_compatible", "traditional", "expressions"]),
        "traditional_compatible",
        "How routes are ordered, and whether they may be expressions.",
    ),
    served(
        "router_order",
        Shape::Word(&["kong", "documented"]),
        "kong",
        "The order of routes with plain fields in the flavors other than `traditional`: that of the running Kong, or \
         that of its documentation. `check` names the routes for which this matters.",
    ),
    served("plugins", Shape::List, "bundled", "Plugins to load: `bundled`, names, or `off`."),
    served("vaults", Shape::List, "bundled", "Vaults to load: `bundled`, `env`, `file`, or `off`."),
    served(
        "vault_file_dir",
        Shape::Text,
        "",
        "Directory of the `file` vault: each file is a secret; a file of JSON holds several.",
    ),
    served(
        "vault_env_prefix",
        Shape::Text,
        "",
        "Put in front of names of environment variables where neither the reference nor the entity of its `env` vault has \
         a prefix.",
    ),
    served(
        "role",
        Shape::Word(&["traditional", "control_plane", "data_plane"]),
        "traditional",
        "Role of the node: it keeps entities and serves traffic (`traditional`), keeps entities for data planes \
         (`control_plane`), or serves traffic as its control planes say (`data_plane`).",
    ),
    served(
        "cluster_control_plane",
        Shape::List,
        "",
        "Control planes of a data plane, as `host:port`. It is connected to one of them, and moves on when that fails.",
    ),
    served(
        "cluster_mtls",
        Shape::Word(&["shared", "pki"]),
        "shared",
        "How control planes and data planes know each other: all have the certificate `cluster_cert` (`shared`), or each has its \
         own, of the authority `cluster_ca_cert` (`pki`).",
    ),
    served(
        "cluster_cert",
        Shape::Text,
        "",
        "Certificate for connections between control planes and data planes: a file or PEM. Without it, control planes have an \
         authority of their own in the store, and data planes join by `cluster_join_token`.",
    ),
    served("cluster_cert_key", Shape::Text, "", "Private key of `cluster_cert`: a file or PEM."),
    served("cluster_ca_cert", Shape::Text, "", "Certificates of the authority for `cluster_mtls=pki`: a file or PEM."),
    served(
        "cluster_server_name",
        Shape::Text,
        "",
        "The name in the certificate of control planes, with `cluster_mtls=pki`; by default the host that is connected to.",
    ),
    served(
        "cluster_join_token",
        Shape::Text,
        "",
        "Lets a data plane join that has no certificate. `cardinal cluster token` makes one. It is needed once: the certificate \
         is kept in the data directory, and renewed.",
    ),
    served("cluster_dp_labels", Shape::List, "", "Labels of a data plane, as `name:value`, which control planes show."),
    not_served("cluster_ocsp", "off", "Revocation of the certificates of data planes."),
    no_meaning("cluster_telemetry_listen", "Data planes report over `cluster_listen`."),
    no_meaning("cluster_telemetry_endpoint", "Data planes report to `cluster_control_plane`."),
    no_meaning("cluster_telemetry_server_name", "Data planes report to `cluster_control_plane`."),
    not_served("cluster_use_proxy", "off", "A proxy for connections to control planes."),
    checked("cluster_data_plane_purge_delay", Shape::Time, "Data planes that left are remembered by the process."),
    checked("cluster_max_payload", Shape::Int(1, MAX), "Configurations are sent in parts, and changes alone."),
    checked("cluster_rpc", Shape::Flag, "There is one protocol, which sends changes."),
    served(
        "node_id",
        Shape::Text,
        "",
        "Id of the node, a UUID. When absent: generated and kept in the data directory; without one, made of the host name.",
    ),
    served(
        "secret_key",
        Shape::Text,
        "",
        "Key that references to secrets are derived with: a random text of at least 32 characters, best a reference to a \
         vault. Nodes with the same key and entities have the same `configuration_hash`. When absent: generated and kept in \
         the data directory; without one, generated at each start.",
    ),
    // TLS
    served("ssl_cert", Shape::List, "", "Default certificates: paths or PEM. Generated at the start if absent."),
    served("ssl_cert_key", Shape::List, "", "Their keys: paths or PEM."),
    served(
        "ssl_cipher_suite",
        Shape::Word(&["modern", "intermediate", "old", "fips", "custom"]),
        "intermediate",
        "Which TLS versions and ciphers are served: `modern` is TLS 1.3 only, `custom` takes `ssl_ciphers`. `old` and \
         `fips` are served as `intermediate`.",
    ),
    served("ssl_ciphers", Shape::Text, "", "Cipher suites by name, separated by `:`, for `custom`."),
    served("ssl_protocols", Shape::Text, "TLSv1.2 TLSv1.3", "TLS versions: `TLSv1.2`, `TLSv1.3`."),
    served(
        "nginx_proxy_ssl_verify_client",
        Shape::Word(&["off", "on", "optional"]),
        "off",
        "Request a certificate from clients.",
    ),
    served(
        "nginx_proxy_ssl_client_certificate",
        Shape::Text,
        "",
        "File of authorities that client certificates are verified against.",
    ),
    served(
        "lua_ssl_trusted_certificate",
        Shape::List,
        "system",
        "Authorities for upstream certificates: `system`, paths or PEM.",
    ),
    // Headers and client addresses
    served(
        "headers",
        Shape::List,
        "server_tokens, latency_tokens, X-Kong-Request-Id",
        "Headers added to responses: `server_tokens`, `latency_tokens`, single names, or `off`.",
    ),
    served(
        "server_identity",
        Shape::Word(&["cardinal", "kong"]),
        "cardinal",
        "Product that `Server` and `Via` name: `cardinal`, or `kong` (`kong/3.10.0`, for clients that look for it).",
    ),
    served(
        "request_trailers",
        Shape::List,
        "off",
        "Trailer fields of requests that are passed to upstreams, by name; or `off`: all are dropped. Fields of framing, \
         routing, authentication and identity cannot be named, nor can others whose names are made of the same words \
         (`user`, `token`, `cert`, `client`, `key`, ...).",
    ),
    served("headers_upstream", Shape::List, "X-Kong-Request-Id", "Headers added to upstream requests; or `off`."),
    served("trusted_ips", Shape::List, "", "Trusted proxies: peers whose forwarding headers are used."),
    served("real_ip_header", Shape::Text, "X-Real-IP", "Header with the client's address, or `proxy_protocol`."),
    served("real_ip_recursive", Shape::Flag, "off", "In a list, skip trusted addresses from the right."),
    served("allow_debug_header", Shape::Flag, "off", "Respond to `Kong-Debug: 1` with the names of route and service."),
    // Errors
    served(
        "error_default_type",
        Shape::Word(&["application/json", "application/xml", "text/html", "text/plain"]),
        "text/plain",
        "Media type of errors when the request has no `Accept` header.",
    ),
    served("error_template_html", Shape::Text, "", "File with the HTML error page."),
    served("error_template_json", Shape::Text, "", "File with the JSON error."),
    served("error_template_xml", Shape::Text, "", "File with the XML error."),
    served("error_template_plain", Shape::Text, "", "File with the plain error."),
    // Limits on clients
    served("client_max_body_size", Shape::Size, "0", "Maximum size of a request body; 0 is unlimited."),
    served("client_max_head_size", Shape::Size, "32k", "Maximum size of a request head."),
    served("client_max_line_size", Shape::Size, "16k", "Maximum size of a request line."),
    served("client_max_headers", Shape::Int(1, 100_000), "1000", "Maximum number of header fields."),
    served(
        "client_max_connections",
        Shape::Int(1, 10_000_000),
        "16384",
        "Maximum number of client connections of the node.",
    ),
    served(
        "client_max_streams",
        Shape::Int(1, 100_000),
        "128",
        "Maximum number of concurrent streams of an HTTP/2 connection.",
    ),
    served("client_keepalive_requests", Shape::Int(1, MAX), "10000", "Maximum number of requests of a connection."),
    served("client_keepalive_timeout", Shape::Time, "75s", "Idle time between requests."),
    served("client_head_timeout", Shape::Time, "60s", "Time for a request head to arrive."),
    served("client_body_timeout", Shape::Time, "60s", "Time between two reads of a request body."),
    served("client_send_timeout", Shape::Time, "60s", "Time between two writes to a client."),
    served("client_handshake_timeout", Shape::Time, "10s", "Time for a TLS handshake or PROXY header."),
    served(
        "body_buffer_budget",
        Shape::Size,
        "256m",
        "Memory budget of the node for bodies that are buffered for plugins and retries, and for queued log entries.",
    ),
    served("body_buffer_max", Shape::Size, "16m", "Maximum size of a body that is buffered for a plugin."),
    served("upstream_max_head_size", Shape::Size, "64k", "Maximum size of a response head."),
    served("drain_timeout", Shape::Time, "30s", "Drain timeout of a graceful shutdown."),
    served("stream_udp_idle_timeout", Shape::Time, "60s", "Idle time of a UDP session."),
    served(
        "stream_udp_max_sessions",
        Shape::Int(1, 10_000_000),
        "8192",
        "Maximum number of UDP sessions of a listener.",
    ),
    // Upstreams
    served("upstream_keepalive_pool_size", Shape::Int(0, 1_000_000), "512", "Idle connections kept for an endpoint."),
    served(
        "upstream_keepalive_max_requests",
        Shape::Int(0, MAX),
        "10000",
        "Maximum number of requests of a connection; 0 is unlimited.",
    ),
    served(
        "upstream_keepalive_max_names",
        Shape::Int(1, 1_000_000),
        "8192",
        "Different TLS server names and TLS settings for which a worker keeps connections. Beyond it, the connections of \
         the name that was used least recently are closed.",
    ),
    served("upstream_keepalive_idle_timeout", Shape::Time, "60", "Idle time of a connection; 0 keeps it for an hour."),
    alias(
        "resolver_address",
        served("dns_resolver", Shape::List, "", "Name servers; those of the system when absent."),
    ),
    alias("resolver_hosts_file", served("dns_hostsfile", Shape::Text, "/etc/hosts", "Hosts file.")),
    served("dns_order", Shape::List, "LAST,SRV,A,CNAME", "Record types in the order they are tried."),
    alias("resolver_valid_ttl", served("dns_valid_ttl", Shape::Time, "", "TTL to use instead of the answer's.")),
    alias(
        "resolver_stale_ttl",
        served(
            "dns_stale_ttl",
            Shape::Time,
            "3600",
            "How long an expired answer may be used while a new one is fetched.",
        ),
    ),
    alias(
        "resolver_lru_cache_size",
        served("dns_cache_size", Shape::Int(1, 10_000_000), "10000", "Maximum number of names in the cache."),
    ),
    served("dns_not_found_ttl", Shape::Time, "30", "TTL of the answer that a name does not exist."),
    alias("resolver_error_ttl", served("dns_error_ttl", Shape::Time, "1", "TTL of other failures.")),
    // Logs
    served("log_level", Shape::Word(LEVELS), "notice", "Minimum log level."),
    served("proxy_access_log", Shape::Text, "/dev/stdout", "Access log file, or `off`."),
    served(
        "log_redacted_headers",
        Shape::List,
        "authorization, proxy-authorization",
        "Request headers whose values are replaced by `REDACTED` in access logs and by log plugins.",
    ),
    served("proxy_error_log", Shape::Text, "/dev/stderr", "Log file of the process."),
    served("prefix", Shape::Text, "", "Directory that relative paths start from."),
    alias(
        "nginx_main_worker_processes",
        served("nginx_worker_processes", Shape::Text, "auto", "Number of worker threads, or `auto`: one per core."),
    ),
    // Known, but not here
    not_served("wasm", "off", "Wasm filters."),
    not_served("tracing_instrumentations", "off", "Spans of requests."),
    not_served("client_ssl", "off", "Default client certificate for upstreams."),
    not_served("proxy_server", "", "An HTTP proxy for the node's own requests."),
    no_meaning("tracing_sampling_rate", "Share of requests that are traced."),
    no_meaning("resolver_family", "See `dns_order`."),
    checked("new_dns_client", Shape::Flag, "There is one DNS client."),
    checked("dns_no_sync", Shape::Flag, "Queries for one name are always shared."),
    checked("resolver_mem_cache_size", Shape::Size, "The cache is limited by number: `dns_cache_size`."),
    no_meaning("client_ssl_cert", "See `client_ssl`."),
    no_meaning("client_ssl_cert_key", "See `client_ssl`."),
    checked("client_body_buffer_size", Shape::Size, "Bodies are streamed."),
    checked("anonymous_reports", Shape::Flag, "No reports are sent."),
    no_meaning("admin_access_log", "Requests to the Admin API are not logged."),
    no_meaning("admin_error_log", "Requests to the Admin API are not logged."),
    no_meaning("admin_gui_access_log", "The console is not served by this version."),
    no_meaning("admin_gui_error_log", "The console is not served by this version."),
    served(
        "admin_gui_url",
        Shape::List,
        "",
        "Origins of web pages, besides those on this machine, that may use the Admin API: `https://manager.example`.",
    ),
    no_meaning("admin_gui_path", "The console is not served by this version."),
    no_meaning("admin_gui_api_url", "The console is not served by this version."),
    no_meaning("admin_gui_csp_header", "The console is not served by this version."),
    no_meaning("admin_ssl_cert", "The Admin API has the certificate of `ssl_cert`."),
    no_meaning("admin_ssl_cert_key", "The Admin API has the certificate of `ssl_cert`."),
    no_meaning("admin_gui_ssl_cert", "The console is not served by this version."),
    no_meaning("admin_gui_ssl_cert_key", "The console is not served by this version."),
    not_served("status_ssl_cert", "", "Certificate of the status listener: the default certificate is used."),
    no_meaning("status_ssl_cert_key", "The default certificate is used."),
    no_meaning("status_access_log", "Requests to the status listener are not logged."),
    no_meaning("status_error_log", "See `proxy_error_log`."),
    no_meaning("proxy_stream_access_log", "See `proxy_access_log`."),
    no_meaning("proxy_stream_error_log", "See `proxy_error_log`."),
    no_meaning("host_ports", "See `port_maps`."),
    not_served(
        "proxy_server_ssl_verify",
        "on",
        "Verification of the certificate of `proxy_server`, which is not served.",
    ),
    no_meaning("lmdb_environment_path", "Entities are in memory."),
    no_meaning("lmdb_validation_tag", "Entities are in memory."),
    checked("lmdb_map_size", Shape::Size, "Entities are in memory."),
    checked("mem_cache_size", Shape::Size, "Memory is allocated as needed."),
    checked("worker_events_max_payload", Shape::Int(0, MAX), "Workers share memory."),
    checked("ssl_prefer_server_ciphers", Shape::Flag, "The server's order is always used."),
    no_meaning("ssl_dhparam", "Finite-field Diffie-Hellman is not served."),
    not_served("ssl_session_tickets", "on", "Sessions are always resumed by tickets."),
    checked("ssl_session_timeout", Shape::Time, "The TLS library sets the lifetime of tickets."),
    no_meaning("ssl_session_cache_size", "Sessions are resumed by tickets."),
    checked("db_update_frequency", Shape::Time, "There is no database."),
    checked("db_update_propagation", Shape::Time, "There is no database."),
    checked("db_cache_ttl", Shape::Time, "There is no database."),
    checked("db_cache_neg_ttl", Shape::Time, "There is no database."),
    checked("db_resurrect_ttl", Shape::Time, "There is no database."),
    no_meaning("db_cache_warmup_entities", "There is no database."),
    checked("dedicated_config_processing", Shape::Flag, "Configuration is always read on other threads than requests."),
    checked(
        "worker_consistency",
        Shape::Word(&["strict", "eventual"]),
        "All workers switch to a new configuration at once.",
    ),
    checked("worker_state_update_frequency", Shape::Time, "All workers switch to a new configuration at once."),
    checked("lua_socket_pool_size", Shape::Int(0, MAX), "There is no Lua."),
    not_served(
        "lua_ssl_verify_depth",
        "1",
        "Chains of upstream certificates are verified to a root, whatever their length.",
    ),
    no_meaning("lua_ssl_protocols", "Upstreams are connected to with TLS 1.2 and 1.3."),
    no_meaning("lua_package_path", "There is no Lua."),
    no_meaning("lua_package_cpath", "There is no Lua."),
    checked("lua_max_req_headers", Shape::Int(1, 1_000), "See `client_max_headers`."),
    checked("lua_max_resp_headers", Shape::Int(1, 1_000), "See `client_max_headers`."),
    checked("lua_max_uri_args", Shape::Int(1, 1_000), "Arguments are limited by the request line."),
    checked("lua_max_post_args", Shape::Int(1, 1_000), "Arguments are limited by the body."),
    checked("kic", Shape::Flag, "Not used."),
    no_meaning("pluginserver_names", "There are no plugin servers."),
    checked("untrusted_lua", Shape::Word(&["off", "on", "sandbox", "strict", "lax"]), "There is no Lua."),
    no_meaning("untrusted_lua_sandbox_requires", "There is no Lua."),
    no_meaning("untrusted_lua_sandbox_environment", "There is no Lua."),
    no_meaning("openresty_path", "There is no OpenResty."),
    no_meaning("nginx_optimizations", "There is no nginx."),
    no_meaning("opentelemetry_tracing", "See `tracing_instrumentations`."),
    no_meaning("opentelemetry_tracing_sampling_rate", "See `tracing_instrumentations`."),
    checked("request_debug", Shape::Flag, "See `allow_debug_header`."),
    no_meaning("request_debug_token", "See `allow_debug_header`."),
];

/// The row of a setting, by its name or another name for it.
pub fn row(name: &str) -> Option<&'static Row> {
    TABLE.iter().find(|r| r.name == name || (!r.alias.is_empty() && r.alias == name))
}

/// The manual of settings, in Markdown.
pub fn manual() -> String {
    let mut out = String::from("| setting | default | what it does |\n|---|---|---|\n");
    for row in TABLE {
        let status = match row.status {
            Status::Served => "",
            Status::NotServed => "Not served by this version: ",
            Status::NoMeaning => "No effect: ",
        };
        let aliases: Vec<String> = std::iter::once(row.alias.to_owned())
            .filter(|alias| !alias.is_empty())
            .chain(super::directives::spellings(row.name))
            .map(|name| format!("`{name}`"))
            .collect();
        let other = if aliases.is_empty() { String::new() } else { format!(" (also {})", aliases.join(", ")) };
        let default = if row.default.is_empty() { String::new() } else { format!("`{}`", row.default) };
        let words = match row.shape {
            Shape::Word(words) => {
                format!(" One of {}.", words.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(", "))
            }
            _ => String::new(),
        };
        out.push_str(&format!("| `{}`{other} | {default} | {status}{}{words} |\n", row.name, row.text));
    }
    out
}
