//! From texts to typed settings.

use cardinal_http::{Name, belongs_in_head, tells_identity};
use cardinal_ir::{
    DebugHeaders, ErrorPages, HeaderPolicy, Id, Limits, ListenerKind, NodeCertificate, NodeSettings, Origin, PemPair,
    RealIp, RealIpSource, Resolver, SecretKey, UpstreamPool,
};
use uuid::Uuid;

use super::table::{Shape, row};
use super::values::{Note, Values};
use super::{
    AdminPassword, AdminSettings, Choice, Database, EnforceRbac, Postgres, ReadFile, RouteOrder, RouterFlavor,
    Settings, listen, messages, shapes, tls,
};
use crate::entities::pem;
use crate::secrets::Secrets;

/// Values of `Server` and `Via`.
#[derive(Clone, Copy)]
struct Identity {
    server: &'static str,
    via: &'static str,
}

const CARDINAL: Identity = Identity { server: concat!("cardinal/", env!("CARGO_PKG_VERSION")), via: "cardinal" };
const KONG: Identity = Identity { server: "kong/3.10.0", via: "kong/3.10.0" };

/// Beginnings of header names that the gateway itself gives a meaning to: no trailer has them.
const OWN_FIELDS: [&str; 2] = ["x-kong-", "kong-"];

/// Characters that a key has at least.
const SECRET_KEY_LEN_MIN: usize = 32;

/// Where distributions keep the authorities of the system.
const SYSTEM_AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Settings as far as the values are valid, and notes about the others.
pub(super) fn build(values: &Values, read: ReadFile<'_>) -> (Settings, Vec<Note>) {
    let mut b = Builder { values, read, notes: Vec::new() };
    let settings = b.settings();
    (settings, b.notes)
}

/// A smaller budget would reject nearly every body.
const BUDGET_MIN: u64 = 1 << 20;

fn budget(text: &str) -> Result<u64, String> {
    match shapes::size(text)? {
        BUDGET_MIN.. => Ok(shapes::size(text)?),
        _ => Err(format!("expected a size of at least 1m, not '{text}'")),
    }
}

pub(super) struct Builder<'b> {
    values: &'b Values,
    read: ReadFile<'b>,
    notes: Vec<Note>,
}

