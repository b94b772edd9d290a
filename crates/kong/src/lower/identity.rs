//! Certificates, authorities, consumers, groups, credentials.

use std::sync::Arc;

use cardinal_ir::{
    Attributes, Certificate, Code, Credential, KeyPair, ListenerGroup, Lookup, Principal, PrincipalGroup, SecretRef,
    TrustBundle,
};
use cardinal_sdk::EntityDef;
use serde_json::{Map, Value};

use super::Lowering;
use crate::declarative::{Entity, WORKSPACE_FIELD};
use crate::entities::{WORKSPACES, pem};

/// The name of the workspace that is always there.
const DEFAULT_WORKSPACE: &str = "default";

impl Lowering<'_> {
    pub(super) fn workspaces(&mut self) {
        self.snapshot.of(WORKSPACES).for_each(|entity| self.workspace(&entity));
    }

    /// The workspace `default` is the default group, which has no record.
    pub(super) fn workspace(&mut self, entity: &Entity) {
        let name: Box<str> = entity.text("name").unwrap_or_default().into();
        if *name != *DEFAULT_WORKSPACE {
            let origin = self.memory.origins.origin(WORKSPACES, entity);
            self.ir.listener_groups.insert(entity.id, ListenerGroup { origin, name });
        }
    }

    pub(super) fn certificates(&mut self) {
        self.snapshot.of("certificates").for_each(|entity| self.certificate(&entity));
    }

    pub(super) fn certificate(&mut self, entity: &Entity) {
        let value = self.resolved("certificates", entity);
        match pairs(&value) {
            Ok((pairs, unusable)) => {
                for (field, why) in unusable {
                    let message = format!("this certificate and its key are not served: {why}");
                    self.warn("certificates", entity, Code::Certificate, field, message);
                }
                let mut server_names: Vec<Box<str>> = entity.texts("snis").map(lower_name).collect();
                server_names.extend(self.names.snis.get(&entity.id).into_iter().flatten().map(|name| lower_name(name)));
                server_names.sort();
                server_names.dedup();
                let now = self.settings.loaded_at as i64;
                let key_pair = |(chain, key): (&str, &str)| KeyPair { chain: chain.into(), key: self.secret(key) };
                let pairs: Vec<KeyPair> = pairs.into_iter().map(key_pair).collect();
                for message in pairs.iter().flat_map(|pair| pem::complaints(&pair.chain, &server_names, now)) {
                    self.warn("certificates", entity, Code::Certificate, "cert", message);
                }
                let origin = self.memory.origins.origin("certificates", entity);
                self.ir.certificates.insert(entity.id, Certificate { origin, pairs, server_names });
            }
            Err(message) => self.refuse("certificates", entity, Code::Certificate, "", message),
        }
    }

    pub(super) fn trusts(&mut self) {
        self.snapshot.of("ca_certificates").for_each(|entity| self.trust(&entity));
    }

    pub(super) fn trust(&mut self, entity: &Entity) {
        let certificate = entity.text("cert").unwrap_or_default().into();
        let origin = self.memory.origins.origin("ca_certificates", entity);
        self.ir.trust_bundles.insert(entity.id, TrustBundle { origin, certificate, trust_domain: None });
    }

    pub(super) fn groups(&mut self) {
        self.snapshot.of("consumer_groups").for_each(|entity| self.group(&entity));
    }

    pub(super) fn group(&mut self, entity: &Entity) {
        let name = entity.text("name").unwrap_or_default().into();
        let origin = self.memory.origins.origin("consumer_groups", entity);
        self.ir.groups.insert(entity.id, PrincipalGroup { origin, name });
    }

    pub(super) fn principals(&mut self) {
        self.each("consumers", Self::principal);
    }

    pub(super) fn principal(&mut self, entity: &Entity) {
        let mut principal = Principal {
            origin: self.memory.origins.origin("consumers", entity),
            name: entity.text("username").map(Into::into),
            custom_id: entity.text("custom_id").map(Into::into),
            groups: self.snapshot.groups_of(&entity.id).to_vec(),
            tenant: entity.workspace().map(Box::new),
            document: self.memory.no_document.clone(),
        };
        principal.document = self.memory.documents.of("consumers", entity, &principal);
        self.ir.principals.insert(entity.id, principal);
    }

    pub(super) fn credentials(&mut self) {
        let registry = self.registry;
        for (kind, def) in registry.kinds().filter_map(|k| Some((k.name, k.brought_by?))) {
            self.each(kind, |lowering, entity| lowering.credential(kind, def, entity));
        }
    }

    pub(super) fn credential(&mut self, kind: &'static str, def: &EntityDef, entity: &Entity) {
        let value = self.resolved(kind, entity);
        let lookup = value.get(def.lookup).and_then(Value::as_str).filter(|text| !text.is_empty());
        let Some(lookup) = lookup else {
            self.refuse(kind, entity, Code::Secret, def.lookup, "has no value, so no request can name it");
            return;
        };
        let Some(principal) = entity.reference("consumer") else {
            self.refuse(kind, entity, Code::Reference, "consumer", "has no consumer");
            return;
        };
        let is_secret = def.secrets.contains(&def.lookup) || SecretRef::is_meant_by(lookup);
        let lookup = if is_secret { Lookup::Secret(self.secret(lookup)) } else { lookup.into() };
        let mut data = Value::Object(without_base(&value));
        let registry = self.registry;
        self.take_secrets(&mut data, registry.kind(kind).map(|kind| &kind.schema), def.secrets);
        let attributes = Attributes::new(def.kind, data, def.lookup).of_tenant(entity.workspace());
        // Most credentials of a kind have no field but their lookup key.
        let last = self.memory.attributes.get(kind).filter(|last| ***last == attributes).map(Arc::clone);
        let attributes = last.unwrap_or_else(|| {
            let made = Arc::new(attributes);
            self.memory.attributes.insert(kind, Arc::clone(&made));
            made
        });
        let origin = self.memory.origins.origin(kind, entity);
        self.ir.credentials.insert(entity.id, Credential::new(origin, attributes, principal, lookup));
    }
}

