//! What each path does with each method.

use cardinal_kong::Registry;
use cardinal_kong::entities::Kind;
use cardinal_schema::View;
use serde_json::{Map, Value, json};

use super::components::{name_of, object, page, reference};
use super::values::set;
use super::{answers, components};
use crate::api::path::{Below, Endpoint};
use crate::api::{consumer_groups, debug, history, information, login, rbac, schemas, targets};

/// An operation of the API.
#[derive(Debug, Default)]
pub(super) struct Operation {
    summary: String,
    /// The group that it is shown in.
    group: &'static str,
    /// Arguments of the query.
    arguments: Vec<Value>,
    body: Body,
    /// Answers to what is right: status, and schema of the body.
    answers: Vec<(u16, Option<Value>)>,
    /// Errors besides those that every operation has.
    errors: Vec<u16>,
    /// The kind of entity that it creates.
    creates: Option<&'static str>,
}

/// What an operation takes as a body.
#[derive(Debug, Default)]
enum Body {
    #[default]
    None,
    /// Fields by this schema, in JSON or as a form.
    Fields(Value),
    /// JSON by this schema.
    Json(Value),
    /// A configuration, in any form.
    Configuration,
}

const JSON: &str = "application/json";

/// A name in a path.
pub(super) fn name_parameter(name: &str, registry: &Registry) -> Value {
    let about = match registry.kind(name).map(|kind| kind.key) {
        Some(Some(key)) => format!("The id, or the {}.", key.field),
        Some(None) if name == "certificates" => "The id, or one of the server names.".to_owned(),
        Some(None) => "The id.".to_owned(),
        None => String::new(),
    };
    let schema = match name {
        "revision" | "other" => json!({ "type": "integer", "minimum": 0 }),
        "log_level" => json!({ "enum": debug::LEVELS }),
        _ => json!({ "type": "string", "minLength": 1 }),
    };
    let mut out = json!({ "name": name, "in": "path", "required": true, "schema": schema });
    if !about.is_empty() {
        set(&mut out, &["description"], about.into());
    }
    out
}

fn argument(name: &str, about: &str, schema: Value) -> Value {
    json!({ "name": name, "in": "query", "description": about, "schema": schema })
}

/// The arguments of lists.
fn listing() -> Vec<Value> {
    let size = json!({ "type": "integer", "minimum": 1, "maximum": 1_000, "default": 100 });
    vec![
        argument("size", "Entries of a page at most.", size),
        argument("offset", "The `offset` of the page before.", json!({ "type": "string" })),
    ]
}

fn tags() -> Value {
    let about = "Only entities with all of these tags (`a,b`) or any of them (`a/b`), at most five.";
    argument("tags", about, json!({ "type": "string", "minLength": 1 }))
}

fn flag(name: &str, about: &str) -> Value {
    argument(name, about, json!({ "type": "string" }))
}

impl Operation {
    /// What a path does with a method that it takes.
    pub(super) fn of(endpoint: Endpoint, method: &str, registry: &Registry) -> Self {
        let mut out = match endpoint {
            Endpoint::Collection(kind) => collection(kind, method),
            Endpoint::Entity(kind) => entity(kind, kind, method),
            Endpoint::Children(Below { parent, kind, .. }) => Self { group: parent, ..collection(kind, method) },
            Endpoint::Child(Below { parent, kind, .. }) => entity(kind, parent, method),
            Endpoint::Parent { kind, target, .. } => through(kind, target, method),
            Endpoint::Targets(path) => target(path, method),
            Endpoint::Members(path) => members(path, method),
            Endpoint::Schemas(path) => schema(path),
            Endpoint::Information(page) => information(page, method),
            Endpoint::Debug(path) => log_level(path),
            Endpoint::Configuration => configuration(method),
            Endpoint::Paths => Self::new("List the paths of the API", "node")
                .answers(200, object(json!({ "data": { "type": "array", "items": { "type": "string" } } }))),
            Endpoint::Description => {
                Self::new("Show this document", "cardinal").answers(200, json!({ "type": "object" }))
            }
            Endpoint::History(path) => history(path),
            Endpoint::Rbac(form) => users(form, method),
            Endpoint::Login(page) => session(page, method),
        };
        if let (Body::Fields(schema), Some((kind, set))) = (&mut out.body, set_by_path(endpoint, method, registry)) {
            *schema = components::body(kind, &set);
        }
        if let Endpoint::Collection(kind) | Endpoint::Children(Below { kind, .. }) = endpoint
            && registry.kind(kind).is_some_and(|kind| kind.schema.field("tags").is_none())
        {
            out.arguments.retain(|argument| argument["name"] != "tags");
        }
        if method != "GET" && !matches!(endpoint, Endpoint::Schemas(_) | Endpoint::Information(_) | Endpoint::Debug(_))
        {
            out.errors.extend([405, 409]);
        }
        if registry.kind(out.group).is_none() && out.group.is_empty() {
            out.group = "node";
        }
        out
    }

