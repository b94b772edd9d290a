//! Logging and metrics plugins.
