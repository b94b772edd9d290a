//! Users, roles and rules: `/rbac/...`, as Kong Enterprise has them.

use cardinal_kong::entities::{Kind, WORKSPACES};
use cardinal_schema::Errors;
use cardinal_store::{Document, Key};
use serde_json::{Map, Value, json};

use super::body::{self, Body};
use super::call::Call;
use super::entities::{self, Nested, id_of, reference};
use super::message::Response;
use crate::dao::{DEFAULT_NAME, DEFAULT_WORKSPACE, Fault, Fields, Selector};
use crate::permissions::{Action, Actions, normalized};
use crate::rbac::kinds;

/// Roles of one request at most.
const ROLES_MAX: usize = 1_000;

/// A path below `/rbac`.
#[derive(Debug)]
pub(super) enum Path<'p> {
    /// `/users`
    Users,
    /// `/users/{u}`
    User(&'p str),
    /// `/users/{u}/roles`
    UserRoles(&'p str),
    /// `/users/{u}/permissions`
    UserPermissions(&'p str),
    /// `/roles`
    Roles,
    /// `/roles/{r}`
    Role(&'p str),
    /// `/roles/{r}/permissions`
    RolePermissions(&'p str),
    /// `/roles/{r}/endpoints` and `/roles/{r}/entities`
    Rules(&'p str, Of),
    /// `/roles/{r}/endpoints/{workspace}/{endpoint}`
    Endpoint { role: &'p str, workspace: &'p str, endpoint: String },
    /// `/roles/{r}/entities/{id}`
    Entity { role: &'p str, entity: &'p str },
}

/// What rules are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    Endpoints,
    Entities,
}

impl Of {
    fn kind(self) -> &'static Kind {
        match self {
            Self::Endpoints => &kinds().endpoints,
            Self::Entities => &kinds().entities,
        }
    }

    fn collection(self) -> &'static str {
        match self {
            Self::Endpoints => "endpoints",
            Self::Entities => "entities",
        }
    }
}

/// The form of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Users,
    User,
    UserRoles,
    UserPermissions,
    Roles,
    Role,
    RolePermissions,
    Rules(Of),
    /// The endpoint may have several segments.
    Endpoint,
    Entity,
}

/// The paths.
pub(super) const PATHS: [(&str, Form); 11] = [
    ("/rbac/users", Form::Users),
    ("/rbac/users/{rbac_users}", Form::User),
    ("/rbac/users/{rbac_users}/roles", Form::UserRoles),
    ("/rbac/users/{rbac_users}/permissions", Form::UserPermissions),
    ("/rbac/roles", Form::Roles),
    ("/rbac/roles/{rbac_roles}", Form::Role),
    ("/rbac/roles/{rbac_roles}/permissions", Form::RolePermissions),
    ("/rbac/roles/{rbac_roles}/endpoints", Form::Rules(Of::Endpoints)),
    ("/rbac/roles/{rbac_roles}/entities", Form::Rules(Of::Entities)),
    ("/rbac/roles/{rbac_roles}/endpoints/{workspace}/{endpoint}", Form::Endpoint),
    ("/rbac/roles/{rbac_roles}/entities/{entity_id}", Form::Entity),
];

impl Form {
    /// The path with these names in it.
    pub(super) fn path<'p>(self, names: &[&'p str]) -> Option<Path<'p>> {
        Some(match (self, names) {
            (Self::Users, []) => Path::Users,
            (Self::User, [user]) => Path::User(user),
            (Self::UserRoles, [user]) => Path::UserRoles(user),
            (Self::UserPermissions, [user]) => Path::UserPermissions(user),
            (Self::Roles, []) => Path::Roles,
            (Self::Role, [role]) => Path::Role(role),
            (Self::RolePermissions, [role]) => Path::RolePermissions(role),
            (Self::Rules(of), [role]) => Path::Rules(role, of),
            (Self::Endpoint, [role, workspace, endpoint @ ..]) => {
                Path::Endpoint { role, workspace, endpoint: endpoint.join("/") }
            }
            (Self::Entity, [role, entity]) => Path::Entity { role, entity },
            _ => return None,
        })
    }

    pub(super) fn methods(self) -> &'static [&'static str] {
        match self {
            Self::Users | Self::Roles | Self::Rules(_) => &["GET", "POST"],
            Self::User | Self::Role => &["GET", "PUT", "PATCH", "DELETE"],
            Self::UserRoles => &["GET", "POST", "DELETE"],
            Self::UserPermissions | Self::RolePermissions => &["GET"],
            Self::Endpoint | Self::Entity => &["GET", "PATCH", "DELETE"],
        }
    }
}

