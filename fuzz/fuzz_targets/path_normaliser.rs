//! See `cardinal_testkit::fuzz::PATH_NORMALISER`.

#![no_main]

cardinal_fuzz::program!(cardinal_testkit::fuzz::PATH_NORMALISER);
