use std::collections::BTreeMap;

use super::*;

fn load(file: &str, env: &[(&str, &str)]) -> Result<(Settings, Vec<String>), Vec<String>> {
    let env: BTreeMap<String, String> = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let inputs = Inputs { file: Some(("kong.conf", file)), env, overrides: BTreeMap::new() };
    let read = |path: &str| match path {
        "err.json" => Ok("{\"m\":\"%s\",\"id\":\"%s\",\"p\":\"100%%\"}".to_owned()),
        _ => Err(std::io::ErrorKind::NotFound.into()),
    };
    let texts = |notes: Vec<Note>| notes.iter().map(ToString::to_string).collect();
    Settings::load(&inputs, &read).map(|(s, n)| (s, texts(n))).map_err(texts)
}

#[test]
fn defaults_are_those_of_kong() {
    let settings = Settings::default();
    let names: Vec<&str> = settings.node.listeners.iter().map(|l| &*l.name).collect();
    assert_eq!(names, ["proxy 0.0.0.0:8000", "proxy 0.0.0.0:8443", "status 127.0.0.1:8007"]);
    assert!(
        settings.node.listeners[1].tls.is_some()
            && settings.node.listeners[1].http2
            && settings.node.listeners[0].tls.is_none()
    );
    assert_eq!(settings.node.limits, cardinal_ir::Limits::default());
    assert_eq!(settings.node.upstream_pool, cardinal_ir::UpstreamPool::default());
    let own = format!("cardinal/{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(settings.node.headers.server.as_deref(), Some(own.as_str()), "not Kong's own: see server_identity");
    assert!(settings.node.request_trailers.is_empty());
    assert_eq!(settings.node.headers.request_id_upstream.as_deref(), Some("X-Kong-Request-Id"));
    assert_eq!(settings.node.headers.upstream_status, None);
    assert_eq!(&*settings.node.errors.messages["no_route"], "no Route matched with those values");
}

#[test]
fn an_address_is_listened_on_once() {
    let refused = |text: &str| load(text, &[]).unwrap_err().join("\n");
    let flags = refused("proxy_listen = 127.0.0.1:8000, 127.0.0.1:8000 ssl http2");
    assert!(flags.contains("proxy_listen: 127.0.0.1:8000 is listed twice, with different flags (none and ssl http2)"));
    let twice = refused("proxy_listen = 127.0.0.1:8000, 127.0.0.1:8000 reuseport");
    assert!(twice.contains("proxy_listen: 127.0.0.1:8000 is listed twice: remove one"), "{twice}");
    let shared = refused("proxy_listen = 127.0.0.1:8007");
    assert!(shared.contains("status_listen: 127.0.0.1:8007 is already an address of proxy_listen"), "{shared}");
    for fine in [
        "proxy_listen = 127.0.0.1:0, 127.0.0.1:0 ssl",
        "stream_listen = 0.0.0.0:8000 udp",
        "proxy_listen = 0.0.0.0:9000, 127.0.0.1:9000",
        "proxy_listen = 0.0.0.0:9000, [::]:9000",
    ] {
        load(fine, &[]).unwrap();
    }
}

#[test]
fn trailers_of_identity_and_framing_cannot_be_named() {
    let (settings, _) = load("request_trailers = X-Checksum, Grpc-Trace-Bin", &[]).unwrap();
    assert_eq!(settings.node.request_trailers.join(" "), "x-checksum grpc-trace-bin");
    for name in [
        "X-Consumer-Username",
        "x_consumer_groups",
        "X-Credential-Identifier",
        "X-Anonymous-Consumer",
        "X-Authenticated-Groups",
        "X-Kong-Request-Id",
        "Kong-Debug",
        "Host",
        "X-Forwarded-For",
        "X-Real-IP",
        "Via",
        "Forwarded",
        "Content-Length",
        "transfer_encoding",
        "Authorization",
        "Cookie",
        "Remote-User",
        "remote_groups",
        "ssl-client-cert",
        "X-SSL-Client-Verify",
        "x_ssl_client_cert",
        "x-jwt-claims",
        "X-Auth-Token",
        "x-api-key",
        "X-Userinfo",
        "X-Tenant-Id",
        "True-Client-IP",
        "a b",
    ] {
        let text = format!("request_trailers = X-Checksum, {name}");
        let errors = load(&text, &[]).err().unwrap_or_default();
        let start = format!("kong.conf:1: request_trailers: '{}' is ", name.to_ascii_lowercase());
        assert!(errors.len() == 1 && errors[0].starts_with(&start), "{name}: {errors:?}");
    }
}

#[test]
fn later_sources_win() {
    let file = "log_level = info # why not\nheaders = off\nproxy_listen = 127.0.0.1:0 proxy_protocol, [::]:9 ssl";
    let (settings, notes) = load(file, &[("KONG_LOG_LEVEL", "warn"), ("CARDINAL_LOG_LEVEL", "debug")]).unwrap();
    assert_eq!((settings.log_level.as_str(), notes), ("debug", Vec::<String>::new()));
    assert_eq!(settings.node.headers.server, None);
    assert!(settings.node.listeners[0].proxy_protocol && settings.node.listeners[1].tls.is_some());
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let file = "databse = off\nport_maps = 80:8000, x\n\nproxy_listen = 0.0.0.0:80 htpp2\nclient_max_body_size = 8q";
    assert_eq!(
        load(file, &[("KONG_DATABASE", "cassandra"), ("KONG_ROUTER_FLAVOR", "expresions")]).unwrap_err(),
        [
            "kong.conf:1: databse: unknown setting, did you mean 'database'?",
            "KONG_DATABASE: database: expected one of: sqlite, postgres, off, not 'cassandra'",
            "kong.conf:5: client_max_body_size: expected a size such as 8k, 10m or 1g, not '8q'",
            "kong.conf:2: port_maps: 'x' is not <outer port>:<inner port>",
            "kong.conf:4: proxy_listen: unknown flag 'htpp2', did you mean 'http2'?",
            "KONG_ROUTER_FLAVOR: router_flavor: expected one of: traditional_compatible, traditional, expressions, not \
             'expresions', did you mean 'expressions'?",
        ]
    );
}

#[test]
fn what_is_not_served_is_said() {
    let env = [("KONG_CLUSTER_USE_PROXY", "on"), ("KONG_PG_SCHEMA", "s"), ("KONG_SERVICE_HOST", "10.0.0.1")];
    let (_, notes) = load("admin_gui_listen = off\nlua_package_path = x", &env).unwrap();
    assert_eq!(
        notes,
        [
            "KONG_CLUSTER_USE_PROXY: cluster_use_proxy: not served by this version: A proxy for connections to control planes.",
            "KONG_PG_SCHEMA: pg_schema: has no effect: this setting of Kong's PostgreSQL client does nothing here",
        ]
    );
}

#[test]
fn roles_and_how_they_are_connected() {
    let (settings, notes) = load("", &[]).unwrap();
    assert_eq!((notes.len(), settings.role, settings.cluster.is_listen_given), (0, Role::Traditional, false));
    assert_eq!(settings.cluster.listeners, ["0.0.0.0:8005".parse().unwrap()]);
    let file = "role = data_plane\ncluster_control_plane = a.test:8005, [::1]:9\ncluster_dp_labels = region:eu,tier:1\n\
                cluster_mtls = pki\ncluster_server_name = cp.test";
    let (settings, notes) = load(file, &[("KONG_CLUSTER_JOIN_TOKEN", "secret-token")]).unwrap();
    assert_eq!(notes, Vec::<String>::new());
    let cluster = settings.cluster;
    assert_eq!(settings.role, Role::DataPlane);
    assert_eq!(cluster.control_planes, [("a.test".to_owned(), 8_005), ("::1".to_owned(), 9)]);
    assert_eq!(
        cluster.labels.into_iter().collect::<Vec<_>>(),
        [("region", "eu"), ("tier", "1")].map(|(n, v)| (n.to_owned(), v.to_owned()))
    );
    assert_eq!((cluster.mtls, cluster.server_name.as_deref()), (ClusterMtls::Pki, Some("cp.test")));
    assert_eq!(cluster.join_token.as_deref(), Some("secret-token"));
}

#[test]
fn mistakes_in_roles_are_found() {
    let file = "role = data-plane\ncluster_control_plane = http://a\ncluster_dp_labels = x\ncluster_cert_key = k";
    assert_eq!(
        load(file, &[]).unwrap_err(),
        [
            "kong.conf:1: role: expected one of: traditional, control_plane, data_plane, not 'data-plane', did you mean \
             'data_plane'?",
            "kong.conf:2: cluster_control_plane: expected host:port, not 'http://a'",
            "cluster_cert: needed with cluster_cert_key",
            "kong.conf:3: cluster_dp_labels: expected name:value, not 'x'",
        ]
    );
}

#[test]
fn the_database_is_reached_by_kongs_settings() {
    let file = "database = postgres\npg_host = db.test\npg_user = a b\npg_password = p@ss/w\npg_ssl = on";
    let (settings, notes) = load(file, &[("KONG_PG_PORT", "6432")]).unwrap();
    assert_eq!(notes, Vec::<String>::new());
    assert_eq!(settings.database, Some(Database::Postgres));
    let url = "postgres://a%20b:p%40ss%2Fw@db.test:6432/kong?sslmode=require";
    assert_eq!(settings.postgres.url(), url);
    assert!(!format!("{settings:?}").contains("p@ss/w"));
    let (settings, _) = load("pg_ssl = on\npg_ssl_verify = on", &[]).unwrap();
    assert_eq!(settings.postgres.url(), "postgres://kong@127.0.0.1:5432/kong?sslmode=verify-full");
    let (settings, _) = load("pg_host = ::1", &[]).unwrap();
    assert_eq!(settings.postgres.url(), "postgres://kong@[::1]:5432/kong?sslmode=disable");
    let (settings, _) = load("pg_host = /run/pg", &[]).unwrap();
    assert_eq!(settings.postgres.url(), "postgres://kong@localhost:5432/kong?sslmode=disable&host=%2Frun%2Fpg");
}

#[test]
fn values_may_be_references() {
    let env = [("KONG_LOG_LEVEL", "{vault://env/level}"), ("LEVEL", "debug"), ("KONG_NODE_ID", "{vault://env/id}")];
    assert_eq!(
        load("", &env).unwrap_err()[0],
        "KONG_NODE_ID: node_id: {vault://env/id} cannot be resolved: the environment has no ID"
    );
    assert_eq!(load("", &env[..2]).unwrap().0.log_level, "debug");
}

#[test]
fn listeners_of_one_address_are_told_apart() {
    let (settings, _) = load("stream_listen = 127.0.0.1:9 ssl, 127.0.0.1:9 udp backlog=5", &[]).unwrap();
    assert_eq!(settings.node.listeners.len(), 5);
    assert!(load("stream_listen = 127.0.0.1:9 udp ssl", &[]).is_err());
}

#[test]
fn aliases_and_units() {
    let file = "nginx_http_client_max_body_size = 10m\nupstream_keepalive_idle_timeout = 2m\nnginx_proxy_real_ip_header \
                = X-Forwarded-For\ntrusted_ips = 10.0.0.0/8, ::1\nreal_ip_recursive = on\nport_maps = 80:8000\n\
                error_template_json = err.json\nssl_cipher_suite = modern";
    let (settings, _) = load(file, &[]).unwrap();
    let node = &settings.node;
    assert_eq!(node.limits.body_bytes_max, 10 << 20);
    assert_eq!(node.upstream_pool.idle_timeout_ms, 120_000);
    assert_eq!(node.real_ip.source, cardinal_ir::RealIpSource::Header("x-forwarded-for".into()));
    assert!(node.real_ip.recursive && node.real_ip.trusted.len() == 2 && node.tls13_only);
    assert_eq!(settings.node.listeners[0].mapped_port, Some(80));
    assert_eq!(node.errors.json.as_deref(), Some("{\"m\":\"{{message}}\",\"id\":\"{{request_id}}\",\"p\":\"100%\"}"));
}

#[test]
fn directives_of_nginx_give_settings_values() {
    let file = "nginx_proxy_client_max_body_size = 1k\nnginx_http_large_client_header_buffers = 8 128k\n\
                nginx_location_send_timeout = 1m 30s\nnginx_http_keepalive_timeout = 5s 4s\n\
                nginx_upstream_keepalive = 7\nnginx_main_worker_shutdown_timeout = 3s\n\
                nginx_events_worker_connections = 99\nnginx_proxy_set_real_ip_from = 10.0.0.0/8\n\
                nginx_http_http2_max_concurrent_streams = 5\nnginx_worker_processes = 2";
    let (settings, notes) = load(file, &[("KONG_NGINX_HTTP_CLIENT_MAX_BODY_SIZE", "9m")]).unwrap();
    let (node, limits) = (&settings.node, &settings.node.limits);
    assert_eq!(notes, Vec::<String>::new());
    assert_eq!(limits.body_bytes_max, 1 << 10, "the block `server` overrides `http` wherever they are given");
    assert_eq!((limits.head_bytes_max, limits.line_bytes_max), (1 << 20, 128 << 10));
    assert_eq!((limits.send_timeout_ms, limits.keepalive_timeout_ms, limits.drain_timeout_ms), (90_000, 5_000, 3_000));
    assert_eq!((node.upstream_pool.idle_max, limits.connections_max, limits.streams_max), (7, 99, 5));
    assert_eq!((node.real_ip.trusted.len(), settings.workers), (1, Some(2)));
    let env = [("CARDINAL_CLIENT_MAX_BODY_SIZE", "2k")];
    assert_eq!(load(file, &env).unwrap().0.node.limits.body_bytes_max, 2 << 10, "the setting's own name wins");
}

#[test]
fn directives_without_an_equivalent_give_the_reason() {
    let file = "nginx_proxy_gzip = on\nnginx_http_client_body_buffer_size = 8k\nnginx_http_sendfile = on\n\
                nginx_stream_ssl_protocols = TLSv1.3";
    assert_eq!(
        load(file, &[]).unwrap().1,
        [
            "kong.conf:1: nginx_proxy_gzip: not supported: responses are not compressed",
            "kong.conf:2: nginx_http_client_body_buffer_size: has no effect: bodies are streamed; body_buffer_max limits \
             what plugins buffer",
            "kong.conf:3: nginx_http_sendfile: has no effect: no setting here corresponds to this directive of nginx",
            "kong.conf:4: nginx_stream_ssl_protocols: not supported: listeners of streams use ssl_protocols",
        ]
    );
    let bad = "nginx_http_large_client_header_buffers = 128k\nnginx_proxy_client_max_body_size = 1q";
    assert_eq!(
        load(bad, &[]).unwrap_err(),
        [
            "kong.conf:1: nginx_http_large_client_header_buffers: expected a number of buffers and their size, such as 4 \
             8k, not '128k'",
            "kong.conf:2: nginx_proxy_client_max_body_size: expected a size such as 8k, 10m or 1g, not '1q' (it sets \
             client_max_body_size)",
        ]
    );
}

#[test]
fn directives_with_an_equivalent_name_it() {
    let check = |name: &str, expect: &str| {
        let (_, notes) = load(&format!("{name} = 1"), &[]).unwrap();
        assert_eq!(notes, [format!("kong.conf:1: {name}: has no effect: {expect}")]);
    };
    check("nginx_http_resolver", "use dns_resolver");
    check("nginx_stream_resolver", "use dns_resolver");
    check("nginx_proxy_server_tokens", "use headers and server_identity");
    check("nginx_location_proxy_read_timeout", "use read_timeout of the service");
    check("nginx_proxy_proxy_connect_timeout", "use connect_timeout of the service");
    check("nginx_sproxy_proxy_timeout", "use read_timeout and write_timeout of the service");
    check("nginx_http_ssl_certificate", "use ssl_cert");
    check("nginx_upstream_least_conn", "use algorithm of the upstream");
    check("nginx_main_error_log", "use proxy_error_log");
    check("nginx_http_lua_shared_dict", "there is no Lua");
    check(
        "nginx_admin_client_max_body_size",
        "the Admin API has limits of its own, and its console is not served by this version",
    );
    check("nginx_status_access_log", "directives of this block are not supported");
    check("nginx_main_client_max_body_size", "the directive is not supported in this block: use client_max_body_size");
    for (block, directive) in [("main", "pcre_jit"), ("http", "brotli_types"), ("supstream", "zone"), ("proxy", "etag")]
    {
        check(&format!("nginx_{block}_{directive}"), "no setting here corresponds to this directive of nginx");
    }
}

fn overridden(name: &str, value: &str) -> Vec<Note> {
    let inputs = Inputs { overrides: BTreeMap::from([(name.to_owned(), value.to_owned())]), ..Inputs::default() };
    match Settings::load(&inputs, &|_| Err(std::io::ErrorKind::NotFound.into())) {
        Ok((_, notes)) | Err(notes) => notes,
    }
}

#[test]
fn misspelt_directives_and_blocks_are_unknown() {
    let check = |name: &str, expect: &str| {
        let notes = overridden(name, "1");
        assert_eq!(
            notes.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [format!("command line: {name}: {expect}")]
        );
        assert!(notes[0].is_error, "{name}");
        let (_, notes) = load(&format!("{name} = 1"), &[]).unwrap();
        assert!(notes.len() == 1 && notes[0].contains("unknown setting"), "a warning in a file: {notes:?}");
    };
    let near = |name: &str, near: &str| check(name, &format!("unknown setting, did you mean '{near}'?"));
    near("nginx_http_client_max_bdy_size", "nginx_http_client_max_body_size");
    near("nginx_proxy_proxy_read_timeot", "nginx_proxy_proxy_read_timeout");
    near("nginx_events_worker_conections", "nginx_events_worker_connections");
    near("nginx_http_senfile", "nginx_http_sendfile");
    near("nginx_htp_x", "nginx_http_x");
    near("nginx_locaton_send_timeout", "nginx_location_send_timeout");
    check("nginx_http_quux", "unknown setting (`cardinal settings` lists all)");
    check("nginx_server_", "unknown setting (`cardinal settings` lists all)");
    check("nginx_x", "unknown setting (`cardinal settings` lists all)");
    let notes = overridden("nginx_http_sendfile", "on");
    assert!(notes.len() == 1 && !notes[0].is_error, "a directive of nginx is no error: {notes:?}");
}

#[test]
fn errors_name_what_was_written_once() {
    let text = |name: &str, value: &str| overridden(name, value).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        text("nginx_proxy_client_max_body_size", "zz"),
        ["command line: nginx_proxy_client_max_body_size: expected a size such as 8k, 10m or 1g, not 'zz' (it sets \
             client_max_body_size)"]
    );
    assert_eq!(
        text("resolver_address", "a:b"),
        ["command line: resolver_address: 'a:b' is not <address> or <address>:<port> (it sets dns_resolver)"]
    );
    assert_eq!(
        text("nginx_http_ssl_verify_client", "optional_no_ca"),
        [
            "command line: nginx_http_ssl_verify_client: expected one of: off, on, optional, not 'optional_no_ca' (it sets \
             nginx_proxy_ssl_verify_client)"
        ]
    );
    assert_eq!(
        text("log_level", "loud"),
        ["command line: log_level: expected one of: debug, info, notice, warn, error, crit, alert, emerg, not 'loud'"]
    );
}

