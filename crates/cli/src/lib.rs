//! The command line.
//!
//! *Must not know*: plugins by name (the binary hands the list over).
//!
//! Start at [`echo`], the backend to try the gateway with.

pub mod echo;
