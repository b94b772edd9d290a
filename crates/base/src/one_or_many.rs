//! [`OneOrMany`]: values that belong together, nearly always one.

use std::sync::Arc;

/// One value or several, in an order that the caller keeps. One needs no allocation; several are shared by clones.
#[derive(Clone, Debug)]
pub enum OneOrMany<T> {
    /// One.
    One(T),
    /// Several.
    Many(Arc<Vec<T>>),
}

impl<T: Clone> OneOrMany<T> {
    /// The values.
    pub fn as_slice(&self) -> &[T] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Many(values) => values,
        }
    }

    /// These and another value, inserted after all those for which `is_before` is true.
    #[must_use]
    pub fn with(self, value: T, is_before: impl FnMut(&T) -> bool) -> Self {
        let mut values = match self {
            Self::One(one) => Arc::new(vec![one]),
            Self::Many(values) => values,
        };
        let all = Arc::make_mut(&mut values);
        all.insert(all.partition_point(is_before), value);
        Self::Many(values)
    }

    /// These without the first that is meant; `None` when nothing is left.
    pub fn without(self, is_meant: impl FnMut(&T) -> bool) -> Option<Self> {
        let at = self.as_slice().iter().position(is_meant);
        match (self, at) {
            (few, None) => Some(few),
            (Self::One(_), Some(_)) => None,
            (Self::Many(mut values), Some(at)) => {
                let all = Arc::make_mut(&mut values);
                all.remove(at);
                match all.as_slice() {
                    [] => None,
                    [one] => Some(Self::One(one.clone())),
                    _ => Some(Self::Many(values)),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_in_order_and_shrinks_to_nothing() {
        let few = [3, 1, 2].into_iter().fold(OneOrMany::One(5), |few, new| few.with(new, |old| *old < new));
        assert_eq!(few.as_slice(), [1, 2, 3, 5]);
        let copy = few.clone();
        let few = few.without(|n| *n == 2).and_then(|few| few.without(|n| *n == 9));
        assert_eq!(few.as_ref().map(OneOrMany::as_slice), Some([1, 3, 5].as_slice()));
        let few = few.and_then(|few| few.without(|n| *n == 1)).and_then(|few| few.without(|n| *n == 5));
        assert!(matches!(few, Some(OneOrMany::One(3))));
        assert!(few.and_then(|few| few.without(|n| *n == 3)).is_none());
        assert_eq!(copy.as_slice(), [1, 2, 3, 5]);
    }
}