impl Builder<'_> {
    fn settings(&mut self) -> Settings {
        self.refusals();
        let role = self.role();
        Settings {
            role,
            cluster: self.cluster(role),
            node: self.node(),
            node_id_given: self.text("node_id").is_some(),
            secret_key: self.secret_key(),
            secret_key_given: self.text("secret_key").is_some(),
            router_flavor: match self.text("router_flavor").as_deref() {
                Some("traditional") => RouterFlavor::Traditional,
                Some("expressions") => RouterFlavor::Expressions,
                _ => RouterFlavor::TraditionalCompatible,
            },
            router_order: match self.text("router_order").as_deref() {
                Some("documented") => RouteOrder::Documented,
                _ => RouteOrder::Kong,
            },
            plugins: self.choice("plugins"),
            choice_places: [self.place("plugins"), self.place("vaults")],
            declarative_config: self.list("declarative_config"),
            declarative_config_string: self.text("declarative_config_string"),
            log_level: self.text("log_level").unwrap_or_default(),
            access_log: self.log_file("proxy_access_log"),
            error_log: self.log_file("proxy_error_log"),
            workers: match self.text("nginx_worker_processes").as_deref() {
                None | Some("auto") => None,
                Some(text) => match text.parse::<u32>() {
                    Ok(n) if (1..=1024).contains(&n) => Some(n),
                    _ => self.fail("nginx_worker_processes", "expected auto or a number from 1 to 1024"),
                },
            },
            prefix: self.text("prefix"),
            log_places: [self.place("proxy_access_log"), self.place("proxy_error_log")],
            admin: AdminSettings {
                listeners: self.parsed("admin_listen", listen::admin_listeners).unwrap_or_default(),
                is_given: !self.place("admin_listen").is_empty(),
                version: self.text("admin_version").unwrap_or_default(),
                // An origin has no path.
                origins: self.list("admin_gui_url").iter().map(|url| origin_of(url)).collect(),
                enforce_rbac: self.enforce_rbac(),
                password: self.text("password").map(AdminPassword),
                session_seconds: ["admin_session_idle_timeout", "admin_session_absolute_timeout"]
                    .map(|name| self.parsed(name, seconds).unwrap_or_default()),
            },
            database: match self.text("database").as_deref() {
                Some("off") => Some(Database::Off),
                Some("sqlite") => Some(Database::Sqlite),
                Some("postgres") => Some(Database::Postgres),
                _ => None,
            },
            store_key: self.text("store_key"),
            history_days: self.int32("history_retention", 0),
            history_revisions_max: self.int("history_revisions_max", 0),
            postgres: Postgres {
                host: self.text("pg_host").unwrap_or_default(),
                port: self
                    .parsed("pg_port", |text| text.parse().map_err(|_| "expected a port".to_owned()))
                    .unwrap_or(5_432),
                user: self.text("pg_user").unwrap_or_default(),
                password: self.text("pg_password"),
                database: self.text("pg_database").unwrap_or_default(),
                tls: self.flag("pg_ssl"),
                verify: self.flag("pg_ssl_verify"),
            },
            secrets: Secrets {
                dir: self.text("vault_file_dir"),
                env_prefix: self.text("vault_env_prefix").unwrap_or_default(),
                enabled: self.choice("vaults"),
                ..Secrets::default()
            },
            loaded_at: 0.0,
        }
    }

    fn enforce_rbac(&mut self) -> Option<EnforceRbac> {
        match self.text("enforce_rbac")?.as_str() {
            // Another name in Kong.
            "endpoint" => Some(EnforceRbac::On),
            text => EnforceRbac::ALL.into_iter().find(|enforce| enforce.as_str() == text),
        }
    }

    /// Rejects values of features that do not exist here.
    fn refusals(&mut self) {
        if let Some(kind) = self.text("database").filter(|kind| !matches!(kind.as_str(), "off" | "sqlite" | "postgres"))
        {
            self.fail::<()>("database", &format!("expected one of: sqlite, postgres, off, not '{kind}'"));
        }
    }

    pub(super) fn fail<T>(&mut self, name: &str, message: &str) -> Option<T> {
        self.note(true, name, message);
        None
    }

    /// Where a setting was given; empty for a default.
    pub(super) fn place(&self, name: &str) -> String {
        self.values.get(name).map(|g| g.at).filter(|at| at != "default").unwrap_or_default()
    }

    fn note(&mut self, is_error: bool, name: &str, message: &str) {
        // What follows from a reference that cannot be resolved was reported there.
        if is_error && self.values.is_unresolved(name) {
            return;
        }
        let at = self.place(name);
        let written = self.values.get(name).map_or_else(|| name.to_owned(), |given| given.name);
        let setting = if written == name { String::new() } else { format!(" (it sets {name})") };
        let note = Note { is_error, name: written, at, message: format!("{message}{setting}") };
        // A setting may be used several times.
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// The text, checked against the row's words.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        let text = self.values.get(name)?.text;
        if let Some(Shape::Word(words)) = row(name).map(|r| r.shape)
            && !words.contains(&text.as_str())
        {
            let near = cardinal_schema::suggest(&text, words.iter().copied());
            let hint = near.map(|n| format!(", did you mean '{n}'?")).unwrap_or_default();
            return self.fail(name, &format!("expected one of: {}, not '{text}'{hint}", words.join(", ")));
        }
        Some(text)
    }

    pub(super) fn parsed<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let text = self.text(name)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(message) => self.fail(name, &message),
        }
    }

    fn flag(&mut self, name: &str) -> bool {
        self.parsed(name, shapes::flag).unwrap_or(false)
    }

    pub(super) fn list(&mut self, name: &str) -> Vec<String> {
        self.text(name).map(|t| shapes::list(&t)).unwrap_or_default()
    }

    fn time_ms(&mut self, name: &str, otherwise: u64) -> u64 {
        self.parsed(name, shapes::time_ms).unwrap_or(otherwise)
    }

    fn seconds(&mut self, name: &str) -> Option<u32> {
        let ms = self.parsed(name, shapes::time_ms)?;
        Some(u32::try_from(ms / 1000).unwrap_or(u32::MAX))
    }

    fn size32(&mut self, name: &str, otherwise: u32) -> u32 {
        let bytes = self.parsed(name, |text| match shapes::size(text)? {
            n @ 256..=0x4000_0000 => Ok(n),
            n => Err(format!("{n} bytes is not between 256 and 1g")),
        });
        bytes.and_then(|n| u32::try_from(n).ok()).unwrap_or(otherwise)
    }

    fn int(&mut self, name: &str, otherwise: u64) -> u64 {
        let (low, high) = match row(name).map(|r| r.shape) {
            Some(Shape::Int(low, high)) => (low, high),
            _ => (0, i64::MAX),
        };
        self.parsed(name, |t| shapes::int(t, low, high)).and_then(|n| u64::try_from(n).ok()).unwrap_or(otherwise)
    }

    fn int32(&mut self, name: &str, otherwise: u32) -> u32 {
        u32::try_from(self.int(name, otherwise.into())).unwrap_or(u32::MAX)
    }

    fn choice(&mut self, name: &str) -> Choice {
        let mut names = self.list(name);
        let is_bundled = names.iter().any(|n| n == "bundled");
        names.retain(|name| !matches!(name.as_str(), "bundled" | "off"));
        match (is_bundled, names.is_empty()) {
            (true, true) => Choice::Bundled,
            (true, false) => Choice::With(names),
            (false, _) => Choice::Only(names),
        }
    }

    /// Kong writes a format after the path; there is one format here.
    fn log_file(&mut self, name: &str) -> Option<String> {
        let text = self.text(name)?;
        let path = text.split_whitespace().next()?;
        (path != "off").then(|| path.to_owned())
    }

    /// Text of PEM: the value itself, or the file it names.
    pub(super) fn pem(&mut self, name: &str, value: &str) -> Option<String> {
        if value.contains("-----BEGIN") {
            return Some(value.replace("\\n", "\n"));
        }
        self.file(name, value)
    }

    fn file(&mut self, name: &str, path: &str) -> Option<String> {
        match (self.read)(path) {
            Ok(text) => Some(text),
            Err(e) => self.fail(name, &format!("cannot read {path}: {e}")),
        }
    }

    fn secret_key(&mut self) -> SecretKey {
        match self.text("secret_key") {
            None => SecretKey::default(),
            Some(text) if text.len() >= SECRET_KEY_LEN_MIN => SecretKey::of_text(&text),
            Some(_) => {
                let message = format!("expected a random text of at least {SECRET_KEY_LEN_MIN} characters");
                self.fail("secret_key", &message).unwrap_or_default()
            }
        }
    }

    fn default_certificate(&mut self) -> Option<NodeCertificate> {
        let (certs, keys) = (self.list("ssl_cert"), self.list("ssl_cert_key"));
        if certs.is_empty() && keys.is_empty() {
            return None;
        }
        if certs.len() != keys.len() {
            return self.fail("ssl_cert_key", "there must be as many keys as there are certificates in ssl_cert");
        }
        let mut pairs = Vec::new();
        for (cert, key) in certs.iter().zip(&keys) {
            let (chain, key) = (self.pem("ssl_cert", cert)?, self.pem("ssl_cert_key", key)?);
            match pem::matches(&chain, &key) {
                Ok(true) => match pem::key(&key).map(|key| key.unusable) {
                    Ok(None) => pairs.push(PemPair { chain: chain.into(), key: key.into() }),
                    Ok(Some(e)) | Err(e) => return self.fail("ssl_cert_key", &e),
                },
                Ok(false) => return self.fail("ssl_cert_key", "certificate does not match key"),
                Err(e) => return self.fail("ssl_cert", &e),
            }
        }
        let origin = Origin::new("kong", "settings", Id::nil());
        Some(NodeCertificate { origin, pairs })
    }

    fn listeners(&mut self) -> Vec<cardinal_ir::Listener> {
        let maps = self.port_maps();
        let mut all = Vec::new();
        for (name, kind) in [
            ("proxy_listen", ListenerKind::Http),
            ("stream_listen", ListenerKind::Stream),
            ("status_listen", ListenerKind::Status),
        ] {
            let found = self.parsed(name, |text| listen::listeners(kind, text)).unwrap_or_default();
            for listener in &found {
                if let Some(conflict) = listen::conflict(name, listener, &all) {
                    self.fail::<()>(name, &conflict);
                }
                all.push((name, listener.clone()));
            }
        }
        let mut all: Vec<_> = all.into_iter().map(|(_, listener)| listener).collect();
        for listener in &mut all {
            listener.mapped_port = maps.iter().find(|(_, inner)| *inner == listener.address.port()).map(|(o, _)| *o);
        }
        all
    }

    /// `<outer>:<inner>` pairs.
    fn port_maps(&mut self) -> Vec<(u16, u16)> {
        let list = self.list("port_maps");
        let mut out = Vec::new();
        for text in &list {
            let pair = text.split_once(':').and_then(|(o, i)| Some((o.parse().ok()?, i.parse().ok()?)));
            match pair {
                Some(pair) => out.push(pair),
                None => {
                    self.fail::<()>("port_maps", &format!("'{text}' is not <outer port>:<inner port>"));
                }
            }
        }
        out
    }

    fn node(&mut self) -> NodeSettings {
        let id = match self.text("node_id") {
            None => None,
            // As Kong writes them, with hyphens.
            Some(text) => match text.parse::<Id>() {
                Ok(id) if text.len() == 36 && !id.is_nil() => Some(id),
                _ => self.fail("node_id", "expected a UUID such as 0b1d3c55-6f8e-4c1b-9d4e-6b1d43f70001"),
            },
        };
        let (cipher_suites, tls13_only) = self.tls_versions();
        NodeSettings {
            default_certificate: self.default_certificate(),
            id: id.unwrap_or_else(|| Uuid::new_v5(&Uuid::NAMESPACE_DNS, b"cardinal")),
            limits: self.limits(),
            headers: self.headers(),
            real_ip: self.real_ip(),
            forwarded: cardinal_ir::ForwardedPolicy::default(),
            request_trailers: self.request_trailers(),
            errors: self.errors(),
            upstream_pool: self.upstream_pool(),
            resolver: self.resolver(),
            client_authorities: self.client_authorities(),
            client_certificate_required: self.text("nginx_proxy_ssl_verify_client").as_deref() == Some("on"),
            upstream_authorities: self.upstream_authorities(),
            redacted_headers: self.redacted_headers(),
            cipher_suites,
            tls13_only,
            listeners: self.listeners(),
            ..NodeSettings::default()
        }
    }

    fn request_trailers(&mut self) -> Vec<Box<str>> {
        let mut names = self.list("request_trailers");
        if let [only] = names.as_slice()
            && only == "off"
        {
            return Vec::new();
        }
        for name in &mut names {
            name.make_ascii_lowercase();
            let dashed = name.replace('_', "-");
            if !cardinal_http::is_token(name.as_bytes()) {
                self.fail::<()>("request_trailers", &format!("'{name}' is not the name of a header"));
            } else if belongs_in_head(Name::of(name.as_bytes()), name.as_bytes())
                || tells_identity(name.as_bytes())
                || OWN_FIELDS.iter().any(|start| dashed.starts_with(start))
            {
                let message = format!(
                    "'{name}' is a field of framing, routing, authentication or identity, which upstreams must not take \
                     from a trailer"
                );
                self.fail::<()>("request_trailers", &message);
            }
        }
        names.into_iter().map(Into::into).collect()
    }

    fn redacted_headers(&mut self) -> Vec<Box<str>> {
        self.list("log_redacted_headers").into_iter().map(|name| name.to_ascii_lowercase().into()).collect()
    }

    fn tls_versions(&mut self) -> (Vec<Box<str>>, bool) {
        let suite = self.text("ssl_cipher_suite").unwrap_or_default();
        let ciphers = self.text("ssl_ciphers");
        let suites = match (suite.as_str(), ciphers) {
            ("custom", Some(text)) => self.cipher_suites(&text),
            ("custom", None) => {
                self.fail::<()>("ssl_ciphers", "needed when ssl_cipher_suite is custom");
                Vec::new()
            }
            ("old", _) => {
                let message = "'old' is served as 'intermediate': its suites with RSA key exchange, finite-field DHE or \
                               CBC (AES128-SHA, DHE-RSA-AES256-GCM-SHA384, ECDHE-RSA-AES128-SHA and the like), and TLS \
                               1.0 and 1.1, are not supported";
                self.note(false, "ssl_cipher_suite", message);
                Vec::new()
            }
            ("fips", _) => {
                self.note(false, "ssl_cipher_suite", "'fips' is served as 'intermediate'");
                Vec::new()
            }
            _ => Vec::new(),
        };
        let versions = self.text("ssl_protocols").unwrap_or_default();
        let has = |version: &str| versions.split_whitespace().any(|v| v == version);
        let old: Vec<&str> = versions.split_whitespace().filter(|v| !["TLSv1.2", "TLSv1.3"].contains(v)).collect();
        if !old.is_empty() {
            let message = format!("{} has no effect: TLSv1.2 and TLSv1.3 are supported", old.join(" "));
            self.note(false, "ssl_protocols", &message);
        }
        if !has("TLSv1.2") && !has("TLSv1.3") {
            self.fail::<()>("ssl_protocols", "expected TLSv1.2, TLSv1.3 or both");
        }
        (suites, suite == "modern" || !has("TLSv1.2"))
    }

    /// The supported suites of a list in the form of OpenSSL; a warning names the others.
    fn cipher_suites(&mut self, text: &str) -> Vec<Box<str>> {
        let named: Vec<&str> = text.split([':', ',', ' ']).map(str::trim).filter(|name| !name.is_empty()).collect();
        // `!aNULL` and the like forbid suites that are not supported; `@STRENGTH` is an order.
        let is_word = |name: &&str| !name.starts_with(['!', '-', '@']);
        let (known, others): (Vec<&str>, Vec<&str>) =
            named.into_iter().filter(is_word).partition(|name| tls::is_cipher_suite(name));
        if !others.is_empty() {
            let message = format!(
                "{} has no effect: the supported suites are those of TLS 1.3, and {}",
                others.join(" "),
                tls::TLS12_SUITES.join(", ")
            );
            self.note(false, "ssl_ciphers", &message);
        }
        if !known.iter().any(|name| tls::is_tls12_suite(name)) {
            self.note(false, "ssl_ciphers", "no suite of TLS 1.2 is left: those of 'intermediate' are served");
            return Vec::new();
        }
        known.into_iter().map(Into::into).collect()
    }

    fn client_authorities(&mut self) -> Option<Box<str>> {
        let verify = self.text("nginx_proxy_ssl_verify_client").filter(|v| v != "off");
        let path = self.text("nginx_proxy_ssl_client_certificate");
        match (verify, path) {
            (None, _) => None,
            (Some(_), Some(path)) => self.pem("nginx_proxy_ssl_client_certificate", &path).map(Into::into),
            (Some(_), None) => {
                self.fail("nginx_proxy_ssl_client_certificate", "needed when nginx_proxy_ssl_verify_client is on")
            }
        }
    }

    fn upstream_authorities(&mut self) -> Option<Box<str>> {
        let list = self.list("lua_ssl_trusted_certificate");
        if list.is_empty() || list == ["system"] {
            return None;
        }
        let mut bundle = String::new();
        for value in &list {
            let text = match value.as_str() {
                "system" => match SYSTEM_AUTHORITIES.iter().find_map(|path| (self.read)(path).ok()) {
                    Some(text) => Some(text),
                    None => self.fail("lua_ssl_trusted_certificate", "the system has no file of authorities"),
                },
                value => self.pem("lua_ssl_trusted_certificate", value),
            };
            bundle.push_str(&text?);
            bundle.push('\n');
        }
        Some(bundle.into())
    }

    fn limits(&mut self) -> Limits {
        let d = Limits::default();
        Limits {
            head_bytes_max: self.size32("client_max_head_size", d.head_bytes_max),
            line_bytes_max: self.size32("client_max_line_size", d.line_bytes_max),
            header_count_max: self.int32("client_max_headers", d.header_count_max),
            response_head_bytes_max: self.size32("upstream_max_head_size", d.response_head_bytes_max),
            body_bytes_max: self.parsed("client_max_body_size", shapes::size).unwrap_or(d.body_bytes_max),
            buffered_body_bytes_max: self.parsed("body_buffer_max", shapes::size).unwrap_or(d.buffered_body_bytes_max),
            buffered_bytes_total_max: self.parsed("body_buffer_budget", budget).unwrap_or(d.buffered_bytes_total_max),
            connections_max: match self.text("client_max_connections").as_deref() {
                Some("auto") => d.connections_max,
                _ => self.int32("client_max_connections", d.connections_max),
            },
            streams_max: self.int32("client_max_streams", d.streams_max),
            requests_per_connection_max: self.int("client_keepalive_requests", d.requests_per_connection_max),
            head_timeout_ms: self.time_ms("client_head_timeout", d.head_timeout_ms),
            body_timeout_ms: self.time_ms("client_body_timeout", d.body_timeout_ms),
            send_timeout_ms: self.time_ms("client_send_timeout", d.send_timeout_ms),
            keepalive_timeout_ms: self.time_ms("client_keepalive_timeout", d.keepalive_timeout_ms),
            handshake_timeout_ms: self.time_ms("client_handshake_timeout", d.handshake_timeout_ms),
            drain_timeout_ms: self.time_ms("drain_timeout", d.drain_timeout_ms),
            udp_idle_timeout_ms: self.time_ms("stream_udp_idle_timeout", d.udp_idle_timeout_ms),
            udp_sessions_max: self.int32("stream_udp_max_sessions", d.udp_sessions_max),
        }
    }

    fn headers(&mut self) -> HeaderPolicy {
        let mut policy = HeaderPolicy::default();
        let identity = if self.text("server_identity").as_deref() == Some("kong") { KONG } else { CARDINAL };
        for token in self.list("headers") {
            if !add_header(&mut policy, &token.to_ascii_lowercase(), identity) && token != "off" {
                self.unknown_token("headers", &token);
            }
        }
        for token in self.list("headers_upstream") {
            match token.to_ascii_lowercase().as_str() {
                "x-kong-request-id" => policy.request_id_upstream = Some("X-Kong-Request-Id".into()),
                "off" => {}
                _ => self.unknown_token("headers_upstream", &token),
            }
        }
        policy.debug = self.flag("allow_debug_header").then(|| Box::new(debug_headers()));
        policy
    }

    fn unknown_token(&mut self, name: &str, token: &str) {
        self.fail::<()>(name, &format!("unknown header '{token}'"));
    }

    fn real_ip(&mut self) -> RealIp {
        let list = self.list("trusted_ips");
        let mut trusted = Vec::new();
        for text in &list {
            let net = text.parse::<ipnet::IpNet>().or_else(|_| text.parse::<std::net::IpAddr>().map(Into::into));
            match net {
                Ok(net) => trusted.push(net),
                Err(_) if text == "unix:" => self.note(false, "trusted_ips", "there are no peers on Unix sockets"),
                Err(_) => {
                    self.fail::<()>("trusted_ips", &format!("'{text}' is not an address or a network"));
                }
            }
        }
        let source = match self.text("real_ip_header").unwrap_or_default().to_ascii_lowercase() {
            name if name == "proxy_protocol" => RealIpSource::ProxyProtocol,
            name if !name.is_empty() && name.bytes().all(is_name_byte) => RealIpSource::Header(name.into()),
            name => {
                self.fail::<()>("real_ip_header", &format!("'{name}' is not the name of a header"));
                RealIpSource::Peer
            }
        };
        let source =
            if trusted.is_empty() && source != RealIpSource::ProxyProtocol { RealIpSource::Peer } else { source };
        RealIp { trusted, source, recursive: self.flag("real_ip_recursive") }
    }

    fn errors(&mut self) -> ErrorPages {
        ErrorPages {
            json: self.template("error_template_json").or_else(|| Some(messages::JSON.into())),
            html: self.template("error_template_html").or_else(|| Some(messages::HTML.into())),
            plain: self.template("error_template_plain").or_else(|| Some(messages::PLAIN.into())),
            xml: self.template("error_template_xml").or_else(|| Some(messages::XML.into())),
            default_type: self.text("error_default_type").map(Into::into),
            messages: messages::messages(),
        }
    }

    /// Kong's templates have `%s` for the message and a second one for the request id.
    fn template(&mut self, name: &str) -> Option<Box<str>> {
        let path = self.text(name)?;
        let text = self.file(name, &path)?;
        let text = text.replacen("%s", "{{message}}", 1).replacen("%s", "{{request_id}}", 1);
        if !text.contains("{{message}}") {
            return self.fail(name, "the template has no %s for the message");
        }
        Some(text.replace("%%", "%").into())
    }

    fn upstream_pool(&mut self) -> UpstreamPool {
        let d = UpstreamPool::default();
        let idle = self.time_ms("upstream_keepalive_idle_timeout", d.idle_timeout_ms);
        UpstreamPool {
            idle_max: self.int32("upstream_keepalive_pool_size", d.idle_max),
            requests_max: self.int32("upstream_keepalive_max_requests", d.requests_max),
            idle_timeout_ms: if idle == 0 { 3_600_000 } else { idle },
            classes_max: self.int32("upstream_keepalive_max_names", d.classes_max),
        }
    }

    fn resolver(&mut self) -> Resolver {
        let d = Resolver::default();
        let mut servers = Vec::new();
        for text in self.list("dns_resolver") {
            let address = text.parse().or_else(|_| text.parse::<std::net::IpAddr>().map(|ip| (ip, 53).into()));
            match address {
                Ok(address) => servers.push(address),
                Err(_) => {
                    self.fail::<()>("dns_resolver", &format!("'{text}' is not <address> or <address>:<port>"));
                }
            }
        }
        let order: Vec<String> = self.list("dns_order").iter().map(|t| t.to_ascii_uppercase()).collect();
        if let Some(bad) = order.iter().find(|t| !["LAST", "SRV", "A", "AAAA", "CNAME"].contains(&t.as_str())) {
            self.fail::<()>("dns_order", &format!("'{bad}' is not one of LAST, SRV, A, AAAA, CNAME"));
        }
        Resolver {
            servers,
            hosts_file: self.text("dns_hostsfile").map_or(d.hosts_file, Into::into),
            order: order.into_iter().map(Into::into).collect(),
            stale_ttl_s: self.seconds("dns_stale_ttl").unwrap_or(d.stale_ttl_s),
            not_found_ttl_s: self.seconds("dns_not_found_ttl").unwrap_or(d.not_found_ttl_s),
            error_ttl_s: self.seconds("dns_error_ttl").unwrap_or(d.error_ttl_s),
            valid_ttl_s: self.seconds("dns_valid_ttl"),
            names_max: self.int32("dns_cache_size", d.names_max),
        }
    }
}

