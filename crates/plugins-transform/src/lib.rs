//! Transformation plugins.
