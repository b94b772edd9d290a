//! The examples of the RFC, what must not pass, and round trips.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::{Decoder, Encoder, HpackError, Pseudo, huffman};
use crate::headers::Name;

mod broken;
mod encoding;
mod examples;
mod interop;
mod round_trip;

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|d| d as u8).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Fields, HpackError> {
    let mut fields = Vec::new();
    decoder.decode(block, |field| {
        let pseudo = Pseudo::of(field.name);
        let known = if pseudo.is_some() || !field.legal { Name::Other } else { Name::of(field.name) };
        assert_eq!(field.pseudo, pseudo);
        assert!(field.known == known || !field.legal, "{:?}", field.name.escape_ascii().to_string());
        fields.push((field.name.to_vec(), field.value.to_vec()));
    })?;
    Ok(fields)
}

/// As lines `name: value`.
fn shown(fields: &[(Vec<u8>, Vec<u8>)]) -> String {
    fields.iter().fold(String::new(), |mut text, (name, value)| {
        let _ = writeln!(text, "{}: {}", name.escape_ascii(), value.escape_ascii());
        text
    })
}

/// The Huffman code of a text, padded.
fn coded(text: &[u8]) -> Vec<u8> {
    let mut bits: Vec<bool> = Vec::new();
    for byte in text {
        let (code, length) = huffman::code(u16::from(*byte));
        bits.extend((0..length).rev().map(|at| code >> at & 1 == 1));
    }
    bits.chunks(8).map(|byte| (0..8).fold(0, |sum, at| sum << 1 | u8::from(*byte.get(at).unwrap_or(&true)))).collect()
}

fn uncoded(text: &[u8]) -> Result<Vec<u8>, HpackError> {
    let mut out = vec![0; huffman::room(text.len())];
    let len = huffman::decode(text, &mut out)?;
    out.truncate(len);
    Ok(out)
}

#[test]
fn codes_are_those_of_the_appendix() {
    for (symbol, code) in [
        (u16::from(b'0'), (0x0, 5)),
        (u16::from(b't'), (0x9, 5)),
        (u16::from(b' '), (0x14, 6)),
        (u16::from(b'z'), (0x7b, 7)),
        (u16::from(b'Z'), (0xfd, 8)),
        (u16::from(b'!'), (0x3f8, 10)),
        (u16::from(b'|'), (0x7fc, 11)),
        (u16::from(b'#'), (0xffa, 12)),
        (0, (0x1ff8, 13)),
        (u16::from(b'{'), (0x7ffe, 15)),
        (u16::from(b'\\'), (0x7fff0, 19)),
        (128, (0xfffe6, 20)),
        (1, (0x7fffd8, 23)),
        (199, (0x1ffffec, 25)),
        (255, (0x3ffffee, 26)),
        (254, (0x7fffff0, 27)),
        (2, (0xfffffe2, 28)),
        (249, (0xffffffe, 28)),
        (22, (0x3fff_fffe, 30)),
        (256, (0x3fff_ffff, 30)),
    ] {
        assert_eq!(huffman::code(symbol), code, "{symbol}");
    }
    let sum: u64 = huffman::LENGTHS.iter().map(|length| 1_u64 << (30 - length)).sum();
    assert_eq!(sum, 1 << 30, "every string of bits means something");
}

#[test]
fn every_pair_of_bytes_survives_its_code_at_any_place() {
    for (a, b) in (0..=255).flat_map(|a| (0..=255).map(move |b| (a, b))) {
        for text in [&[a, b][..], &[b'x', b'=', a, b'0', b, b'0', b'1', b'2', b'a', b, b'0', a][..]] {
            assert_eq!(uncoded(&coded(text)).as_deref(), Ok(text));
        }
    }
    assert_eq!(uncoded(&[]), Ok(Vec::new()));
}

proptest! {
    #[test]
    fn texts_survive_their_code(text in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(uncoded(&coded(&text)), Ok(text));
    }

    /// What is accepted has but one way of being written.
    #[test]
    fn only_codes_of_texts_are_accepted(bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(0xff)], 0..40)) {
        if let Ok(text) = uncoded(&bytes) {
            prop_assert_eq!(coded(&text), bytes);
        }
    }
}
