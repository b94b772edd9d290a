//! See `cardinal_testkit::fuzz::EXPRESSION`.

#![no_main]

use cardinal_testkit::fuzz::EXPRESSION;

libfuzzer_sys::fuzz_target!(|input: &[u8]| (EXPRESSION.check)(input));
