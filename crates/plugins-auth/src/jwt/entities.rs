//! `jwt_secrets`: keys that consumers sign their tokens with.

use std::sync::Arc;

use aws_lc_rs::hmac;
use cardinal_ir::Credential;
use cardinal_schema::{Schema, Validator, conditional, field, record, rules, string};
use cardinal_sdk::{EntityDef, Prepared};
use serde_json::Value;

use super::algorithm::{Algorithm, PublicKey};
use super::pem;
use super::token::decode_lenient;

pub(super) const KIND: &str = "jwt";

pub(super) const SECRETS: EntityDef = EntityDef {
    name: "jwt_secrets",
    collection: "jwts",
    nested: "jwt",
    kind: KIND,
    schema,
    lookup: "key",
    unique: true,
    secrets: &["secret"],
    seal: None,
    prepare: Some(prepare),
};

fn schema() -> Schema {
    // Kong requires no key with ES algorithms; such a credential then matches no token.
    let needs_public_key = rules().matches("^((RS|PS)(256|384|512)|EdDSA)$");
    let mut is_public_key = rules().required();
    is_public_key.validators.push(Validator::Text(check_public_key));
    record([
        field(
            "key",
            string().unique().auto().describe(
                "What tokens name this credential by, in the claim that `key_claim_name` says. Made at random when \
                 left out.",
            ),
        ),
        field(
            "secret",
            string().auto().describe("The shared secret of HS256, HS384 and HS512. Generated at random when absent."),
        ),
        field(
            "rsa_public_key",
            string().describe(
                "The public key of the other algorithms, in PEM: RSA of 2048 to 8192 bits, P-256, P-384, P-521, or \
                 Ed25519, as the algorithm says.",
            ),
        ),
        field(
            "algorithm",
            string()
                .default("HS256")
                .one_of(Algorithm::ALL.map(Algorithm::name))
                .describe("The algorithm that tokens must be signed with."),
        ),
    ])
    .check(conditional("algorithm", needs_public_key, "rsa_public_key", is_public_key))
    .describe("A key that a consumer signs its tokens with.")
}

fn check_public_key(text: &str) -> Result<(), String> {
    if pem::public_key(text).is_some() { Ok(()) } else { Err("invalid key".to_owned()) }
}

/// What verifies the tokens of a credential.
pub(super) struct TokenKey {
    pub(super) algorithm: Algorithm,
    pub(super) material: Material,
}

/// Key material, ready to be used.
pub(super) enum Material {
    /// A shared secret.
    Shared(SharedSecret),
    /// A public key; absent where the algorithm does not insist on one.
    Public(Option<PublicKey>),
}

/// A shared secret: as written, and decoded from base64; empty where it cannot be. A key made of it takes 1 KiB,
/// so it is made when a token comes.
pub(super) struct SharedSecret {
    hmac: hmac::Algorithm,
    plain: Box<[u8]>,
    decoded: Box<[u8]>,
}

impl SharedSecret {
    /// Whether `signature` is the secret's over `message`; `None` when there is no secret: an empty one is everybody's.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8], decoded: bool) -> Option<bool> {
        let secret = if decoded { &self.decoded } else { &self.plain };
        (!secret.is_empty()).then(|| hmac::verify(&hmac::Key::new(self.hmac, secret), message, signature).is_ok())
    }
}

fn prepare(credential: &Credential) -> Result<Prepared, String> {
    let text = |name: &str| credential.data.get(name).and_then(Value::as_str);
    let name = text("algorithm").unwrap_or("HS256");
    let algorithm = Algorithm::parse(name).ok_or_else(|| format!("unknown algorithm {name}"))?;
    let material = match algorithm.hmac() {
        Some(hmac) => {
            let secret = text("secret").unwrap_or_default();
            Material::Shared(SharedSecret {
                hmac,
                plain: secret.as_bytes().into(),
                decoded: decode_lenient(secret).unwrap_or_default().into(),
            })
        }
        None => Material::Public(text("rsa_public_key").map(|pem| read_public(algorithm, pem)).transpose()?),
    };
    Ok(Arc::new(TokenKey { algorithm, material }))
}

fn read_public(algorithm: Algorithm, pem: &str) -> Result<PublicKey, String> {
    let der = pem::public_key(pem).ok_or("rsa_public_key is not a public key in PEM")?;
    PublicKey::from_der(algorithm, &der)
        .map_err(|why| format!("rsa_public_key cannot be used for {}: {why}", algorithm.name()))
}
