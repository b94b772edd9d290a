//! See `cardinal_testkit::fuzz::PROXY_PROTOCOL`.

#![no_main]

use cardinal_testkit::fuzz::PROXY_PROTOCOL;

libfuzzer_sys::fuzz_target!(|input: &[u8]| (PROXY_PROTOCOL.check)(input));