    fn new(summary: impl Into<String>, group: &'static str) -> Self {
        Self { summary: summary.into(), group, ..Self::default() }
    }

    fn answers(mut self, status: u16, schema: impl Into<Option<Value>>) -> Self {
        self.answers.push((status, schema.into()));
        self
    }

    fn takes(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    fn with(mut self, arguments: impl IntoIterator<Item = Value>) -> Self {
        self.arguments.extend(arguments);
        self
    }

    fn fails(mut self, errors: &[u16]) -> Self {
        self.errors.extend(errors);
        self
    }

    /// The operation as OpenAPI has it.
    pub(super) fn to_json(&self, template: &str, method: &str) -> Value {
        let mut out = Map::new();
        let mut put = |name: &str, value: Value| out.insert(name.to_owned(), value);
        put("operationId", id(template, method).into());
        put("summary", self.summary.clone().into());
        put("tags", json!([self.group]));
        if !self.arguments.is_empty() {
            put("parameters", self.arguments.clone().into());
        }
        if let Some(content) = self.body.content() {
            put("requestBody", json!({ "content": content }));
        }
        put("responses", self.responses(template));
        Value::Object(out)
    }

    fn responses(&self, template: &str) -> Value {
        let mut out = Map::new();
        for (status, schema) in &self.answers {
            let mut answer = json!({ "description": self.summary });
            if let Some(schema) = schema {
                set(&mut answer, &["content"], json!({ JSON: { "schema": schema } }));
            }
            if let (Some(kind), 201) = (self.creates, *status) {
                set(&mut answer, &["links"], links(template, kind));
            }
            out.insert(status.to_string(), answer);
        }
        let mut errors = vec![400, 401, 403, 408, 413, 500];
        errors.extend(self.errors.iter());
        errors.extend(template.contains('{').then_some(404));
        if !matches!(self.body, Body::None) || self.answers.iter().any(|(status, _)| *status == 201) {
            errors.push(415);
        }
        errors.sort_unstable();
        errors.dedup();
        out.extend(answers::errors(&errors));
        Value::Object(out)
    }
}

impl Body {
    fn content(&self) -> Option<Value> {
        let form = || json!({ "schema": reference("form") });
        let text = || json!({ "schema": { "type": "string" } });
        match self {
            Self::None => None,
            Self::Json(schema) => Some(json!({ JSON: { "schema": schema } })),
            Self::Fields(schema) => Some(json!({
                JSON: { "schema": schema },
                "application/x-www-form-urlencoded": form(),
                "multipart/form-data": form(),
            })),
            Self::Configuration => Some(json!({
                JSON: { "schema": { "type": "object" } },
                "application/yaml": text(),
                "text/yaml": text(),
                "application/x-www-form-urlencoded": form(),
                "multipart/form-data": form(),
            })),
        }
    }
}

/// `get_services_by_services_routes`
fn id(template: &str, method: &str) -> String {
    let mut out = method.to_ascii_lowercase();
    for part in template.split('/').filter(|part| !part.is_empty()) {
        out.push('_');
        match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
            Some(name) => out.push_str(&format!("by_{name}")),
            None => out.push_str(&part.replace('-', "").replace('.', "_")),
        }
    }
    out
}

