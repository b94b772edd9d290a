//! Query arguments and form fields, in their order.

use cardinal_http::query;

use super::ops::{Ops, rendered};
use crate::template::Environment;

/// Names with all their values.
#[derive(Debug, Default)]
pub(super) struct Arguments(Vec<(Vec<u8>, Values)>);

/// `None` is a name without `=`.
type Values = Vec<Option<Vec<u8>>>;

impl Arguments {
    /// From a query string or a form. All arguments are read: what carries them is limited already.
    pub(super) fn parse(text: &[u8]) -> Self {
        let mut all = Self::default();
        for (name, value) in query::arguments(text, usize::MAX) {
            all.push(&name, value);
        }
        all
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn write(&self) -> Vec<u8> {
        let flat = self.0.iter().flat_map(|(name, values)| values.iter().map(|value| (&**name, value.as_deref())));
        query::write(flat)
    }

    pub(super) fn extend(&mut self, other: Self) {
        for (name, values) in other.0 {
            values.into_iter().for_each(|value| self.push(&name, value));
        }
    }

    pub(super) fn apply(&mut self, ops: &Ops, environment: &Environment<'_>) -> Result<(), String> {
        for op in &ops.remove {
            self.remove(op.name.as_bytes());
        }
        for pair in rendered(&ops.rename, environment) {
            let (old, new) = pair?;
            self.rename(old.as_bytes(), &new);
        }
        for pair in rendered(&ops.replace, environment) {
            let (name, value) = pair?;
            if let Some(values) = self.values(name.as_bytes()) {
                *values = vec![Some(value)];
            }
        }
        for pair in rendered(&ops.add, environment) {
            let (name, value) = pair?;
            if self.values(name.as_bytes()).is_none() {
                self.push(name.as_bytes(), Some(value));
            }
        }
        for pair in rendered(&ops.append, environment) {
            let (name, value) = pair?;
            self.push(name.as_bytes(), Some(value));
        }
        Ok(())
    }

    fn values(&mut self, name: &[u8]) -> Option<&mut Values> {
        self.0.iter_mut().find(|(known, _)| known == name).map(|(_, values)| values)
    }

    fn push(&mut self, name: &[u8], value: Option<Vec<u8>>) {
        match self.values(name) {
            Some(values) => values.push(value),
            None => self.0.push((name.to_vec(), vec![value])),
        }
    }

    fn remove(&mut self, name: &[u8]) {
        self.0.retain(|(known, _)| known != name);
    }

    fn rename(&mut self, old: &[u8], new: &[u8]) {
        if old == new || self.values(old).is_none() {
            return;
        }
        self.remove(new);
        if let Some((name, _)) = self.0.iter_mut().find(|(known, _)| known == old) {
            *name = new.to_vec();
        }
    }
}