impl Call<'_> {
    /// Without a database there are no users.
    pub(super) fn needs_users(&self) -> Result<(), Fault> {
        match self.admin.declarative {
            Some(_) => {
                Err(Fault::message(405, "users and roles need a database: they are no part of declarative files"))
            }
            None => Ok(()),
        }
    }
}

impl Path<'_> {
    pub(super) async fn answer(&self, call: &Call<'_>, method: &str) -> Result<Response, Fault> {
        call.needs_users()?;
        // A new store gets its roles.
        call.admin.access.keys().await?;
        let (users, roles) = (&kinds().users, &kinds().roles);
        match self {
            Self::Users if method == "POST" => create_user(call).await,
            Self::Users => entities::collection(call, users, method).await,
            Self::User(name) if method == "PUT" || method == "PATCH" => change_user(call, name, method).await,
            Self::User(name) => entities::entity(call, users, name, method).await,
            Self::UserRoles(name) => user_roles(call, name, method).await,
            Self::UserPermissions(name) => {
                let user = found(call, users, name).await?;
                permissions(call, &call.admin.access.roles_of(id_of(&user)).await?).await.map(Response::ok)
            }
            Self::Roles => entities::collection(call, roles, method).await,
            Self::Role(name) => entities::entity(call, roles, name, method).await,
            Self::RolePermissions(name) => {
                let role = found(call, roles, name).await?;
                permissions(call, &[id_of(&role).to_owned()]).await.map(Response::ok)
            }
            Self::Rules(role, of) if method == "POST" => create_rule(call, role, *of).await,
            Self::Rules(name, of) => {
                let collection = of.collection();
                let nested = Nested { parent: roles, name, kind: of.kind(), field: "role", collection };
                entities::children(call, nested, method).await
            }
            Self::Endpoint { role, workspace, endpoint } => {
                let role = found(call, roles, role).await?;
                let role_id = id_of(&role).to_owned();
                // A workspace that is gone may still have rules.
                let workspace = &*named_workspace(call, workspace).await.unwrap_or_else(|_| (*workspace).to_owned());
                if let Some(action) = Action::of_method(method).filter(|action| *action != Action::Read) {
                    authorize_rule(call, &role_id, workspace, action)?;
                }
                let is_it = |rule: &Value, endpoint: &str| {
                    text(rule, "workspace") == workspace && text(rule, "endpoint") == endpoint
                };
                let [rules, _] = call.admin.access.rules_of(id_of(&role)).await?;
                let path = normalized(&format!("/{endpoint}"));
                // Clients write `/*` for `*`.
                let all = (path == "/*").then(|| rules.iter().find(|rule| is_it(&rule.value, "*"))).flatten();
                let rule = all.or_else(|| rules.iter().find(|rule| is_it(&rule.value, &path)));
                one_rule(call, Of::Endpoints, rule, method).await
            }
            Self::Entity { role, entity } => {
                let role = found(call, roles, role).await?;
                let [_, rules] = call.admin.access.rules_of(id_of(&role)).await?;
                let action = Action::of_method(method).filter(|action| *action != Action::Read);
                if let Some(action) = action
                    && (*entity == "*" || !is_in_workspace(call, &entity.to_ascii_lowercase()).await?)
                {
                    authorize_rule(call, id_of(&role), "*", action)?;
                }
                let rule = rules.iter().find(|rule| text(&rule.value, "entity_id").eq_ignore_ascii_case(entity));
                one_rule(call, Of::Entities, rule, method).await
            }
        }
    }
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// The name of the workspace of a rule that a path or a body names by its name or its id; `*` is any.
async fn named_workspace(call: &Call<'_>, given: &str) -> Result<String, Fault> {
    if given == DEFAULT_WORKSPACE {
        return Ok(DEFAULT_NAME.to_owned());
    }
    if given == "*" || call.dao().workspace_named(given).await?.is_some() {
        return Ok(given.to_owned());
    }
    let found = call.dao().store().get(Key::new(WORKSPACES, given)).await?;
    let name = found.as_ref().map(|found| text(&found.value, "name")).filter(|name| !name.is_empty());
    let missing = || Fault::schema(&Errors::field("workspace", format!("there is no workspace '{given}'")));
    name.map(str::to_owned).ok_or_else(missing)
}

