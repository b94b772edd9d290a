//! What must hold for any bytes at all, and a short, repeatable run of it for every `cargo test`.
//!
//! A [`Target`] is a parser with the properties it must have and seeds to start from. The long runs are the programs
//! of the same names in `fuzz/`, which call the same functions.

mod h1;
mod h2;
mod hpack;
mod identity;
mod sniff;
mod stream;
mod targets;
mod trace;

use cardinal_base::{Rng, SeededRng};

pub use targets::{
    DECLARATIVE, EXPRESSION, H1_BODY, H1_HEAD, H2_CONNECTION, HPACK, JWT, LUA_EXPRESSION, PATH_NORMALISER,
    PROXY_PROTOCOL, SNIFF, SPIFFE_ID, STREAM, TARGETS, TRACE_CONTEXT, TRUST_BUNDLE, X509_SVID,
};

/// Something to fuzz.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, which is that of its program in `fuzz/fuzz_targets`.
    pub name: &'static str,
    /// Inputs to start from.
    pub seeds: &'static [&'static [u8]],
    /// Mutations that a short run tries; about a second's worth.
    pub iterations: u32,
    /// Panics when an input shows a fault.
    pub check: fn(&[u8]),
}

/// Calls `check` with each seed, and with `iterations` mutations of seeds. The same inputs every time: a failure
/// repeats. `check` panics on what it must not see; the panic's message follows the input, which is printed.
pub fn fuzz_smoke(seeds: &[&[u8]], iterations: u32, mut check: impl FnMut(&[u8])) {
    assert!(!seeds.is_empty(), "fuzzing needs a seed");
    let mut rng = SeededRng::new(0x00C0_FFEE);
    for seed in seeds {
        guarded(seed, &mut check);
    }
    for _ in 0..iterations {
        let input = mutate(seeds, &mut rng);
        guarded(&input, &mut check);
    }
}

fn guarded(input: &[u8], check: &mut impl FnMut(&[u8])) {
    let call = std::panic::AssertUnwindSafe(|| check(input));
    if let Err(panic) = std::panic::catch_unwind(call) {
        eprintln_input(input);
        std::panic::resume_unwind(panic);
    }
}

#[allow(clippy::print_stderr, reason = "the input of a failed test belongs beside its panic")]
fn eprintln_input(input: &[u8]) {
    eprintln!("the input was b\"{}\"", input.escape_ascii());
}

/// Bytes that parsers treat specially.
const SPECIAL: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b"/",
    b"..",
    b"%",
    b"%2e",
    b"\"",
    b"'",
    b"\\",
    b"(",
    b")",
    b"{",
    b"}",
    b"[",
    b"]",
    b"-",
    b"0",
    b"9",
    b"f",
    b"ffffffff",
    b"18446744073709551616",
    b"\x80",
    b"\xff",
    b"\xc3\x28",
];

/// A seed with one to eight random edits.
pub fn mutate(seeds: &[&[u8]], rng: &mut SeededRng) -> Vec<u8> {
    let mut input = seeds[below(rng, seeds.len())].to_vec();
    for _ in 0..=below(rng, 8) {
        let at = below(rng, input.len() + 1);
        match below(rng, 7) {
            0 if at < input.len() => input[at] ^= 1 << below(rng, 8),
            1 if at < input.len() => input[at] = random_byte(rng),
            2 => input.insert(at, random_byte(rng)),
            3 => {
                let special = SPECIAL[below(rng, SPECIAL.len())];
                input.splice(at..at, special.iter().copied());
            }
            4 => {
                let end = at + below(rng, input.len() - at + 1);
                input.drain(at..end);
            }
            5 => {
                // A piece again: doubled fields and lengths.
                let end = at + below(rng, (input.len() - at).min(64) + 1);
                let piece = input[at..end].to_vec();
                input.splice(end..end, piece);
            }
            _ => {
                // Crossed with another seed.
                let other = seeds[below(rng, seeds.len())];
                input.truncate(at);
                input.extend_from_slice(&other[below(rng, other.len() + 1)..]);
            }
        }
    }
    input
}

fn below(rng: &mut SeededRng, bound: usize) -> usize {
    usize::try_from(rng.below(bound as u64)).unwrap_or(0)
}

fn random_byte(rng: &mut SeededRng) -> u8 {
    u8::try_from(rng.below(256)).unwrap_or(0)
}
