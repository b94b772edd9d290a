//! Limits on the resources of requests in the fixed workloads. Instructions are counted by `cargo xtask guard`.

mod allocations;
