//! Targets and their health. Kong: `kong/api/routes/upstreams.lua`, `kong/db/dao/targets.lua`.

use cardinal_kong::entities::Kind;
use cardinal_sync::stream::TargetHealth;
use serde_json::{Value, json};

use super::call::Call;
use super::entities::{id_of, page, reference};
use super::message::Response;
use crate::dao::{Fault, Fields, Selector};

/// A path below an upstream.
#[derive(Clone, Copy, Debug)]
pub(super) enum Path {
    /// `/targets`
    All,
    /// `/targets/all`: those of weight 0, too
    Raw,
    /// `/targets/{t}`
    One,
    /// `/targets/{t}[/{address}]/healthy` and `unhealthy`
    Health { healthy: bool },
    /// `/health`
    Upstream,
}

/// The paths.
pub(super) const PATHS: [(&str, Path); 8] = [
    ("/upstreams/{upstreams}/health", Path::Upstream),
    ("/upstreams/{upstreams}/targets", Path::All),
    ("/upstreams/{upstreams}/targets/all", Path::Raw),
    ("/upstreams/{upstreams}/targets/{targets}", Path::One),
    ("/upstreams/{upstreams}/targets/{targets}/healthy", Path::Health { healthy: true }),
    ("/upstreams/{upstreams}/targets/{targets}/unhealthy", Path::Health { healthy: false }),
    ("/upstreams/{upstreams}/targets/{targets}/{address}/healthy", Path::Health { healthy: true }),
    ("/upstreams/{upstreams}/targets/{targets}/{address}/unhealthy", Path::Health { healthy: false }),
];

impl Path {
    pub(super) fn methods(self) -> &'static [&'static str] {
        match self {
            Self::All => &["GET", "POST"],
            Self::Raw | Self::Upstream => &["GET"],
            Self::One => &["GET", "PUT", "PATCH", "DELETE"],
            Self::Health { .. } => &["PUT"],
        }
    }

    pub(super) async fn answer(self, call: &Call<'_>, names: &[&str], method: &str) -> Result<Response, Fault> {
        let [name, rest @ ..] = names else { return Err(Fault::not_found()) };
        let target = rest.first().copied().unwrap_or_default();
        let registry = call.dao().registry();
        let (Some(upstreams), Some(targets)) = (registry.kind("upstreams"), registry.kind("targets")) else {
            return Err(Fault::not_found());
        };
        let upstream = call.selected(upstreams, name).await?.ok_or_else(Fault::not_found)?;
        let below = (upstreams, targets, &upstream);
        match self {
            Self::All if method == "POST" => create(call, targets, &upstream).await,
            Self::All => Self::list(call, below, (name, "")).await,
            Self::Raw => Self::list(call, below, (name, "/all")).await,
            Self::One => one(call, below, target, method).await,
            Self::Health { healthy } => {
                let target = named(call, below, target).await?.ok_or_else(Fault::not_found)?;
                let not_one = |text: &str| Fault::message(400, &format!("'{text}' is not an address with a port"));
                let address = rest.get(1).map(|text| text.parse().map_err(|_| not_one(text))).transpose()?;
                let name = target.get("target").and_then(Value::as_str).unwrap_or_default().to_owned();
                let upstream = id_of(&upstream).to_owned();
                let said = TargetHealth { upstream, target: name, address, is_healthy: healthy };
                call.admin.proxies.set_target_health(&said).map_err(|message| Fault::message(400, &message))?;
                if call.admin.declarative.is_none() && call.dao().tells_others() {
                    let node = call.admin.proxies.node_id();
                    call.dao().tell_health(&call.tenant, &node, id_of(&target), &said).await?;
                }
                Ok(Response::no_content())
            }
            Self::Upstream => health(call, below).await,
        }
    }

    async fn list(call: &Call<'_>, below: Below<'_>, (name, suffix): (&str, &str)) -> Result<Response, Fault> {
        let (upstreams, targets, upstream) = below;
        let reference = Some(("upstream", upstreams, id_of(upstream)));
        let (found, offset) = call.dao().page(&call.tenant, targets, reference, &call.listing()).await?;
        let mut found: Vec<Fields> = found;
        // The newest come first, and one for each address.
        found.sort_by(|a, b| created(b).total_cmp(&created(a)).then_with(|| id_of(b).cmp(id_of(a))));
        let data = found.into_iter().map(Value::Object).collect();
        Ok(page(data, offset, &format!("{}/upstreams/{name}/targets{suffix}", call.prefix), ""))
    }
}

