//! nginx with the same routes, and the same fields added to requests and responses.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::Site;
use super::site::Setup;
use crate::procfs;

/// The path of the TCP proxy module in Debian. Other builds include the module.
const STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

pub(super) fn command(program: &Path, site: &Site) -> Result<Command> {
    let dir = site.dir.path();
    let config = site.dir.file("nginx.conf", &file(site))?;
    let mut command = Command::new(program);
    command.arg("-p").arg(dir).arg("-c").arg(config).arg("-e").arg(dir.join("error.log"));
    Ok(command)
}

/// The only worker of the master. During a reload, there are more.
pub(super) fn worker(master: u32) -> Result<u32> {
    let start = Instant::now();
    loop {
        if let [worker] = procfs::children(master)?.as_slice() {
            return Ok(*worker);
        }
        ensure!(start.elapsed() < Duration::from_secs(5), "nginx has not one worker");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The most recently started worker.
pub(super) fn newest_worker(master: u32) -> Result<u32> {
    procfs::children(master)?.last().copied().context("nginx has no worker")
}

pub(super) fn file(site: &Site) -> String {
    let dir = site.dir.path().display();
    let mut text = String::new();
    if site.setup == Setup::Tcp && Path::new(STREAM_MODULE).exists() {
        writeln!(text, "load_module {STREAM_MODULE};").ok();
    }
    write!(
        text,
        "worker_processes 1;
daemon off;
pid {dir}/nginx.pid;
error_log {dir}/error.log warn;
events {{ worker_connections 16384; }}
"
    )
    .ok();
    if site.setup == Setup::Tcp {
        let (listen, upstream) = (site.tcp, site.upstream);
        write!(text, "stream {{\n  server {{ listen {listen}; proxy_pass {upstream}; }}\n}}\n").ok();
    } else {
        http(&mut text, site);
    }
    text
}

fn http(text: &mut String, site: &Site) {
    write!(
        text,
        "http {{
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
  upstream bench {{ server {upstream}; keepalive 2048; keepalive_requests 1000000; }}
  proxy_http_version 1.1;
  client_max_body_size 0;
  client_body_buffer_size 64k;
  proxy_request_buffering off;
  proxy_buffers 16 16k;
  proxy_max_temp_file_size 0;
",
        dir = site.dir.path().display(),
        upstream = site.upstream,
    )
    .ok();
    if site.setup == Setup::WebSocket {
        text.push_str("  map $http_upgrade $onward { default upgrade; '' ''; }\n");
    }
    for (host, paths) in Site::routes() {
        write!(
            text,
            "  server {{
    listen {};
    listen {} ssl http2;
    listen {} http2;
    server_name {host}.bench.test;
",
            site.http, site.tls, site.h2c
        )
        .ok();
        for path in paths {
            location(text, path, &site.setup);
        }
        text.push_str("  }\n");
    }
    if site.extra.get() > 0 {
        let (listen, n) = (site.http, site.extra.get());
        let changed = format!("location /n{n}/ {{ return 204; }}");
        writeln!(text, "  server {{ listen {listen}; server_name changed.bench.test; {changed} }}").ok();
    }
    text.push_str("}\n");
}

/// Adds the same fields as Cardinal, and strips the path, except for gRPC methods.
fn location(text: &mut String, path: &str, setup: &Setup) {
    let onward = match setup {
        Setup::Grpc => "grpc_pass grpc://bench",
        Setup::WebSocket => {
            "proxy_pass http://bench/;\n      proxy_set_header Upgrade $http_upgrade;\n      proxy_set_header Connection $onward"
        }
        Setup::Http | Setup::Plugins | Setup::Tcp | Setup::Routes(_) => {
            "proxy_pass http://bench/;\n      proxy_set_header Connection \"\""
        }
    };
    let set = if *setup == Setup::Grpc { "grpc_set_header" } else { "proxy_set_header" };
    write!(
        text,
        "    location /{path}/ {{
      {onward};
      {set} Via \"1.1 nginx\";
      {set} X-Real-IP $remote_addr;
      {set} X-Forwarded-For $proxy_add_x_forwarded_for;
      {set} X-Forwarded-Proto $scheme;
      {set} X-Forwarded-Host $host;
      {set} X-Forwarded-Port $server_port;
      {set} X-Forwarded-Path $uri;
      {set} X-Forwarded-Prefix /{path};
      {set} X-Request-Id $request_id;
      add_header Via \"1.1 nginx\";
      add_header X-Upstream-Latency $upstream_response_time;
      add_header X-Proxy-Latency $request_time;
      add_header X-Request-Id $request_id;
    }}
"
    )
    .ok();
}