/// Refuses to make or change a rule about other workspaces than that of the request to those who may not do the same there.
fn authorize_rule(call: &Call<'_>, role: &str, workspace: &str, action: Action) -> Result<(), Fault> {
    if workspace == call.workspace {
        return Ok(());
    }
    let place = (workspace != "*").then_some(workspace);
    call.authorize_in(place, &["rbac", "roles", role, Of::Endpoints.collection()], action)
}

/// Refuses a pattern that no request ever matches: paths of rules are decoded, and a wildcard is a segment.
fn check_pattern(endpoint: &str) -> Result<(), Fault> {
    let is_odd = |segment: &str| segment.contains(['%', '?', '#']) || (segment.contains('*') && segment != "*");
    if endpoint.split('/').any(is_odd) {
        let message =
            "expected a path without query and without percent-encoding, in which a wildcard is a whole segment";
        return Err(Fault::schema(&Errors::field("endpoint", message)));
    }
    Ok(())
}

async fn found(call: &Call<'_>, kind: &Kind, name: &str) -> Result<Fields, Fault> {
    call.selected(kind, name).await?.ok_or_else(Fault::not_found)
}

/// The fields of a user that a body describes, the token hashed.
async fn sealed(call: &Call<'_>, old: Option<&Fields>) -> Result<Fields, Fault> {
    let mut given = call.given(&kinds().users, old)?;
    // What clients have read before.
    body::check_replaced(call.dao().registry(), &kinds().users, &given, &["user_token_ident"])?;
    given.shift_remove("user_token_ident");
    match given.get("user_token") {
        Some(Value::String(token)) => {
            let token = token.clone();
            given.extend(call.admin.access.sealed(&token, old.map(id_of)).await?);
        }
        None | Some(Value::Null) => {}
        Some(_) => return Err(Fault::schema(&Errors::field("user_token", "expected a string"))),
    }
    Ok(given)
}

async fn create_user(call: &Call<'_>) -> Result<Response, Fault> {
    let given = sealed(call, None).await?;
    let user = call.dao().insert(&call.tenant, &kinds().users, given).await?;
    call.shown(&kinds().users, user).await.map(Response::created)
}

async fn change_user(call: &Call<'_>, name: &str, method: &str) -> Result<Response, Fault> {
    let (users, dao) = (&kinds().users, call.dao());
    let old = call.selected(users, name).await?;
    let mut given = sealed(call, old.as_ref()).await?;
    // The path has them.
    body::check_replaced(call.dao().registry(), users, &given, &[users.primary_key, "name"])?;
    let user = if method == "PUT" {
        // The token cannot be read, so that clients cannot send it back.
        for (name, value) in old.iter().flatten().filter(|(name, _)| name.starts_with("user_token")) {
            given.entry(name.clone()).or_insert_with(|| value.clone());
        }
        dao.upsert(&call.tenant, users, Selector::of(name), given).await?
    } else {
        dao.update(&call.tenant, users, Selector::of(name), given).await?
    };
    call.shown(users, user).await.map(Response::ok)
}

async fn user_roles(call: &Call<'_>, name: &str, method: &str) -> Result<Response, Fault> {
    let mut user = found(call, &kinds().users, name).await?;
    if method != "GET" {
        let given = given_roles(call).await?;
        set_roles(call, &user, &given, method == "POST").await?;
    }
    if method == "DELETE" {
        return Ok(Response::no_content());
    }
    let mut roles = Vec::new();
    for id in call.admin.access.roles_of(id_of(&user)).await? {
        // A role of another workspace is not shown here.
        roles.extend(call.dao().select(&call.tenant, &kinds().roles, Selector::Id(&id)).await?);
    }
    roles.sort_by(|a, b| a.get("name").and_then(Value::as_str).cmp(&b.get("name").and_then(Value::as_str)));
    crate::rbac::hide(&kinds().users, &mut user);
    let body = json!({ "roles": roles, "user": user });
    Ok(if method == "POST" { Response::created(body) } else { Response::ok(body) })
}

