//! What clients ask about the node and the API itself. Kong: `kong/api/routes/{kong,health,tags,plugins,clustering}.lua`.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::call::Call;
use super::entities::page;
use super::message::Response;
use crate::DataPlane;
use crate::dao::{Fault, Listing, Tags};

/// The type of metrics, as Kong has it.
const METRICS_TYPE: &str = "text/plain; charset=UTF-8";

/// A path about the node.
#[derive(Clone, Copy, Debug)]
pub(super) enum Page {
    /// `/`
    Root,
    /// `/status`
    Status,
    /// `/metrics`
    Metrics,
    /// `/plugins/enabled`
    EnabledPlugins,
    /// `/plugins/schema/{name}`
    PluginSchema,
    /// `/tags`
    Tags,
    /// `/tags/{tag}`
    Tag,
    /// `/timers`
    Timers,
    /// `/cache`
    Caches,
    /// `/cache/{key}`
    Cache,
    /// `/clustering/data-planes`
    DataPlanes,
    /// `/clustering/status`, which Kong keeps for old clients
    ClusterStatus,
}

/// The paths.
pub(super) const PATHS: [(&str, Page); 14] = [
    ("/", Page::Root),
    ("/kong", Page::Root),
    ("/status", Page::Status),
    ("/metrics", Page::Metrics),
    ("/plugins/enabled", Page::EnabledPlugins),
    ("/plugins/schema/{name}", Page::PluginSchema),
    ("/tags", Page::Tags),
    ("/tags/{tags}", Page::Tag),
    ("/timers", Page::Timers),
    ("/cache", Page::Caches),
    ("/cache/{key}", Page::Cache),
    ("/clustering/data-planes", Page::DataPlanes),
    ("/clustering/data_planes", Page::DataPlanes),
    ("/clustering/status", Page::ClusterStatus),
];

impl Page {
    pub(super) fn methods(self) -> &'static [&'static str] {
        match self {
            Self::Caches => &["DELETE"],
            Self::Cache => &["GET", "DELETE"],
            _ => &["GET"],
        }
    }

    pub(super) async fn answer(self, call: &Call<'_>, names: &[&str], method: &str) -> Result<Response, Fault> {
        let name = names.first().copied().unwrap_or_default();
        match self {
            Self::Root => root(call).await,
            Self::Status => status(call).await,
            Self::Metrics => Ok(Response::text(METRICS_TYPE, call.admin.proxies.metrics())),
            Self::EnabledPlugins => {
                let names: Vec<&str> = call.dao().registry().plugins().map(|plugin| plugin.def.name).collect();
                Ok(Response::ok(json!({ "enabled_plugins": names })))
            }
            Self::PluginSchema => {
                let plugin = call.dao().registry().plugin(name);
                let plugin = plugin.ok_or_else(|| Fault::message(404, &format!("No plugin named '{name}'")))?;
                Ok(Response::ok(plugin.config.kong_form()))
            }
            Self::Tags => tags(call, None).await,
            Self::Tag => tags(call, Some(name)).await,
            Self::Timers => Ok(Response::ok(json!({
                "worker": { "id": 0, "count": 1 },
                "stats": { "sys": { "total": 0, "runs": 0, "running": 0, "waiting": 0, "pending": 0 }, "timers": {} },
            }))),
            // There is no cache that could be stale: a change reaches all workers as a new generation.
            Self::Cache if method == "GET" => Err(Fault::not_found()),
            Self::Caches | Self::Cache => Ok(Response::no_content()),
            Self::DataPlanes => {
                let shown = data_planes(call)?.iter().map(DataPlane::to_json).collect();
                paged(call, shown, "/clustering/data-planes", "")
            }
            Self::ClusterStatus => {
                let by_id = data_planes(call)?.into_iter().map(|plane| {
                    let fields = json!({ "hostname": plane.node.hostname, "ip": plane.address.to_string(),
                        "last_seen": plane.last_seen, "config_hash": plane.hash });
                    (plane.id.to_string(), fields)
                });
                Ok(Response::ok(Value::Object(by_id.collect())))
            }
        }
    }
}

/// The data planes in the order of their ids.
fn data_planes(call: &Call<'_>) -> Result<Vec<DataPlane>, Fault> {
    let not_here = "this endpoint is only available when Kong is configured to run as Control Plane for the cluster";
    let mut planes = call.admin.proxies.data_planes().ok_or_else(|| Fault::message(400, not_here))?;
    planes.sort_by_key(|plane| plane.id);
    Ok(planes)
}

