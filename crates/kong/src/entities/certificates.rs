//! Certificates with their keys, for TLS with clients and upstreams.

use cardinal_schema::{Field, all_or_none, array, custom, field, record, string, typedefs};
use serde_json::Value;

use super::{Kind, base_fields, pem, tags_field};

pub(super) fn kind() -> Kind {
    let schema = record(base_fields())
        .with([
            field("cert", certificate().required().describe("PEM, leaf first.")),
            field("key", key().required().describe("PEM.")),
            field("cert_alt", certificate().describe("A second certificate with a key of another type.")),
            field("key_alt", key().describe("The key of the second certificate.")),
            tags_field(),
            field("snis", array(typedefs::wildcard_host()).describe("Server names it is shown for.")),
        ])
        .check(all_or_none(["cert_alt", "key_alt"]))
        .check(custom(["cert", "key"], |v| pair(v, "cert", "key", "certificate does not match key")))
        .check(custom(["cert_alt", "key_alt"], |v| {
            pair(v, "cert_alt", "key_alt", "alternative certificate does not match key")
        }))
        .check(custom(["cert", "cert_alt"], |v| {
            let algorithm = |name: &str| text(v, name).and_then(|t| pem::certificate(t).ok()).map(|c| c.algorithm);
            match (algorithm("cert"), algorithm("cert_alt")) {
                (Some(a), Some(b)) if a == b => Err("certificate and alternative certificate need to have different \
                    type (e.g. RSA and ECDSA), the provided certificates were both of the same type"
                    .into()),
                _ => Ok(()),
            }
        }));
    Kind::new("certificates", schema)
}

fn certificate() -> Field {
    string()
        .referenceable()
        .validate_str(|text| pem::certificate(text).map(drop).map_err(|e| format!("invalid certificate: {e}")))
}

fn key() -> Field {
    string()
        .referenceable()
        .encrypted()
        .validate_str(|text| pem::key(text).map(drop).map_err(|e| format!("invalid key: {e}")))
}

fn text<'v>(value: &'v Value, name: &str) -> Option<&'v str> {
    value.get(name)?.as_str()
}

fn pair(value: &Value, cert: &str, key: &str, message: &str) -> Result<(), cardinal_schema::CheckFailure> {
    match (text(value, cert), text(value, key)) {
        (Some(cert), Some(key)) => match pem::matches(cert, key) {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(message.into()),
        },
        _ => Ok(()),
    }
}
