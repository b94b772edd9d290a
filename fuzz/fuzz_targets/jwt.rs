//! See `cardinal_testkit::fuzz::JWT`.

#![no_main]

use cardinal_testkit::fuzz::JWT;

libfuzzer_sys::fuzz_target!(|input: &[u8]| (JWT.check)(input));
