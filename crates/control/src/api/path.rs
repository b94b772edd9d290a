//! What a path of the API means. Kong: `generate_endpoints` of `kong/api/endpoints.lua`.

use cardinal_kong::Registry;
use cardinal_kong::entities::{Kind, WORKSPACES};
use percent_encoding::percent_decode_str;

use super::call::Call;
use super::entities::{Nested, nested_name};
use super::message::Response;
use super::{configuration, consumer_groups, debug, entities, history, information, login, rbac, schemas, targets};
use crate::dao::Fault;

/// Segments of a path, and bytes of one, at most.
const SEGMENTS_MAX: usize = 32;
const SEGMENT_BYTES_MAX: usize = 4_096;

/// What a path means. Kinds are those of the registry that the routes were made from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Endpoint {
    /// `/services`
    Collection(&'static str),
    /// `/services/{id or name}`
    Entity(&'static str),
    /// `/services/{s}/routes`
    Children(Below),
    /// `/services/{s}/routes/{r}`
    Child(Below),
    /// `/routes/{r}/service`: of this kind, through this field, to that kind
    Parent { kind: &'static str, field: &'static str, target: &'static str },
    /// `/upstreams/{u}/targets/...` and `/upstreams/{u}/health`
    Targets(targets::Path),
    /// `/consumer_groups/{g}/consumers/...` and `/consumers/{c}/consumer_groups/...`
    Members(consumer_groups::Path),
    /// `/schemas/...`
    Schemas(schemas::Path),
    /// `/`, `/status`, `/endpoints`, ...
    Information(information::Page),
    /// `/debug/...`
    Debug(debug::Path),
    /// `/config`
    Configuration,
    /// `/endpoints`
    Paths,
    /// `/cardinal/v1/openapi.json`
    Description,
    /// `/cardinal/v1/...`
    History(history::Path),
    /// `/rbac/...`
    Rbac(rbac::Form),
    /// `/auth` and `/userinfo`
    Login(login::Page),
}

/// Entities below those of another kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Below {
    /// The kind of the entity that the path goes through.
    pub(super) parent: &'static str,
    /// The kind of the entities below it.
    pub(super) kind: &'static str,
    /// The field of the latter that references the former.
    pub(super) field: &'static str,
}

/// A path that is served, with names in braces, and what it means.
#[derive(Debug)]
pub(super) struct Route {
    /// `/services/{services}`
    pub(super) template: String,
    pub(super) endpoint: Endpoint,
}

/// All paths that are served. Requests are matched with this list, and `/endpoints` and the description of the API are
/// made from it.
#[derive(Debug)]
pub(super) struct Routes(Vec<Route>);

impl Routes {
    /// The paths for these kinds of entities.
    pub(super) fn of(registry: &Registry) -> Self {
        let mut routes = Self(Vec::new());
        let own = [
            ("/config", Endpoint::Configuration),
            ("/endpoints", Endpoint::Paths),
            ("/cardinal/v1/openapi.json", Endpoint::Description),
        ];
        routes.add(&own, |endpoint| endpoint);
        routes.add(&information::PATHS, Endpoint::Information);
        routes.add(&history::PATHS, Endpoint::History);
        routes.add(&schemas::PATHS, Endpoint::Schemas);
        routes.add(&debug::PATHS, Endpoint::Debug);
        routes.add(&rbac::PATHS, Endpoint::Rbac);
        routes.add(&login::PATHS, Endpoint::Login);
        routes.add(&targets::PATHS, Endpoint::Targets);
        routes.add(&consumer_groups::PATHS, Endpoint::Members);
        for kind in registry.kinds() {
            routes.add_kind(registry, kind);
        }
        // `/` sorts before everything else, so that paths are followed by those below them, and braces sort last, so that
        // words come before names.
        routes.0.sort_by_cached_key(|route| route.template.replace('/', "\0"));
        routes
    }

    fn add<T: Copy>(&mut self, paths: &[(&str, T)], endpoint: fn(T) -> Endpoint) {
        for (template, of) in paths {
            self.push((*template).to_owned(), endpoint(*of));
        }
    }

    /// The first meaning of a path is the one that counts.
    fn push(&mut self, template: String, endpoint: Endpoint) {
        if !self.0.iter().any(|route| route.template == template) {
            self.0.push(Route { template, endpoint });
        }
    }

    fn add_kind(&mut self, registry: &Registry, kind: &Kind) {
        let Kind { collection, name, .. } = kind;
        // Targets have paths below their upstreams only, and a certificate is named by its SNIs itself.
        if *name != "targets" {
            self.push(format!("/{collection}"), Endpoint::Collection(name));
            self.push(format!("/{collection}/{{{name}}}"), Endpoint::Entity(name));
            for (field, target) in kind.references().filter(|_| *name != "snis") {
                self.push(format!("/{collection}/{{{name}}}/{field}"), Endpoint::Parent { kind: name, field, target });
            }
        }
        for (child, field) in registry.children(name) {
            let path = format!("/{collection}/{{{name}}}/{}", nested_name(child));
            let below = Below { parent: name, kind: child.name, field };
            self.push(format!("{path}/{{{}}}", child.name), Endpoint::Child(below));
            self.push(path, Endpoint::Children(below));
        }
    }

    /// The paths, with names in braces.
    pub(super) fn templates(&self) -> Vec<&str> {
        self.0.iter().map(|route| route.template.as_str()).collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Route> {
        self.0.iter()
    }

    /// The meaning of a path, and the names in it.
    pub(super) fn find<'s>(&self, segments: &'s [String]) -> Option<(Endpoint, Vec<&'s str>)> {
        self.0.iter().find_map(|route| Some((route.endpoint, route.names(segments)?)))
    }
}

/// All paths of the API for these kinds of entities, with names in braces.
pub fn route_patterns(registry: &Registry) -> Vec<String> {
    Routes::of(registry).0.into_iter().map(|route| route.template).collect()
}

impl Route {
    /// The names in a path of this form.
    fn names<'s>(&self, segments: &'s [String]) -> Option<Vec<&'s str>> {
        let (mut names, mut last) = (Vec::new(), None);
        let mut wanted = self.template.split('/').filter(|part| !part.is_empty());
        // The endpoint that a rule is about is a path itself.
        let takes_rest = matches!(self.endpoint, Endpoint::Rbac(rbac::Form::Endpoint));
        for segment in segments {
            match wanted.next().or(last.filter(|_| takes_rest))? {
                part if part.starts_with('{') => {
                    names.push(segment.as_str());
                    last = Some(part);
                }
                part if part == segment => last = None,
                _ => return None,
            }
        }
        wanted.next().is_none().then_some(names)
    }
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

