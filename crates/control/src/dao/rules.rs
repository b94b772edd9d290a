//! What Kong checks and changes besides the schema: rules that need other entities, values that are derived.

use std::collections::BTreeSet;

use cardinal_kong::entities::{Kind, WORKSPACES, pem};
use cardinal_schema::Errors;
use cardinal_schema::typedefs::{HostKind, normalize_host};
use cardinal_store::{Expect, Key, Query, Write};
use serde_json::{Value, json};

use super::access::{DEFAULT_WORKSPACE, Dao, Fields, Tenant};
use super::document::{document, space};
use super::fault::Fault;
use super::read::Selector;
use super::write::Change;

/// The port of targets that have none.
const TARGET_PORT: u16 = 8_000;

impl Dao {
    /// What is written for a valid entity. `old` is the form before.
    pub(super) async fn prepare(
        &self,
        tenant: &Tenant,
        kind: &Kind,
        old: Option<&Fields>,
        mut fields: Fields,
    ) -> Result<Change, Fault> {
        let mut further = Vec::new();
        match kind.name {
            WORKSPACES => self.check_workspace(old, &fields)?,
            "plugins" => self.protocols_match(tenant, &fields).await?,
            "targets" => format_target(&mut fields)?,
            "certificates" => further = self.write_names(tenant, kind, old, &mut fields).await?,
            "ca_certificates" => {
                let digest = fields.get("cert").and_then(Value::as_str).and_then(|text| pem::digest(text).ok());
                fields.insert("cert_digest".to_owned(), digest.map_or(Value::Null, Value::String));
            }
            _ => seal(kind, old, &mut fields, self.has_files)?,
        }
        Ok(Change { fields, further })
    }

    /// Refuses a reference to an entity of another workspace, as if it did not exist.
    pub(super) async fn check_reach(
        &self,
        tenant: &Tenant,
        (field, target): (&str, &Kind),
        id: &str,
    ) -> Result<(), Fault> {
        let own = space(target, &tenant.workspace);
        if own.is_empty() {
            return Ok(());
        }
        let found = self.store.get(Key::new(target.name, id.to_ascii_lowercase())).await?;
        match found {
            Some(document) if document.space != own => Err(Fault::no_reference(field, target.name, id)),
            // Whether it exists is checked when the document is written.
            _ => Ok(()),
        }
    }

    /// Kong: `check_protocols_match` of `kong/db/dao/plugins.lua`.
    async fn protocols_match(&self, tenant: &Tenant, plugin: &Fields) -> Result<(), Fault> {
        let own = protocols(plugin);
        let id = |field: &str| plugin.get(field).and_then(|value| value.get("id")).and_then(Value::as_str);
        let Some(routes) = self.registry.kind("routes") else { return Ok(()) };
        if let Some(route) = id("route") {
            let route = self.select(tenant, routes, Selector::Id(route)).await?;
            if route.is_some_and(|route| own.is_disjoint(&protocols(&route))) {
                return Err(Fault::field("protocols", "must match the associated route's protocols"));
            }
        } else if let Some(service) = id("service")
            && let Some(services) = self.registry.kind("services")
        {
            let routes = self.all(tenant, routes, Some(("service", services, service))).await?;
            if !routes.is_empty() && routes.iter().all(|route| own.is_disjoint(&protocols(route))) {
                let message = "must match the protocols of at least one route pointing to this Plugin's service";
                return Err(Fault::field("protocols", message));
            }
        }
        Ok(())
    }

