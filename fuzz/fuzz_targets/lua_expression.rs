//! See `cardinal_testkit::fuzz::LUA_EXPRESSION`.

#![no_main]

cardinal_fuzz::program!(cardinal_testkit::fuzz::LUA_EXPRESSION);
