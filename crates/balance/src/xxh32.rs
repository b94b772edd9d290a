//! xxHash, 32 bits: <https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md>.

const P1: u32 = 0x9E37_79B1;
const P2: u32 = 0x85EB_CA77;
const P3: u32 = 0xC2B2_AE3D;
const P4: u32 = 0x27D4_EB2F;
const P5: u32 = 0x1656_67B1;

/// The xxHash32 of `bytes`.
pub fn xxh32(bytes: &[u8], seed: u32) -> u32 {
    let (stripes, rest) = bytes.as_chunks::<16>();
    let mut hash = if stripes.is_empty() { seed.wrapping_add(P5) } else { long(stripes, seed) };
    #[allow(clippy::cast_possible_truncation, reason = "the algorithm takes the length modulo 2^32")]
    let length = bytes.len() as u32;
    hash = hash.wrapping_add(length);
    let (words, tail) = rest.as_chunks::<4>();
    for word in words {
        hash = hash.wrapping_add(u32::from_le_bytes(*word).wrapping_mul(P3)).rotate_left(17).wrapping_mul(P4);
    }
    for byte in tail {
        hash = hash.wrapping_add(u32::from(*byte).wrapping_mul(P5)).rotate_left(11).wrapping_mul(P1);
    }
    hash = (hash ^ (hash >> 15)).wrapping_mul(P2);
    hash = (hash ^ (hash >> 13)).wrapping_mul(P3);
    hash ^ (hash >> 16)
}

fn long(stripes: &[[u8; 16]], seed: u32) -> u32 {
    let mut lanes = [seed.wrapping_add(P1).wrapping_add(P2), seed.wrapping_add(P2), seed, seed.wrapping_sub(P1)];
    for stripe in stripes {
        for (lane, word) in lanes.iter_mut().zip(stripe.as_chunks::<4>().0) {
            *lane = lane.wrapping_add(u32::from_le_bytes(*word).wrapping_mul(P2)).rotate_left(13).wrapping_mul(P1);
        }
    }
    let [a, b, c, d] = lanes;
    a.rotate_left(1).wrapping_add(b.rotate_left(7)).wrapping_add(c.rotate_left(12)).wrapping_add(d.rotate_left(18))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sanity buffer of the reference implementation.
    fn sanity() -> Vec<u8> {
        let mut state = 2_654_435_761_u32;
        (0..101)
            .map(|_| {
                let byte = (state >> 24) as u8;
                state = state.wrapping_mul(state);
                byte
            })
            .collect()
    }

    #[test]
    fn equals_the_reference_on_its_own_vectors() {
        let buffer = sanity();
        let seed = 2_654_435_761;
        let cases: [(usize, u32, u32); 8] = [
            (0, 0, 0x02CC_5D05),
            (0, seed, 0x36B7_8AE7),
            (1, 0, 0xB85C_BEE5),
            (1, seed, 0xD584_5D64),
            (14, 0, 0xE5AA_0AB4),
            (14, seed, 0x4481_951D),
            (101, 0, 0x1F1A_A412),
            (101, seed, 0x498E_C8E2),
        ];
        for (length, seed, expect) in cases {
            assert_eq!(xxh32(&buffer[..length], seed), expect, "length {length}, seed {seed}");
        }
    }

    #[test]
    fn equals_the_reference_on_text() {
        assert_eq!(xxh32(b"abc", 0), 0x32D1_53FF);
        assert_eq!(xxh32(b"Nobody inspects the spammish repetition", 0), 0xE229_3B2F);
    }
}
