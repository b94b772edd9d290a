//! The data plane: IR to plan to traffic.