/// Kong's names of route and service in responses.
fn debug_headers() -> DebugHeaders {
    DebugHeaders {
        request: "Kong-Debug".into(),
        route_id: "Kong-Route-Id".into(),
        route_name: "Kong-Route-Name".into(),
        backend_id: "Kong-Service-Id".into(),
        backend_name: "Kong-Service-Name".into(),
    }
}

/// Adds the headers of a token of `headers`; `false` for an unknown token.
fn add_header(policy: &mut HeaderPolicy, token: &str, identity: Identity) -> bool {
    let name = |text: &str| Some(text.into());
    match token {
        "server_tokens" => {
            add_header(policy, "server", identity);
            add_header(policy, "via", identity);
        }
        "server" => policy.server = name(identity.server),
        "via" => {
            policy.via = name(identity.via);
            policy.via_upstream = name(identity.via);
        }
        "latency_tokens" => {
            for token in ["x-kong-proxy-latency", "x-kong-upstream-latency", "x-kong-response-latency"] {
                add_header(policy, token, identity);
            }
        }
        "x-kong-proxy-latency" => policy.proxy_latency = name("X-Kong-Proxy-Latency"),
        "x-kong-upstream-latency" => policy.upstream_latency = name("X-Kong-Upstream-Latency"),
        "x-kong-response-latency" => policy.response_latency = name("X-Kong-Response-Latency"),
        "x-kong-upstream-status" => policy.upstream_status = name("X-Kong-Upstream-Status"),
        "x-kong-request-id" => policy.request_id = name("X-Kong-Request-Id"),
        "x-kong-admin-latency" => {}
        _ => return false,
    }
    true
}

/// Whether a byte may stand in the name of a header field (RFC 9110 section 5.6.2).
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whole seconds of a time, at least one and at most a year.
fn seconds(text: &str) -> Result<u32, String> {
    const SECONDS_MAX: u64 = 366 * 86_400;
    match shapes::time_ms(text)? / 1_000 {
        found @ 1..=SECONDS_MAX => Ok(u32::try_from(found).unwrap_or(u32::MAX)),
        _ => Err(format!("expected a time from 1s to 366d, not '{text}'")),
    }
}

/// The origin of a URL: its scheme, host and port.
fn origin_of(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => format!("{scheme}://{}", rest.split('/').next().unwrap_or_default()),
        None => url.to_owned(),
    }
}
