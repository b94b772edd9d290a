//! [`Labels`] and [`Locality`]: labels and locations of endpoints and nodes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Free labels: keys with values, in the order of the keys. At most [`Labels::MAX`].
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<Box<str>, Box<str>>", into = "BTreeMap<Box<str>, Box<str>>")]
pub struct Labels(BTreeMap<Box<str>, Box<str>>);

/// There are more labels than [`Labels::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyLabels;

impl std::fmt::Display for TooManyLabels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "more than {} labels", Labels::MAX)
    }
}

impl std::error::Error for TooManyLabels {}

impl Labels {
    /// Maximum number of labels of a set.
    pub const MAX: usize = 64;

    /// Creates a set of these labels.
    ///
    /// # Errors
    /// If there are too many.
    pub fn new<K: Into<Box<str>>, V: Into<Box<str>>>(
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, TooManyLabels> {
        let pairs = pairs.into_iter().take(Self::MAX * 16).map(|(key, value)| (key.into(), value.into()));
        Self::try_from(pairs.collect::<BTreeMap<_, _>>())
    }

    /// The value of a label.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(|value| &**value)
    }

    /// Whether `self` has all labels of `other`, with the same values.
    pub fn contains_all(&self, other: &Self) -> bool {
        other.0.len() <= self.0.len() && other.iter().all(|(key, value)| self.get(key) == Some(value))
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keys and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }
}

/// `a=1, b=2`.
impl std::fmt::Display for Labels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, (key, value)) in self.iter().enumerate() {
            write!(f, "{}{key}={value}", if at == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl TryFrom<BTreeMap<Box<str>, Box<str>>> for Labels {
    type Error = TooManyLabels;

    fn try_from(pairs: BTreeMap<Box<str>, Box<str>>) -> Result<Self, TooManyLabels> {
        if pairs.len() > Self::MAX { Err(TooManyLabels) } else { Ok(Self(pairs)) }
    }
}

impl From<Labels> for BTreeMap<Box<str>, Box<str>> {
    fn from(labels: Labels) -> Self {
        labels.0
    }
}

/// The location of an endpoint or a node. Empty parts are unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Locality {
    /// The region.
    pub region: Box<str>,
    /// The zone within the region.
    pub zone: Box<str>,
    /// The part of the zone.
    pub subzone: Box<str>,
}

/// `region/zone/subzone`, as far as the parts are known.
impl std::fmt::Display for Locality {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts = [&self.region, &self.zone, &self.subzone];
        let known: Vec<&str> = parts.iter().filter(|part| !part.is_empty()).map(|part| &***part).collect();
        f.write_str(&known.join("/"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::new(pairs.iter().copied()).unwrap()
    }

    #[test]
    fn a_subset_is_compared_by_keys_and_values() {
        let all = labels(&[("version", "v1"), ("zone", "a")]);
        for (subset, expect) in [
            (&[][..], true),
            (&[("version", "v1")], true),
            (&[("zone", "a"), ("version", "v1")], true),
            (&[("version", "v2")], false),
            (&[("versio", "v1")], false),
            (&[("version", "v1"), ("zone", "a"), ("x", "")], false),
        ] {
            assert_eq!(all.contains_all(&labels(subset)), expect, "{subset:?}");
        }
        assert_eq!(all.to_string(), "version=v1, zone=a");
    }

    #[test]
    fn the_number_of_labels_is_bounded() {
        let many = |count: usize| (0..count).map(|n| (n.to_string(), "")).collect::<Vec<_>>();
        assert!(Labels::new(many(Labels::MAX)).is_ok());
        assert_eq!(Labels::new(many(Labels::MAX + 1)), Err(TooManyLabels));
        let text = serde_json::to_string(&many(65).into_iter().collect::<BTreeMap<_, _>>()).unwrap();
        assert!(serde_json::from_str::<Labels>(&text).unwrap_err().to_string().contains("more than 64 labels"));
        assert_eq!(serde_json::from_str::<Labels>("{\"a\": \"b\"}").unwrap(), labels(&[("a", "b")]));
    }
}