fn lower_name(name: &str) -> Box<str> {
    name.to_ascii_lowercase().into()
}

/// What the plugin's schema describes, and when a record with a time to live was created.
fn without_base(value: &Map<String, Value>) -> Map<String, Value> {
    let base = ["id", "created_at", "updated_at", "consumer", "tags", WORKSPACE_FIELD];
    let lives_on = value.get("ttl").is_none_or(Value::is_null);
    let kept = |name: &str| !base.contains(&name) || (name == "created_at" && !lives_on);
    value.iter().filter(|(k, _)| kept(k)).map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// The certificates with keys that TLS can sign with, and the fields of the others, with the reasons.
type Pairs<'v> = (Vec<(&'v str, &'v str)>, Vec<(&'static str, String)>);

fn pairs(value: &Map<String, Value>) -> Result<Pairs<'_>, String> {
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    let (mut out, mut unusable) = (Vec::new(), Vec::new());
    for (cert, key) in [("cert", "key"), ("cert_alt", "key_alt")] {
        let (Some(chain), Some(key)) = (text(cert), text(key)) else { continue };
        // The schema could not look behind references.
        match pem::matches(chain, key) {
            Ok(true) => {}
            Ok(false) => return Err(format!("{cert} does not match its key")),
            Err(e) => return Err(format!("{cert}: {e}")),
        }
        match pem::key(key)?.unusable {
            None => out.push((chain, key)),
            Some(why) => unusable.push((cert, why)),
        }
    }
    match unusable.first() {
        _ if !out.is_empty() => Ok((out, unusable)),
        Some((_, why)) => Err(why.clone()),
        None => Err("has no certificate".to_owned()),
    }
}

/// Whether a certificate that an entity names exists; reports it otherwise.
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
