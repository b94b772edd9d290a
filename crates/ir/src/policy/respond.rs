//! [`Respond`]: a response that is made here.

use serde::{Deserialize, Serialize};

/// A response that is sent without asking the backend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Respond {
    /// The status, 200 to 599.
    pub status: u16,
    /// Fields of the response, in their order.
    pub headers: Vec<(Box<str>, Box<str>)>,
    /// The body. Responses of status 204 and 304 have none.
    pub body: RespondBody,
    /// Only requests with a header or a query argument of this name get the response; others go on. In a header,
    /// underscores of the name may also be dashes.
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
    /// None.
    #[default]
    Empty,
    /// `{"message":"..."}`.
    Message(Box<str>),
    /// This text.
    Text(Box<str>),
    /// A copy of the request as JSON, for debugging.
    Echo {
        /// The value of `message`, if there is one.
        message: Option<Box<str>>,
        /// The name of the object that describes this node; empty: there is none.
        node_key: Box<str>,
    },
}
