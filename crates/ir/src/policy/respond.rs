//! [`Respond`]: a local reply.

use serde::{Deserialize, Serialize};

/// A local reply, sent without forwarding the request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Respond {
    /// The status, 200 to 599.
    pub status: u16,
    /// Header fields of the reply, in order.
    pub headers: Vec<(Box<str>, Box<str>)>,
    /// The body. Replies with status 204 and 304 have none.
    pub body: RespondBody,
    /// Only requests with a header or a query argument of this name receive the reply. In a header, underscores of the
    /// name may also be dashes.
    pub trigger: Option<Box<str>>,
}

impl Default for Respond {
    fn default() -> Self {
        Self { status: 503, headers: Vec::new(), body: RespondBody::Empty, trigger: None }
    }
}

/// The body of a [`Respond`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RespondBody {
    /// No body.
    #[default]
    Empty,
    /// `{"message":"..."}`.
    Message(Box<str>),
    /// This text.
    Text(Box<str>),
    /// A copy of the request as JSON, for debugging.
    Echo {
        /// The value of `message`, if any.
        message: Option<Box<str>>,
        /// The name of the object that describes this node; empty: none.
        node_key: Box<str>,
    },
}
