//! See `cardinal_testkit::fuzz::PATH_NORMALISER`.

#![no_main]

use cardinal_testkit::fuzz::PATH_NORMALISER;

libfuzzer_sys::fuzz_target!(|input: &[u8]| (PATH_NORMALISER.check)(input));