#[test]
fn unresolved_references_are_reported_alone() {
    for name in ["node_id", "log_level", "ssl_cert", "ssl_cert_key", "client_max_body_size", "dns_resolver"] {
        let notes = overridden(name, "{vault://env/absent}");
        assert_eq!(
            notes.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [format!("command line: {name}: {{vault://env/absent}} cannot be resolved: the environment has no ABSENT")]
        );
    }
}

#[test]
fn unknown_names_are_reported_by_their_source() {
    let env = [
        ("KONG_PORTAL", "on"),
        ("KONG_VERSION", "3.10"),
        ("KONG_PROXY_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("KONG_PROXY_SERVICE_PORT_PROXY_TLS", "443"),
        ("KONG_ADMIN_PORT", "tcp://10.0.0.1:8001"),
    ];
    assert_eq!(
        load("vitals = off\nsomething_else = 1", &env).unwrap().1,
        [
            "kong.conf:1: vitals: has no effect: it belongs to Kong Enterprise",
            "kong.conf:2: something_else: unknown setting; it has no effect",
            "KONG_PORTAL: portal: has no effect: it belongs to Kong Enterprise"
        ]
    );
    let overrides = BTreeMap::from([("proxy_lisen".to_owned(), "off".to_owned())]);
    let inputs = Inputs { overrides, ..Inputs::default() };
    let notes = Settings::load(&inputs, &|_| Err(std::io::ErrorKind::NotFound.into())).unwrap_err();
    let note = notes.first().unwrap();
    assert_eq!(note.to_string(), "command line: proxy_lisen: unknown setting, did you mean 'proxy_listen'?");
    assert!(note.is_error);
}

#[test]
fn rows_are_sound() {
    let mut names = std::collections::BTreeSet::new();
    for row in table::TABLE {
        assert!(names.insert(row.name), "{} stands twice", row.name);
        assert!(row.text.ends_with('.'), "{} has no sentence", row.name);
        assert!(table::manual().contains(&format!("| `{}`", row.name)));
    }
}

#[test]
fn values_of_settings_without_meaning_are_checked_as_kong_does() {
    for (name, bad, good) in [
        ("worker_consistency", "foo", "strict"),
        ("untrusted_lua", "foo", "sandbox"),
        ("anonymous_reports", "maybe", "off"),
        ("request_debug", "maybe", "on"),
        ("db_cache_ttl", "abc", "0"),
        ("ssl_prefer_server_ciphers", "foo", "on"),
        ("mem_cache_size", "big", "128m"),
        ("lua_max_req_headers", "0", "100"),
        ("real_ip_header", "a b", "X-Forwarded-For"),
    ] {
        let found = load(&format!("{name} = {bad}"), &[]).expect_err(name);
        assert!(found.iter().any(|note| note.starts_with(&format!("kong.conf:1: {name}: "))), "{found:?}");
        assert!(load(&format!("{name} = {good}"), &[]).is_ok(), "{name}");
    }
}
