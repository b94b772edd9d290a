//! Typed policies: what records say about requests, executed here for all front ends. A folder for each policy.

pub(crate) mod action;
pub(crate) mod headers;
pub(crate) mod mirror;
pub(crate) mod rewrite;
