//! See `cardinal_testkit::fuzz::H1_HEAD`.

#![no_main]

use cardinal_testkit::fuzz::H1_HEAD;

libfuzzer_sys::fuzz_target!(|input: &[u8]| (H1_HEAD.check)(input));
