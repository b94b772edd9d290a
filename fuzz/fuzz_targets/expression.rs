//! See `cardinal_testkit::fuzz::EXPRESSION`.

#![no_main]

cardinal_fuzz::program!(cardinal_testkit::fuzz::EXPRESSION);
