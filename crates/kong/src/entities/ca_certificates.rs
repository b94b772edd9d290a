//! Authorities that upstream and client certificates are verified against.

use cardinal_schema::{CheckFailure, custom, field, record, string};

use super::{Kind, base_fields, pem, tags_field};

pub(super) fn kind() -> Kind {
    let cert = string()
        .required()
        .validate_str(|text| pem::certificate(text).map(drop).map_err(|e| format!("invalid certificate: {e}")));
    let schema = record(base_fields())
        .with([
            field("cert", cert.describe("PEM, exactly one certificate.")),
            field("cert_digest", string().unique().describe("SHA-256, set by the program.")),
            tags_field(),
        ])
        .check(custom(["cert"], |value| check(value.get("cert").and_then(|v| v.as_str()).unwrap_or_default())));
    Kind::new("ca_certificates", schema)
}

fn check(text: &str) -> Result<(), CheckFailure> {
    if text.matches("-----BEGIN CERTIFICATE-----").count() > 1 {
        return Err("please submit only one certificate at a time".into());
    }
    let facts = pem::certificate(text)?;
    let now = std::time::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_secs() as i64);
    if facts.not_after < now {
        return Err("certificate expired, \"Not After\" time is in the past".into());
    }
    if !facts.is_ca {
        return Err("certificate does not appear to be a CA because it is missing the \"CA\" basic constraint".into());
    }
    Ok(())
}
