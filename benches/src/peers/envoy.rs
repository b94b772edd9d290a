//! Envoy with the same routes, and the same fields added to requests and responses.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::Site;
use super::site::Setup;

/// Maximum number of upstream connections and of in-flight requests; the default is 1024.
const UNDER_WAY_MAX: u32 = 65_536;

pub(super) fn command(program: &Path, site: &Site) -> Result<Command> {
    let config = site.dir.file("envoy.yaml", &file(site))?;
    let mut command = Command::new(program);
    command.arg("-c").arg(config).args(["--concurrency", "1", "--log-level", "error", "--disable-hot-restart"]);
    Ok(command)
}

pub(super) fn file(site: &Site) -> String {
    let mut text = "static_resources:\n  listeners:\n".to_owned();
    if site.setup == Setup::Tcp {
        listener(&mut text, "tcp", site.tcp);
        text.push_str(
            "      - name: envoy.filters.network.tcp_proxy
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: bench
          cluster: upstream
",
        );
    } else {
        listener(&mut text, "http", site.http);
        manager(&mut text, "HTTP1", site);
        listener(&mut text, "tls", site.tls);
        manager(&mut text, "AUTO", site);
        tls(&mut text, site);
        listener(&mut text, "h2c", site.h2c);
        manager(&mut text, "HTTP2", site);
    }
    cluster(&mut text, site);
    text
}

fn listener(text: &mut String, name: &str, address: SocketAddr) {
    write!(
        text,
        "  - name: {name}
    address: {{ socket_address: {{ address: {}, port_value: {} }} }}
    filter_chains:
    - filters:
",
        address.ip(),
        address.port()
    )
    .ok();
}

fn manager(text: &mut String, codec: &str, site: &Site) {
    write!(
        text,
        "      - name: envoy.filters.network.http_connection_manager
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: bench
          codec_type: {codec}
          use_remote_address: true
          always_set_request_id_in_response: true
          via: 1.1 envoy
          upgrade_configs: [{{ upgrade_type: websocket }}]
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{ \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
          route_config:
            name: bench
            virtual_hosts:
"
    )
    .ok();
    for (host, paths) in Site::routes() {
        // The port is part of the Host field, but the clients omit it.
        write!(
            text,
            "            - name: {host}
              domains: [{host}.bench.test]
              request_headers_to_add:
              - header: {{ key: X-Real-IP, value: \"%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%\" }}
              - header: {{ key: X-Forwarded-Host, value: \"%REQ(:AUTHORITY)%\" }}
              - header: {{ key: X-Forwarded-Port, value: \"%DOWNSTREAM_LOCAL_PORT%\" }}
              - header: {{ key: X-Forwarded-Path, value: \"%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%\" }}
              response_headers_to_add:
              - header: {{ key: X-Proxy-Latency, value: \"%REQUEST_DURATION%\" }}
              routes:
"
        )
        .ok();
        for path in paths {
            let strip = if site.setup == Setup::Grpc { "" } else { ", prefix_rewrite: \"/\"" };
            write!(
                text,
                "              - match: {{ prefix: \"/{path}/\" }}
                route: {{ cluster: upstream, timeout: 0s{strip} }}
                request_headers_to_add: [{{ header: {{ key: X-Forwarded-Prefix, value: \"/{path}\" }} }}]
"
            )
            .ok();
        }
    }
}

fn tls(text: &mut String, site: &Site) {
    let dir = site.dir.path().display();
    write!(
        text,
        "      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            alpn_protocols: [h2, http/1.1]
            tls_certificates:
            - certificate_chain: {{ filename: {dir}/cert.pem }}
              private_key: {{ filename: {dir}/key.pem }}
"
    )
    .ok();
}

fn cluster(text: &mut String, site: &Site) {
    let protocol = if site.setup == Setup::Grpc {
        "    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: { http2_protocol_options: {} }
"
    } else {
        ""
    };
    write!(
        text,
        "  clusters:
  - name: upstream
    type: STATIC
    connect_timeout: 5s
{protocol}    circuit_breakers:
      thresholds:
      - max_connections: {UNDER_WAY_MAX}
        max_pending_requests: {UNDER_WAY_MAX}
        max_requests: {UNDER_WAY_MAX}
    load_assignment:
      cluster_name: upstream
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {{ socket_address: {{ address: {}, port_value: {} }} }} }}
",
        site.upstream.ip(),
        site.upstream.port()
    )
    .ok();
}
