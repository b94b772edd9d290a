//! See `cardinal_testkit::fuzz::PROXY_PROTOCOL`.

#![no_main]

cardinal_fuzz::program!(cardinal_testkit::fuzz::PROXY_PROTOCOL);