/// The operations on what was created.
fn links(template: &str, kind: &str) -> Value {
    let one = format!("{template}/{{{kind}}}");
    let names = template.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let above = names.map(|name| (name.to_owned(), Value::from(format!("$request.path.{name}"))));
    let parameters: Map<String, Value> = above.chain([(kind.to_owned(), "$response.body#/id".into())]).collect();
    let link = |method: &str| {
        (method.to_ascii_lowercase(), json!({ "operationId": id(&one, method), "parameters": parameters }))
    };
    Value::Object(["GET", "PUT", "PATCH", "DELETE"].map(link).into_iter().collect())
}

/// The kind of entity that a new one is given of, and its fields that the path sets.
fn set_by_path<'r>(endpoint: Endpoint, method: &str, registry: &'r Registry) -> Option<(&'r Kind, Vec<&'static str>)> {
    let (name, above) = match endpoint {
        Endpoint::Collection(kind) | Endpoint::Entity(kind) => (kind, None),
        Endpoint::Children(below) | Endpoint::Child(below) => (below.kind, Some(below.field)),
        Endpoint::Parent { target, .. } => (target, None),
        Endpoint::Targets(targets::Path::All) => ("targets", Some("upstream")),
        _ => return None,
    };
    let kind = registry.kind(name)?;
    let key = kind.key.map(|key| key.field).filter(|_| method == "PUT");
    (method != "PATCH").then(|| (kind, above.into_iter().chain(key).collect()))
}

fn fields(kind: &str, view: View) -> Body {
    Body::Fields(reference(&name_of(kind, view)))
}

fn collection(kind: &'static str, method: &str) -> Operation {
    if method == "POST" {
        let made = Operation::new(format!("Create an entity of {kind}"), kind).takes(fields(kind, View::New));
        return Operation { creates: Some(kind), ..made.answers(201, reference(kind)) };
    }
    let list = Operation::new(format!("List {kind}"), kind).with(listing()).with([tags()]);
    let about = "Only the consumer with this `custom_id`.";
    let by_custom_id =
        (kind == "consumers").then(|| argument("custom_id", about, json!({ "type": "string", "minLength": 1 })));
    list.with(by_custom_id).answers(200, reference(&format!("{kind}.page")))
}

fn entity(kind: &'static str, group: &'static str, method: &str) -> Operation {
    match method {
        "GET" => {
            let details = kind == "consumer_groups" && group == kind;
            let shown = if details { reference("consumer_groups.details") } else { reference(kind) };
            Operation::new(format!("Show an entity of {kind}"), group).answers(200, shown)
        }
        "PUT" => Operation::new(format!("Create or replace an entity of {kind}"), group)
            .takes(fields(kind, View::New))
            .answers(200, reference(kind)),
        "PATCH" => Operation::new(format!("Change an entity of {kind}"), group)
            .takes(fields(kind, View::Change))
            .answers(200, reference(kind)),
        _ => Operation::new(format!("Delete an entity of {kind}"), group).answers(204, None),
    }
}

/// The entity that another one references.
fn through(kind: &'static str, target: &'static str, method: &str) -> Operation {
    let mut out = entity(target, kind, method);
    if method == "GET" && target == "consumer_groups" {
        out.answers = vec![(200, Some(reference("consumer_groups.details")))];
    }
    out
}

