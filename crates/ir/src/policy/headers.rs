//! [`HeaderEdits`]: edits of the fields of a head.

use serde::{Deserialize, Serialize};

/// Edits of the fields of a head, in the order of these lists. Names are case-insensitive, and `_` in the name of an
/// existing field is treated as `-`, because many servers do not distinguish them. Connection-specific fields, framing
/// fields and Host are not changed; invalid fields are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HeaderEdits {
    /// Names of fields to remove.
    pub remove: Vec<Box<str>>,
    /// Names and values of fields that replace those with the same name.
    pub set: Vec<(Box<str>, Box<str>)>,
    /// Names and values of fields to add.
    pub add: Vec<(Box<str>, Box<str>)>,
}