async fn root(call: &Call<'_>) -> Result<Response, Fault> {
    let settings = &call.admin.settings;
    let registry = call.dao().registry();
    let available: Map<String, Value> = registry
        .plugins()
        .map(|plugin| {
            let facts = json!({ "version": settings.version, "priority": plugin.def.priority });
            (plugin.def.name.to_owned(), facts)
        })
        .collect();
    let mut enabled = BTreeSet::new();
    if let Some(plugins) = registry.kind("plugins") {
        for plugin in call.dao().all(&call.tenant, plugins, None).await? {
            enabled.extend(plugin.get("name").and_then(Value::as_str).map(str::to_owned));
        }
    }
    let is_enterprise = settings.version.contains("enterprise");
    let mut configuration = settings.configuration.clone();
    if let Some(configuration) = configuration.as_object_mut() {
        configuration.insert("log_level".to_owned(), call.admin.proxies.log_level().into());
    }
    Ok(Response::ok(json!({
        "tagline": "Welcome to kong",
        "version": settings.version,
        "edition": if is_enterprise { "enterprise" } else { "community" },
        "hostname": settings.hostname,
        "node_id": call.admin.proxies.node_id(),
        "timers": { "running": 0, "pending": 0 },
        "plugins": { "available_on_server": available, "enabled_in_cluster": enabled },
        "lua_version": "LuaJIT 2.1.0",
        "configuration": configuration,
        "pids": { "master": std::process::id(), "workers": [std::process::id()] },
    })))
}

async fn status(call: &Call<'_>) -> Result<Response, Fault> {
    let mut body = call.admin.proxies.status(&call.request.query).map_err(|text| Fault::message(400, &text))?;
    let Some(fields) = body.as_object_mut() else { return Ok(Response::ok(body)) };
    match &call.admin.declarative {
        Some(declarative) => {
            fields.insert("configuration_hash".to_owned(), declarative.hash().into());
        }
        None => {
            fields.shift_remove("configuration_hash");
            let store = call.dao().store().status().await;
            let mut database = json!({ "reachable": store.is_ok() });
            if let (Ok(store), Some(database)) = (store, database.as_object_mut()) {
                database.insert("engine".to_owned(), store.engine.into());
                database.insert("revision".to_owned(), store.revision.into());
            }
            if let (Some(source), Some(database)) = (&call.admin.source, database.as_object_mut()) {
                database.insert("revision_served".to_owned(), source.revision().into());
            }
            fields.insert("database".to_owned(), database);
        }
    }
    Ok(Response::ok(body))
}

/// Entities with tags, or with this tag: a page spans all kinds.
async fn tags(call: &Call<'_>, tag: Option<&str>) -> Result<Response, Fault> {
    let filter = tag.map_or(Tags::None, |tag| Tags::Text(tag.to_owned()));
    let mut data = Vec::new();
    let registry = call.dao().registry();
    for kind in registry.kinds().filter(|kind| kind.schema.field("tags").is_some()) {
        let mut listing = Listing { size: Some(1_000.into()), offset: None, tags: filter.clone() };
        loop {
            let (found, offset) = call.dao().page(&call.tenant, kind, None, &listing).await?;
            for fields in &found {
                let own = fields.get("tags").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
                for own in own.filter(|own| tag.is_none_or(|tag| tag == *own)) {
                    data.push(json!({ "tag": own, "entity_name": kind.name, "entity_id": fields.get("id") }));
                }
            }
            match offset {
                Some(offset) => listing.offset = Some(offset),
                None => break,
            }
        }
    }
    paged(call, data, &tag.map_or_else(|| "/tags".to_owned(), |tag| format!("/tags/{tag}")), "")
}

/// One page of a list in memory. The offset is an index.
pub(super) fn paged(call: &Call<'_>, data: Vec<Value>, path: &str, further: &str) -> Result<Response, Fault> {
    let listing = call.listing();
    let size = match &listing.size {
        None => 100,
        Some(given) => given
            .as_str()
            .and_then(|text| text.parse::<usize>().ok())
            .filter(|n| (1..=1_000).contains(n))
            .ok_or_else(|| Fault::invalid_size("size must be an integer between 1 and 1000"))?,
    };
    let start = match &listing.offset {
        None => 0,
        Some(text) => {
            text.parse::<usize>().map_err(|_| Fault::message(400, &format!("'{text}' is not a valid offset")))?
        }
    };
    let rest = data.len().saturating_sub(start);
    let offset = (rest > size).then(|| (start + size).to_string());
    let path = format!("{}{path}", call.prefix);
    Ok(page(data.into_iter().skip(start).take(size).collect(), offset, &path, further))
}
