//! A minimal front end: a listener with mutual TLS, a weighted route, a retry policy and an authorization are added,
//! changed and removed by deltas, without dropping an unrelated connection.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, ensure};
use cardinal_engine::Configuration;
use cardinal_ir::policy::{
    AccessAction, AccessRule, Authorization, ClientMatch, IdentityMatch, PathCondition, RequestCondition, Retry,
    RetryCondition,
};
use cardinal_ir::{
    Action, Backend, Id, Ir, Listener, NodeSettings, Policy, PolicySpec, Rank, Route, Scope, WeightedBackend,
};
use cardinal_sync::{Ack, MemoryHandle, MemorySource};
use cardinal_testkit::{EchoServer, H1Client, World};

use super::front::{BACKEND, Domain, Front, GROUP, LISTENER, ROUTE, listener, origin, route};
use crate::plugins;
use crate::scene::eventually;
use crate::secrets::known;

/// The front end: edits records, and sends the changes to the engine.
struct FrontEnd {
    ir: Ir,
    changes: MemoryHandle,
}

impl FrontEnd {
    async fn change(&mut self, change: impl FnOnce(&mut Ir)) -> Result<()> {
        let before = self.ir.clone();
        change(&mut self.ir);
        match self.changes.apply_with(before.diff(&self.ir), known()).await? {
            Ack::Applied { diagnostics, .. } => ensure!(diagnostics.is_empty(), "{diagnostics:?}"),
            Ack::Refused(refusal) => return Err(refusal.into()),
        }
        Ok(())
    }
}

const OTHER: Id = Id::from_u128(30);
const DEFAULT_ROUTE: Id = Id::from_u128(31);
const POLICY: Id = Id::from_u128(32);

/// Only `/near` is allowed, and nobody may access `/secret`; in shadow mode, denials are only counted.
fn authorization(domain: &Domain, shadow: bool) -> Policy {
    let near = ClientMatch::Identity(IdentityMatch::Exact(domain.id("/near").into()));
    let secret = RequestCondition { paths: vec![PathCondition::Prefix("/secret".into())], ..Default::default() };
    let deny = AccessRule { action: AccessAction::Deny, requests: vec![secret], ..AccessRule::default() };
    let allow = AccessRule { action: AccessAction::Allow, clients: vec![near], ..AccessRule::default() };
    let spec = Authorization { rules: vec![deny, allow], shadow, ..Authorization::default() };
    let scope = Scope { listeners: Some(GROUP), ..Scope::default() };
    Policy { origin: origin("policies", POLICY), scope, spec: PolicySpec::Authorization(spec), ..Policy::default() }
}

fn retry(attempts: u16) -> Option<Arc<Retry>> {
    let conditions = vec![RetryCondition::Status(503)];
    Some(Arc::new(Retry { attempts, conditions, ..Retry::default() }))
}

/// Routes of the group with these weights for two backends, and this number of retries.
fn weighted(ir: &mut Ir, weights: [u32; 2], attempts: u16) {
    for id in [BACKEND, OTHER] {
        let backend = Backend { retry: retry(attempts), ..ir.backends.get(&id).unwrap().as_ref().clone() };
        ir.backends.insert(id, backend);
    }
    let shares = [BACKEND, OTHER].into_iter().zip(weights);
    let mut split = ir.routes.get(&ROUTE).unwrap().as_ref().clone();
    split.action = Action::Split(shares.map(|(backend, weight)| WeightedBackend { backend, weight }).collect());
    ir.routes.insert(ROUTE, split);
}

/// How many responses each server sent, and the statuses.
async fn answers(near: &Front, path: &str, count: usize) -> Result<BTreeMap<String, usize>> {
    let (mut client, mut seen) = (H1Client::connect(near.own()).await?, BTreeMap::new());
    for _ in 0..count {
        let response = client.get(path, "a.test", &[]).await?;
        let answer = match response.status {
            200 => response.json()["server"].as_str().unwrap().to_owned(),
            status => status.to_string(),
        };
        *seen.entry(answer).or_insert(0) += 1;
    }
    Ok(seen)
}

#[tokio::test]
async fn a_front_end_of_a_dozen_lines_changes_a_running_engine_by_delta() -> Result<()> {
    let node = NodeSettings { listeners: vec![Listener::default()], ..NodeSettings::default() };
    let world = World::of(plugins(), Configuration::new(Ir::default(), node))?;
    let (changes, mut source) = MemorySource::new(Arc::clone(world.engine().config_status()));
    let front = FrontEnd { ir: Ir::default(), changes };
    // The source ends with the front end.
    let ((), outcome) = tokio::join!(world.engine().follow(&mut source), play(front, &world));
    outcome
}

