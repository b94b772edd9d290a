//! See `cardinal_testkit::fuzz::SNIFF`.

#![no_main]

cardinal_fuzz::program!(cardinal_testkit::fuzz::SNIFF);
