//! `keyauth_credentials`: keys of consumers.

use std::sync::{Arc, LazyLock};

use cardinal_base::UnixMillis;
use cardinal_ir::Credential;
use cardinal_schema::{Schema, field, record, string};
use cardinal_sdk::{CredentialEntry, EntityDef, Prepared};

pub(super) const KIND: &str = "key-auth";

pub(super) const KEYS: EntityDef = EntityDef {
    name: "keyauth_credentials",
    collection: "key-auths",
    nested: "key-auth",
    kind: KIND,
    schema,
    lookup: "key",
    unique: true,
    secrets: &["key"],
    seal: None,
    prepare: Some(prepare),
};

fn schema() -> Schema {
    record([field(
        "key",
        string().unique().auto().describe("The key that requests are sent with. Generated at random when absent."),
    )])
    .with_ttl()
    .describe("A key of a consumer. `ttl` limits its life to so many seconds after its creation.")
}

/// When the key stops to work.
struct Expiry(UnixMillis);

/// Keys without a time to live need no preparation: they share one value.
static FOREVER: LazyLock<Prepared> = LazyLock::new(|| Arc::new(()));

/// The largest `ttl`. Kong: `validate_ttl_value`.
const TTL_MAX: f64 = 100_000_000.0;

/// `ttl` counts from `created_at`, so a key that has the one without the other is refused: it would never expire. So is a
/// key whose `ttl` is no number of seconds, which the schema does not check, as in Kong.
fn prepare(credential: &Credential) -> Result<Prepared, String> {
    let number = |name: &str| credential.data.get(name).and_then(serde_json::Value::as_f64);
    let ttl = match credential.data.get("ttl") {
        None | Some(serde_json::Value::Null) => 0.0,
        Some(value) => value
            .as_f64()
            .filter(|ttl| ttl.fract() == 0.0 && (0.0..=TTL_MAX).contains(ttl))
            .ok_or_else(|| format!("ttl must be an integer between 0 and {TTL_MAX}"))?,
    };
    if ttl == 0.0 {
        return Ok(Arc::clone(&FOREVER));
    }
    let Some(created) = number("created_at") else { return Err("a key with ttl needs created_at".to_owned()) };
    // The cast saturates: times beyond the range are never.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturating on purpose")]
    let end = ((created + ttl) * 1_000.0) as u64;
    Ok(Arc::new(Expiry(UnixMillis(end))))
}

pub(super) fn is_expired(entry: &CredentialEntry, now: impl FnOnce() -> UnixMillis) -> bool {
    let expiry = entry.prepared.as_ref().and_then(|prepared| prepared.downcast_ref::<Expiry>());
    expiry.is_some_and(|expiry| expiry.0 <= now())
}
