//! Access control and protection plugins.
