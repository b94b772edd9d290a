//! What typed policies ([`cardinal_ir::policy`]) do, one folder each.

pub(crate) mod retry;
pub(crate) mod timeouts;