/// Kind of upstreams, kind of targets, the upstream.
type Below<'c> = (&'c Kind, &'c Kind, &'c Fields);

fn created(target: &Fields) -> f64 {
    target.get("created_at").and_then(Value::as_f64).unwrap_or_default()
}

async fn create(call: &Call<'_>, targets: &Kind, upstream: &Fields) -> Result<Response, Fault> {
    call.writes("create", targets)?;
    let mut given = call.given_besides(targets, None, &["upstream"])?;
    given.insert("upstream".to_owned(), reference(upstream));
    call.dao().insert(&call.tenant, targets, given).await.map(|fields| Response::created(Value::Object(fields)))
}

/// The target of an upstream with an id or an address.
async fn named(
    call: &Call<'_>,
    (upstreams, targets, upstream): Below<'_>,
    name: &str,
) -> Result<Option<Fields>, Fault> {
    let found = match Selector::of(name) {
        selector @ Selector::Id(_) => call.dao().select(&call.tenant, targets, selector).await?,
        Selector::Name(name) => {
            let all = call.dao().all(&call.tenant, targets, Some(("upstream", upstreams, id_of(upstream)))).await?;
            all.into_iter().find(|target| target.get("target").and_then(Value::as_str) == Some(name))
        }
    };
    let owner = |target: &Fields| target.get("upstream").and_then(|upstream| upstream.get("id")).cloned();
    Ok(found.filter(|target| owner(target).as_ref() == upstream.get("id")))
}

async fn one(call: &Call<'_>, below: Below<'_>, name: &str, method: &str) -> Result<Response, Fault> {
    let (_, targets, _) = below;
    let target = named(call, below, name).await?.ok_or_else(Fault::not_found)?;
    let selector = Selector::Id(id_of(&target));
    match method {
        "GET" => Ok(Response::ok(Value::Object(target))),
        "DELETE" => {
            call.writes("remove", targets)?;
            call.dao().delete(&call.tenant, targets, selector).await?;
            Ok(Response::no_content())
        }
        // PUT changes an existing target, as PATCH does.
        _ => {
            call.writes("update", targets)?;
            let given = call.given_besides(targets, Some(&target), &[targets.primary_key])?;
            call.dao()
                .update(&call.tenant, targets, selector, given)
                .await
                .map(|fields| Response::ok(Value::Object(fields)))
        }
    }
}

async fn health(call: &Call<'_>, (upstreams, targets, upstream): Below<'_>) -> Result<Response, Fault> {
    let name = upstream.get("name").and_then(Value::as_str).unwrap_or_default();
    let node = call.admin.proxies.node_id();
    let seen = call.admin.proxies.upstream_health(id_of(upstream));
    if call.query.get("balancer_health").and_then(Value::as_str) == Some("1") {
        let balancer = seen.as_ref().and_then(|seen| seen.get("balancer")).cloned();
        let mut data = balancer
            .unwrap_or_else(|| json!({ "health": "HEALTHCHECKS_OFF", "balancer_health": "HEALTHY", "details": {} }));
        if let Some(data) = data.as_object_mut() {
            data.insert("id".to_owned(), id_of(upstream).into());
        }
        return Ok(Response::ok(json!({ "data": data, "next": null, "node_id": node })));
    }
    let reference = Some(("upstream", upstreams, id_of(upstream)));
    let (found, offset) = call.dao().page(&call.tenant, targets, reference, &call.listing()).await?;
    let data = found.into_iter().map(|mut target| {
        let address = target.get("target").and_then(Value::as_str).unwrap_or_default().to_owned();
        let entry = seen.as_ref().and_then(|seen| seen.get("targets")?.get(&address));
        let health = entry.and_then(|entry| entry.get("health")).cloned();
        target.insert("health".to_owned(), health.unwrap_or_else(|| "HEALTHCHECKS_OFF".into()));
        if let Some(data) = entry.and_then(|entry| entry.get("data")) {
            target.insert("data".to_owned(), data.clone());
        }
        Value::Object(target)
    });
    let mut response = page(data.collect(), offset, &format!("{}/upstreams/{name}/health", call.prefix), "");
    if let Some(body) = response.body.as_mut().and_then(Value::as_object_mut) {
        body.insert("node_id".to_owned(), node.into());
    }
    Ok(response)
}
