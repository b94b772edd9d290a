//! nginx with the same routes, and the same fields added to requests and responses.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::Site;
use crate::load::{HOSTS, PATHS};
use crate::procfs;

pub(super) fn command(program: &Path, site: &Site) -> Result<Command> {
    let dir = site.dir.path();
    let config = site.dir.file("nginx.conf", &file(site))?;
    let mut command = Command::new(program);
    command.arg("-p").arg(dir).arg("-c").arg(config).arg("-e").arg(dir.join("error.log"));
    Ok(command)
}

/// The one worker of the master.
pub(super) fn worker(master: u32) -> Result<u32> {
    let start = Instant::now();
    loop {
        if let [worker] = procfs::children(master)?.as_slice() {
            return Ok(*worker);
        }
        ensure!(start.elapsed() < Duration::from_secs(5), "nginx has no worker");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn file(site: &Site) -> String {
    let dir = site.dir.path().display();
    let mut text = format!(
        "worker_processes 1;
daemon off;
pid {dir}/nginx.pid;
error_log {dir}/error.log warn;
events {{ worker_connections 16384; }}
http {{
  access_log off;
  client_body_temp_path {dir}/body;
  proxy_temp_path {dir}/proxy;
  fastcgi_temp_path {dir}/fastcgi;
  uwsgi_temp_path {dir}/uwsgi;
  scgi_temp_path {dir}/scgi;
  keepalive_requests 1000000;
  ssl_certificate {dir}/cert.pem;
  ssl_certificate_key {dir}/key.pem;
  ssl_protocols TLSv1.2 TLSv1.3;
  ssl_session_cache shared:tls:10m;
  upstream bench {{ server {upstream}; keepalive 512; keepalive_requests 10000; }}
  proxy_http_version 1.1;
",
        upstream = site.upstream,
    );
    for host in HOSTS {
        write!(
            text,
            "  server {{\n    listen {};\n    listen {} ssl http2;\n    server_name {host}.bench.test;\n",
            site.http, site.tls
        )
        .ok();
        for path in PATHS {
            location(&mut text, path);
        }
        text.push_str("  }\n");
    }
    text.push_str("}\n");
    text
}

/// Strips the path and adds what Cardinal adds.
fn location(text: &mut String, path: &str) {
    write!(
        text,
        "    location /{path}/ {{
      proxy_pass http://bench/;
      proxy_set_header Connection \"\";
      proxy_set_header Via \"1.1 nginx\";
      proxy_set_header X-Real-IP $remote_addr;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-Host $host;
      proxy_set_header X-Forwarded-Port $server_port;
      proxy_set_header X-Forwarded-Path $uri;
      proxy_set_header X-Forwarded-Prefix /{path};
      proxy_set_header X-Request-Id $request_id;
      add_header Via \"1.1 nginx\";
      add_header X-Upstream-Latency $upstream_response_time;
      add_header X-Proxy-Latency $request_time;
      add_header X-Request-Id $request_id;
    }}
"
    )
    .ok();
}
