//! What the fuzz programs share: they start from the seeds of their target, not from nothing.
//!
//! *Must not know*: what a target is about. Start at [`program`].

use cardinal_base::SeededRng;
use cardinal_testkit::fuzz::{Target, mutate};

pub use libfuzzer_sys;

/// One input of so many is made from the seeds; the others from what the fuzzer has found.
const SEEDED_EVERY: u32 = 8;

/// The program of a target.
#[macro_export]
macro_rules! program {
    ($target:expr) => {
        use $crate::libfuzzer_sys;

        libfuzzer_sys::fuzz_target!(|input: &[u8]| ($target.check)(input));

        libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
            $crate::next(&$target, data, size, max_size, seed)
        });
    };
}

/// Writes the next input into `data`, whose first `size` bytes are the one before; gives its length.
pub fn next(target: &Target, data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    if !seed.is_multiple_of(SEEDED_EVERY) {
        return libfuzzer_sys::fuzzer_mutate(data, size, max_size);
    }
    let input = mutate(target.seeds, &mut SeededRng::new(u64::from(seed)));
    let length = input.len().min(max_size);
    data[..length].copy_from_slice(&input[..length]);
    length
}
