//! See `cardinal_testkit::fuzz::TRACE_CONTEXT`.

#![no_main]

cardinal_fuzz::program!(cardinal_testkit::fuzz::TRACE_CONTEXT);
