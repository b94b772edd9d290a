//! The hash of a generation: 32 digits by which a control plane sees that a node has lost or changed its
//! configuration.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use cardinal_ir::{Id, Ir, Table};
use serde::Serialize;

use crate::plan::Plan;

/// The hash of nothing, as Kong has it.
const EMPTY: &str = "00000000000000000000000000000000";
/// Hashed at a time.
const BLOCK_BYTES: usize = 64 * 1024;

/// Hashes, made once a generation when somebody asks.
#[derive(Default)]
pub(super) struct Digests(Arc<Mutex<Option<(u64, String)>>>);

impl Digests {
    /// The hash of a generation.
    pub(super) async fn of(&self, plan: &Arc<Plan>) -> String {
        let (kept, plan) = (Arc::clone(&self.0), Arc::clone(plan));
        // A large configuration takes a while; whoever asks for it in the meantime waits for the same answer.
        let work = tokio::task::spawn_blocking(move || {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            match &*kept {
                Some((generation, digest)) if *generation == plan.generation => digest.clone(),
                _ => {
                    let made = digest(&plan.ir);
                    *kept = Some((plan.generation, made.clone()));
                    made
                }
            }
        });
        work.await.unwrap_or_else(|error| {
            tracing::error!(%error, "the configuration cannot be hashed");
            EMPTY.to_owned()
        })
    }
}

/// Whether users configured nothing. Listeners and settings do not count, the default certificate among them.
pub(super) fn is_empty(ir: &Ir) -> bool {
    let Ir {
        node,
        listeners: _,
        routes,
        filter_sets,
        backends,
        endpoints,
        endpoint,
        certificates,
        trusts,
        principals,
        groups,
        credentials,
    } = ir;
    routes.is_empty()
        && filter_sets.is_empty()
        && backends.is_empty()
        && endpoints.is_empty()
        && endpoint.is_empty()
        && certificates.iter().all(|(id, _)| Some(*id) == node.default_certificate)
        && trusts.is_empty()
        && principals.is_empty()
        && groups.is_empty()
        && credentials.is_empty()
}

/// The same for the same configuration on every node, whatever the node's own settings are.
fn digest(ir: &Ir) -> String {
    if is_empty(ir) {
        return EMPTY.to_owned();
    }
    let mut chain = Chain { id: Id::nil(), block: Vec::with_capacity(BLOCK_BYTES) };
    // The default certificate is the node's own setting.
    let own = ir.node.default_certificate;
    let written = table(&mut chain, "routes", &ir.routes, None)
        .and_then(|()| table(&mut chain, "filter_sets", &ir.filter_sets, None))
        .and_then(|()| table(&mut chain, "backends", &ir.backends, None))
        .and_then(|()| table(&mut chain, "endpoints", &ir.endpoints, None))
        .and_then(|()| table(&mut chain, "endpoint", &ir.endpoint, None))
        .and_then(|()| table(&mut chain, "certificates", &ir.certificates, own))
        .and_then(|()| table(&mut chain, "trusts", &ir.trusts, None))
        .and_then(|()| table(&mut chain, "principals", &ir.principals, None))
        .and_then(|()| table(&mut chain, "groups", &ir.groups, None))
        .and_then(|()| table(&mut chain, "credentials", &ir.credentials, None));
    if let Err(error) = written {
        tracing::error!(%error, "the configuration cannot be hashed");
        return EMPTY.to_owned();
    }
    chain.step();
    chain.id.simple().to_string()
}

fn table<T: Serialize>(chain: &mut Chain, name: &str, table: &Table<T>, except: Option<Id>) -> serde_json::Result<()> {
    serde_json::to_writer(&mut *chain, name)?;
    for (id, record) in table.iter().filter(|(id, _)| Some(**id) != except) {
        serde_json::to_writer(&mut *chain, &(id, &**record))?;
    }
    Ok(())
}

/// Hashes block by block, each with the hash so far (version 5 of UUIDs, which is SHA-1: this finds changes, it does
/// not keep forgers out).
struct Chain {
    id: Id,
    block: Vec<u8>,
}

impl Chain {
    fn step(&mut self) {
        self.id = Id::new_v5(&self.id, &self.block);
        self.block.clear();
    }
}

impl io::Write for Chain {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = BLOCK_BYTES - self.block.len();
        let part = bytes.get(..room).unwrap_or(bytes);
        self.block.extend_from_slice(part);
        if self.block.len() == BLOCK_BYTES {
            self.step();
        }
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use cardinal_ir::{Origin, PrincipalGroup};

    use super::*;

    fn ir(names: &[&str]) -> Ir {
        let mut ir = Ir::default();
        for (number, name) in names.iter().enumerate() {
            let origin = Origin::default().named(name);
            let group = PrincipalGroup { origin, name: (*name).into() };
            ir.groups.insert(Id::from_u128(number as u128 + 1), group);
        }
        ir
    }

    #[test]
    fn a_hash_is_that_of_the_configuration() {
        assert_eq!(digest(&Ir::default()), EMPTY);
        let one = digest(&ir(&["a"]));
        assert!(one.len() == 32 && one.bytes().all(|b| b.is_ascii_hexdigit()) && one != EMPTY);
        assert_eq!(one, digest(&ir(&["a"])));
        assert_ne!(one, digest(&ir(&["b"])));
        assert_ne!(one, digest(&ir(&["a", "b"])));
        let mut elsewhere = ir(&["a"]);
        elsewhere.node.id = Id::from_u128(7);
        assert_eq!(one, digest(&elsewhere));
    }

    #[test]
    fn large_configurations_are_hashed_to_their_end() {
        let long = "x".repeat(3 * BLOCK_BYTES);
        assert_ne!(digest(&ir(&[&long, "a"])), digest(&ir(&[&long, "b"])));
    }
}
