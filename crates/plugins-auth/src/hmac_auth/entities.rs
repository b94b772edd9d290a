//! `hmacauth_credentials`: secrets that consumers sign their requests with.

use std::sync::Arc;

use cardinal_ir::Credential;
use cardinal_schema::{Schema, field, record, string};
use cardinal_sdk::{CredentialEntry, EntityDef, Prepared};
use serde_json::Value;

pub(super) const KIND: &str = "hmac-auth";

pub(super) const SECRETS: EntityDef = EntityDef {
    name: "hmacauth_credentials",
    collection: "hmac-auths",
    nested: "hmac-auth",
    kind: KIND,
    schema,
    lookup: "username",
    unique: true,
    secrets: &["secret"],
    seal: None,
    prepare: Some(prepare),
};

fn schema() -> Schema {
    record([
        field("username", string().required().unique().describe("What signatures name this credential by.")),
        field(
            "secret",
            string().auto().describe("The secret that requests are signed with. Generated at random when absent."),
        ),
    ])
    .describe("A user name and secret that a consumer signs its requests with.")
}

/// A shared secret. A key made of it takes 1 KiB, so it is made when a request comes.
struct SharedSecret(Box<[u8]>);

/// Everybody can sign with an empty secret, so a credential must have one.
fn prepare(credential: &Credential) -> Result<Prepared, String> {
    let secret = credential.data.get("secret").and_then(Value::as_str).filter(|secret| !secret.is_empty());
    let secret = secret.ok_or("the secret is missing or empty")?;
    Ok(Arc::new(SharedSecret(secret.as_bytes().into())))
}

/// The secret of a credential.
pub(super) fn secret_of(entry: &CredentialEntry) -> Option<&[u8]> {
    Some(&entry.prepared.as_ref()?.downcast_ref::<SharedSecret>()?.0)
}
