//! See `cardinal_testkit::fuzz::DECLARATIVE`.

#![no_main]

use cardinal_testkit::fuzz::DECLARATIVE;

libfuzzer_sys::fuzz_target!(|input: &[u8]| (DECLARATIVE.check)(input));
