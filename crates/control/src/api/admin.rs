//! [`Admin`]: answers requests.

use std::sync::Arc;

use cardinal_kong::Settings;
use serde_json::json;

use crate::dao::{DEFAULT_WORKSPACE, Dao, Fault, Tenant, workspaces};
use crate::proxies::Proxies;
use crate::rbac::Access;
use crate::source::SourceStatus;

use super::budget::{BODIES_BYTES_MAX, Budget};
use super::call::{Call, Parts};
use super::message::{AdminSettings, Declarative, Request, Response};
use super::metrics::AdminMetrics;
use super::path::{self, Endpoint, Routes};
use super::{body, browser, form, guard, openapi};

/// The Admin API.
#[derive(Clone, Debug)]
pub struct Admin {
    parts: Arc<Parts>,
    /// The paths that it has.
    routes: Arc<Routes>,
}

impl Admin {
    /// The version of Kong that the API reports.
    pub(super) fn version(&self) -> &str {
        &self.parts.settings.version
    }

    /// Bytes of a request body at most.
    pub(super) fn body_bytes_max(&self) -> usize {
        self.parts.settings.body_bytes_max
    }

    /// The API over a store.
    pub fn new(dao: Dao, proxies: Arc<dyn Proxies>, settings: AdminSettings) -> Self {
        Self::with(Routes::of(dao.registry()), |routes| Parts::new(dao, proxies, settings, routes))
    }

    /// The settings that the node lowers entities with; otherwise the default ones. Call it before the API is cloned.
    #[must_use]
    pub fn lowering_with(mut self, settings: Arc<Settings>) -> Self {
        if let Some(parts) = Arc::get_mut(&mut self.parts) {
            parts.lowering = settings;
        }
        self
    }

    /// Counts requests here, for the metrics of the process. Call it before the API is cloned.
    #[must_use]
    pub fn measured_by(mut self, metrics: Arc<AdminMetrics>) -> Self {
        if let Some(parts) = Arc::get_mut(&mut self.parts) {
            parts.metrics = metrics;
        }
        self
    }

    /// Shows the entities that this source leaves out, below `/cardinal/v1/quarantine`. Call it before the API is cloned.
    #[must_use]
    pub fn served_by(mut self, source: Arc<SourceStatus>) -> Self {
        if let Some(parts) = Arc::get_mut(&mut self.parts) {
            parts.source = Some(source);
        }
        self
    }

    /// What counts requests.
    pub(super) fn metrics(&self) -> &AdminMetrics {
        &self.parts.metrics
    }

    /// The API of a node without a database, where `dao` has the entities of the configuration.
    pub fn declarative(
        dao: Dao,
        proxies: Arc<dyn Proxies>,
        settings: AdminSettings,
        declarative: Arc<dyn Declarative>,
    ) -> Self {
        Self::with(Routes::of(dao.registry()), |routes| Parts {
            declarative: Some(declarative),
            ..Parts::new(dao, proxies, settings, routes)
        })
    }

    fn with(routes: Routes, parts: impl FnOnce(&Routes) -> Parts) -> Self {
        Self { parts: Arc::new(parts(&routes)), routes: Arc::new(routes) }
    }

    /// What all connections may hold together.
    pub(super) fn budget(&self) -> &Budget {
        &self.parts.budget
    }

    /// Answers a request. A response to HEAD has a body, which is not to be sent.
    pub async fn answer(&self, request: &Request) -> Response {
        let origins = &self.parts.settings.origins;
        let response = match browser::refusal(request, origins) {
            Some(refusal) => {
                self.parts.metrics.refused(refusal);
                return refusal.fault().into();
            }
            None => self.parts.answer(&self.routes, request).await.unwrap_or_else(Response::from),
        };
        for_page(request, response)
    }

    /// The response to a request whose sender is not known, for its body not to be read: it may be large.
    pub(super) async fn refusal(&self, request: &Request) -> Option<Response> {
        if !self.parts.is_enforced() || browser::refusal(request, &self.parts.settings.origins).is_some() {
            return None;
        }
        let fault = self.parts.refusal(&self.routes, request).await.err()?;
        Some(for_page(request, fault.into()))
    }
}

impl Parts {
    fn new(dao: Dao, proxies: Arc<dyn Proxies>, settings: AdminSettings, routes: &Routes) -> Self {
        let metrics = Arc::new(AdminMetrics::new(routes.templates().into_iter().map(str::to_owned).collect()));
        let (budget, lowering) = (Budget::new(BODIES_BYTES_MAX), Arc::default());
        let access = Access::new(dao.clone(), settings.sessions);
        Self { dao, proxies, settings, budget, lowering, declarative: None, metrics, source: None, access }
    }

    async fn refusal(&self, routes: &Routes, request: &Request) -> Result<(), Fault> {
        let segments = path::segments(&request.path).ok_or_else(Fault::not_found)?;
        let place = self.place(routes, &segments).await;
        let below = place.as_ref().map_or_else(|_| segments.get(1..).unwrap_or_default(), |place| place.segments);
        self.identity(request, below).await.map(drop)
    }

