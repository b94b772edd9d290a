//! The hash of a generation: 32 hexadecimal digits by which a control plane detects that a node has lost or changed its
//! configuration. A generation without records has a hash of zeros.

use std::sync::{Arc, Mutex, PoisonError};

use cardinal_ir::Digest;

use crate::plan::Plan;

/// Hashes of generations, computed on demand once per generation.
#[derive(Default)]
pub(crate) struct Digests(Arc<Mutex<Option<(u64, Digest)>>>);

impl Digests {
    /// The hash of a generation.
    pub(crate) async fn of(&self, plan: &Arc<Plan>) -> Digest {
        let (kept, plan) = (Arc::clone(&self.0), Arc::clone(plan));
        // Hashing a large configuration takes time; concurrent callers wait for the same result.
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
