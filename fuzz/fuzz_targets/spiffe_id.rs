//! See `cardinal_testkit::fuzz::SPIFFE_ID`.

#![no_main]

cardinal_fuzz::program!(cardinal_testkit::fuzz::SPIFFE_ID);