fn target(path: targets::Path, method: &str) -> Operation {
    let of = "upstreams";
    match path {
        targets::Path::All if method == "POST" => Operation { group: of, ..collection("targets", method) },
        targets::Path::All | targets::Path::Raw => Operation::new("List the targets of an upstream", of)
            .with(listing())
            .with([tags()])
            .answers(200, reference("targets.page")),
        // PUT changes what is there, as PATCH does.
        targets::Path::One if method == "PUT" => entity("targets", of, "PATCH"),
        targets::Path::One => entity("targets", of, method),
        targets::Path::Health { healthy } => {
            let state = if healthy { "healthy" } else { "unhealthy" };
            Operation::new(format!("Mark a target as {state}"), of).answers(204, None)
        }
        targets::Path::Upstream => Operation::new("Show the health of the targets of an upstream", of)
            .with(listing())
            .with([tags(), flag("balancer_health", "`1` for the health of the upstream as a whole.")])
            .answers(200, reference("upstreams.health")),
    }
}

fn members(path: consumer_groups::Path, method: &str) -> Operation {
    let (is_group, is_one) = path.shape();
    let (own, others) = if is_group { ("consumer_groups", "consumers") } else { ("consumers", "consumer_groups") };
    let entities = json!({ "type": "array", "items": reference(others) });
    let (own_name, field) = if is_group { ("consumer_group", "consumer") } else { ("consumer", "group") };
    let both = json!({ "consumer_group": reference("consumer_groups"), "consumer": reference("consumers") });
    match (method, is_one) {
        ("GET", true) => Operation::new("Show a consumer and its group", own).answers(200, object(both)),
        ("GET", false) => {
            let mut list = page(reference(others));
            set(&mut list, &["properties", others], entities);
            Operation::new(format!("List the {others} of an entity of {own}"), own).answers(200, list)
        }
        ("POST", _) => {
            let one = json!({ "type": ["string", "object"] });
            let names = json!({ "anyOf": [one, { "type": "array", "items": one, "maxItems": 1_000 }] });
            Operation::new(format!("Add {others}"), own)
                .takes(Body::Fields(json!({ "type": "object", "properties": { field: names }, "required": [field] })))
                .answers(201, object(json!({ own_name: reference(own), others: entities })))
        }
        _ => Operation::new(format!("Remove {others}"), own).answers(204, None),
    }
}

fn schema(path: schemas::Path) -> Operation {
    let shown = json!({ "type": "object", "properties": { "fields": { "type": "array" } }, "required": ["fields"] });
    let operation = |summary: &str| Operation::new(summary, "schemas");
    match path {
        schemas::Path::Entity => operation("Show the schema of a kind of entity").answers(200, shown),
        schemas::Path::Plugin => operation("Show the schema of a plugin").answers(200, shown),
        schemas::Path::Vault => operation("Show the schema of a type of vault").answers(200, shown),
        schemas::Path::Validate | schemas::Path::ValidateKind(_) => operation("Check an entity without storing it")
            .takes(Body::Fields(json!({ "type": "object" })))
            .answers(200, reference("message"))
            .fails(&[415]),
    }
}

fn information(page_of: information::Page, method: &str) -> Operation {
    use information::Page;
    let operation = |summary: &str| Operation::new(summary, "node");
    let object_of = |fields: &[&str]| json!({ "type": "object", "required": fields });
    match page_of {
        Page::Root => {
            operation("Show the node").answers(200, object_of(&["version", "node_id", "plugins", "configuration"]))
        }
        Page::Status => operation("Show connections, memory and the state of the store")
            .with([
                argument("unit", "Unit of memory.", json!({ "enum": ["b", "k", "m", "g", "B", "K", "M", "G"] })),
                argument(
                    "scale",
                    "Digits after the point; what is no number counts as absent.",
                    json!({ "type": "string" }),
                ),
            ])
            .answers(200, object_of(&[])),
        Page::EnabledPlugins => operation("List the plugins")
            .answers(200, object(json!({ "enabled_plugins": { "type": "array", "items": { "type": "string" } } }))),
        Page::PluginSchema => {
            operation("Show the schema of the configuration of a plugin").answers(200, object_of(&["fields"]))
        }
        Page::Tags | Page::Tag => {
            operation("List entities by their tags").with(listing()).answers(200, reference("tags.page"))
        }
        Page::Timers => {
            operation("Show timers of Kong's workers; there are none").answers(200, object_of(&["worker", "stats"]))
        }
        Page::Cache if method == "GET" => operation("Show an entry of Kong's cache; there is none").fails(&[404]),
        Page::Caches | Page::Cache => operation("Clear Kong's cache; there is none").answers(204, None),
        Page::Metrics => operation("Show metrics in Prometheus exposition format").answers(200, None),
        Page::DataPlanes => {
            operation("List data planes").with(listing()).answers(200, page(json!({ "type": "object" })))
        }
        Page::ClusterStatus => operation("Show data planes by their ids").answers(200, json!({ "type": "object" })),
    }
}

