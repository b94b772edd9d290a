//! Who sends a request, and whether the roles of that user allow it.

use aws_lc_rs::constant_time::verify_slices_are_equal;

use super::call::{Call, Parts};
use super::message::Request;
use super::path::{Endpoint, Scope};
use crate::dao::{DEFAULT_NAME, Fault};
use crate::permissions::{Action, allows, allows_everywhere};
use crate::rbac::Identity;

/// Whether a request needs no user: preflight requests have no credentials, and `/auth` is the way to some.
pub(super) fn is_open(request: &Request, segments: &[String]) -> bool {
    request.method == "OPTIONS" || segments == ["auth"]
}

impl Parts {
    /// Whether users have to say who they are.
    pub(super) fn is_enforced(&self) -> bool {
        self.settings.enforce_rbac.endpoints() || self.settings.enforce_rbac.entities()
    }

    /// The user of a request; `None` if everybody may do everything, or the request needs no user.
    pub(super) async fn identity(&self, request: &Request, segments: &[String]) -> Result<Option<Identity>, Fault> {
        if is_open(request, segments) || !self.is_enforced() {
            return Ok(None);
        }
        let missing = || Fault::message(401, "Invalid credentials. Token or User credentials required");
        self.identified(request).await?.ok_or_else(missing).map(Some)
    }

    /// The user with the token of a request, or of its session; `None` if it has neither.
    ///
    /// # Errors
    /// 401 for a wrong token or a session that has ended, 403 for a write of a session that a foreign page may have sent.
    pub(super) async fn identified(&self, request: &Request) -> Result<Option<Identity>, Fault> {
        let credentials = &request.credentials;
        if let Some(token) = &credentials.token {
            return self.access.by_token(token, None, &request.from).await.map(Some);
        }
        let Some(cookie) = &credentials.cookie else { return Ok(None) };
        let Some(identity) = self.access.by_cookie(cookie).await? else { return Ok(None) };
        let reads = Action::of_method(&request.method) == Some(Action::Read);
        let given = credentials.csrf.as_deref().unwrap_or_default().as_bytes();
        let is_own = |csrf: &str| verify_slices_are_equal(csrf.as_bytes(), given).is_ok();
        if !reads && !identity.session.as_ref().is_some_and(|session| is_own(&session.csrf)) {
            return Err(Fault::message(403, "writes of a session need its CSRF token in the header X-CSRF-Token"));
        }
        Ok(Some(identity))
    }
}

impl Call<'_> {
    /// Refuses what the roles of the user do not allow in the workspace of the request. `path` has the segments below the
    /// workspace.
    pub(super) fn authorize(&self, path: &[&str], action: Action) -> Result<(), Fault> {
        self.authorize_in(Some(self.workspace), path, action)
    }

    /// The same in another workspace, or in all of them.
    pub(super) fn authorize_in(&self, workspace: Option<&str>, path: &[&str], action: Action) -> Result<(), Fault> {
        let Some(identity) = self.identity else { return Ok(()) };
        let rules = &identity.endpoints;
        let is_allowed = || match workspace {
            Some(workspace) => allows(rules, workspace, path, action),
            None => allows_everywhere(rules, path, action),
        };
        if self.admin.settings.enforce_rbac.endpoints() && !is_allowed() {
            return Err(Fault::forbidden(&identity.entities.user, action));
        }
        Ok(())
    }

    /// The same for the request itself.
    pub(super) fn authorize_request(&self, endpoint: Endpoint, segments: &[String]) -> Result<(), Fault> {
        let (Some(identity), Some(action)) = (self.identity, Action::of_method(&self.request.method)) else {
            return Ok(());
        };
        if matches!(endpoint, Endpoint::Login(_)) {
            return Ok(());
        }
        let by_entity = self.admin.settings.enforce_rbac.entities() && endpoint.is_about_all();
        if by_entity && !identity.entities.allows(None, action) {
            return Err(Fault::forbidden(&identity.entities.user, action));
        }
        let path: Vec<&str> = segments.iter().map(String::as_str).collect();
        let workspace = match endpoint.scope() {
            Scope::Workspace => Some(self.workspace),
            Scope::Default => Some(DEFAULT_NAME),
            Scope::Everywhere => None,
        };
        match path.as_slice() {
            // Another name of `/`.
            ["kong"] => self.authorize(&[], action),
            // The endpoint of a rule is one segment, so that wildcards cover all of them.
            [rbac @ "rbac", roles @ "roles", role, endpoints @ "endpoints", workspace, endpoint @ ..]
                if !endpoint.is_empty() =>
            {
                self.authorize(&[rbac, roles, role, endpoints, workspace, &endpoint.join("/")], action)
            }
            path => self.authorize_in(workspace, path, action),
        }
    }
}
