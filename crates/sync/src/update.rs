//! [`Update`]: a change of the configuration.

use std::sync::Arc;

use cardinal_ir::{Ir, IrDelta, NodeSettings, Record, RecordKind, Secrets};

use crate::{Ack, RecordResult};

/// A change of the configuration: the new generation, and its difference from the previous one.
///
/// The difference is computed once, here, and used by all code that processes the change. It always leads from
/// [`Update::base`] to [`Update::generation`], and unchanged records are shared between both.
#[derive(Clone, Debug)]
pub struct Update {
    base: Arc<Ir>,
    generation: Arc<Ir>,
    delta: IrDelta,
    secrets: Option<Secrets>,
    node: Option<Arc<NodeSettings>>,
}

/// The parts of an [`Update`].
#[derive(Clone, Debug)]
pub struct UpdateParts {
    /// The new generation.
    pub generation: Arc<Ir>,
    /// The changes.
    pub delta: IrDelta,
    /// The secrets of the generation, if they changed.
    pub secrets: Option<Secrets>,
    /// The settings of the node, if they changed.
    pub node: Option<Arc<NodeSettings>>,
}

impl Update {
    /// The first configuration of a node.
    pub fn first(generation: Arc<Ir>, node: Arc<NodeSettings>) -> Self {
        let base = Arc::<Ir>::default();
        let delta = base.diff(&generation);
        Self { base, generation, delta, secrets: None, node: Some(node) }
    }

    /// The update from `base` to the records of `newer`.
    pub fn between(base: &Arc<Ir>, newer: &Ir) -> Self {
        Self::of_delta(base, base.diff(newer))
    }

    /// The update of `base` by these changes. Changes without effect are left out.
    pub fn of_delta(base: &Arc<Ir>, delta: IrDelta) -> Self {
        let mut generation = Ir::clone(base);
        let delta = generation.apply(delta);
        Self { base: Arc::clone(base), generation: Arc::new(generation), delta, secrets: None, node: None }
    }

    /// Adds the secrets of the generation: all that its records refer to. Without this, the node keeps its secrets.
    #[must_use]
    pub fn with_secrets(mut self, secrets: Secrets) -> Self {
        self.secrets = Some(secrets);
        self
    }

    /// Adds changed settings of the node.
    #[must_use]
    pub fn with_node(mut self, node: Arc<NodeSettings>) -> Self {
        self.node = Some(node);
        self
    }

    /// The same generation as a change of the active one. Free if that is [`Update::base`].
    #[must_use]
    pub fn rebased(self, served: &Arc<Ir>) -> Self {
        if Arc::ptr_eq(&self.base, served) {
            return self;
        }
        Self { secrets: self.secrets, node: self.node, ..Self::between(served, &self.generation) }
    }

    /// The generation from which the changes start.
    pub fn base(&self) -> &Arc<Ir> {
        &self.base
    }

    /// The new generation.
    pub fn generation(&self) -> &Arc<Ir> {
        &self.generation
    }

    /// The changes.
    pub fn delta(&self) -> &IrDelta {
        &self.delta
    }

    /// The secrets of the generation, if they changed.
    pub fn secrets(&self) -> Option<&Secrets> {
        self.secrets.as_ref()
    }

    /// The settings of the node, if they changed.
    pub fn node(&self) -> Option<&Arc<NodeSettings>> {
        self.node.as_ref()
    }

    /// Splits the update into its parts.
    pub fn into_parts(self) -> UpdateParts {
        let Self { generation, delta, secrets, node, .. } = self;
        UpdateParts { generation, delta, secrets, node }
    }

    /// The result of each new or changed record.
    pub fn results<'u>(&'u self, ack: &'u Ack) -> Vec<(RecordKind, cardinal_ir::Id, RecordResult<'u>)> {
        let mut results = Vec::new();
        self.delta.for_each_id(|kind, id| {
            let record: Option<Record> = self.generation.get(kind, &id);
            results.extend(record.map(|record| (kind, id, ack.result_of(record.origin()))));
        });
        results
    }
}

#[cfg(test)]
mod tests {
    use cardinal_ir::{Id, Origin, PrincipalGroup};

    use super::*;

    fn group(number: u128, name: &str) -> (Id, PrincipalGroup) {
        let id = Id::from_u128(number);
        (id, PrincipalGroup { origin: Origin::new("test", "groups", id), name: name.into() })
    }

    fn ir(groups: &[(u128, &str)]) -> Arc<Ir> {
        let groups = groups.iter().map(|(number, name)| group(*number, name)).collect();
        Arc::new(Ir { groups, ..Ir::default() })
    }

    #[test]
    fn unchanged_records_stay_the_same_objects() {
        let (old, new) = (ir(&[(1, "a"), (2, "b")]), ir(&[(1, "a"), (2, "c"), (3, "d")]));
        let update = Update::between(&old, &new);
        assert_eq!((**update.generation()).clone(), (*new).clone());
        assert_eq!(update.delta().len(), 2);
        let same = |id| Arc::ptr_eq(old.groups.get(&id).unwrap(), update.generation().groups.get(&id).unwrap());
        assert!(same(Id::from_u128(1)) && !same(Id::from_u128(2)));
    }

    #[test]
    fn an_update_of_another_base_is_computed_anew() {
        let (old, new) = (ir(&[(1, "a")]), ir(&[(1, "a"), (2, "b")]));
        let update = Update::between(&old, &new).with_node(Arc::default());
        let kept = update.clone().rebased(&old);
        assert!(Arc::ptr_eq(kept.generation(), update.generation()));
        let served = ir(&[(2, "b"), (3, "c")]);
        let rebased = update.rebased(&served);
        assert_eq!((**rebased.generation()).clone(), (*new).clone());
        assert!(rebased.delta().len() == 2 && rebased.node().is_some() && Arc::ptr_eq(rebased.base(), &served));
    }

    #[test]
    fn changes_without_effect_are_left_out() {
        let old = ir(&[(1, "a")]);
        let (id, same) = group(1, "a");
        let delta = IrDelta { groups: [(id, Some(same))].into_iter().collect(), ..IrDelta::default() };
        assert!(Update::of_delta(&old, delta).delta().is_empty());
    }
}
