//! Balancers, active and passive health, outlier ejection, circuit limits.