async fn play(mut front: FrontEnd, world: &World) -> Result<()> {
    let (one, two, domain) =
        (EchoServer::start("one").await, EchoServer::start("two").await, Domain::new("example.org"));
    let elsewhere_is = async |client: &mut H1Client, what: &str| {
        let status = client.get("/", "a.test", &[]).await?.status;
        ensure!(status == 200, "elsewhere, {what}: {status}");
        Ok(())
    };
    front
        .change(|ir| {
            route(ir, None, one.address(), |_, _| {});
            let moved = ir.routes.remove(&ROUTE).unwrap();
            let rank = Rank { weight: 1, tie: DEFAULT_ROUTE.as_u128() };
            let moved = Route { origin: origin("routes", DEFAULT_ROUTE), rank, ..moved.as_ref().clone() };
            ir.routes.insert(DEFAULT_ROUTE, moved);
        })
        .await?;
    let mut elsewhere = H1Client::connect(world.http()).await?;
    elsewhere_is(&mut elsewhere, "before").await?;

    // Everything is added with one delta.
    let added = |ir: &mut Ir| {
        domain.join(ir, "/far");
        listener(ir, |listener| listener.tls = domain.server(&["/near"]));
        route(ir, Some(GROUP), two.address(), |_, _| {});
        let second = ir.backends.get(&BACKEND).unwrap().as_ref().clone();
        ir.backends.insert(OTHER, Backend { origin: origin("backends", OTHER), ..second });
        route(ir, Some(GROUP), one.address(), |_, _| {});
        weighted(ir, [1, 1], 2);
        ir.policies.insert(POLICY, authorization(&domain, false));
    };
    front.change(added).await?;
    elsewhere_is(&mut elsewhere, "added").await?;
    let far = world.engine().addresses().into_iter().find(|(listener, _)| listener.origin.id == LISTENER).unwrap().1;
    let mut near = Front::start(Ir::default());
    let found = near.change(|ir| {
        domain.join(ir, "/near");
        route(ir, None, far, |backend, _| backend.tls = domain.client(&["/far"]));
    });
    assert_eq!(found, [""; 0]);
    let seen = answers(&near, "/", 100).await?;
    let names: Vec<&str> = seen.keys().map(String::as_str).collect();
    assert_eq!((names, seen.values().sum::<usize>()), (vec!["one", "two"], 100));
    assert_eq!(answers(&near, "/secret", 2).await?, [("403".to_owned(), 2)].into());
    let retried = || world.engine().totals().retries.iter().map(|(_, count)| count).sum::<u64>();
    let unavailable = async || {
        let mut client = H1Client::connect(near.own()).await?;
        client.get("/", "a.test", &[("x-echo", "status:503")]).await.map(|response| response.status)
    };
    assert_eq!((unavailable().await?, retried()), (503, 2));

    // Everything is changed.
    front
        .change(|ir| {
            weighted(ir, [0, 1], 5);
            ir.policies.insert(POLICY, authorization(&domain, true));
        })
        .await?;
    elsewhere_is(&mut elsewhere, "changed").await?;
    assert_eq!(answers(&near, "/", 20).await?, [("two".to_owned(), 20)].into());
    assert_eq!(answers(&near, "/secret", 2).await?, [("two".to_owned(), 2)].into());
    assert_eq!((unavailable().await?, retried()), (503, 7));
    // A peer that the listener no longer accepts loses its connection.
    front.change(|ir| listener(ir, |listener| listener.tls = domain.server(&["/other"]))).await?;
    assert_eq!(answers(&near, "/", 1).await?, [("502".to_owned(), 1)].into());
    elsewhere_is(&mut elsewhere, "revoked").await?;

    // Everything is removed.
    front
        .change(|ir| {
            ir.listeners.remove(&LISTENER);
            ir.policies.remove(&POLICY);
            ir.routes.remove(&ROUTE);
            ir.backends.remove(&OTHER);
            ir.listener_groups.remove(&GROUP);
        })
        .await?;
    elsewhere_is(&mut elsewhere, "removed").await?;
    assert!(eventually(|| std::net::TcpStream::connect(far).is_err()).await);
    elsewhere_is(&mut elsewhere, "at the end").await
}
