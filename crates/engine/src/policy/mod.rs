//! Typed policies: what the records of [`cardinal_ir`] say, executed. One folder each.

pub(crate) mod telemetry;
