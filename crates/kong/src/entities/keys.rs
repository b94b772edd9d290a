//! Keys: JSON Web Keys or PEM pairs that plugins name.

use cardinal_schema::{
    CheckFailure, Schema, at_least_one_of, custom, field, foreign, is_reference, mutually_exclusive, record, string,
};
use serde_json::Value;

use super::{Kind, base_fields, pem, tags_field};

pub(super) fn kind() -> Kind {
    let schema = record(base_fields())
        .with([
            field("set", foreign("key_sets").describe("The set it belongs to.")),
            field("name", string().unique()),
            field("kid", string().required().describe("Identifies the key within its set.")),
            field("jwk", string().referenceable().encrypted().describe("A JSON Web Key as text.")),
            field("pem", pair().optional()),
            tags_field(),
        ])
        .check(mutually_exclusive(["jwk", "pem"]))
        .check(at_least_one_of(["jwk", "pem"]))
        .check(custom(["jwk", "pem", "kid"], check_jwk));
    let mut kind = Kind::new("keys", schema).key("name");
    kind.cache_key = &["kid", "set"];
    kind.cascade = &["set"];
    kind
}

fn pair() -> Schema {
    record([field("private_key", string().referenceable().encrypted()), field("public_key", string().referenceable())])
        .check(at_least_one_of(["private_key", "public_key"]))
        .validate(check_pem)
}

/// Whether keys can be read, and belong together. References are not checked.
fn check_pem(pair: &Value) -> Result<(), String> {
    let text = |name: &str| pair.get(name).filter(|value| !value.is_null());
    let (public, private) = (text("public_key"), text("private_key"));
    if [public, private].into_iter().flatten().any(is_reference) {
        return Ok(());
    }
    let texts = [public, private].map(|value| value.and_then(Value::as_str));
    let [public, private] = texts;
    let public = public.map(pem::public_bits).transpose().map_err(|_| "could not load public key")?;
    let private = private.map(pem::key).transpose().map_err(|e| format!("could not load private key{e}"))?;
    let private = private.and_then(|key| key.public_key);
    match (public, private) {
        (Some(public), Some(private)) if public != private => Err("public key does not match private key".to_owned()),
        _ => Ok(()),
    }
}

fn check_jwk(key: &Value) -> Result<(), CheckFailure> {
    let Some(text) = key.get("jwk").and_then(Value::as_str) else { return Ok(()) };
    let Ok(jwk) = serde_json::from_str::<Value>(text) else {
        return Err("could not json decode jwk string".into());
    };
    if jwk.get("kid") != key.get("kid") {
        return Err("kid in jwk.kid must be equal to keys.kid".into());
    }
    if !jwk.get("kty").is_some_and(Value::is_string) {
        return Err("could not load JWK, likely not a valid key".into());
    }
    Ok(())
}
