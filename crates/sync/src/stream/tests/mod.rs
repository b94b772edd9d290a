#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

mod exchange;
mod simulation;
mod skew;

use std::sync::Arc;

use cardinal_base::Tick;
use cardinal_ir::{Cluster, Id, Ir, PrincipalGroup, SecretKey, Secrets};
use prost::Message as _;

use super::wire::{Request, Response};
use super::*;

const HISTORY: Id = Id::from_u128(77);

fn id(number: u128) -> Id {
    Id::from_u128(number)
}

fn node(number: u128) -> NodeInfo {
    let plugins = vec!["key-auth".to_owned()];
    NodeInfo {
        id: id(number),
        version: "1.2.3".to_owned(),
        hostname: format!("node-{number}"),
        plugins,
        ..NodeInfo::default()
    }
}

fn group(name: &str) -> PrincipalGroup {
    PrincipalGroup { name: name.into(), ..PrincipalGroup::default() }
}

/// Groups of these numbers and names, and a cluster.
fn ir(groups: &[(u128, &str)]) -> Arc<Ir> {
    let mut ir = Ir { groups: groups.iter().map(|(n, name)| (id(*n), group(name))).collect(), ..Ir::default() };
    ir.clusters.insert(id(1), Cluster::default());
    Arc::new(ir)
}

fn secrets(texts: &[&str]) -> Secrets {
    let mut secrets = Secrets::default();
    for text in texts {
        secrets.add(&SecretKey::default(), text);
    }
    secrets
}

fn client(held: Held) -> Client {
    Client::new(ClientOptions::new(node(1)), held)
}

fn server(now: Tick) -> Server {
    Server::new(ServerOptions::new(true), now)
}

/// What the bytes of an exchange were.
#[derive(Debug, Default, PartialEq, Eq)]
struct Traffic {
    up: usize,
    down: usize,
    parts: usize,
}

/// Passes messages until neither side has one, through their bytes.
fn exchange(client: &mut Client, server: &mut Server, history: &History, now: Tick) -> Traffic {
    let mut traffic = Traffic::default();
    loop {
        let (request, response) = (client.poll(now), server.poll(history));
        if request.is_none() && response.is_none() {
            return traffic;
        }
        if let Some(request) = request {
            let bytes = request.encode_to_vec();
            traffic.up += bytes.len();
            server.receive(Request::decode(&*bytes).unwrap(), history, now).unwrap();
        }
        if let Some(response) = response {
            let bytes = response.encode_to_vec();
            traffic.down += bytes.len();
            traffic.parts += usize::from(response.part.is_some());
            client.receive(Response::decode(&*bytes).unwrap(), now).unwrap();
        }
    }
}

/// Takes what is ready and acknowledges it.
fn apply(client: &mut Client) -> Received {
    let received = client.take().expect("a complete generation");
    client.acknowledge(&received, None, Vec::new());
    received
}
