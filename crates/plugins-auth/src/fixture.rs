//! Consumers and credentials for tests, and accessors for the outcome.

use std::sync::Arc;

use cardinal_ir::{Attributes, Credential, Id, Ir, Origin, Principal};
use cardinal_sdk::testing::Bench;
use cardinal_sdk::{Reply, ReplyBody};
use serde_json::{Value, json};

/// Grows an [`Ir`] consumer by consumer.
#[derive(Default)]
pub(crate) struct World(pub(crate) Ir);

/// The id of the consumer with this number.
pub(crate) fn consumer_id(number: u128) -> Id {
    Id::from_u128(0xc0 << 64 | number)
}

impl World {
    /// Adds a consumer named `name` with custom id `custom-<name>`.
    pub(crate) fn consumer(mut self, number: u128, name: &str) -> Self {
        let record = Principal {
            origin: Origin::default(),
            name: Some(name.into()),
            custom_id: Some(format!("custom-{name}").into()),
            groups: Vec::new(),
            tenant: None,
            document: json!({"username": name}).to_string().into(),
        };
        self.0.principals.insert(consumer_id(number), record);
        self
    }

    /// Adds a credential of the consumer; its id is counted up from 1.
    pub(crate) fn credential(mut self, kind: &str, consumer: u128, lookup: &str, data: Value) -> Self {
        let id = Id::from_u128(self.0.credentials.len() as u128 + 1);
        let attributes = Arc::new(Attributes::new(kind, data, ""));
        let record = Credential::new(Origin::new("test", kind, id), attributes, consumer_id(consumer), lookup.into());
        self.0.credentials.insert(id, record);
        self
    }
}

/// Status, message and challenge of a reply; `pass` when there is none.
pub(crate) fn said(reply: Option<&Reply>) -> String {
    let Some(reply) = reply else { return "pass".to_owned() };
    let text = match &reply.body {
        ReplyBody::Empty | ReplyBody::Omitted => String::new(),
        ReplyBody::Error(text) => format!("error {text}"),
        ReplyBody::Message(text) => format!("message {text}"),
        ReplyBody::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
    };
    match reply.headers.get_str("WWW-Authenticate") {
        Some(challenge) => format!("{} {text} [{challenge}]", reply.status),
        None => format!("{} {text}", reply.status),
    }
}

/// A header as it goes upstream; empty when absent.
pub(crate) fn sent<'b>(bench: &'b Bench, name: &str) -> &'b str {
    bench.request.headers.get_str(name).unwrap_or_default()
}

/// Headers for the upstream: username, identifier, anonymous.
pub(crate) fn told(bench: &Bench) -> (&str, &str, &str) {
    (sent(bench, "x-consumer-username"), sent(bench, "x-credential-identifier"), sent(bench, "x-anonymous-consumer"))
}
