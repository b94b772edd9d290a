//! The matcher built from IR routes, with a naive matcher as its oracle; the expression language.
