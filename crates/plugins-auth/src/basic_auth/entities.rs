//! `basicauth_credentials`: user names and passwords of consumers.

use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use cardinal_ir::{Credential, Id};
use cardinal_schema::{Schema, field, record, string};
use cardinal_sdk::{CredentialEntry, EntityDef, Prepared, Seal};
use serde_json::Value;
use subtle::ConstantTimeEq;

pub(super) const KIND: &str = "basic-auth";

pub(super) const ACCOUNTS: EntityDef = EntityDef {
    name: "basicauth_credentials",
    collection: "basic-auths",
    nested: "basic-auth",
    kind: KIND,
    schema,
    lookup: "username",
    unique: true,
    secrets: &["password"],
    seal: Some(Seal { field: "password", run: seal }),
    prepare: Some(prepare),
};

fn schema() -> Schema {
    record([
        field("username", string().required().unique().describe("The user name. It must not contain a colon.")),
        field(
            "password",
            string()
                .required()
                .encrypted()
                .describe("The password. Only a hash of it is kept, and it is hashed whenever it is written."),
        ),
    ])
    .describe("A user name and password of a consumer.")
}

/// SHA-1 of the password followed by the id of its consumer.
#[derive(Debug)]
pub(super) struct PasswordHash([u8; 20]);

impl PasswordHash {
    /// The hash of a password. Kong's: `kong/plugins/basic-auth/crypto.lua`.
    fn of(password: &[u8], principal: Id) -> Self {
        let mut salt = [0; 36];
        let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
        context.update(password);
        context.update(principal.hyphenated().encode_lower(&mut salt).as_bytes());
        let mut hash = [0; 20];
        hash.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
        Self(hash)
    }

    fn parse(hex: &str) -> Option<Self> {
        let mut hash = [0; 20];
        let (pairs, []) = hex.as_bytes().as_chunks::<2>() else { return None };
        if pairs.len() != hash.len() || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        for (byte, pair) in hash.iter_mut().zip(pairs) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(hash))
    }

    fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

fn seal(record: &mut Value, principal: Id) {
    if let Some(password) = record.get_mut("password")
        && let Some(text) = password.as_str()
    {
        *password = Value::String(PasswordHash::of(text.as_bytes(), principal).hex());
    }
}

fn prepare(credential: &Credential) -> Result<Prepared, String> {
    let password = credential.data.get("password").and_then(Value::as_str);
    let hash = password.and_then(PasswordHash::parse).ok_or("the password is not a hash of 40 hex digits")?;
    Ok(Arc::new(hash))
}

/// Whether the password is the account's. Takes the same time whatever is wrong, also for an account that is not
/// there.
pub(super) fn is_password(entry: Option<&Arc<CredentialEntry>>, password: &[u8]) -> bool {
    let principal = entry.map_or(Id::nil(), |entry| entry.record.principal);
    let given = PasswordHash::of(password, principal);
    let kept = entry.and_then(|entry| entry.prepared.as_ref()).and_then(|p| p.downcast_ref::<PasswordHash>());
    kept.is_some_and(|kept| bool::from(kept.0.ct_eq(&given.0)))
}