fn log_level(path: debug::Path) -> Operation {
    let about = "Seconds until the level is set back, rounded up; 0 is for ever.";
    match path {
        debug::Path::Node => Operation::new("Show the log level", "debug").answers(200, reference("message")),
        debug::Path::Set => Operation::new("Set the log level", "debug")
            .with([argument("timeout", about, json!({ "type": "number", "exclusiveMinimum": -1, "default": 60 }))])
            .answers(200, reference("message")),
    }
}

fn configuration(method: &str) -> Operation {
    let operation = |summary: &str| Operation::new(summary, "configuration");
    if method == "GET" {
        return operation("Show the configuration of a node without a database")
            .answers(200, object(json!({ "config": { "type": "string" } })));
    }
    operation("Replace the configuration of a node without a database")
        .with([
            flag("check_hash", "`1` for 304 if this text is what is served already."),
            flag("flatten_errors", "`1` for an entry for each entity with errors."),
        ])
        .takes(Body::Configuration)
        .answers(201, json!({ "type": "object" }))
        .fails(&[304, 429, 503])
}

fn history(path: history::Path) -> Operation {
    let operation = |summary: &str| Operation::new(summary, "cardinal");
    let list = |of: Value| json!({ "type": "array", "items": of });
    match path {
        history::Path::Revisions => operation("List revisions of the store")
            .with([
                argument("size", "Revisions of a page at most.", json!({ "type": "integer", "minimum": 1, "maximum": 200 })),
                argument("before", "Only revisions below this one.", json!({ "type": "integer", "minimum": 0 })),
            ])
            .answers(200, page(reference("generation"))),
        history::Path::Revision => operation("Show what a revision changed").answers(200, reference("generation")),
        history::Path::Diff => {
            let number = json!({ "type": "integer" });
            let fields = json!({ "from": number, "to": number, "entities": list(reference("change")),
                "routes": list(json!({ "type": "object" })) });
            operation("Compare two revisions").answers(200, object(fields))
        }
        history::Path::Rollback => {
            let fields = json!({ "rolled_back_to": { "type": "integer" }, "revision": { "type": ["integer", "null"] },
                "entities": list(reference("change")) });
            operation("Restore the entities of a revision")
                .with([flag("dry_run", "`1` or `true` to see what would be changed.")])
                .answers(200, object(fields))
        }
        history::Path::Quarantine => operation("List entities that cannot be served")
            .with(listing())
            .with([flag("tags", "Only entities with these tags.")])
            .answers(200, page(json!({ "type": "object" }))),
        history::Path::Batch => operation("Apply many writes as one revision").takes(Body::Json(writes())).answers(
            200,
            object(json!({ "revision": { "type": "integer" }, "entities": list(json!({ "type": ["object", "null"] })) })),
        ).fails(&[404]),
    }
}

