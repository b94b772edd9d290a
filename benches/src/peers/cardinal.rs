//! Cardinal with the default installation, and its access log off.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::Site;
use super::site::{KEY, Setup, route};

pub(super) fn command(program: &Path, site: &Site) -> Result<Command> {
    let config = site.dir.file("kong.yaml", &file(site))?;
    let dir = site.dir.path();
    let mut command = Command::new(program);
    command.arg("run").arg("--config").arg(config).arg("--data-dir").arg(dir.join("data"));
    command.args(["--workers", "1", "--access-log", "off"]);
    let mut settings = vec![
        format!("proxy_listen={}, {} http2 ssl, {} http2", site.http, site.tls, site.h2c),
        format!("status_listen={}", site.status),
        "admin_listen=off".to_owned(),
        format!("ssl_cert={}", dir.join("cert.pem").display()),
        format!("ssl_cert_key={}", dir.join("key.pem").display()),
    ];
    if site.setup == Setup::Tcp {
        settings.push(format!("stream_listen={}", site.tcp));
    }
    for setting in settings {
        command.arg("--set").arg(setting);
    }
    Ok(command)
}

/// The number of the active configuration, from the status listener.
pub(super) fn generation(status: SocketAddr) -> Result<u64> {
    let mut stream = TcpStream::connect(status).context("Cardinal's status is not served")?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let line = text.lines().find_map(|line| line.strip_prefix("cardinal_generation "));
    line.and_then(|value| value.trim().parse().ok()).context("Cardinal does not tell its generation")
}

/// One service and its routes.
pub(super) fn file(site: &Site) -> String {
    let scheme = match site.setup {
        Setup::Grpc => "grpc",
        Setup::Tcp => "tcp",
        Setup::Http | Setup::WebSocket | Setup::Plugins | Setup::Routes(_) => "http",
    };
    let mut text =
        format!("_format_version: \"3.0\"\nservices:\n- name: bench\n  url: {scheme}://{}\n  routes:\n", site.upstream);
    match site.setup {
        Setup::Tcp => {
            let port = site.tcp.port();
            write!(text, "  - name: tcp\n    protocols: [tcp]\n    destinations: [{{ port: {port} }}]\n").ok();
        }
        Setup::Routes(count) => {
            for at in 0..count {
                let (host, path) = route(at);
                http_route(&mut text, &host, &path, "");
            }
        }
        Setup::Http | Setup::WebSocket | Setup::Plugins | Setup::Grpc => {
            let further = if site.setup == Setup::Grpc { "    protocols: [grpc]\n    strip_path: false\n" } else { "" };
            for (host, paths) in Site::routes() {
                paths.iter().for_each(|path| http_route(&mut text, host, path, further));
            }
        }
    }
    if site.extra.get() > 0 {
        http_route(&mut text, "changed", &format!("n{}", site.extra.get()), "");
    }
    if site.setup == Setup::Plugins {
        plugins(&mut text);
    }
    text
}

fn http_route(text: &mut String, host: &str, path: &str, further: &str) {
    write!(text, "  - name: {host}-{path}\n    hosts: [{host}.bench.test]\n    paths: [/{path}]\n{further}").ok();
}

/// The most common gateway features: authentication, rate limiting and request ids.
fn plugins(text: &mut String) {
    write!(
        text,
        "plugins:
- name: key-auth
- name: rate-limiting
  config: {{ minute: 1000000000, policy: local }}
- name: correlation-id
consumers:
- username: bench
  keyauth_credentials: [{{ key: {} }}]
",
        KEY.1
    )
    .ok();
}
