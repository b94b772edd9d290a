use serde_json::json;

use super::*;
use crate::{Certificate, Id, Ir, KeyPair, Lookup};

const KEY: SecretKey = SecretKey::new([7; 32]);

#[test]
fn a_reference_is_an_hmac() {
    // RFC 4231, test case 1, whose key is padded with zeros as in any HMAC.
    let mut key = [0; 32];
    key[..20].fill(0x0b);
    let expect = "b0344c61d8db38535ca8afceaf0bf12b";
    assert_eq!(SecretKey::new(key).reference("Hi There").to_string(), format!("secret:{expect}"));
}

#[test]
fn equal_secrets_have_equal_references_under_one_key_only() {
    assert_eq!(KEY.reference("a"), KEY.clone().reference("a"));
    assert_ne!(KEY.reference("a"), KEY.reference("b"));
    assert_ne!(KEY.reference("a"), SecretKey::default().reference("a"));
    assert_ne!(SecretKey::of_text("one"), SecretKey::of_text("other"));
}

#[test]
fn references_have_one_text() {
    let reference = KEY.reference("a");
    let text = reference.to_string();
    assert_eq!(text.parse(), Ok(reference));
    assert_eq!(serde_json::to_value(reference).unwrap(), json!(text));
    let digits = text.strip_prefix("secret:").unwrap();
    for bad in ["", digits, "secret:", "secret:+0", &text.to_uppercase(), &text[..38], &format!("{text}0")] {
        assert_eq!(bad.parse::<SecretRef>(), Err(NoSecretRef), "{bad:?}");
    }
    let hyphens = format!("secret:{}", Id::from_u128(1));
    assert_eq!(hyphens.parse::<SecretRef>(), Err(NoSecretRef));
}

#[test]
fn what_is_no_reference_is_rejected_and_not_shown() {
    let error = serde_json::from_value::<KeyPair>(json!({"chain": "", "key": "-----hush"})).unwrap_err().to_string();
    assert!(error.contains("expected a reference") && !error.contains("hush"), "{error}");
    let error = serde_json::from_value::<crate::Credential>(json!({"lookup": "secret:hush"})).unwrap_err().to_string();
    assert!(error.contains("expected a reference") && !error.contains("hush"), "{error}");
}

#[test]
fn nothing_shows_a_secret() {
    let mut secrets = Secrets::default();
    let reference = secrets.add(&KEY, "hush");
    let shown = format!("{secrets:?} {:?} {KEY:?} {reference:?}", secrets.get(reference));
    assert!(!shown.contains("hush") && !shown.contains('7'.to_string().repeat(2).as_str()), "{shown}");
}

#[test]
fn references_in_values_are_resolved_or_named() {
    let mut secrets = Secrets::default();
    let known = secrets.add(&KEY, "hush").to_string();
    let unknown = KEY.reference("other");
    let value = json!({"a": ["x", {"b": known}], "c": 1});
    assert_eq!(*secrets.resolve_value(&value).unwrap(), json!({"a": ["x", {"b": "hush"}], "c": 1}));
    let plain = json!({"a": ["x"], "b": "not a secret:"});
    assert!(matches!(secrets.resolve_value(&plain), Ok(Cow::Borrowed(_))));
    let error = secrets.resolve_value(&json!({"a": [null, {"b": unknown.to_string()}]})).unwrap_err();
    assert_eq!((error.path.as_str(), error.reference), ("a.1.b", Some(unknown)));
    let error = secrets.resolve_value(&json!({"a": "secret:bad"})).unwrap_err();
    assert_eq!((error.path.as_str(), error.reference), ("a", None));
    assert_eq!(secrets.resolve(SecretRef::default()).unwrap_err().reference, Some(SecretRef::default()));
}

#[test]
fn stores_are_merged_and_pruned() {
    let (mut one, mut other) = (Secrets::default(), Secrets::default());
    let (a, b, c) = (one.add(&KEY, "a"), other.add(&KEY, "b"), other.add(&KEY, "c"));
    one.merge(&other);
    assert_eq!((one.len(), one.add(&KEY, "a")), (3, a));
    let mut ir = Ir::default();
    let pairs = vec![KeyPair { chain: "".into(), key: a }];
    ir.certificates.insert(Id::from_u128(1), Certificate { pairs, ..Certificate::default() });
    let filters = vec![crate::Filter { params: json!([{"x": b.to_string()}]).into(), ..Default::default() }];
    ir.filter_sets.insert(Id::from_u128(1), crate::FilterSet { filters, ..Default::default() });
    one.retain_used(&ir);
    assert!(one.get(a).is_some() && one.get(b).is_some() && one.get(c).is_none());
    let affected = ir.with_affected(crate::IrDelta::default(), &|reference| reference == b);
    assert_eq!((affected.len(), affected.filter_sets.len()), (1, 1));
}

#[test]
fn lookups_are_texts_or_references() {
    let secret = Lookup::Secret(KEY.reference("a"));
    for lookup in [Lookup::from("alice"), secret] {
        let text = serde_json::to_value(&lookup).unwrap();
        assert_eq!(text, json!(lookup.to_string()));
        assert_eq!(serde_json::from_value::<Lookup>(text).unwrap(), lookup);
    }
}

#[test]
fn a_difference_of_stores_names_what_is_new_and_what_is_gone() {
    let key = SecretKey::default();
    let (mut old, mut new) = (Secrets::default(), Secrets::default());
    let (kept, gone) = (old.add(&key, "kept"), old.add(&key, "gone"));
    new.add(&key, "kept");
    let added = new.add(&key, "added");
    let mut expected = vec![(gone, None), (added, Some("added".to_owned()))];
    expected.sort();
    let mut found: Vec<_> = old.diff(&new).into_iter().map(|(r, s)| (r, s.map(|s| s.expose().to_owned()))).collect();
    found.sort();
    assert_eq!(found, expected);
    assert!(old.remove(kept) && !old.remove(kept));
}
