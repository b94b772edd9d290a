use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
use serde_json::{Value, json};

use super::*;
use crate::settings::Choice;
use crate::{declarative, lower};

/// A plugin without configuration.
pub(crate) static PLUGIN: PluginDef = PLUGIN_BASE;

/// The same, to be varied.
pub(crate) const PLUGIN_BASE: PluginDef = PluginDef {
    name: "any",
    summary: "For tests.",
    priority: 1,
    schema: || cardinal_schema::record([]),
    entities: &[],
    scopes: cardinal_sdk::Scopes::ALL,
    protocols: cardinal_sdk::HTTP_PROTOCOLS,
    failure: cardinal_sdk::FailureMode::Closed,
    build: |_, _| Err(cardinal_sdk::BuildError::new("", "a description only")),
    lower: None,
};

fn pair(names: &[&str]) -> (String, String) {
    pair_of(names, KeyPair::generate().unwrap(), false)
}

fn pair_of(names: &[&str], key: KeyPair, is_ca: bool) -> (String, String) {
    let mut params = CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()).unwrap();
    if is_ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn errors(document: Value) -> Value {
    match declarative::load_value(&document, &Registry::new(&[]), &Settings::default()) {
        Ok(_) => Value::Null,
        Err(errors) => errors.fields(),
    }
}

fn certificates(list: Value) -> Value {
    json!({"_format_version": "3.0", "certificates": list})
}

#[test]
fn certificates_and_keys_belong_together() {
    let (cert, key) = pair(&["a.example"]);
    let (other, other_key) = pair_of(&["b.example"], KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap(), false);
    let (third, third_key) = pair_of(&["c.example"], KeyPair::generate_for(&PKCS_ED25519).unwrap(), false);
    assert_eq!(
        errors(certificates(json!([{"cert": cert, "key": key}, {"cert": other, "key": other_key}]))),
        Value::Null
    );
    assert_eq!(
        errors(certificates(json!([{"cert": cert, "key": other_key}]))),
        json!({"certificates": [{"@entity": ["certificate does not match key"]}]})
    );
    assert_eq!(
        errors(certificates(json!([{"cert": cert, "key": key, "cert_alt": third}]))),
        json!({"certificates": [{"@entity": ["all or none of these fields must be set: 'cert_alt', 'key_alt'"]}]})
    );
    let both = json!([{"cert": cert, "key": key, "cert_alt": third, "key_alt": third_key}]);
    assert_eq!(errors(certificates(both)), Value::Null);
    let same = json!([{"cert": cert, "key": key, "cert_alt": other, "key_alt": other_key}]);
    let message = errors(certificates(same))["certificates"][0]["@entity"][0].as_str().unwrap().to_owned();
    assert!(message.starts_with("certificate and alternative certificate need to have different type"), "{message}");
    let message = errors(certificates(json!([{"cert": "x", "key": key}])))["certificates"][0]["cert"].clone();
    assert_eq!(message, "invalid certificate: no PEM block CERTIFICATE found");
}

/// A node that reads its files in 2027.
fn lowered(document: &Value) -> (cardinal_ir::Ir, Vec<String>) {
    let settings = Settings { loaded_at: 1_800_000_000.0, ..Settings::default() };
    let registry = Registry::new(&[]);
    let snapshot = declarative::load_value(document, &registry, &settings).unwrap_or_else(|e| panic!("{e}"));
    let (ir, _, diagnostics) = lower(&snapshot, &registry, &settings);
    (ir, diagnostics.iter().map(|d| d.message.clone()).collect())
}

#[test]
fn certificates_that_clients_will_refuse_are_served_with_a_warning() {
    let of = |from: i32, to: i32, names: &[&str], snis: Value| {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "Common.example");
        (params.not_before, params.not_after) = (rcgen::date_time_ymd(from, 1, 1), rcgen::date_time_ymd(to, 1, 1));
        let cert = params.self_signed(&key).unwrap().pem();
        let (ir, said) = lowered(&certificates(json!([{"cert": cert, "key": key.serialize_pem(), "snis": snis}])));
        assert_eq!(ir.certificates.len(), 1);
        said.join("; ")
    };
    let snis = |names: &[&str]| names.iter().map(|name| json!({"name": name})).collect::<Value>();
    assert_eq!(of(2020, 2030, &["a.example"], snis(&["a.example"])), "");
    assert_eq!(of(2020, 2030, &["*.a.example"], snis(&["b.a.example", "*.a.example", "b.a.*"])), "");
    assert_eq!(of(2020, 2030, &[], snis(&["common.example"])), "");
    assert_eq!(of(2020, 2030, &["::1", "a.example"], snis(&[])), "");
    let expired = of(2020, 2021, &["a.example"], snis(&["a.example"]));
    assert!(expired.starts_with("the certificate expired on ") && expired.contains("2021"), "{expired}");
    let early = of(2029, 2030, &["a.example"], snis(&[]));
    assert!(early.starts_with("the certificate is not valid before ") && early.contains("2029"), "{early}");
    assert_eq!(
        of(2020, 2030, &["*.a.example", "c.example"], snis(&["a.example", "c.b.a.example", "c.example"])),
        "the certificate is not valid for the server name a.example, c.b.a.example (its names: *.a.example, c.example)"
    );
}

