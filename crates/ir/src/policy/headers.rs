//! [`HeaderEdits`]: changes of the fields of a head.

use serde::{Deserialize, Serialize};

/// Changes of the fields of a head, made in the order of these lists. Names are not case-sensitive, and `_` in the name of a
/// field that is there counts as `-`, because many servers do not distinguish them. Fields about the connection and the
/// framing of the body, and Host, are not changed; a malformed field is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HeaderEdits {
    /// Names of fields to remove.
    pub remove: Vec<Box<str>>,
    /// Names and values of fields that replace those of the same name.
    pub set: Vec<(Box<str>, Box<str>)>,
    /// Names and values of fields to add to those of the same name.
    pub add: Vec<(Box<str>, Box<str>)>,
}
