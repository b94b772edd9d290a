//! See `cardinal_testkit::fuzz::TRUST_BUNDLE`.

#![no_main]

cardinal_fuzz::program!(cardinal_testkit::fuzz::TRUST_BUNDLE);