#[test]
fn keys_that_tls_cannot_sign_with_leave_one_certificate_out() {
    // An RSA key of 1024 bits, with a certificate of X.509 version 1, and one on the curve secp256k1.
    let keys = include_str!("tests_keys.pem");
    let blocks: Vec<&str> = keys.split_inclusive("-----END PRIVATE KEY-----\n").collect();
    let part = |block: &str, label: &str| {
        let start = block.find(&format!("-----BEGIN {label}-----")).unwrap();
        let end = block.find(&format!("-----END {label}-----")).unwrap() + label.len() + 15;
        block[start..end].to_owned()
    };
    let (cert, key) = pair(&["a.example"]);
    for (block, reason) in blocks.iter().zip([
        "an RSA key of 1024 bits cannot be used for TLS: 2048 to 8192 bits are supported",
        "a key on the curve 1.3.132.0.10 cannot be used for TLS: P-256, P-384 and P-521 are supported",
        "a key of the algorithm 1.3.101.113 cannot be used for TLS: RSA, ECDSA on P-256, P-384 and P-521, and Ed25519 \
         are supported",
    ]) {
        let (weak, weak_key) = (part(block, "CERTIFICATE"), part(block, "PRIVATE KEY"));
        let (ir, said) = lowered(&certificates(json!([
            {"cert": weak, "key": weak_key, "snis": [{"name": "b.example"}]},
            {"cert": cert, "key": key, "snis": [{"name": "a.example"}]},
        ])));
        assert_eq!((ir.certificates.len(), said), (1, vec![reason.to_owned()]));
        if !reason.contains("curve") {
            let both = json!([{"cert": cert, "key": key, "cert_alt": weak, "key_alt": weak_key}]);
            let (ir, said) = lowered(&certificates(both));
            assert_eq!(ir.certificates.values().next().unwrap().pairs.len(), 1);
            assert_eq!(said, [format!("this certificate and its key are not served: {reason}")]);
        }
        if !reason.contains("algorithm") {
            let mixed = errors(certificates(json!([{"cert": cert, "key": weak_key}])));
            assert_eq!(mixed["certificates"][0]["@entity"][0], "certificate does not match key");
        }
    }
    assert_eq!(blocks.len(), 3);
    let damaged = errors(certificates(json!([{"cert": cert, "key": key.replace("A", "B")}])));
    assert!(damaged["certificates"][0]["key"].as_str().unwrap().starts_with("invalid key: "), "{damaged}");
}

#[test]
fn authorities_are_authorities() {
    let (ca, _) = pair_of(&["ca"], KeyPair::generate().unwrap(), true);
    let (leaf, _) = pair(&["leaf"]);
    let of = |cert: &str| json!({"_format_version": "3.0", "ca_certificates": [{"cert": cert}]});
    assert_eq!(errors(of(&ca)), Value::Null);
    let entity = |text: &str| json!({"ca_certificates": [{"@entity": [text]}]});
    assert_eq!(
        errors(of(&leaf)),
        entity("certificate does not appear to be a CA because it is missing the \"CA\" basic constraint")
    );
    assert_eq!(errors(of(&format!("{ca}{ca}"))), entity("please submit only one certificate at a time"));
    let snapshot = declarative::load_value(&of(&ca), &Registry::new(&[]), &Settings::default()).unwrap();
    let digest = snapshot.of("ca_certificates").next().unwrap().text("cert_digest").unwrap().to_owned();
    assert_eq!(digest, pem::digest(&ca).unwrap());
}

#[test]
fn names_lead_to_certificates() {
    let (cert, key) = pair(&["a.example", "*.b.example"]);
    let document = json!({
        "_format_version": "3.0",
        "certificates": [
            {"id": "58076db2-28b6-423b-ba39-a797193017f7", "cert": cert, "key": key, "snis": [{"name": "A.example"}]},
        ],
        "snis": [{"name": "*.b.example", "certificate": "58076db2-28b6-423b-ba39-a797193017f7"}],
        "services": [{"name": "s", "host": "h", "protocol": "https", "client_certificate":
            {"id": "58076db2-28b6-423b-ba39-a797193017f7"}}],
    });
    let (registry, settings) = (Registry::new(&[]), Settings::default());
    let snapshot = declarative::load_value(&document, &registry, &settings).unwrap_or_else(|e| panic!("{e}"));
    let (ir, _, diagnostics) = lower(&snapshot, &registry, &settings);
    assert_eq!(diagnostics, []);
    let certificate = ir.certificates.values().next().unwrap();
    assert_eq!(certificate.server_names, ["*.b.example".into(), Box::<str>::from("a.example")]);
    let tls = ir.backends.values().next().unwrap().tls.clone().unwrap();
    assert!(tls.client_certificate.is_some());
    assert_eq!(
        errors(json!({"_format_version": "3.0", "snis": [{"name": "a.*.b", "certificate": "x"}]}))["snis"][0]["name"],
        "wildcard must be leftmost or rightmost character"
    );
}

