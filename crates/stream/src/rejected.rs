//! Which records of a generation the node does not serve, from the diagnostics of the whole.

use std::collections::HashMap;

use cardinal_ir::{Id, Ir, RecordKind};
use cardinal_sync::stream::Rejection;
use cardinal_sync::{Ack, Update};

/// Records that were rejected, which stay so until they change.
#[derive(Debug, Default)]
pub(crate) struct Rejected(Vec<(RecordKind, Id)>);

impl Rejected {
    /// Those of a generation: of the records that changed, and of those that were rejected before.
    pub(crate) fn after(&mut self, update: &Update, ack: &Ack) -> Vec<Rejection> {
        let errors: HashMap<Id, _> = ack.errors().map(|error| (error.origin.id, error)).collect();
        if errors.is_empty() {
            if ack.is_applied() {
                self.0.clear();
            }
            return Vec::new();
        }
        let mut candidates = self.0.clone();
        update.delta().for_each_id(|kind, id| candidates.push((kind, id)));
        candidates.sort_unstable();
        candidates.dedup();
        let generation: &Ir = update.generation();
        let mut rejections = Vec::new();
        candidates.retain(|(kind, id)| {
            let record = generation.get(*kind, id);
            let origin = record.as_ref().map(cardinal_ir::Record::origin);
            let error = origin.and_then(|origin| errors.get(&origin.id).filter(|error| error.origin == *origin));
            rejections.extend(error.map(|error| Rejection::new(*kind, *id, error.message.clone())));
            error.is_some()
        });
        if ack.is_applied() {
            self.0 = candidates;
        }
        rejections
    }
}
