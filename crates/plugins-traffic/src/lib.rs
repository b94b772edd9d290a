//! Traffic control plugins.
