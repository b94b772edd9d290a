//! Ids, sizes, clocks, randomness, supervised tasks and log set-up.