    async fn answer(&self, routes: &Routes, request: &Request) -> Result<Response, Fault> {
        let segments = path::segments(&request.path).ok_or_else(Fault::not_found)?;
        let author = cardinal_store::Author {
            from: request.from.as_str().into(),
            via: "admin-api".into(),
            ..Default::default()
        };
        // Who may not say which workspaces there are learns nothing about them.
        let place = self.place(routes, &segments).await;
        let below = place.as_ref().map_or_else(|_| segments.get(1..).unwrap_or_default(), |place| place.segments);
        let identity = self.identity(request, below).await?;
        let place = match place {
            // What needs no user is answered as if there were such a workspace.
            Err(fault) if fault.status == 404 && self.is_enforced() && guard::is_open(request, below) => Ok(Place {
                workspace: DEFAULT_WORKSPACE.into(),
                name: "default",
                prefix: String::new(),
                segments: below,
            }),
            place => place,
        };
        let Place { workspace: id, name: workspace, prefix, segments } = place?;
        let mut tenant = Tenant { workspace: id, ..Tenant::new(author) };
        if let Some(identity) = &identity {
            tenant.author.name = Arc::clone(&identity.entities.user);
            tenant.entities = self.settings.enforce_rbac.entities().then(|| Arc::clone(&identity.entities));
        }
        let (endpoint, names) = routes.find(segments).ok_or_else(Fault::not_found)?;
        let methods = endpoint.methods();
        let method = if request.method == "HEAD" { "GET" } else { request.method.as_str() };
        if method == "OPTIONS" {
            return Ok(preflight(methods, request));
        }
        if !methods.contains(&method) {
            return Ok(Response::from(Fault::method_not_allowed()).with("allow", allowed(methods)));
        }
        let query = form::of_query(&request.query)?;
        let call = Call { admin: self, tenant, workspace, prefix, identity: identity.as_ref(), request, query };
        call.authorize_request(endpoint, segments)?;
        body::check_type(request, matches!(endpoint, Endpoint::Configuration))?;
        let answered = match endpoint {
            Endpoint::Paths => Ok(Response::ok(json!({ "data": routes.templates() }))),
            Endpoint::Description => Ok(Response::ok(openapi::document(routes, self.dao.registry()))),
            endpoint => endpoint.answer(&call, &names, method).await,
        };
        let mut response = match answered {
            // Entities of files are not changed.
            Err(fault) if fault.status == 405 => {
                let reads: &[&str] = if methods.contains(&"GET") { &["GET"] } else { &[] };
                Response::from(fault).with("allow", allowed(reads))
            }
            answered => answered?,
        };
        let session = identity.as_ref().and_then(|identity| identity.session.as_ref());
        response.headers.extend(session.and_then(|session| call.session_cookie(session)));
        Ok(response)
    }

    /// The workspace that a request concerns, which its path begins with or which is `default`, and the path in it. Nothing
    /// else decides about the workspace of a request.
    async fn place<'p>(&self, routes: &Routes, segments: &'p [String]) -> Result<Place<'p>, Fault> {
        let (name, prefix) = ("default", String::new());
        let plain = Place { workspace: DEFAULT_WORKSPACE.into(), name, prefix, segments };
        let Some((first, rest)) = segments.split_first() else { return Ok(plain) };
        if workspaces::is_reserved(self.dao.registry(), first) {
            return Ok(plain);
        }
        match self.dao.workspace_named(first).await? {
            Some(workspace) => {
                let encoded = percent_encoding::utf8_percent_encode(first, percent_encoding::NON_ALPHANUMERIC);
                Ok(Place { workspace, name: first, prefix: format!("/{encoded}"), segments: rest })
            }
            None if !rest.is_empty() && routes.find(rest).is_some() => {
                Err(Fault::message(404, &format!("Workspace '{first}' not found")))
            }
            None => Ok(plain),
        }
    }
}

/// Where a request leads.
struct Place<'p> {
    /// The id of the workspace.
    workspace: Arc<str>,
    /// Its name.
    name: &'p str,
    /// What the path has before `segments`: empty, or `/` and the name of the workspace.
    prefix: String,
    /// The path in the workspace.
    segments: &'p [String],
}

/// A response that the page which sent the request may read.
fn for_page(request: &Request, mut response: Response) -> Response {
    let origin = request.origin.clone().unwrap_or_else(|| "*".to_owned());
    response.headers.push(("access-control-allow-origin", origin));
    response.headers.push(("access-control-allow-credentials", "true".to_owned()));
    response
}

/// The response to OPTIONS.
fn preflight(methods: &[&str], request: &Request) -> Response {
    let mut headers = vec![("allow", allowed(methods))];
    headers.push(("access-control-allow-methods", allowed(methods)));
    headers.extend(request.preflight_headers.clone().map(|names| ("access-control-allow-headers", names)));
    Response { status: 204, headers, body: None }
}

/// The value of `Allow`. Kong names GET, HEAD and OPTIONS, too.
fn allowed(methods: &[&str]) -> String {
    let mut all: Vec<&str> = methods.to_vec();
    if methods.contains(&"GET") {
        all.push("HEAD");
    }
    all.push("OPTIONS");
    all.sort_unstable();
    all.join(", ")
}
