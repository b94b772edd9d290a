//! Sessions of browsers: `/auth` and `/userinfo`, as Kong Manager uses them.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use cardinal_store::Author;
use serde_json::{Value, json};

use super::call::Call;
use super::message::Response;
use super::rbac::permissions;
use crate::dao::Fault;
use crate::rbac::{Identity, Session, cookie};

/// A path about the session.
#[derive(Clone, Copy, Debug)]
pub(super) enum Page {
    /// `/auth`
    Auth,
    /// `/userinfo`
    UserInfo,
}

/// The paths.
pub(super) const PATHS: [(&str, Page); 2] = [("/auth", Page::Auth), ("/userinfo", Page::UserInfo)];

fn missing() -> Fault {
    Fault::message(401, "Invalid credentials. Token or User credentials required")
}

impl Page {
    pub(super) fn methods(self) -> &'static [&'static str] {
        match self {
            Self::Auth => &["GET", "POST", "DELETE"],
            Self::UserInfo => &["GET"],
        }
    }

    pub(super) async fn answer(self, call: &Call<'_>, method: &str) -> Result<Response, Fault> {
        call.needs_users()?;
        match (self, method) {
            (Self::Auth, "DELETE") => logout(call).await,
            (Self::Auth, _) => login(call).await,
            (Self::UserInfo, _) => user_info(call).await,
        }
    }
}

/// Starts a session for the user of a token or of basic credentials; shows the session that there is otherwise.
async fn login(call: &Call<'_>) -> Result<Response, Fault> {
    let credentials = &call.request.credentials;
    let access = &call.admin.access;
    let identity = match (&credentials.authorization, &credentials.token) {
        (Some(header), _) => {
            let (name, token) = basic(header).ok_or_else(missing)?;
            access.by_token(&token, Some(&name), &call.request.from).await?
        }
        (None, Some(token)) => access.by_token(token, None, &call.request.from).await?,
        (None, None) => {
            let identity = call.admin.identified(call.request).await?.ok_or_else(missing)?;
            let session = identity.session.as_ref().ok_or_else(missing)?;
            return Ok(shown(call, &identity, session));
        }
    };
    let session = access.login(&identity, author(call, &identity)).await?;
    Ok(shown(call, &identity, &session))
}

async fn logout(call: &Call<'_>) -> Result<Response, Fault> {
    let identity = call.admin.identified(call.request).await?.ok_or_else(missing)?;
    if let Some(session) = &identity.session {
        call.admin.access.logout(session, author(call, &identity)).await?;
    }
    let mut response = Response::no_content();
    response.headers.push(("set-cookie", call.cookie("", 0)));
    Ok(response)
}

async fn user_info(call: &Call<'_>) -> Result<Response, Fault> {
    let found;
    let identity = match call.identity {
        Some(identity) => identity,
        None => {
            found = call.admin.identified(call.request).await?.ok_or_else(missing)?;
            &found
        }
    };
    let field = |name: &str| identity.user.get(name).cloned().unwrap_or(Value::Null);
    let roles = call.admin.access.roles_of(field("id").as_str().unwrap_or_default()).await?;
    let times = call.admin.access.times();
    let session = identity.session.as_ref().map(|session| {
        json!({ "expires_at": session.expires_at, "idling_timeout": times.idle, "absolute_timeout": times.absolute })
    });
    Ok(Response::ok(json!({
        "admin": { "id": field("id"), "username": field("name"), "created_at": field("created_at"),
            "rbac_token_enabled": true },
        "groups": [],
        "permissions": permissions(call, &roles).await?,
        "session": session,
    })))
}

fn author(call: &Call<'_>, identity: &Identity) -> Author {
    Author { name: identity.entities.user.clone(), ..call.tenant.author.clone() }
}

fn shown(call: &Call<'_>, identity: &Identity, session: &Session) -> Response {
    let mut response = Response::ok(json!({
        "user": identity.user, "csrf_token": session.csrf, "expires_at": session.expires_at
    }));
    response.headers.extend(call.session_cookie(session));
    // The CSRF token is no business of caches.
    response.headers.push(("cache-control", "no-store".to_owned()));
    response
}

impl Call<'_> {
    /// The header that writes the cookie of a session anew, if it is time for that.
    pub(super) fn session_cookie(&self, session: &Session) -> Option<(&'static str, String)> {
        let value = session.renewed.as_ref()?;
        Some(("set-cookie", self.cookie(value, self.admin.access.times().absolute)))
    }

    /// A `Set-Cookie` header. Pages cannot read the cookie, and browsers send it only with requests of the same site.
    fn cookie(&self, value: &str, seconds: i64) -> String {
        let over_tls = self.request.credentials.is_tls
            || self.request.origin.as_ref().is_some_and(|origin| origin.starts_with("https://"));
        let secure = if over_tls { "; Secure" } else { "" };
        format!("{}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}", cookie())
    }
}

/// User and password of a header `Authorization: Basic`.
fn basic(header: &str) -> Option<(String, String)> {
    let (scheme, encoded) = header.split_once(' ')?;
    let decoded = scheme.eq_ignore_ascii_case("basic").then(|| BASE64_STANDARD.decode(encoded.trim()).ok())??;
    let (name, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}
