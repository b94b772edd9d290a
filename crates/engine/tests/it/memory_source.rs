//! A minimal front end: changes from memory drive a running engine, which does not depend on a front end.

use std::net::SocketAddr;
use std::sync::Arc;

use cardinal_engine::{Configuration, Engine, Options};
use cardinal_ir::{
    Action, Backend, Criteria, Filter, FilterSet, HeaderPolicy, Host, HttpVersion, Id, IrDelta, Listener, ListenerKind,
    Matches, NodeSettings, Origin, PathMatch, Rank, Route, Target,
};
use cardinal_sync::{Ack, ConfigSource as _, ConfigStatus, MemoryHandle, MemorySource, RecordResult, Refusal};
use cardinal_testkit::{EchoServer, H1Client, Response};
use serde_json::json;

use crate::plugins;

const BACKEND: Id = Id::from_u128(1);
const ROUTE: Id = Id::from_u128(2);
const FILTERS: Id = Id::from_u128(3);

fn origin(kind: &str, id: Id) -> Origin {
    Origin::new("test", kind, id)
}

fn settings(headers: HeaderPolicy) -> Arc<NodeSettings> {
    let listener = |kind| Listener {
        name: "test".into(),
        address: ([127, 0, 0, 1], 0).into(),
        kind,
        http2: false,
        ..Listener::default()
    };
    let listeners = vec![listener(ListenerKind::Http), listener(ListenerKind::Status)];
    Arc::new(NodeSettings { listeners, headers, ..NodeSettings::default() })
}

fn backend(address: SocketAddr) -> IrDelta {
    let target = Target::Host(Host { host: address.ip().to_string().into(), port: address.port() });
    let http = Some(HttpVersion::H1);
    let backend = Backend { origin: origin("backends", BACKEND), target, http, ..Backend::default() };
    IrDelta { backends: [(BACKEND, Some(backend))].into_iter().collect(), ..IrDelta::default() }
}

fn no_backend() -> IrDelta {
    IrDelta { backends: [(BACKEND, None)].into_iter().collect(), ..IrDelta::default() }
}

fn route(path: Option<&str>) -> IrDelta {
    let route = path.map(|path| {
        let matches = Matches::from(Criteria { paths: vec![PathMatch::Prefix(path.into())], ..Criteria::default() });
        let rank = Rank { weight: 1, tie: ROUTE.as_u128() };
        Route { origin: origin("routes", ROUTE), rank, matches, action: Action::Forward(BACKEND), ..Route::default() }
    });
    IrDelta { routes: [(ROUTE, route)].into_iter().collect(), ..IrDelta::default() }
}

fn filters(kind: Option<&str>) -> IrDelta {
    let set = kind.map(|kind| {
        let params = json!({"status_code": 418, "message": "no", "echo": false}).into();
        let filters = vec![Filter { kind: kind.into(), params, ..Filter::default() }];
        FilterSet { origin: origin("filters", FILTERS), filters, ..FilterSet::default() }
    });
    IrDelta { filter_sets: [(FILTERS, set)].into_iter().collect(), ..IrDelta::default() }
}

fn generation(ack: &Ack) -> u64 {
    match ack {
        Ack::Applied { generation, .. } => *generation,
        Ack::Refused(refusal) => panic!("{refusal}"),
    }
}

struct Scene {
    proxy: SocketAddr,
    status: SocketAddr,
    handle: MemoryHandle,
    backend: SocketAddr,
}

impl Scene {
    async fn get(&self, path: &str) -> Response {
        H1Client::connect(self.proxy).await.unwrap().get(path, "a.test", &[]).await.unwrap()
    }

    async fn status(&self, path: &str) -> serde_json::Value {
        H1Client::connect(self.status).await.unwrap().get(path, "status", &[]).await.unwrap().json()
    }

    async fn apply(&self, delta: IrDelta) -> Ack {
        self.handle.apply(delta).await.unwrap()
    }

    async fn play(self) {
        assert_eq!(self.status("/status/ready").await, json!({"message": "the configuration is empty"}));
        let missing = self.get("/a").await;
        assert_eq!((missing.status, missing.header("server")), (404, None));
        assert_eq!(missing.json()["message"], "no route matches");
        // A dangling reference rejects the change, and the error names the record.
        let refused = self.apply(route(Some("/a"))).await;
        assert!(matches!(refused, Ack::Refused(Refusal::Invalid(_))), "{refused:?}");
        assert!(matches!(refused.result_of(&origin("routes", ROUTE)), RecordResult::Rejected(_)));
        assert_eq!(generation(&self.apply(backend(self.backend)).await), 2);
        assert_eq!(generation(&self.apply(route(Some("/a"))).await), 3);
        assert_eq!(self.get("/a").await.status, 200);
        assert_eq!(generation(&self.apply(route(Some("/b"))).await), 4);
        assert_eq!((self.get("/a").await.status, self.get("/b").await.status), (404, 200));
        // An unusable record is rejected on its own.
        let partly = self.apply(filters(Some("no-such-filter"))).await;
        assert_eq!(generation(&partly), 5);
        assert!(matches!(partly.result_of(&origin("filters", FILTERS)), RecordResult::Rejected(_)), "{partly:?}");
        assert_eq!(partly.result_of(&origin("routes", ROUTE)), RecordResult::Accepted);
        assert_eq!(self.status("/status").await["config"]["left_out"], 1);
        generation(&self.apply(filters(Some("request-termination"))).await);
        assert_eq!(self.get("/b").await.status, 418);
        generation(&self.apply(filters(None)).await);
        // Settings of the node can be changed with or without records.
        let headers = HeaderPolicy { server: Some("test".into()), ..HeaderPolicy::default() };
        generation(&self.handle.configure(settings(headers), IrDelta::default()).await.unwrap());
        assert_eq!((self.get("/a").await.header("server"), self.get("/b").await.status), (Some("test"), 200));
        generation(&self.apply(route(None)).await);
        generation(&self.apply(no_backend()).await);
        assert_eq!(self.get("/b").await.status, 404);
        let status = self.status("/status").await;
        assert_eq!(status["config"]["reloads"], json!({"success": 9, "failure": 1}));
        let keys: Vec<_> = status.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["connections", "requests", "process", "node", "config", "configuration_hash"]);
    }
}

#[tokio::test]
async fn changes_from_memory_are_served() {
    let echo = EchoServer::start("backend").await;
    let status = Arc::<ConfigStatus>::default();
    let (handle, mut source) = MemorySource::new(Arc::clone(&status));
    let starting = async {
        let first = source.next().await.unwrap();
        let (workers, plugins, config_status) = (1, plugins().to_vec(), Some(status));
        let options = Options { workers, plugins, config_status, ..Options::default() };
        let (engine, applied) = Engine::start(Configuration::from(first), options).unwrap();
        source.ack(applied.into());
        engine
    };
    let node = settings(HeaderPolicy::default());
    let (engine, first) = tokio::join!(starting, handle.replace_all(Arc::default(), node));
    assert_eq!(generation(&first.unwrap()), 1);
    let at = |kind| engine.addresses().iter().find(|(listener, _)| listener.kind == kind).unwrap().1;
    let (proxy, status) = (at(ListenerKind::Http), at(ListenerKind::Status));
    let scene = Scene { proxy, status, handle, backend: echo.address() };
    tokio::join!(engine.follow(&mut source), scene.play());
}
