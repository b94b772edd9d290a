//! Randomness through a trait, so that simulations repeat.

use rand::rngs::{SmallRng, SysRng};
use rand::{Rng as _, SeedableRng, TryRng};

/// A source of random numbers. Not for keys or tokens unless the source is [`SystemRng`].
pub trait Rng: Send + std::fmt::Debug {
    /// 64 random bits.
    fn next_u64(&mut self) -> u64;

    /// A number below `bound`; 0 when `bound` is 0. The bias is below 2^-32 for bounds below 2^32.
    fn below(&mut self, bound: u64) -> u64 {
        #[allow(clippy::cast_possible_truncation, reason = "the high half of a 128-bit product")]
        let high = ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64;
        high
    }
}

/// A fast generator with a seed.
#[derive(Clone, Debug)]
pub struct SeededRng(SmallRng);

impl SeededRng {
    /// The generator of this seed; equal seeds give equal numbers.
    pub fn new(seed: u64) -> Self {
        Self(SmallRng::seed_from_u64(seed))
    }

    /// A generator seeded by the operating system.
    pub fn from_system() -> Self {
        Self::new(SystemRng.next_u64())
    }
}

impl Rng for SeededRng {
    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }
}

/// The operating system's generator, fit for keys and tokens.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRng;

impl Rng for SystemRng {
    fn next_u64(&mut self) -> u64 {
        SysRng.try_next_u64().unwrap_or_else(|error| {
            // Without randomness no key is safe; getrandom(2) does not fail on a running Linux.
            panic!("the operating system gives no randomness: {error}")
        })
    }
}
