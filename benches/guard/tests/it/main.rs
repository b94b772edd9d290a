//! What requests of the fixed workloads may ask of the machine. Instructions are counted elsewhere: `cargo xtask guard`.

mod allocations;
