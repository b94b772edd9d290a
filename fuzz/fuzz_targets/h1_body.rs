//! See `cardinal_testkit::fuzz::H1_BODY`.

#![no_main]

cardinal_fuzz::program!(cardinal_testkit::fuzz::H1_BODY);