#[test]
fn urls_stand_for_parts() {
    let of = |url: &str| {
        let document = json!({"_format_version": "3.0", "services": [{"name": "s", "url": url}]});
        match declarative::load_value(&document, &Registry::new(&[]), &Settings::default()) {
            Ok(snapshot) => {
                let s = snapshot.of("services").next().unwrap().value.clone();
                json!([s["protocol"], s["host"], s["port"], s["path"]])
            }
            Err(errors) => errors.fields()["services"][0].clone(),
        }
    };
    assert_eq!(of("http://h"), json!(["http", "h", 80, null]));
    assert_eq!(of("https://h/p"), json!(["https", "h", 443, "/p"]));
    assert_eq!(of("https://h:8443/p/"), json!(["https", "h", 8443, "/p/"]));
    assert_eq!(of("tcp://h:22"), json!(["tcp", "h", 22, null]));
    assert_eq!(of("http://[::1]:8080"), json!(["http", "::1", 8080, null]));
    assert_eq!(of("h")["host"], "required field missing");
    assert!(of("ftp://h")["protocol"].as_str().unwrap().starts_with("expected one of: "));
}

#[test]
fn singular_names() {
    let registry = Registry::new(&[]);
    for (kind, one) in
        [("services", "service"), ("ca_certificates", "ca_certificate"), ("snis", "sni"), ("keys", "key")]
    {
        assert_eq!(registry.kind(kind).unwrap().singular(), one);
    }
}

#[test]
fn every_kind_has_all_forms() {
    for kind in Registry::new(&[]).kinds() {
        assert!(kind.schema.kong_form()["fields"].as_array().is_some_and(|f| f.len() > 3), "{}", kind.name);
        assert_eq!(kind.schema.json_schema()["type"], "object");
        let rows: Vec<String> = kind.schema.doc_rows().into_iter().map(|row| row.path).collect();
        assert!(rows.iter().any(|path| path == "id"));
        let distinct: std::collections::BTreeSet<_> = rows.iter().collect();
        assert_eq!(distinct.len(), rows.len(), "{}: {rows:?}", kind.name);
    }
}

#[test]
fn only_the_plugins_asked_for_are_there() {
    let settings = |names: &[&str]| Settings {
        plugins: Choice::Only(names.iter().map(|n| (*n).to_owned()).collect()),
        ..Settings::default()
    };
    let notes = choices(&[&PLUGIN], &settings(&["any", "nope"]));
    let told: Vec<_> = notes.iter().map(|note| (note.is_error, note.message.as_str())).collect();
    assert_eq!(told, [(false, "there is no plugin 'nope'; a file that uses 'nope' is refused")]);
    assert!(Registry::for_settings(&[&PLUGIN], &settings(&["any", "nope"])).unwrap().plugin("any").is_some());
    let registry = Registry::for_settings(&[&PLUGIN], &settings(&["any", "oauth2"])).unwrap();
    assert!(registry.plugin("any").is_some());
    let notes = choices(&[&PLUGIN], &settings(&["any", "oauth2"]));
    assert!(notes.iter().all(|note| !note.is_error && note.message.contains("Kong's plugin 'oauth2'")), "{notes:?}");
    assert!(Registry::for_settings(&[&PLUGIN], &settings(&[])).unwrap().plugin("any").is_none());
    assert!(Registry::for_settings(&[&PLUGIN], &Settings::default()).unwrap().plugin("any").is_some());
}

#[test]
fn plugins_may_widen_their_protocols() {
    static WIDE: PluginDef = PluginDef {
        schema: || cardinal_schema::record([]).outer_field("protocols", typedefs::protocols()),
        ..PLUGIN_BASE
    };
    const PLUGIN_BASE: PluginDef = PluginDef {
        name: "wide",
        summary: "For tests.",
        priority: 2,
        schema: || cardinal_schema::record([]),
        entities: &[],
        scopes: cardinal_sdk::Scopes::ALL,
        protocols: cardinal_sdk::HTTP_PROTOCOLS,
        failure: cardinal_sdk::FailureMode::Closed,
        build: |_, _| Err(cardinal_sdk::BuildError::new("", "a description only")),
        lower: None,
    };
    let of = |name: &str, protocols: Value| {
        let document = json!({"_format_version": "3.0", "plugins": [{"name": name, "protocols": protocols}]});
        declarative::load_value(&document, &Registry::new(&[&PLUGIN, &WIDE]), &Settings::default())
            .map(|s| s.of("plugins").next().unwrap().value["protocols"].clone())
            .map_err(|e| e.fields()["plugins"][0].clone())
    };
    assert_eq!(of("wide", json!(["tcp", "http"])), Ok(json!(["tcp", "http"])));
    assert_eq!(of("any", json!(["tcp"])), Err(json!({"protocols": ["expected one of: grpc, grpcs, http, https"]})));
}