/// What a request concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// The workspace of the path.
    Workspace,
    /// What is kept beside workspaces, and decided about in `default`: the workspaces themselves, the processes.
    Default,
    /// All workspaces.
    Everywhere,
}

impl Endpoint {
    /// The methods that the path takes. HEAD goes with GET, OPTIONS with everything.
    pub(super) fn methods(self) -> &'static [&'static str] {
        match self {
            Self::Collection(_) | Self::Children(_) => &["GET", "POST"],
            Self::Entity(_) | Self::Child(_) => &["GET", "PUT", "PATCH", "DELETE"],
            Self::Parent { .. } => &["GET", "PUT", "PATCH"],
            Self::Targets(path) => path.methods(),
            Self::Members(path) => path.methods(),
            Self::Schemas(path) => path.methods(),
            Self::Information(page) => page.methods(),
            Self::Debug(path) => path.methods(),
            Self::Configuration => &["GET", "POST"],
            Self::Paths | Self::Description => &["GET"],
            Self::History(path) => path.methods(),
            Self::Rbac(path) => path.methods(),
            Self::Login(page) => page.methods(),
        }
    }

    /// Answers a request for this path with these names in it.
    pub(super) async fn answer(self, call: &Call<'_>, names: &[&str], method: &str) -> Result<Response, Fault> {
        let kind = |name| call.dao().registry().kind(name).ok_or_else(Fault::not_found);
        let nested = |below: Below, name| {
            let (parent, kind) = (kind(below.parent)?, kind(below.kind)?);
            Ok::<_, Fault>(Nested { parent, name, kind, field: below.field, collection: nested_name(kind) })
        };
        match (self, names) {
            (Self::Collection(name), _) => entities::collection(call, kind(name)?, method).await,
            (Self::Entity(of), [name]) => entities::entity(call, kind(of)?, name, method).await,
            (Self::Children(below), [name]) => entities::children(call, nested(below, name)?, method).await,
            (Self::Child(below), [name, child]) => entities::child(call, nested(below, name)?, child, method).await,
            (Self::Parent { kind: of, field, target }, [name]) => {
                entities::parent(call, (kind(of)?, name), (field, kind(target)?), method).await
            }
            (Self::Targets(path), _) => path.answer(call, names, method).await,
            (Self::Members(path), _) => path.answer(call, names, method).await,
            (Self::Schemas(path), _) => path.answer(call, names),
            (Self::Information(page), _) => page.answer(call, names, method).await,
            (Self::Debug(path), _) => path.answer(call, names),
            (Self::Configuration, _) => configuration::answer(call, method).await,
            (Self::History(path), _) => path.answer(call, names).await,
            (Self::Rbac(form), _) => form.path(names).ok_or_else(Fault::not_found)?.answer(call, method).await,
            (Self::Login(page), _) => page.answer(call, method).await,
            // What is about the paths themselves is answered by the one who has them.
            (Self::Paths | Self::Description, _)
            | (Self::Entity(_) | Self::Children(_) | Self::Child(_) | Self::Parent { .. }, _) => {
                Err(Fault::not_found())
            }
        }
    }

    /// What it concerns, which decides whose rules count: the prefix of a path may be any workspace.
    pub(super) fn scope(self) -> Scope {
        use information::Page;
        match self {
            Self::History(history::Path::Batch) => Scope::Workspace,
            Self::Configuration | Self::History(_) => Scope::Everywhere,
            Self::Collection(WORKSPACES) | Self::Entity(WORKSPACES) | Self::Debug(_) => Scope::Default,
            Self::Information(Page::Caches | Page::Cache | Page::Metrics | Page::DataPlanes | Page::ClusterStatus) => {
                Scope::Default
            }
            _ => Scope::Workspace,
        }
    }

    /// Whether it shows or changes all entities at once, or what is no entity: rules about single entities do not apply.
    pub(super) fn is_about_all(self) -> bool {
        match self {
            Self::Configuration | Self::Debug(_) | Self::History(_) => true,
            Self::Information(page) => matches!(page, information::Page::Caches | information::Page::Cache),
            _ => false,
        }
    }
}