/// Users, roles and rules.
fn users(form: rbac::Form, method: &str) -> Operation {
    let kind = match form {
        rbac::Form::Users | rbac::Form::User => "rbac_users",
        rbac::Form::UserRoles => return user_roles(method),
        rbac::Form::UserPermissions => return permissions("Show the permissions of a user"),
        rbac::Form::RolePermissions => return permissions("Show the permissions of a role"),
        rbac::Form::Roles | rbac::Form::Role => "rbac_roles",
        rbac::Form::Rules(rbac::Of::Endpoints) | rbac::Form::Endpoint => "rbac_role_endpoints",
        rbac::Form::Rules(rbac::Of::Entities) | rbac::Form::Entity => "rbac_role_entities",
    };
    match form {
        rbac::Form::Users | rbac::Form::Roles | rbac::Form::Rules(_) if method == "POST" => {
            Operation::new(format!("Create an entity of {kind}"), "rbac")
                .takes(new_of(kind, &["role"]))
                .answers(201, reference(kind))
        }
        rbac::Form::Users | rbac::Form::Roles | rbac::Form::Rules(_) => {
            let list = Operation::new(format!("List {kind}"), "rbac").with(listing());
            list.answers(200, reference(&format!("{kind}.page")))
        }
        _ if method == "PUT" => Operation { body: new_of(kind, &["name"]), ..entity(kind, "rbac", method) },
        _ => entity(kind, "rbac", method),
    }
}

/// The body of a new entity, of which the path sets these fields.
fn new_of(kind: &'static str, set: &[&str]) -> Body {
    match crate::rbac::kind(kind) {
        Some(of) => Body::Fields(components::body(of, set)),
        None => fields(kind, View::New),
    }
}

fn user_roles(method: &str) -> Operation {
    let of_user =
        || json!({ "roles": { "type": "array", "items": reference("rbac_roles") }, "user": reference("rbac_users") });
    let operation = |summary: &str| Operation::new(summary, "rbac");
    let names = json!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] });
    let takes = Body::Fields(json!({ "type": "object", "properties": { "roles": names } }));
    let by_query =
        argument("roles", "Names of roles, separated by commas, if the body has none.", json!({ "type": "string" }));
    match method {
        "GET" => operation("Show the roles of a user").answers(200, object(of_user())),
        "POST" => operation("Give roles to a user").with([by_query]).takes(takes).answers(201, object(of_user())),
        _ => operation("Take roles from a user").with([by_query]).takes(takes).answers(204, None),
    }
}

/// The actions that are permitted and denied, by workspace and endpoint, and by entity.
fn permissions(summary: &str) -> Operation {
    Operation::new(summary, "rbac").answers(200, object_of_permissions())
}

fn object_of_permissions() -> Value {
    let actions = json!({ "type": "array", "items": { "type": "string" } });
    let rules = json!({ "type": "object", "additionalProperties": object(json!({ "actions": actions, "negative": { "type": "boolean" } })) });
    object(json!({ "endpoints": { "type": "object", "additionalProperties": rules }, "entities": rules }))
}

/// Sessions of browsers.
fn session(page: login::Page, method: &str) -> Operation {
    let operation = |summary: &str| Operation::new(summary, "rbac");
    let (text, number) = (json!({ "type": "string" }), json!({ "type": "integer" }));
    match (page, method) {
        (login::Page::UserInfo, _) => operation("Show the user of the request").answers(
            200,
            object(json!({
                "admin": { "type": "object" },
                "groups": { "type": "array" },
                "permissions": object_of_permissions(),
                "session": { "type": ["object", "null"] },
            })),
        ),
        (login::Page::Auth, "DELETE") => operation("End the session").answers(204, None),
        (login::Page::Auth, _) => operation("Start a session for a token, or for a name with a token")
            .answers(200, object(json!({ "user": { "type": "object" }, "csrf_token": text, "expires_at": number }))),
    }
}

/// The body of a batch.
fn writes() -> Value {
    let write = json!({
        "type": "object",
        "properties": {
            "method": { "enum": ["post", "put", "patch", "delete"] },
            "kind": { "type": "string" },
            "key": { "type": "string", "description": "An id or a name; none with `post`." },
            "body": { "type": "object" },
        },
        "required": ["method", "kind"],
    });
    json!({ "type": "array", "items": write, "description": "At most 10,000 writes." })
}
