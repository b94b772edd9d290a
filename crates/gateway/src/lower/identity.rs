//! Certificates, authorities, consumers, groups, credentials.

use cardinal_ir::{Certificate, Code, Credential, KeyPair, Principal, PrincipalGroup, Trust};
use serde_json::{Map, Value};

use super::{Lowering, document::document};
use crate::declarative::Entity;
use crate::entities::pem;

impl Lowering<'_> {
    pub(super) fn certificates(&mut self) {
        let snapshot = self.snapshot;
        for entity in snapshot.of("certificates") {
            let value = self.resolved("certificates", entity);
            match pairs(&value) {
                Ok(pairs) => {
                    let mut server_names: Vec<Box<str>> = entity.texts("snis").map(lower_name).collect();
                    let of_this = snapshot.of("snis").filter(|s| s.reference("certificate") == Some(entity.id));
                    server_names.extend(of_this.filter_map(|s| s.text("name")).map(lower_name));
                    server_names.sort();
                    server_names.dedup();
                    let origin = entity.origin("certificates");
                    self.ir.certificates.insert(entity.id, Certificate { origin, pairs, server_names });
                }
                Err(message) => self.refuse("certificates", entity, Code::Certificate, "", message),
            }
        }
    }

    pub(super) fn trusts(&mut self) {
        for entity in self.snapshot.of("ca_certificates") {
            let certificate = entity.text("cert").unwrap_or_default().into();
            self.ir.trusts.insert(entity.id, Trust { origin: entity.origin("ca_certificates"), certificate });
        }
    }

    pub(super) fn groups(&mut self) {
        for entity in self.snapshot.of("consumer_groups") {
            let name = entity.text("name").unwrap_or_default().into();
            self.ir.groups.insert(entity.id, PrincipalGroup { origin: entity.origin("consumer_groups"), name });
        }
    }

    pub(super) fn principals(&mut self) {
        for entity in self.snapshot.of("consumers") {
            let principal = Principal {
                origin: entity.origin("consumers"),
                name: entity.text("username").map(Into::into),
                custom_id: entity.text("custom_id").map(Into::into),
                groups: self.snapshot.groups_of(&entity.id).to_vec(),
                document: document(entity),
            };
            self.ir.principals.insert(entity.id, principal);
        }
    }

    pub(super) fn credentials(&mut self) {
        let (registry, snapshot) = (self.registry, self.snapshot);
        for (kind, def) in registry.kinds().filter_map(|k| Some((k.name, k.brought_by?))) {
            for entity in snapshot.of(kind) {
                let value = self.resolved(kind, entity);
                let lookup = value.get(def.lookup).and_then(Value::as_str).filter(|text| !text.is_empty());
                // A field that may not hold references means what it says, as in Kong. Hardly anyone means that.
                if lookup.is_some_and(|text| text.starts_with("{vault://")) {
                    let message = "a reference to a vault is not resolved here, its text itself is what requests name";
                    self.warn(kind, entity, Code::Secret, def.lookup, message);
                }
                let Some(lookup) = lookup.map(Into::into) else {
                    self.refuse(kind, entity, Code::Secret, def.lookup, "has no value, so no request can name it");
                    continue;
                };
                let Some(principal) = entity.reference("consumer") else {
                    self.refuse(kind, entity, Code::Reference, "consumer", "has no consumer");
                    continue;
                };
                let data = Value::Object(without_base(&value));
                let (origin, kind) = (entity.origin(kind), def.kind.into());
                self.ir.credentials.insert(entity.id, Credential { origin, kind, principal, lookup, data });
            }
        }
    }
}

fn lower_name(name: &str) -> Box<str> {
    name.to_ascii_lowercase().into()
}

/// What the plugin's schema describes, and when a record with a time to live began to live.
fn without_base(value: &Map<String, Value>) -> Map<String, Value> {
    let base = ["id", "created_at", "updated_at", "consumer", "tags"];
    let lives_on = value.get("ttl").is_none_or(Value::is_null);
    let kept = |name: &str| !base.contains(&name) || (name == "created_at" && !lives_on);
    value.iter().filter(|(k, _)| kept(k)).map(|(k, v)| (k.clone(), v.clone())).collect()
}

fn pairs(value: &Map<String, Value>) -> Result<Vec<KeyPair>, String> {
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    let mut out = Vec::new();
    for (cert, key) in [("cert", "key"), ("cert_alt", "key_alt")] {
        let (Some(chain), Some(key)) = (text(cert), text(key)) else { continue };
        // The schema could not look behind references.
        match pem::matches(chain, key) {
            Ok(true) => out.push(KeyPair { chain: chain.into(), key: key.into() }),
            Ok(false) => return Err(format!("{cert} does not match its key")),
            Err(e) => return Err(format!("{cert}: {e}")),
        }
    }
    if out.is_empty() { Err("has no certificate".to_owned()) } else { Ok(out) }
}

/// Whether a certificate that an entity names is there; says so when not.
pub(super) fn known_certificate(lowering: &mut Lowering<'_>, kind: &str, entity: &Entity) -> Result<(), ()> {
    match entity.reference("client_certificate") {
        Some(id) if !lowering.ir.certificates.contains(&id) => {
            let message = "the certificate it names cannot be used";
            lowering.refuse(kind, entity, Code::Reference, "client_certificate", message);
            Err(())
        }
        _ => Ok(()),
    }
}
