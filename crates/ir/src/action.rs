//! [`Action`]: what happens to a request that a route matched and no filter answered.

use serde::{Deserialize, Serialize};

use crate::Id;

/// What happens to a request that a route matched and no filter answered. Connections can only be forwarded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Nothing: a filter has to answer, or the reply is 503.
    #[default]
    None,
    /// The request goes to this backend.
    Forward(Id),
    /// Requests are distributed at random over several backends, each of which gets the share that its weight is of the
    /// sum of all weights. The filters of a request are those of the chosen backend. If the sum is 0 the reply is 503, and
    /// the filters are those of the route. A backend that cannot be used does not give its share to the others: requests for
    /// it are answered 503.
    Split(Box<[WeightedBackend]>),
    /// The client is sent to another URL.
    Redirect(Box<Redirect>),
    /// The reply is fixed.
    Respond(Box<DirectResponse>),
}

/// A backend with its share of the requests of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WeightedBackend {
    /// The backend.
    pub backend: Id,
    /// Its share is this number over the sum of all weights of the route; 0 gets no requests.
    pub weight: u32,
}

impl Default for WeightedBackend {
    fn default() -> Self {
        Self { backend: Id::nil(), weight: 1 }
    }
}

/// A redirect. Parts of the URL that are not set are those of the request; the query is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Redirect {
    /// The scheme.
    pub scheme: Option<Scheme>,
    /// Host name or address, without port.
    pub host: Option<Box<str>>,
    /// The port. When it is not set it is the default port of [`Redirect::scheme`] if that is set, else the port that the
    /// client used. Default ports are not written.
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
    /// The text in front of `://`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port of URLs that name none.
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
    /// The whole path is this. The query is kept, unless this text has one.
    Full(Box<str>),
    /// The part that the route matched is replaced by this; a slash at its end is ignored. `/a/b` matched by `/a` becomes
    /// `/x/b` by `/x`, and `/b` by an empty text. A route without a condition on the path matched nothing of it, so that
    /// the text is put in front.
    Prefix(Box<str>),
}

/// A reply that is the same for all requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DirectResponse {
    /// Status, from 200 on.
    pub status: u16,
    /// Fields. Of those about the connection and the length of the body, none is sent.
    pub headers: Vec<(Box<str>, Box<str>)>,
    /// Body. Its `Content-Type` is one of the fields, or none is sent.
    pub body: Box<str>,
}

impl Default for DirectResponse {
    fn default() -> Self {
        Self { status: 200, headers: Vec::new(), body: Box::default() }
    }
}

impl Action {
    /// The backends that requests may go to, with their weights, in the order of the record.
    pub fn backends(&self) -> impl Iterator<Item = WeightedBackend> {
        let (one, several) = match self {
            Self::Forward(id) => (Some(WeightedBackend { backend: *id, weight: 1 }), &[][..]),
            Self::Split(list) => (None, &**list),
            Self::None | Self::Redirect(_) | Self::Respond(_) => (None, &[][..]),
        };
        one.into_iter().chain(several.iter().copied())
    }

    /// The backend of a route that forwards to one.
    pub fn backend(&self) -> Option<Id> {
        match self {
            Self::Forward(id) => Some(*id),
            Self::None | Self::Split(_) | Self::Redirect(_) | Self::Respond(_) => None,
        }
    }
}

/// To a backend, if there is one.
impl From<Option<Id>> for Action {
    fn from(backend: Option<Id>) -> Self {
        backend.map_or(Self::None, Self::Forward)
    }
}
