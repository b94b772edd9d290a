//! [`Action`]: how a matched request is handled if no filter replies.

use serde::{Deserialize, Serialize};

use crate::Id;

/// How a matched request is handled if no filter replies. Connections can only be forwarded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// No action: a filter has to reply, otherwise the response is 503.
    #[default]
    None,
    /// The request is forwarded to this backend.
    Forward(Id),
    /// Requests are distributed at random over several backends, in proportion to their weights. The filters of a
    /// request are those of the chosen backend. If the sum of the weights is 0, the response is 503, and the filters
    /// are those of the route. The share of an unusable backend is not given to the others: its requests receive 503.
    Split(Box<[WeightedBackend]>),
    /// The client is redirected to another URL.
    Redirect(Box<Redirect>),
    /// A fixed response.
    Respond(Box<DirectResponse>),
}

/// A backend with its share of the requests of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WeightedBackend {
    /// The backend.
    pub backend: Id,
    /// Its share is this number divided by the sum of all weights of the route; 0 receives no requests.
    pub weight: u32,
}

impl Default for WeightedBackend {
    fn default() -> Self {
        Self { backend: Id::nil(), weight: 1 }
    }
}

/// A redirect. Parts of the URL that are not set are taken from the request; the query is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Redirect {
    /// The scheme.
    pub scheme: Option<Scheme>,
    /// Host name or address, without port.
    pub host: Option<Box<str>>,
    /// The port. If it is not set, the default port of [`Redirect::scheme`] is used if that is set, or else the port
    /// that the client used. Default ports are not written.
    pub port: Option<u16>,
    /// The path.
    pub path: Option<PathRewrite>,
    /// Status: 301, 302, 303, 307 or 308.
    pub status: u16,
}

impl Default for Redirect {
    fn default() -> Self {
        Self { scheme: None, host: None, port: None, path: None, status: 302 }
    }
}

/// The scheme of a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// `http`, port 80.
    Http,
    /// `https`, port 443.
    Https,
}

impl Scheme {
    /// The text before `://`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port of URLs without a port.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// How a path is replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathRewrite {
    /// Replaces the whole path. The query is kept, unless this text has one.
    Full(Box<str>),
    /// Replaces the part that the route matched; a trailing slash of the replacement is ignored. `/a/b` matched by `/a`
    /// becomes `/x/b` with `/x`, and `/b` with an empty text. If the route has no path condition, the matched part is
    /// empty, and the text is prepended.
    Prefix(Box<str>),
}

/// A fixed response.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DirectResponse {
    /// Status, at least 200.
    pub status: u16,
    /// Header fields. Connection-specific and framing fields are not sent.
    pub headers: Vec<(Box<str>, Box<str>)>,
    /// Body. `Content-Type` is only sent if it is among the header fields.
    pub body: Box<str>,
}

impl Default for DirectResponse {
    fn default() -> Self {
        Self { status: 200, headers: Vec::new(), body: Box::default() }
    }
}

impl Action {
    /// The possible backends of a request, with their weights, in the order of the record.
    pub fn backends(&self) -> impl Iterator<Item = WeightedBackend> {
        let (one, several) = match self {
            Self::Forward(id) => (Some(WeightedBackend { backend: *id, weight: 1 }), &[][..]),
            Self::Split(list) => (None, &**list),
            Self::None | Self::Redirect(_) | Self::Respond(_) => (None, &[][..]),
        };
        one.into_iter().chain(several.iter().copied())
    }

    /// The backend, if the route forwards to a single one.
    pub fn backend(&self) -> Option<Id> {
        match self {
            Self::Forward(id) => Some(*id),
            Self::None | Self::Split(_) | Self::Redirect(_) | Self::Respond(_) => None,
        }
    }
}

/// Forwards to the backend, if there is one.
impl From<Option<Id>> for Action {
    fn from(backend: Option<Id>) -> Self {
        backend.map_or(Self::None, Self::Forward)
    }
}
