//! See `cardinal_testkit::fuzz::H1_HEAD`.

#![no_main]

cardinal_fuzz::program!(cardinal_testkit::fuzz::H1_HEAD);
