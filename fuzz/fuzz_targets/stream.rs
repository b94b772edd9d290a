//! See `cardinal_testkit::fuzz::STREAM`.

#![no_main]

cardinal_fuzz::program!(cardinal_testkit::fuzz::STREAM);
