//! A plugin that records its log phase, and rejects sessions if configured to.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use cardinal_http::FailureKind;
use cardinal_ir::{Id, Wire};
use cardinal_schema::Schema;
use cardinal_sdk::{
    Admit, BuildCx, BuildError, ConnectCx, FailureMode, Filter, LogCx, Phases, PluginDef, RouteInfo, Scopes, TryState,
};
use serde_json::Value;

/// The plugin. Parameters: `name`, by which [`records`] finds its records, and `admit`.
pub(super) static PLUGIN: PluginDef = PluginDef {
    name: "recorder",
    summary: "Remembers the sessions it saw.",
    priority: 1,
    schema: || Schema::new([]),
    entities: &[],
    scopes: Scopes::ALL,
    protocols: &["tcp", "tls", "tls_passthrough", "udp"],
    failure: FailureMode::Closed,
    build,
    lower: None,
};

/// A session, as seen by the log phase.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) wire: Wire,
    pub(super) client: SocketAddr,
    pub(super) sni: Option<Box<str>>,
    pub(super) route: Option<Id>,
    pub(super) failure: Option<FailureKind>,
    /// Bytes from the client, to the client, to the upstream, from the upstream.
    pub(super) bytes: [u64; 4],
    /// Numbers of failed attempts, and of all attempts.
    pub(super) tries: (usize, usize),
}

static SEEN: Mutex<Option<HashMap<String, Vec<Record>>>> = Mutex::new(None);

/// The records of the instance with this name, once there are `count`.
pub(super) async fn records(name: &str, count: usize) -> Vec<Record> {
    let come = async || {
        let seen = SEEN.lock().unwrap().get_or_insert_default().get(name).cloned().unwrap_or_default();
        (seen.len() >= count).then_some(seen)
    };
    cardinal_testkit::until_some(name, come).await.unwrap()
}

struct Recorder {
    name: String,
    admit: bool,
}

fn build(params: &Value, _: &BuildCx<'_>) -> Result<Arc<dyn Filter>, BuildError> {
    let name = params["name"].as_str().unwrap_or_default().to_owned();
    Ok(Arc::new(Recorder { name, admit: params["admit"] != false }))
}

impl Filter for Recorder {
    fn phases(&self) -> Phases {
        Phases::CONNECT.and(Phases::LOG)
    }

    fn on_connect(&self, _: &mut ConnectCx<'_>) -> Admit {
        if self.admit { Admit::Yes } else { Admit::No }
    }

    fn on_log(&self, cx: &LogCx<'_>) {
        assert!(cx.response.is_none(), "a session has no response");
        let exchange = cx.exchange;
        let bytes = &exchange.bytes;
        let failed = exchange.tries.iter().filter(|t| t.state == Some(TryState::Failed)).count();
        let record = Record {
            wire: exchange.client.wire,
            client: exchange.client.peer,
            sni: exchange.client.tls.as_ref().and_then(|tls| tls.sni.clone()),
            route: exchange.route.as_ref().map(RouteInfo::id),
            failure: exchange.failure,
            bytes: [bytes.received, bytes.sent, bytes.upstream_sent, bytes.upstream_received],
            tries: (failed, exchange.tries.len()),
        };
        SEEN.lock().unwrap().get_or_insert_default().entry(self.name.clone()).or_default().push(record);
    }
}
