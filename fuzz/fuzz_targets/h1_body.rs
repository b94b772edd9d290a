//! See `cardinal_testkit::fuzz::H1_BODY`.

#![no_main]

use cardinal_testkit::fuzz::H1_BODY;

libfuzzer_sys::fuzz_target!(|input: &[u8]| (H1_BODY.check)(input));
