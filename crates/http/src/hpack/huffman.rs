//! The Huffman code of strings (RFC 7541 section 5.2 and appendix B).
//!
//! The code is canonical: codes of one length follow each other in the order of their symbols, and longer ones follow
//! shorter ones. The lengths therefore define the code; the tables are computed from them at compile time.

use super::HpackError;

/// The length in bits of the code of each byte, and of the end of the string.
#[rustfmt::skip]
pub(super) const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

const SYMBOLS: usize = 257;
const END: u16 = 256;

/// Codes up to this many bits are found with one look at [`SHORT`]. All letters, digits and what is frequent have them.
const SHORT_BITS: u8 = 8;
const LENGTH_MAX: usize = 30;

/// Symbols in the order of their codes, and the codes.
#[allow(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "evaluated at compile time: out of bounds does not compile, and all numbers are small"
)]
const ORDERED: ([u16; SYMBOLS], [u32; SYMBOLS]) = {
    let (mut symbols, mut codes) = ([0; SYMBOLS], [0; SYMBOLS]);
    let (mut at, mut code, mut length) = (0, 0_u64, 1);
    while length <= LENGTH_MAX {
        code <<= 1;
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if LENGTHS[symbol] as usize == length {
                symbols[at] = symbol as u16;
                codes[at] = code as u32;
                at += 1;
                code += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    // No bit string is without a meaning: the sum of 2^-length is 1.
    assert!(at == SYMBOLS && code == 1 << LENGTH_MAX);
    (symbols, codes)
};

/// By the next eight bits: the symbol in the upper byte and the length of its code in the lower one, or 0 when the code
/// is longer.
#[allow(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "evaluated at compile time: out of bounds does not compile, and all numbers are small"
)]
static SHORT: [u16; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < SYMBOLS {
        let (symbol, code) = (ORDERED.0[at], ORDERED.1[at]);
        let length = LENGTHS[symbol as usize];
        if length <= SHORT_BITS {
            let (mut slot, spare) = ((code as usize) << (SHORT_BITS - length), 1 << (SHORT_BITS - length));
            let end = slot + spare;
            while slot < end {
                table[slot] = symbol << 8 | length as u16;
                slot += 1;
            }
        }
        at += 1;
    }
    table
};

/// The codes of one length, as numbers of 32 bits with the code in front.
#[derive(Clone, Copy)]
struct Group {
    first: u32,
    last: u32,
    length: u8,
    /// The place of the first among the [`ORDERED`].
    at: u16,
}

const GROUPS: usize = 17;

/// The codes longer than [`SHORT_BITS`], shortest first.
#[allow(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "evaluated at compile time: out of bounds does not compile, and all numbers are small"
)]
static LONG: [Group; GROUPS] = {
    let mut groups = [Group { first: 0, last: 0, length: 0, at: 0 }; GROUPS];
    let (mut at, mut group) = (0, 0);
    while at < SYMBOLS {
        let length = LENGTHS[ORDERED.0[at] as usize];
        let mut end = at;
        while end + 1 < SYMBOLS && LENGTHS[ORDERED.0[end + 1] as usize] == length {
            end += 1;
        }
        if length > SHORT_BITS {
            let spare = 32 - length as u32;
            let (first, last) = (ORDERED.1[at] << spare, (ORDERED.1[end] << spare) | ((1 << spare) - 1));
            groups[group] = Group { first, last, length, at: at as u16 };
            group += 1;
        }
        at = end + 1;
    }
    assert!(group == GROUPS);
    groups
};

/// Room that [`decode`] needs for the text of a string of so many bytes: the shortest code has five bits, and eight
/// bytes are written at once.
pub(super) const fn room(len: usize) -> usize {
    len * 8 / 5 + 8
}

/// Writes the text of `input` to the front of `out`, which has [`room`], and returns its length.
#[allow(clippy::cast_possible_truncation, reason = "eight bits are left of the number")]
pub(super) fn decode(input: &[u8], out: &mut [u8]) -> Result<usize, HpackError> {
    debug_assert!(out.len() >= room(input.len()), "no room for a string");
    let bits = Bits::of(input);
    let (mut at, mut written) = (0_usize, 0_usize);
    while at < bits.len {
        let mut next = bits.load(at);
        let Some(slot) = out.get_mut(written..).and_then(<[u8]>::first_chunk_mut::<8>) else { break };
        let mut lengths = 0_usize;
        // What is loaded is always enough for seven short codes. Behind the end are ones, which are no short code.
        let count = 'codes: {
            macro_rules! code {
                ($($place:literal)*) => {$(
                    let found = SHORT.get((next >> 56) as usize).copied().unwrap_or(0);
                    if found == 0 {
                        break 'codes $place;
                    }
                    slot[$place] = (found >> 8) as u8;
                    next <<= found & 63;
                    lengths += usize::from(found);
                )*};
            }
            code!(0 1 2 3 4 5 6);
            7
        };
        at += lengths & 0xff;
        written += count;
        if count < 7 && at < bits.len {
            let Some((byte, length)) = bits.long(at)? else { return Ok(written) };
            let Some(slot) = out.get_mut(written) else { break };
            *slot = byte;
            written += 1;
            at += length;
        }
    }
    // The last code must not have needed bits that are not there.
    if at == bits.len { Ok(written) } else { Err(HpackError::Huffman) }
}

/// A string as bits, with ones behind its end as in padding.
struct Bits<'x> {
    bytes: &'x [u8],
    len: usize,
    /// The last eight bytes; of fewer, what is before them does not matter.
    last: u64,
}

impl<'x> Bits<'x> {
    fn of(bytes: &'x [u8]) -> Self {
        let last = match bytes.last_chunk::<8>() {
            Some(eight) => u64::from_be_bytes(*eight),
            None => bytes.iter().fold(0, |last, byte| last << 8 | u64::from(*byte)),
        };
        Self { bytes, len: bytes.len() * 8, last }
    }

    /// At least 57 bits from this one on, which there is.
    #[inline]
    fn load(&self, at: usize) -> u64 {
        let (bits, gone) = match self.bytes.get(at >> 3..).and_then(<[u8]>::first_chunk::<8>) {
            Some(eight) => (u64::from_be_bytes(*eight), at & 7),
            None => (self.last, (at + 64 - self.len) & 63),
        };
        !(!bits << gone)
    }

    /// The byte whose long code starts at this bit, and the length of the code; `None` when all that is left is
    /// padding.
    fn long(&self, at: usize) -> Result<Option<(u8, usize)>, HpackError> {
        let (bits, left) = ((self.load(at) >> 32) as u32, self.len - at);
        let group = LONG.iter().find(|group| bits <= group.last).ok_or(HpackError::Huffman)?;
        let place = usize::from(group.at) + (bits.wrapping_sub(group.first) >> (32 - group.length)) as usize;
        let symbol = ORDERED.0.get(place).copied().unwrap_or(END);
        match u8::try_from(symbol) {
            Ok(byte) if usize::from(group.length) <= left => Ok(Some((byte, usize::from(group.length)))),
            // Ones to the end, and those behind it.
            Err(_) if left < 8 => Ok(None),
            _ => Err(HpackError::Huffman),
        }
    }
}

/// The code of a byte or of the end: bits and their number. The product sends no string in this code, see
/// [`super::Encoder`].
#[cfg(test)]
pub(super) fn code(symbol: u16) -> (u32, u8) {
    let at = ORDERED.0.iter().position(|other| *other == symbol).expect("a symbol");
    (ORDERED.1[at], LENGTHS[symbol as usize])
}
