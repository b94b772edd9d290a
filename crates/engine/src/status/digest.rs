//! The hash of a generation: 32 digits by which a control plane sees that a node has lost or changed its
//! configuration. That of a generation without records is all zeros.

use std::sync::{Arc, Mutex, PoisonError};

use cardinal_ir::Digest;

use crate::plan::Plan;

/// Hashes, made once a generation when somebody asks.
#[derive(Default)]
pub(crate) struct Digests(Arc<Mutex<Option<(u64, Digest)>>>);

impl Digests {
    /// The hash of a generation.
    pub(super) async fn of(&self, plan: &Arc<Plan>) -> Digest {
        let (kept, plan) = (Arc::clone(&self.0), Arc::clone(plan));
        // A large configuration takes a while; whoever asks for it in the meantime waits for the same answer.
        let work = tokio::task::spawn_blocking(move || {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            match &*kept {
                Some((generation, digest)) if *generation == plan.generation => *digest,
                _ => {
                    let made = plan.ir.digest();
                    *kept = Some((plan.generation, made));
                    made
                }
            }
        });
        work.await.unwrap_or_else(|error| {
            tracing::error!(%error, "the configuration cannot be hashed");
            Digest::EMPTY
        })
    }
}
