//! [`Dao`]: what reads and writes entities.

use std::sync::{Arc, Mutex, PoisonError};

use cardinal_base::{Clock, Rng};
use cardinal_kong::Registry;
use cardinal_kong::entities::Kind;
use cardinal_schema::{Auto, Schema};
use cardinal_store::{Author, Store};
use serde_json::{Map, Value};

use super::fault::Fault;
use crate::permissions::{Action, EntityRules};

/// The id of the workspace `default`, which is the same in every DB-less Kong.
pub const DEFAULT_WORKSPACE: &str = "0dc6f45b-8f8d-40d2-a504-473544ee190b";

/// A future.
pub type FutureOf<'s, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 's>>;

/// An entity: its fields.
pub type Fields = Map<String, Value>;

/// Entities in a store.
#[derive(Clone, Debug)]
pub struct Dao {
    pub(super) store: Arc<dyn Store>,
    pub(super) registry: Arc<Registry>,
    clock: Arc<dyn Clock>,
    rng: Arc<Mutex<dyn Rng>>,
    /// The store keeps entities in declarative files.
    pub(super) has_files: bool,
}

/// On whose behalf, and in which workspace, the store is used.
#[derive(Clone, Debug)]
pub struct Tenant {
    /// Id of the workspace.
    pub workspace: Arc<str>,
    /// For the change log.
    pub author: Author,
    /// What may be done with which entities; `None` if there are no such rules.
    pub entities: Option<Arc<EntityRules>>,
}

impl Tenant {
    /// The workspace `default`.
    pub fn new(author: Author) -> Self {
        Self { workspace: DEFAULT_WORKSPACE.into(), author, entities: None }
    }

    /// Whether the rules about entities allow an action on an entity.
    pub(crate) fn allows(&self, id: &str, action: Action) -> bool {
        self.entities.as_ref().is_none_or(|rules| rules.allows(Some(id), action))
    }

    /// The same as a result.
    pub(super) fn check(&self, id: &str, action: Action) -> Result<(), Fault> {
        match &self.entities {
            Some(rules) if !rules.allows(Some(id), action) => Err(Fault::forbidden(&rules.user, action)),
            _ => Ok(()),
        }
    }
}

impl Dao {
    /// Entities of these kinds in this store.
    pub fn new(store: Arc<dyn Store>, registry: Arc<Registry>, clock: Arc<dyn Clock>, rng: impl Rng + 'static) -> Self {
        Self { store, registry, clock, rng: Arc::new(Mutex::new(rng)), has_files: false }
    }

    /// For a store that keeps entities in declarative files: new entities get the ids that they have there without being
    /// given one, and passwords are written as they are, since they are hashed when the files are read.
    #[must_use]
    pub fn over_files(self) -> Self {
        Self { has_files: true, ..self }
    }

    /// The same over another store.
    pub(super) fn over(&self, store: Arc<dyn Store>) -> Self {
        Self { store, ..self.clone() }
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The kinds of entities.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// The seconds that an entity has left to live, if its life is limited.
    pub(crate) fn life_left(&self, fields: &Fields) -> Option<f64> {
        let number = |name: &str| fields.get(name).and_then(Value::as_f64);
        let ttl = number("ttl").filter(|ttl| *ttl > 0.0)?;
        Some(number("created_at")? + ttl - self.now())
    }

    /// The schema that an entity must follow. What Kong says of a plugin that is not enabled is followed by why it is not
    /// there.
    ///
    /// # Errors
    /// Its plugin or type does not exist.
    pub(crate) fn schema_of<'d>(&'d self, kind: &'d Kind, entity: &Fields) -> Result<&'d Schema, Fault> {
        self.registry.schema_of(kind, entity).map_err(|mut errors| {
            let name = entity.get("name").and_then(Value::as_str).filter(|_| kind.name == "plugins");
            if let Some(why) = name.and_then(|name| self.registry.why_no_plugin(name)) {
                errors.map_texts(&|text| if text == "name" { text.to_owned() } else { format!("{text} ({why})") });
            }
            Fault::schema(&errors)
        })
    }

    pub(super) fn random(&self) -> u64 {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner).next_u64()
    }

    /// Random bytes, fit for keys if the source of randomness is.
    pub(crate) fn random_bytes<const N: usize>(&self) -> [u8; N] {
        let mut out = [0; N];
        for chunk in out.chunks_mut(8) {
            chunk.iter_mut().zip(self.random().to_be_bytes()).for_each(|(to, from)| *to = from);
        }
        out
    }
}

/// Times, ids and secrets of new entities.
impl Auto for Dao {
    fn now(&self) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit into the 53 bits of a float")]
        let now = self.clock.unix().0 as f64;
        now / 1_000.0
    }

    fn id(&self) -> uuid::Uuid {
        let (high, low) = (self.random(), self.random());
        uuid::Builder::from_random_bytes(((u128::from(high) << 64) | u128::from(low)).to_be_bytes()).into_uuid()
    }

    fn secret(&self) -> String {
        const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let letter = |_| {
            let at = self.rng.lock().unwrap_or_else(PoisonError::into_inner).below(LETTERS.len() as u64);
            usize::try_from(at).ok().and_then(|at| LETTERS.get(at)).map_or('0', |letter| char::from(*letter))
        };
        (0..32).map(letter).collect()
    }
}
