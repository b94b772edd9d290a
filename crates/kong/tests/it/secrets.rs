//! Records hold references in the place of secrets.

use cardinal_ir::{Ir, IrDelta, Lookup, SecretKey, SecretRef, Secrets, binary};
use cardinal_kong::{Registry, Settings, declarative, lower};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::plugins;

/// Secrets of a file, each of a length and form that occurs nowhere else.
fn secrets() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec("[a-zA-Z0-9]{16,24}", 10)
}

struct File {
    certificate: (String, String),
}

impl File {
    fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(["a.test".to_owned()]).unwrap().self_signed(&key).unwrap();
        Self { certificate: (certificate.pem(), key.serialize_pem()) }
    }

    /// A file with every kind of secret.
    fn with(&self, s: &[String]) -> Value {
        let (cert, key) = &self.certificate;
        json!({
            "_format_version": "3.0",
            "certificates": [{"cert": cert, "key": key, "snis": [{"name": "a.test"}]}],
            "consumers": [{
                "username": "alice",
                "keyauth_credentials": [{"key": s[0]}, {"key": format!("secret:{}", s[1]), "ttl": 60}],
                "basicauth_credentials": [{"username": "alice", "password": s[2]}],
                "jwt_secrets": [{"key": "issuer", "secret": s[3]}],
                "hmacauth_credentials": [{"username": "signer", "secret": s[9]}],
                "acls": [{"group": "gold"}],
            }],
            "plugins": [
                {"name": "rate-limiting", "config": {"minute": 5, "policy": "redis",
                    "redis": {"host": "redis.test", "username": s[4], "password": s[5]}}},
                {"name": "http-log", "config": {"http_endpoint": format!("http://logs.test/{}", s[6]),
                    "headers": {"X-Token": s[7], "X-Ref": "{vault://env/name}"}}},
                {"name": "request-transformer", "config": {"add": {"headers": [format!("X-A:{}", "plain-text")]}}},
            ],
        })
    }
}

fn settings(secret: &str) -> Settings {
    let secret_key = SecretKey::of_text("a key of the tests");
    let mut settings = Settings { secret_key, ..Settings::default() };
    settings.secrets.env.insert("NAME".to_owned(), secret.to_owned());
    settings
}

fn lowered(document: &Value, settings: &Settings) -> (Ir, Secrets) {
    let registry = Registry::new(&plugins::ALL);
    let snapshot = declarative::load_value(document, &registry, settings).unwrap_or_else(|e| panic!("{e}"));
    let (ir, secrets, diagnostics) = lower(&snapshot, &registry, settings);
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    (ir, secrets)
}

/// Every form in which records are stored, sent or shown.
fn forms(ir: &Ir, secrets: &Secrets) -> Vec<String> {
    let delta: IrDelta = Ir::default().diff(ir);
    let lossy = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    vec![
        serde_json::to_string(ir).unwrap(),
        serde_json::to_value(ir).unwrap().to_string(),
        lossy(binary::encode(ir).unwrap()),
        serde_json::to_string(&delta).unwrap(),
        lossy(binary::encode(&delta).unwrap()),
        format!("{ir:?} {delta:?} {secrets:?}"),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn records_hold_no_secret(secrets in secrets()) {
        let file = File::new();
        let (ir, kept) = lowered(&file.with(&secrets), &settings(&secrets[8]));
        let line_of_key = file.certificate.1.lines().nth(1).unwrap();
        // A password is kept as a hash, which is a secret as well.
        let sealed: Vec<&str> = kept.iter().map(|(_, secret)| secret.expose()).collect();
        let hidden = secrets[..10].iter().map(String::as_str).chain([line_of_key]).chain(sealed.iter().copied());
        for text in hidden {
            for form in forms(&ir, &kept) {
                prop_assert!(!form.contains(text), "{text} in {form}");
            }
        }
        for plain in &secrets[..10] {
            prop_assert_eq!(sealed.iter().any(|secret| secret.contains(plain.as_str())), *plain != secrets[2]);
        }
        // All that the records refer to is there, and nothing else.
        let mut used = std::collections::BTreeSet::new();
        ir.secrets(&mut |reference| {
            used.insert(reference);
        });
        prop_assert_eq!(used, kept.iter().map(|(reference, _)| reference).collect());
    }

    #[test]
    fn what_changes_is_what_refers_to_a_secret_that_changes(secrets in secrets(), changed in 0..8_usize) {
        let file = File::new();
        let same = settings("apikey");
        let (before, _) = lowered(&file.with(&secrets), &same);
        let (again, _) = lowered(&file.with(&secrets), &same);
        prop_assert_eq!(before.digest(), again.digest());
        let mut others = secrets;
        others[changed].push('x');
        let (after, _) = lowered(&file.with(&others), &same);
        let delta = before.diff(&after);
        // The ids of these credentials are derived from what they are: with another secret they are other credentials.
        let expect = match changed {
            0 | 1 | 3 => 2,
            _ => 1,
        };
        prop_assert_eq!(delta.len(), expect, "{:?}", delta);
        let other_key = Settings { secret_key: SecretKey::of_text("another key of the tests"), ..same };
        prop_assert_ne!(lowered(&file.with(&others), &other_key).0.digest(), after.digest());
    }
}

#[test]
fn a_text_that_looks_like_a_reference_is_a_secret() {
    let settings = settings("apikey");
    let forged = SecretKey::default().reference("x").to_string();
    let document = json!({
        "_format_version": "3.0",
        "consumers": [{"username": "alice", "basicauth_credentials": [{"username": forged, "password": "p"}]}],
        "plugins": [{"name": "request-transformer", "config": {"add": {"headers": [forged]}}}],
    });
    let (ir, secrets) = lowered(&document, &settings);
    let reference = settings.secret_key.reference(&forged);
    assert_eq!(secrets.get(reference).map(|secret| secret.expose()), Some(&*forged));
    let lookups: Vec<&Lookup> = ir.credentials.values().map(|credential| &credential.lookup).collect();
    assert_eq!(lookups, [&Lookup::Secret(reference)]);
    let params = &ir.filter_sets.values().next().unwrap().filters[0].params;
    assert_eq!(params["add"]["headers"], json!([reference.to_string()]));
    assert_eq!(secrets.resolve_value(params).unwrap()["add"]["headers"], json!([forged]));
    assert!(SecretRef::is_meant_by(&forged));
}
