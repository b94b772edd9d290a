//! See `cardinal_testkit::fuzz::HPACK`.

#![no_main]

cardinal_fuzz::program!(cardinal_testkit::fuzz::HPACK);
