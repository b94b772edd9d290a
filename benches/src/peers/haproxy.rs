//! HAProxy with the same routes, and the same fields added to requests and responses.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::Site;
use super::site::Setup;

pub(super) fn command(program: &Path, site: &Site) -> Result<Command> {
    let config = site.dir.file("haproxy.cfg", &file(site))?;
    site.dir.file("routes.map", &routes())?;
    let mut command = Command::new(program);
    // In the foreground, and without output.
    command.arg("-db").arg("-q").arg("-f").arg(config);
    Ok(command)
}

/// Without `cpu-map`, it would choose a core by itself. Strict limits would require twice as many files as connections,
/// even if most of these are idle.
pub(super) fn file(site: &Site) -> String {
    let mut text = "global
  nbthread 1
  cpu-map 1/1 0
  maxconn 16384
  no strict-limits
defaults
  timeout connect 5s
  timeout client 75s
  timeout server 60s
  timeout tunnel 1h
"
    .to_owned();
    if site.setup == Setup::Tcp {
        write!(text, "listen bench\n  mode tcp\n  bind {}\n  server upstream {}\n", site.tcp, site.upstream).ok();
    } else {
        http(&mut text, site);
    }
    text
}

/// Host and path of the routes, each with the path prefix to strip.
pub(super) fn routes() -> String {
    let mut text = String::new();
    for (host, paths) in Site::routes() {
        for path in paths {
            writeln!(text, "{host}.bench.test/{path}/ /{path}").ok();
        }
    }
    text
}

fn http(text: &mut String, site: &Site) {
    let dir = site.dir.path().display();
    let grpc = site.setup == Setup::Grpc;
    write!(
        text,
        "frontend clients
  mode http
  bind {http}
  bind {tls} ssl crt {dir}/both.pem alpn h2,http/1.1
  bind {h2c} proto h2
  unique-id-format %[uuid()]
  http-request set-var(txn.prefix) base,map_beg({dir}/routes.map)
  http-request deny deny_status 404 unless {{ var(txn.prefix) -m found }}
  option forwardfor
  http-request set-header Via \"1.1 haproxy\"
  http-request set-header X-Real-IP %[src]
  http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request set-header X-Forwarded-Port %[dst_port]
  http-request set-header X-Forwarded-Path %[path]
  http-request set-header X-Forwarded-Prefix %[var(txn.prefix)]
  http-request set-header X-Request-Id %[unique-id]
{strip}  http-response set-header Via \"1.1 haproxy\"
  http-response set-header X-Upstream-Latency %Tr
  http-response set-header X-Proxy-Latency %Ta
  http-response set-header X-Request-Id %[unique-id]
  default_backend upstream
backend upstream
  mode http
  http-reuse always
  server upstream {upstream}{proto}
",
        http = site.http,
        tls = site.tls,
        h2c = site.h2c,
        strip = if grpc { "" } else { "  http-request set-path /%[path,field(3,/,0)]\n" },
        upstream = site.upstream,
        proto = if grpc { " proto h2" } else { "" },
    )
    .ok();
}
