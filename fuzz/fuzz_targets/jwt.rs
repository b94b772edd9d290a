//! See `cardinal_testkit::fuzz::JWT`.

#![no_main]

cardinal_fuzz::program!(cardinal_testkit::fuzz::JWT);
