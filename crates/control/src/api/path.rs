//! What a path of the API means. Kong: `generate_endpoints` of `kong/api/endpoints.lua`.

use cardinal_kong::Registry;
use cardinal_kong::entities::Kind;
use percent_encoding::percent_decode_str;

use super::call::Call;
use super::entities::{Nested, nested_name};
use super::message::Response;
use super::{configuration, consumer_groups, debug, entities, history, information, login, rbac, schemas, targets};
use crate::dao::Fault;

/// Segments of a path, and bytes of one, at most.
const SEGMENTS_MAX: usize = 32;
const SEGMENT_BYTES_MAX: usize = 4_096;

/// What a path means.
#[derive(Debug)]
pub(super) enum Endpoint<'p> {
    /// `/services`
    Collection(&'p Kind),
    /// `/services/{id or name}`
    Entity(&'p Kind, &'p str),
    /// `/services/{s}/routes`
    Children(Nested<'p>),
    /// `/services/{s}/routes/{r}`
    Child(Nested<'p>, &'p str),
    /// `/routes/{r}/service`
    Parent { kind: &'p Kind, name: &'p str, field: &'static str, target: &'p Kind },
    /// `/upstreams/{u}/targets/...` and `/upstreams/{u}/health`
    Targets(targets::Path<'p>),
    /// `/consumer_groups/{g}/consumers/...` and `/consumers/{c}/consumer_groups/...`
    Members(consumer_groups::Path<'p>),
    /// `/schemas/...`
    Schemas(schemas::Path<'p>),
    /// `/`, `/status`, `/endpoints`, ...
    Information(information::Page<'p>),
    /// `/debug/...`
    Debug(debug::Path<'p>),
    /// `/config`
    Configuration,
    /// `/cardinal/v1/...`
    History(history::Path),
    /// `/rbac/...`
    Rbac(rbac::Path<'p>),
    /// `/auth` and `/userinfo`
    Login(login::Page),
}

/// The segments of a path, decoded. `None` if it cannot be the path of anything.
pub(super) fn segments(path: &str) -> Option<Vec<String>> {
    let path = path.strip_prefix('/')?;
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.is_empty() {
        return Some(Vec::new());
    }
    let mut out = Vec::new();
    for segment in path.split('/') {
        // As nginx merges slashes in front of Kong; clients rely on it.
        if segment.is_empty() {
            continue;
        }
        if segment.len() > SEGMENT_BYTES_MAX || out.len() >= SEGMENTS_MAX {
            return None;
        }
        out.push(percent_decode_str(segment).decode_utf8().ok()?.into_owned());
    }
    Some(out)
}

pub(super) fn find<'p>(registry: &'p Registry, segments: &'p [String]) -> Option<Endpoint<'p>> {
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    if let Some(page) = login::find(&parts) {
        return Some(Endpoint::Login(page));
    }
    if let Some(page) = information::find(&parts) {
        return Some(Endpoint::Information(page));
    }
    match parts.as_slice() {
        ["config"] => return Some(Endpoint::Configuration),
        ["cardinal", "v1", rest @ ..] => return history::find(rest).map(Endpoint::History),
        ["rbac", rest @ ..] => return rbac::find(rest).map(Endpoint::Rbac),
        ["schemas", rest @ ..] => return schemas::find(rest).map(Endpoint::Schemas),
        ["debug", rest @ ..] => return debug::find(rest).map(Endpoint::Debug),
        ["targets", ..] | ["snis", _, "certificate"] => return None,
        _ => {}
    }
    if let Some(path) = targets::find(&parts) {
        return Some(Endpoint::Targets(path));
    }
    if let Some(path) = consumer_groups::find(&parts) {
        return Some(Endpoint::Members(path));
    }
    match parts.as_slice() {
        [collection] => collection_of(registry, collection).map(Endpoint::Collection),
        [collection, name] => Some(Endpoint::Entity(collection_of(registry, collection)?, name)),
        [collection, name, below] => {
            let kind = collection_of(registry, collection)?;
            if let Some((field, target)) = kind.references().find(|(field, _)| field == below) {
                return Some(Endpoint::Parent { kind, name, field, target: registry.kind(target)? });
            }
            nested(registry, kind, name, below).map(Endpoint::Children)
        }
        [collection, name, below, child] => {
            let kind = collection_of(registry, collection)?;
            nested(registry, kind, name, below).map(|nested| Endpoint::Child(nested, child))
        }
        _ => None,
    }
}

fn collection_of<'r>(registry: &'r Registry, name: &str) -> Option<&'r Kind> {
    registry.kinds().find(|kind| kind.collection == name)
}

fn nested<'p>(registry: &'p Registry, parent: &'p Kind, name: &'p str, collection: &'p str) -> Option<Nested<'p>> {
    let (kind, field) = registry.children(parent.name).find(|(kind, _)| nested_name(kind) == collection)?;
    Some(Nested { parent, name, kind, field, collection })
}

impl Endpoint<'_> {
    /// The methods that the path takes. HEAD goes with GET, OPTIONS with everything.
    pub(super) fn methods(&self) -> &'static [&'static str] {
        match self {
            Self::Collection(_) | Self::Children(_) => &["GET", "POST"],
            Self::Entity(..) | Self::Child(..) | Self::Parent { .. } => &["GET", "PUT", "PATCH", "DELETE"],
            Self::Targets(path) => path.methods(),
            Self::Members(path) => path.methods(),
            Self::Schemas(path) => path.methods(),
            Self::Information(page) => page.methods(),
            Self::Debug(path) => path.methods(),
            Self::Configuration => &["GET", "POST"],
            Self::History(path) => path.methods(),
            Self::Rbac(path) => path.methods(),
            Self::Login(page) => page.methods(),
        }
    }

    pub(super) async fn answer(&self, call: &Call<'_>, method: &str) -> Result<Response, Fault> {
        match self {
            Self::Collection(kind) => entities::collection(call, kind, method).await,
            Self::Entity(kind, name) => entities::entity(call, kind, name, method).await,
            Self::Children(nested) => entities::children(call, *nested, method).await,
            Self::Child(nested, name) => entities::child(call, *nested, name, method).await,
            Self::Parent { kind, name, field, target } => {
                entities::parent(call, (kind, name), (field, target), method).await
            }
            Self::Targets(path) => path.answer(call, method).await,
            Self::Members(path) => path.answer(call, method).await,
            Self::Schemas(path) => path.answer(call),
            Self::Information(page) => page.answer(call, method).await,
            Self::Debug(path) => path.answer(call),
            Self::Configuration => configuration::answer(call, method).await,
            Self::History(path) => path.answer(call).await,
            Self::Rbac(path) => path.answer(call, method).await,
            Self::Login(page) => page.answer(call, method).await,
        }
    }

    /// Whether it shows or changes all entities at once, or what is no entity: rules about single entities do not apply.
    pub(super) fn is_about_all(&self) -> bool {
        match self {
            Self::Configuration | Self::Debug(_) | Self::History(_) => true,
            Self::Information(page) => matches!(page, information::Page::Caches | information::Page::Cache),
            _ => false,
        }
    }
}
