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
    let names: Vec<&str> = settings.listeners.iter().map(|l| &*l.name).collect();
    assert_eq!(names, ["proxy 0.0.0.0:8000", "proxy 0.0.0.0:8443", "status 127.0.0.1:8007"]);
    assert!(settings.listeners[1].tls && settings.listeners[1].http2 && !settings.listeners[0].tls);
    assert_eq!(settings.node.limits, cardinal_ir::Limits::default());
    assert_eq!(settings.node.upstream_pool, cardinal_ir::UpstreamPool::default());
    assert_eq!(settings.node.headers.server.as_deref(), Some("kong/3.10.0"));
    assert_eq!(settings.node.headers.request_id_upstream.as_deref(), Some("X-Kong-Request-Id"));
    assert_eq!(settings.node.headers.upstream_status, None);
    assert_eq!(&*settings.node.errors.messages["no_route"], "no Route matched with those values");
}

#[test]
fn later_sources_win() {
    let file = "log_level = info # why not\nheaders = off\nproxy_listen = 127.0.0.1:0 proxy_protocol, [::]:9 ssl";
    let (settings, notes) = load(file, &[("KONG_LOG_LEVEL", "warn"), ("CARDINAL_LOG_LEVEL", "debug")]).unwrap();
    assert_eq!((settings.log_level.as_str(), notes), ("debug", Vec::<String>::new()));
    assert_eq!(settings.node.headers.server, None);
    assert!(settings.listeners[0].proxy_protocol && settings.listeners[1].tls);
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let file = "databse = off\nport_maps = 80:8000, x\n\nproxy_listen = 0.0.0.0:80 htpp2\nclient_max_body_size = 8q";
    assert_eq!(
        load(file, &[("KONG_DATABASE", "postgres"), ("KONG_ROUTER_FLAVOR", "expresions")]).unwrap_err(),
        [
            "kong.conf:1: databse: unknown setting, did you mean 'database'?",
            "KONG_DATABASE: database: 'postgres' is not supported: entities come from files, so set database = off and \
             name them in declarative_config",
            "kong.conf:5: client_max_body_size: expected a size such as 8k, 10m or 1g, not '8q'",
            "kong.conf:2: port_maps: 'x' is not <outer port>:<inner port>",
            "kong.conf:4: proxy_listen: unknown flag 'htpp2', did you mean 'http2'?",
            "KONG_ROUTER_FLAVOR: router_flavor: expected one of: traditional_compatible, traditional, expressions, did \
             you mean 'expressions'?",
        ]
    );
}

#[test]
fn what_is_not_served_is_said() {
    let env = [("KONG_ADMIN_LISTEN", "0.0.0.0:8001"), ("KONG_PG_HOST", "db"), ("KONG_SERVICE_HOST", "10.0.0.1")];
    let (_, notes) = load("admin_gui_listen = off\nlua_package_path = x", &env).unwrap();
    assert_eq!(
        notes,
        [
            "KONG_ADMIN_LISTEN: admin_listen: not served by this version: Addresses for the Admin API.",
            "KONG_PG_HOST: pg_host: has no effect: there is no database",
        ]
    );
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
    let mut ir = Ir::default();
    settings.lower_into(&mut ir);
    assert_eq!(ir.listeners.len(), 5);
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
    assert_eq!(settings.listeners[0].mapped_port, Some(80));
    assert_eq!(node.errors.json.as_deref(), Some("{\"m\":\"{{message}}\",\"id\":\"{{request_id}}\",\"p\":\"100%\"}"));
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