    /// The server names that are written with a certificate. Kong: `kong/db/dao/certificates.lua`.
    async fn write_names(
        &self,
        tenant: &Tenant,
        kind: &Kind,
        old: Option<&Fields>,
        fields: &mut Fields,
    ) -> Result<Vec<Write>, Fault> {
        // In the store they are entities of their own.
        let given = fields.shift_remove("snis");
        let Some(snis) = self.registry.kind("snis") else { return Ok(Vec::new()) };
        let names: BTreeSet<String> = match &given {
            Some(Value::Array(list)) => {
                let mut names = BTreeSet::new();
                for name in list.iter().filter_map(Value::as_str) {
                    if !names.insert(name.to_owned()) {
                        return Err(Fault::field("snis", format!("{name} is duplicated")));
                    }
                }
                names
            }
            Some(Value::Null) if old.is_some() => BTreeSet::new(),
            _ => return Ok(Vec::new()),
        };
        let certificate = self.key_of(kind, fields);
        let mut further = Vec::new();
        if old.is_some() {
            for sni in self.all(tenant, snis, Some(("certificate", kind, &certificate.id))).await? {
                let name = sni.get("name").and_then(Value::as_str).unwrap_or_default();
                if !names.contains(name) {
                    further.push(Write::Delete(self.key_of(snis, &sni), Expect::Any));
                }
            }
        }
        for name in names {
            match self.find(tenant, snis, "name", &Value::from(name.as_str())).await? {
                Some(sni) => {
                    let owner = sni.value.pointer("/certificate/id").and_then(Value::as_str).unwrap_or_default();
                    if owner != &*certificate.id {
                        let message = format!("{name} already associated with existing certificate '{owner}'");
                        return Err(Fault::field("snis", message));
                    }
                }
                None => {
                    let sni = json!({ "name": name, "certificate": { "id": &*certificate.id } });
                    let completed = {
                        let options = cardinal_schema::Options { auto: Some(self), no_defaults: false };
                        snis.schema.process(&sni, &options).map_err(|errors| Fault::schema(&errors))
                    };
                    let Value::Object(mut sni) = completed? else { continue };
                    if self.has_files {
                        self.name_id(snis, &mut sni).await?;
                    }
                    let sni = document(snis, &snis.schema, &tenant.workspace, sni);
                    further.push(Write::Put(Box::new(sni), Expect::Absent));
                }
            }
        }
        Ok(further)
    }

    /// Why an entity cannot be deleted, other than by references that the store knows.
    pub(super) async fn forbids_deletion(&self, kind: &Kind, fields: &Fields) -> Result<Option<Fault>, Fault> {
        let id = fields.get("id").and_then(Value::as_str).unwrap_or_default();
        match kind.name {
            WORKSPACES if id == DEFAULT_WORKSPACE => Ok(Some(Fault::message(400, "Cannot delete default workspace"))),
            "ca_certificates" => {
                // The services of all workspaces use it.
                let mut query = Query::all("services");
                query.reference = Some((format!("ca_certificates/{id}").into(), self.key_of(kind, fields)));
                query.limit = 1;
                let users = self.store.list(query).await?;
                Ok(users.documents.first().map(|service| {
                    let service = &service.key.id;
                    Fault::referenced_by_others(&format!(
                        "ca certificate {id} is still referenced by services (id = {service})"
                    ))
                }))
            }
            _ => Ok(None),
        }
    }
}

fn protocols(entity: &Fields) -> BTreeSet<&str> {
    entity.get("protocols").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Gives a target its usual form, with a port. Kong: `format_target` of `kong/db/dao/targets.lua`.
fn format_target(fields: &mut Fields) -> Result<(), Fault> {
    let Some(target) = fields.get("target").and_then(Value::as_str) else { return Ok(()) };
    let host = normalize_host(target)
        .map_err(|_| Fault::field("target", "Invalid target; not a valid hostname or ip address"))?;
    let port = host.port.unwrap_or(TARGET_PORT);
    let text = match host.kind {
        HostKind::V6 if !host.host.starts_with('[') => format!("[{}]:{port}", host.host),
        HostKind::Name | HostKind::V4 | HostKind::V6 => format!("{}:{port}", host.host),
    };
    fields.insert("target".to_owned(), text.into());
    Ok(())
}

/// Hashes the password of a credential when it is written, or written to another consumer. In files it stays as it is.
fn seal(kind: &Kind, old: Option<&Fields>, fields: &mut Fields, has_files: bool) -> Result<(), Fault> {
    let Some(seal) = kind.brought_by.and_then(|def| def.seal.as_ref()) else { return Ok(()) };
    let unchanged = |name: &str| old.is_some_and(|old| old.get(name) == fields.get(name));
    match (unchanged(seal.field), unchanged("consumer")) {
        (true, true) => return Ok(()),
        // The hash depends on the consumer: that of a hash would be a password.
        (true, false) => {
            let message = format!("all or none of these fields must be set: '{}', 'consumer.id'", seal.field);
            let mut errors = Errors::default();
            errors.push_entity(message);
            return Err(Fault::schema(&errors));
        }
        (false, _) if has_files => return Ok(()),
        (false, _) => {}
    }
    let consumer = fields.get("consumer").and_then(|consumer| consumer.get("id")).and_then(Value::as_str);
    let Some(consumer) = consumer.and_then(|id| id.parse().ok()) else { return Ok(()) };
    let mut value = Value::Object(std::mem::take(fields));
    (seal.run)(&mut value, consumer);
    if let Value::Object(sealed) = value {
        *fields = sealed;
    }
    Ok(())
}
