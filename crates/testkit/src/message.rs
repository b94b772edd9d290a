//! Responses as tests look at them.

use cardinal_http::HeaderList;
use serde_json::Value;

/// Fields in order, as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(pub Vec<(String, String)>);

impl Fields {
    /// The first value of this name, in any case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// All values of this name.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

impl From<&HeaderList> for Fields {
    fn from(list: &HeaderList) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self(list.iter().map(|(name, value)| (text(name), text(value))).collect())
    }
}

impl From<&http::HeaderMap> for Fields {
    fn from(map: &http::HeaderMap) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self(map.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes()))).collect())
    }
}

/// A complete response.
#[derive(Clone, Debug, Default)]
pub struct Response {
    /// Status.
    pub status: u16,
    /// Reason phrase; empty in HTTP/2.
    pub reason: String,
    /// Fields.
    pub headers: Fields,
    /// Body.
    pub body: Vec<u8>,
    /// Trailers.
    pub trailers: Fields,
    /// Informational responses that came before, by status, with their fields.
    pub interim: Vec<(u16, Fields)>,
}

impl Response {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; what an [`EchoServer`](crate::EchoServer) reports.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("status {}, no JSON ({error}): {}", self.status, self.text()))
    }

    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }
}