/// The roles that a request names: `roles=a,b`, or a list.
async fn given_roles(call: &Call<'_>) -> Result<Vec<Fields>, Fault> {
    let (Body::Json(mut given) | Body::Form(mut given)) = body::read(call.request)?;
    let names: Vec<String> = match given.remove("roles").or_else(|| call.query.get("roles").cloned()) {
        Some(Value::String(names)) => names.split(',').map(|name| name.trim().to_owned()).collect(),
        Some(Value::Array(names)) => names.iter().map(|name| name.as_str().unwrap_or_default().to_owned()).collect(),
        _ => Vec::new(),
    };
    if names.is_empty() || names.iter().any(String::is_empty) {
        return Err(Fault::message(400, "must provide >= 1 role"));
    }
    if names.len() > ROLES_MAX {
        return Err(Fault::message(400, "Too many arguments"));
    }
    let mut roles = Vec::new();
    for name in names {
        let missing = || Fault::message(400, &format!("role not found with name '{name}'"));
        roles.push(call.selected(&kinds().roles, &name).await?.ok_or_else(missing)?);
    }
    Ok(roles)
}

async fn set_roles(call: &Call<'_>, user: &Fields, roles: &[Fields], is_member: bool) -> Result<(), Fault> {
    let (users, kind) = (&kinds().users, &kinds().user_roles);
    let old = call.admin.access.below("user", (users.name, id_of(user)), kind.name).await?;
    for role in roles {
        let is_it = |document: &&Document| document.value.pointer("/role/id") == role.get("id");
        match (old.iter().find(is_it), is_member) {
            (None, true) => {
                let given = [("user".to_owned(), reference(user)), ("role".to_owned(), reference(role))];
                match call.dao().insert(&call.tenant, kind, given.into_iter().collect()).await {
                    // Somebody else was faster.
                    Err(fault) if fault.status == 409 => {}
                    other => drop(other?),
                }
            }
            (Some(document), false) => {
                call.dao().delete(&call.tenant, kind, Selector::Id(&document.key.id)).await?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// The rules of roles, by workspace and endpoint, and by entity.
pub(super) async fn permissions(call: &Call<'_>, roles: &[String]) -> Result<Value, Fault> {
    let (mut endpoints, mut entities) = (Map::new(), Map::new());
    for role in roles {
        let [about_endpoints, about_entities] = call.admin.access.rules_of(role).await?;
        for rule in about_endpoints {
            let workspace = endpoints.entry(text(&rule.value, "workspace")).or_insert_with(|| json!({}));
            if let Value::Object(workspace) = workspace {
                add(workspace, text(&rule.value, "endpoint"), &rule.value);
            }
        }
        for rule in about_entities {
            add(&mut entities, text(&rule.value, "entity_id"), &rule.value);
        }
    }
    Ok(json!({ "endpoints": endpoints, "entities": entities }))
}

/// Adds a rule to those that are shown. Of two rules about the same, the one that denies is shown.
fn add(shown: &mut Map<String, Value>, name: &str, rule: &Value) {
    let actions = |rule: &Value| rule.get("actions").and_then(|list| Actions::parse(list).ok()).unwrap_or_default();
    let negative = |rule: &Value| rule.get("negative").and_then(Value::as_bool).unwrap_or(true);
    let (mut all, denies) = (actions(rule), negative(rule));
    if let Some(old) = shown.get(name) {
        match (negative(old), denies) {
            (true, false) => return,
            (false, true) => {}
            _ => all = all.union(actions(old)),
        }
    }
    shown.insert(name.to_owned(), json!({ "actions": all.names(), "negative": denies }));
}

/// The fields of a rule that a body describes, its actions as a list.
fn given_rule(call: &Call<'_>, kind: &Kind, old: Option<&Fields>) -> Result<Fields, Fault> {
    let mut given = call.given(kind, old)?;
    if let Some(actions) = given.get_mut("actions").filter(|actions| !actions.is_null()) {
        // A form has a list with one text.
        let list = match &*actions {
            Value::Array(list) => list.iter().map(|item| item.as_str().unwrap_or("null")).collect::<Vec<_>>().join(","),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let parsed = Actions::parse(&Value::from(list));
        *actions = parsed.map_err(|error| Fault::schema(&Errors::field("actions", error.to_string())))?.names();
    }
    Ok(given)
}

async fn create_rule(call: &Call<'_>, role: &str, of: Of) -> Result<Response, Fault> {
    let role = found(call, &kinds().roles, role).await?;
    let kind = of.kind();
    let mut given = given_rule(call, kind, None)?;
    body::check_replaced(call.dao().registry(), kind, &given, &["role"])?;
    given.insert("role".to_owned(), reference(&role));
    match of {
        Of::Endpoints => {
            if let Some(Value::String(endpoint)) = given.get_mut("endpoint") {
                *endpoint = normalized(endpoint);
                check_pattern(endpoint)?;
            }
            let workspace = given.get("workspace").and_then(Value::as_str).unwrap_or(call.workspace);
            let workspace = named_workspace(call, workspace).await?;
            authorize_rule(call, id_of(&role), &workspace, Action::Create)?;
            given.insert("workspace".to_owned(), workspace.into());
        }
        Of::Entities => {
            if let Some(Value::String(id)) = given.get_mut("entity_id") {
                id.make_ascii_lowercase();
            }
            let id = given.get("entity_id").and_then(Value::as_str).unwrap_or_default().to_owned();
            // Entities of other workspaces have ids, too.
            let is_own = id != "*" && is_in_workspace(call, &id).await?;
            if !is_own {
                authorize_rule(call, id_of(&role), "*", Action::Create)?;
            }
            if id == "*" {
                given.insert("entity_type".to_owned(), "wildcard".into());
            } else if given.get("entity_type").is_none_or(Value::is_null) && !id.is_empty() {
                let missing = || Fault::message(400, &format!("there is no entity with the id '{id}'"));
                let kind = kind_of(call, &id).await?.ok_or_else(missing)?;
                given.insert("entity_type".to_owned(), kind.into());
            }
        }
    }
    let rule = call.dao().insert(&call.tenant, kind, given).await?;
    call.shown(kind, rule).await.map(Response::created)
}

/// Whether an entity with an id is in the workspace of the request.
async fn is_in_workspace(call: &Call<'_>, id: &str) -> Result<bool, Fault> {
    for kind in call.dao().registry().kinds() {
        if let Some(found) = call.dao().store().get(Key::new(kind.name, id)).await? {
            return Ok(found.space == call.tenant.workspace);
        }
    }
    Ok(false)
}

/// The kind of the entity with an id.
async fn kind_of(call: &Call<'_>, id: &str) -> Result<Option<&'static str>, Fault> {
    for kind in call.dao().registry().kinds() {
        if call.dao().store().get(Key::new(kind.name, id)).await?.is_some() {
            return Ok(Some(kind.name));
        }
    }
    Ok(None)
}

async fn one_rule(call: &Call<'_>, of: Of, rule: Option<&Document>, method: &str) -> Result<Response, Fault> {
    let (kind, rule) = (of.kind(), rule.ok_or_else(Fault::not_found)?);
    let id = Selector::Id(&rule.key.id);
    let fields = match method {
        "GET" => call.dao().select(&call.tenant, kind, id).await?.ok_or_else(Fault::not_found)?,
        "PATCH" => {
            let mut given = given_rule(call, kind, rule.value.as_object())?;
            // What the rule is about stays.
            let kept = ["role", "workspace", "endpoint", "entity_id", "entity_type", "created_at"];
            body::check_replaced(call.dao().registry(), kind, &given, &kept)?;
            for name in kept {
                given.shift_remove(name);
            }
            call.dao().update(&call.tenant, kind, id, given).await?
        }
        _ => {
            call.dao().delete(&call.tenant, kind, id).await?;
            return Ok(Response::no_content());
        }
    };
    call.shown(kind, fields).await.map(Response::ok)
}
