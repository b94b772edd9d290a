//! Cardinal's own paths below `/cardinal/v1`: revisions, comparisons, rollbacks, and batches of writes.

use cardinal_store::Author;
use serde_json::{Value, json};

use super::call::Call;
use super::message::Response;
use super::quarantine;
use crate::dao::{Fault, Selector};
use crate::history;
use crate::permissions::Action;

/// Revisions of a page.
const SIZE_DEFAULT: u64 = 20;
const SIZE_MAX: u64 = 200;

/// A path below `/cardinal/v1`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Path {
    /// `/revisions`
    Revisions,
    /// `/revisions/{r}`
    Revision,
    /// `/revisions/{a}/diff/{b}`
    Diff,
    /// `/revisions/{r}/rollback`
    Rollback,
    /// `/quarantine`
    Quarantine,
    /// `/batch`
    Batch,
}

/// The paths. Those with `generations` are of clients that were written before revisions had this name.
pub(super) const PATHS: [(&str, Path); 10] = [
    ("/cardinal/v1/revisions", Path::Revisions),
    ("/cardinal/v1/revisions/{revision}", Path::Revision),
    ("/cardinal/v1/revisions/{revision}/diff/{other}", Path::Diff),
    ("/cardinal/v1/revisions/{revision}/rollback", Path::Rollback),
    ("/cardinal/v1/generations", Path::Revisions),
    ("/cardinal/v1/generations/{revision}", Path::Revision),
    ("/cardinal/v1/generations/{revision}/diff/{other}", Path::Diff),
    ("/cardinal/v1/generations/{revision}/rollback", Path::Rollback),
    ("/cardinal/v1/quarantine", Path::Quarantine),
    ("/cardinal/v1/batch", Path::Batch),
];

/// The revisions that a path names.
fn named<const N: usize>(names: &[&str]) -> Result<[u64; N], Fault> {
    let revisions: Vec<u64> = names.iter().map_while(|name| name.parse().ok()).collect();
    revisions.try_into().map_err(|_| Fault::not_found())
}

impl Path {
    pub(super) fn methods(self) -> &'static [&'static str] {
        match self {
            Self::Revisions | Self::Revision | Self::Diff | Self::Quarantine => &["GET"],
            Self::Rollback | Self::Batch => &["POST"],
        }
    }

    pub(super) async fn answer(self, call: &Call<'_>, names: &[&str]) -> Result<Response, Fault> {
        let dao = call.dao();
        if call.admin.declarative.is_some() && self.methods() != ["GET"] {
            let message = "the entities come from files: change the files instead";
            return Err(Fault::message(405, message));
        }
        match self {
            Self::Revisions => revisions(call).await,
            Self::Quarantine => quarantine::answer(call).await,
            Self::Revision => {
                let [revision] = named(names)?;
                history::revision_changes(dao, revision, false).await.map(|found| Response::ok(found.to_json()))
            }
            Self::Diff => {
                let [from, to] = named(names)?;
                let compared = history::diff(dao, &call.admin.lowering, (from, to), false).await?;
                Ok(Response::ok(compared.to_json()))
            }
            Self::Rollback => {
                let [revision] = named(names)?;
                let is_trial = call.query.get("dry_run").is_some_and(|value| value == "true" || value == "1");
                let author = &call.tenant.author;
                history::rollback(dao, author, revision, is_trial).await.map(|done| Response::ok(done.to_json()))
            }
            Self::Batch => batch(call).await,
        }
    }
}

async fn revisions(call: &Call<'_>) -> Result<Response, Fault> {
    let number = |name: &str| {
        let Some(value) = call.query.get(name) else { return Ok(None) };
        let parsed = value.as_str().and_then(|text| text.parse::<u64>().ok());
        parsed.map(Some).ok_or_else(|| Fault::invalid_option(name, "must be a number"))
    };
    let size = number("size")?.unwrap_or(SIZE_DEFAULT);
    if !(1..=SIZE_MAX).contains(&size) {
        return Err(Fault::invalid_size(&format!("size must be an integer between 1 and {SIZE_MAX}")));
    }
    let size = usize::try_from(size).unwrap_or(1);
    let found = history::revisions(&**call.dao().store(), number("before")?, size).await?;
    let next = found.last().filter(|last| found.len() == size && last.revision > 1).map(|last| last.revision);
    let data: Vec<Value> = found.iter().map(history::Revision::to_json).collect();
    Ok(Response::ok(
        json!({ "data": data, "next": next.map(|revision| format!("/cardinal/v1/revisions?before={revision}&size={size}")) }),
    ))
}

/// A write of a batch needs what a request of its own would need.
async fn authorize(call: &Call<'_>, write: &Value) -> Result<(), Fault> {
    let text = |name: &str| write.get(name).and_then(Value::as_str).unwrap_or_default();
    // Writes that are none are refused later.
    let Some(action) = Action::of_method(text("method")) else { return Ok(()) };
    let mut kinds = call.dao().registry().kinds();
    let kind = kinds.find(|kind| kind.name == text("kind") || kind.collection == text("kind"));
    let Some(kind) = kind else { return Ok(()) };
    if kind.name == "targets" {
        return authorize_target(call, write, action).await;
    }
    let path = [kind.collection, text("key")];
    call.authorize(if path[1].is_empty() { &path[..1] } else { &path }, action)
}

