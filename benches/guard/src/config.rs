//! The configuration of the worker: the same sixteen routes as in the benchmark.

use std::fmt::Write as _;

use anyhow::Result;
use cardinal_engine::Configuration;
use cardinal_testkit::World;

use crate::Workload;

const HOSTS: [&str; 4] = ["shop", "users", "orders", "images"];
const PATHS: [&str; 4] = ["v1", "v2", "search", "static"];

/// Key of the consumer.
const KEY: &str = "0123456789abcdef0123456789abcdef";

/// The configuration of a workload.
pub(crate) fn compile(workload: Workload) -> Result<Configuration> {
    World::compiled(&cardinal::PLUGINS, &file(workload), &[])
}

fn file(workload: Workload) -> String {
    let url = if workload == Workload::Grpc { "grpc://127.0.0.1:8000" } else { "http://127.0.0.1:8000" };
    let mut text = format!("_format_version: \"3.0\"\nservices:\n- name: bench\n  url: {url}\n  routes:\n");
    for host in HOSTS {
        for path in PATHS {
            write!(text, "  - name: {host}-{path}\n    hosts: [{host}.bench.test]\n    paths: [/{path}]\n").ok();
            if workload == Workload::Grpc {
                text.push_str("    strip_path: false\n    protocols: [grpc]\n");
            }
        }
    }
    if workload == Workload::Plugins {
        write!(
            text,
            "plugins:\n- name: key-auth\n- name: rate-limiting\n  config: {{minute: 100000000, policy: local}}\n\
             - name: correlation-id\nconsumers:\n- username: bench\n  keyauth_credentials:\n  - key: {KEY}\n"
        )
        .ok();
    }
    text
}

/// Host and path of a client.
pub(crate) fn target(at: usize) -> (String, String) {
    let host = HOSTS.get(at % 4).copied().unwrap_or_default();
    let path = PATHS.get(at / 2 % 4).copied().unwrap_or_default();
    (format!("{host}.bench.test"), format!("/{path}/items/1234?page=3"))
}

/// The request of a client: about 190 bytes with five fields.
pub(crate) fn request(workload: Workload, at: usize) -> Vec<u8> {
    let (host, path) = target(at);
    let method = if workload == Workload::Up64k { "POST" } else { "GET" };
    let mut text = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: cardinal-bench/1.0\r\n\
         Accept: application/json, text/plain;q=0.9, */*;q=0.8\r\nAccept-Language: en-GB,en;q=0.7\r\n\
         Cookie: session=0123456789abcdef\r\n"
    );
    match workload {
        Workload::Plugins => text.push_str(&format!("apikey: {KEY}\r\n")),
        Workload::Up64k => text.push_str("Content-Length: 65536\r\n"),
        _ => {}
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    if workload == Workload::Up64k {
        bytes.resize(bytes.len() + 64 * 1024, b'x');
    }
    bytes
}
