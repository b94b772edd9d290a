//! The entities: one service that answers itself, its routes, consumers, and a key for each consumer.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use serde_json::{Value, json};

use super::node::Node;

/// Writes of one batch.
const BATCH: usize = 1_000;

/// How many entities there are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Count {
    pub(super) routes: usize,
    pub(super) consumers: usize,
}

fn route(at: usize) -> Value {
    json!({"name": format!("r{at}"), "hosts": [format!("h{}.bench.test", at / 16)], "paths": [format!("/p{at}")]})
}

fn termination() -> Value {
    json!({"name": "request-termination", "config": {"status_code": 200, "message": "ok"}})
}

/// The service and its plugin, which both ways of writing need first.
fn service(node: &Node) -> Result<()> {
    let mut client = node.client()?;
    let service = json!({"name": "bench", "host": "127.0.0.1", "port": 9});
    client.write("POST", "/services", &service.to_string())?;
    client.write("POST", "/services/bench/plugins", &termination().to_string())?;
    Ok(())
}

/// One request for each entity, on several connections.
pub(super) fn one_by_one(node: &Node, count: Count, connections: usize) -> Result<()> {
    service(node)?;
    let all = count.routes + count.consumers;
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let worker = || -> Result<()> {
            let mut client = node.client()?;
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                if at >= all {
                    return Ok(());
                }
                if at < count.routes {
                    client.write("POST", "/services/bench/routes", &route(at).to_string())?;
                    continue;
                }
                let at = at - count.routes;
                client.write("POST", "/consumers", &json!({"username": format!("c{at}")}).to_string())?;
                let key = json!({"key": format!("key-{at:032}")}).to_string();
                client.write("POST", &format!("/consumers/c{at}/key-auth"), &key)?;
            }
        };
        let workers: Vec<_> = (0..connections).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|_| anyhow::bail!("a thread panicked")))
    })
}

/// Batches, one after another on one connection.
pub(super) fn in_batches(node: &Node, count: Count) -> Result<()> {
    service(node)?;
    let write = |kind: &str, body: Value| json!({"method": "post", "kind": kind, "body": body});
    let named = |mut route: Value| {
        route["service"] = json!({"name": "bench"});
        write("routes", route)
    };
    let routes = (0..count.routes).map(|at| named(route(at)));
    let consumers = (0..count.consumers).flat_map(|at| {
        let key = json!({"key": format!("key-{at:032}"), "consumer": {"username": format!("c{at}")}});
        [write("consumers", json!({"username": format!("c{at}")})), write("keyauth_credentials", key)]
    });
    let (mut client, mut writes) = (node.client()?, routes.chain(consumers).peekable());
    while writes.peek().is_some() {
        let batch: Vec<Value> = writes.by_ref().take(BATCH).collect();
        client.write("POST", "/cardinal/v1/batch", &Value::from(batch).to_string())?;
    }
    Ok(())
}

/// The same entities as a declarative file.
pub(super) fn file(count: Count) -> String {
    let mut text = format!(
        "_format_version: \"3.0\"\nservices:\n- name: bench\n  host: 127.0.0.1\n  port: 9\n  \
         plugins:\n  - {}\n  routes:\n",
        termination()
    );
    (0..count.routes).for_each(|at| writeln!(text, "  - {}", route(at)).unwrap_or_default());
    text.push_str("consumers:\n");
    for at in 0..count.consumers {
        let key = format!("key-{at:032}");
        let consumer = json!({"username": format!("c{at}"), "keyauth_credentials": [{"key": key}]});
        writeln!(text, "- {consumer}").unwrap_or_default();
    }
    text
}