/// Targets have paths below their upstream, which rules name by its id or by its name.
async fn authorize_target(call: &Call<'_>, write: &Value, action: Action) -> Result<(), Fault> {
    let (registry, dao) = (call.dao().registry(), call.dao());
    let (Some(targets), Some(upstreams)) = (registry.kind("targets"), registry.kind("upstreams")) else {
        return Ok(());
    };
    let key = write.get("key").and_then(Value::as_str).unwrap_or_default();
    let mut named = Vec::new();
    let mut name = |of: Option<&Value>| {
        let texts = ["id", "name"].into_iter().filter_map(|field| of?.get(field)?.as_str());
        named.extend(texts.map(str::to_owned));
    };
    name(write.pointer("/body/upstream"));
    if !key.is_empty() {
        let old = dao.select(&call.tenant, targets, Selector::of(key)).await?;
        name(old.as_ref().and_then(|target| target.get("upstream")));
    }
    let mut all = Vec::new();
    for name in named {
        let found = dao.select(&call.tenant, upstreams, Selector::of(&name)).await?;
        let fields = found.iter().flat_map(|found| ["id", "name"].map(|field| found.get(field)));
        all.extend(fields.flatten().filter_map(Value::as_str).map(str::to_owned));
        all.push(name);
    }
    if all.is_empty() {
        // An upstream that the batch itself makes.
        all.push(String::new());
    }
    for upstream in all {
        let path = ["upstreams", &upstream, "targets", key];
        call.authorize(if key.is_empty() { &path[..3] } else { &path }, action)?;
    }
    Ok(())
}

/// Many writes as one revision: all of them or none.
async fn batch(call: &Call<'_>) -> Result<Response, Fault> {
    let writes: Vec<Value> = match serde_json::from_slice(&call.request.body) {
        Ok(Value::Array(writes)) => writes,
        _ => return Err(Fault::message(400, "expected a JSON array of {method, kind, key, body}")),
    };
    for write in &writes {
        authorize(call, write).await?;
    }
    let mut tenant = call.tenant.clone();
    tenant.author = Author { via: "batch".into(), ..tenant.author };
    let done = call.dao().batch(&tenant, writes).await?;
    let entities: Vec<Value> =
        done.entities.into_iter().map(|fields| fields.map_or(Value::Null, Value::Object)).collect();
    Ok(Response::ok(json!({ "revision": done.revision, "entities": entities })))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use cardinal_base::{SeededRng, SystemClock};
    use cardinal_kong::Registry;
    use cardinal_store::MemoryStore;

    use super::super::{Admin, AdminSettings, Declarative, Request};
    use super::*;
    use crate::dao::FutureOf;
    use crate::{Dao, NoProxies};

    #[derive(Debug)]
    struct Files;

    impl Declarative for Files {
        fn text(&self) -> String {
            String::new()
        }

        fn hash(&self) -> String {
            "0".repeat(32)
        }

        fn is_served(&self, _: &str) -> bool {
            false
        }

        fn replace(&self, _: String, _: bool) -> FutureOf<'_, Result<Value, Fault>> {
            Box::pin(async { Ok(Value::Null) })
        }
    }

    #[tokio::test]
    async fn entities_of_files_are_not_changed() {
        let clock = Arc::new(SystemClock::new());
        let dao =
            Dao::new(Arc::new(MemoryStore::new(clock.clone())), Arc::new(Registry::new(&[])), clock, SeededRng::new(7));
        let settings = AdminSettings {
            version: "3.9.3".to_owned(),
            hostname: "test".to_owned(),
            configuration: Value::Null,
            origins: Vec::new(),
            is_control_plane: false,
            body_bytes_max: 1 << 20,
            enforce_rbac: Default::default(),
            sessions: Default::default(),
        };
        let admin = Admin::declarative(dao, Arc::new(NoProxies), settings, Arc::new(Files));
        for (method, path, status) in [
            ("GET", "revisions", 200),
            ("GET", "generations", 200),
            ("GET", "quarantine", 404),
            ("POST", "revisions/0/rollback", 405),
            ("POST", "batch", 405),
            ("GET", "revisions?size=0", 400),
            ("GET", "revisions?before=x", 400),
            ("GET", "revisions/1/diff", 404),
        ] {
            let (path, query) = path.split_once('?').unwrap_or((path, ""));
            let request = Request {
                method: method.to_owned(),
                path: format!("/cardinal/v1/{path}"),
                query: query.to_owned(),
                content_type: Some("application/json".to_owned()),
                origin: None,
                host: None,
                is_local: true,
                preflight_headers: None,
                credentials: Default::default(),
                from: "127.0.0.1".to_owned(),
                body: Bytes::from_static(b"[]"),
            };
            assert_eq!(admin.answer(&request).await.status, status, "{method} {path}");
        }
    }
}
