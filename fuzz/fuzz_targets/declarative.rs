//! See `cardinal_testkit::fuzz::DECLARATIVE`.

#![no_main]

cardinal_fuzz::program!(cardinal_testkit::fuzz::DECLARATIVE);
