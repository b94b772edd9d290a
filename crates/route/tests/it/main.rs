//! Kong's own router cases, against the matcher with the ranks of Kong's front end.

#[path = "../../../kong/src/rank.rs"]
#[allow(dead_code, unreachable_pub, reason = "the tests need a part of it")]
mod rank;

mod allocation;
mod conformance;
mod ranking;
