//! Typed policies of the IR: one folder each.

pub(crate) mod circuit;
