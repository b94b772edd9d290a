//! The Huffman code of strings (RFC 7541 section 5.2 and appendix B).
//!
//! The code is canonical: codes of one length follow each other in the order of their symbols, and longer ones follow
//! shorter ones. The lengths are therefore all there is to know; the tables are made of them when this is compiled.

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

/// Room that [`decode`] needs for the text of a string of so many bytes: the shortest code has five bits, and eight bytes
/// are written at once.
pub(super) const fn room(len: usize) -> usize {
    len * 8 / 5 + 8
}

/// Writes the text of `input` to the front of `out`, which has [`room`], and returns its length.
pub(super) fn decode(input: &[u8], out: &mut [u8]) -> Result<usize, HpackError> {
    debug_assert!(out.len() >= room(input.len()), "no room for a string");
    let (mut at, mut written) = (0_usize, 0_usize);
    // Eight bytes hold seven short codes, wherever in the first byte they start.
    while let Some(eight) = input.get(at >> 3..).and_then(<[u8]>::first_chunk::<8>) {
        let mut bits = u64::from_be_bytes(*eight) << (at & 7);
        let (mut word, mut count) = (0_u64, 0_usize);
        for place in 0..7 {
            let found = SHORT[(bits >> 56) as usize];
            if found == 0 {
                break;
            }
            word |= u64::from(found >> 8) << (8 * place);
            bits <<= found & 63;
            at += usize::from(found & 63);
            count += 1;
        }
        let Some(slot) = out.get_mut(written..).and_then(<[u8]>::first_chunk_mut::<8>) else { break };
        *slot = word.to_le_bytes();
        written += count;
        if count < 7 {
            let Some((byte, length)) = long(input, at)? else { return Ok(written) };
            let Some(slot) = out.get_mut(written) else { break };
            *slot = byte;
            written += 1;
            at += length;
        }
    }
    decode_rest(input, at, out, written)
}

/// [`decode`] from the bit `at` on, of which there are less than 64.
fn decode_rest(input: &[u8], mut at: usize, out: &mut [u8], mut written: usize) -> Result<usize, HpackError> {
    let total = input.len() * 8;
    let mut bits = load(input, at);
    while at < total {
        let found = SHORT[(bits >> 56) as usize];
        let (byte, length) = if found == 0 {
            let Some(code) = long(input, at)? else { return Ok(written) };
            bits = load(input, at + code.1);
            code
        } else {
            bits <<= found & 63;
            ((found >> 8) as u8, usize::from(found & 63))
        };
        at += length;
        let Some(slot) = out.get_mut(written) else { return Err(HpackError::Huffman) };
        *slot = byte;
        written += 1;
    }
    // The last code must not need bits that are not there.
    if at == total { Ok(written) } else { Err(HpackError::Huffman) }
}

/// The byte whose long code starts at this bit, and the length of the code; `None` when all that is left is padding.
fn long(input: &[u8], at: usize) -> Result<Option<(u8, usize)>, HpackError> {
    let (bits, left) = ((load(input, at) >> 32) as u32, input.len() * 8 - at);
    let group = LONG.iter().find(|group| bits <= group.last).ok_or(HpackError::Huffman)?;
    let place = usize::from(group.at) + (bits.wrapping_sub(group.first) >> (32 - group.length)) as usize;
    let symbol = ORDERED.0.get(place).copied().unwrap_or(END);
    match u8::try_from(symbol) {
        Ok(byte) if usize::from(group.length) <= left => Ok(Some((byte, usize::from(group.length)))),
        // Ones to the end, and those that `load` gives behind it.
        Err(_) if left < 8 => Ok(None),
        _ => Err(HpackError::Huffman),
    }
}

/// At least 57 bits from this one on; ones after the end, as in padding.
fn load(input: &[u8], at: usize) -> u64 {
    let rest = input.get(at >> 3..).unwrap_or_default();
    let bits = match rest.first_chunk::<8>() {
        Some(eight) => u64::from_be_bytes(*eight),
        None => {
            let mut eight = [0xff; 8];
            for (slot, byte) in eight.iter_mut().zip(rest) {
                *slot = *byte;
            }
            u64::from_be_bytes(eight)
        }
    };
    (bits << (at & 7)) | ((1 << (at & 7)) - 1)
}

/// The code of a byte or of the end: bits and their number. The product sends no string in this code, see
/// [`super::Encoder`].
#[cfg(test)]
pub(super) fn code(symbol: u16) -> (u32, u8) {
    let at = ORDERED.0.iter().position(|other| *other == symbol).expect("a symbol");
    (ORDERED.1[at], LENGTHS[symbol as usize])
}
