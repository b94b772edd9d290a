//! See `cardinal_testkit::fuzz::H2_CONNECTION`.

#![no_main]

cardinal_fuzz::program!(cardinal_testkit::fuzz::H2_CONNECTION);
