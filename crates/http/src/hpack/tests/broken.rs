//! Blocks that must be refused, and bounds.

use super::*;

fn check(block: &str, expect: HpackError) {
    let mut decoder = Decoder::new(4096);
    // One entry.
    assert!(decode(&mut decoder, b"\x40\x01a\x01b").is_ok());
    assert_eq!(decode(&mut decoder, &unhex(block)), Err(expect), "{block}");
}

#[test]
fn indexes_must_be_there() {
    for block in ["80", "bf", "ff00", "ff80808010", "7f0100", "0f30 00", "1fff7f 00"] {
        check(block, HpackError::NoSuchEntry);
    }
    // The entry is 62.
    assert!(decode(&mut Decoder::new(4096), &unhex("4001610162 be 0f2f00")).is_ok());
}

#[test]
fn numbers_end() {
    check("ff", HpackError::Truncated);
    check("ff80", HpackError::Truncated);
    check("ff8080808000 82", HpackError::NoSuchEntry);
    check("ffffffffff0f", HpackError::NumberTooLarge);
    check("ff8180808010", HpackError::NumberTooLarge);
    check("ff808080808000", HpackError::NumberTooLarge);
    check("ffffffffffffffffffff01", HpackError::NumberTooLarge);
    check("000161 7fffffffff0f", HpackError::NumberTooLarge);
    check("3fffffffff0f", HpackError::NumberTooLarge);
}

#[test]
fn fields_end() {
    for block in ["40", "4001", "400161", "40016102", "4001610262", "01", "0401", "00ff", "007f", "007f80808080 0f61"] {
        check(block, HpackError::Truncated);
    }
}

#[test]
fn size_updates_stand_in_front_and_stay_in_bounds() {
    check("8220", HpackError::SizeUpdateLate);
    check("203f e11f 82 20", HpackError::SizeUpdateLate);
    check("3fe21f", HpackError::SizeUpdateTooLarge);
    let mut decoder = Decoder::new(4096);
    assert_eq!(shown(&decode(&mut decoder, &unhex("40016101623fe11f")[..5]).unwrap()), "a: b\n");
    assert!(decode(&mut decoder, &unhex("3fe11f be")).is_ok(), "4096 is what it was");
    assert_eq!(decode(&mut decoder, &unhex("20 3fe11f be")), Err(HpackError::NoSuchEntry), "0 was in between");
    assert_eq!(decode(&mut Decoder::new(0), &unhex("21")), Err(HpackError::SizeUpdateTooLarge));
    assert!(decode(&mut Decoder::new(0), &unhex("20")).is_ok());
    assert!(decode(&mut Decoder::new(65536), &unhex("3fe1ff03")).is_ok());
}

#[test]
fn huffman_code_is_padded_with_few_ones() {
    // "a" is 00011.
    for (text, sound) in [
        ("1f", true),
        ("1e", false),
        ("18", false),
        ("1fff", false),
        ("1fffffffff", false),
        ("ff", false),
        ("ffff", false),
        ("ffffffff", false),
        // The end of the string, as 30 bits, and padding; then a letter and it.
        ("fffffffc", false),
        ("ffffffff1f", false),
        ("1fffffffff1f", false),
        // "aaaaaaaa" has no padding.
        ("18c6318c63", true),
        ("18c6318c63ff", false),
        // A code that is cut off: ten bits are needed.
        ("fe", false),
        // The same behind more than eight bytes.
        ("18c6318c6318c6318c63", true),
        ("18c6318c6318c6318c631f", true),
        ("18c6318c6318c6318c631e", false),
        ("18c6318c6318c6318c63fe", false),
        ("18c6318c6318c6318c63fffffffffe", false),
        ("18c6318c63ffffffff18c6318c6318c6", false),
    ] {
        let bytes = unhex(text);
        assert_eq!(uncoded(&bytes).is_ok(), sound, "{text}");
        let block = [&[0x00, 0x01, b'x', 0x80 | bytes.len() as u8], &bytes[..]].concat();
        let expect = if sound { Ok(()) } else { Err(HpackError::Huffman) };
        assert_eq!(decode(&mut Decoder::new(4096), &block).map(drop), expect, "{text}");
        let block = [&[0x00, 0x80 | bytes.len() as u8], &bytes[..], &[0]].concat();
        assert_eq!(decode(&mut Decoder::new(4096), &block).map(drop), expect, "{text}");
    }
}

#[test]
fn entries_larger_than_the_table_empty_it() {
    let mut decoder = Decoder::new(4096);
    assert!(decode(&mut decoder, b"\x40\x01a\x01b").is_ok());
    let mut large = b"\x40\x01c\x7f\xe1\x1e".to_vec();
    large.extend([b'v'; 127 + 0x61 + (0x1e << 7)]);
    let fields = decode(&mut decoder, &large).unwrap();
    assert_eq!(fields[0].1.len(), 4064, "one byte too many with 32 and the name");
    assert_eq!(decode(&mut decoder, &[0xbe]), Err(HpackError::NoSuchEntry));
    large.pop();
    large[4] -= 1;
    assert!(decode(&mut decoder, &large).is_ok());
    assert_eq!(decode(&mut decoder, &[0xbe]), Ok(vec![(b"c".to_vec(), vec![b'v'; 4063])]));
}

#[test]
fn the_name_of_an_entry_outlives_it() {
    let mut decoder = Decoder::new(4096);
    // 80 bytes: one entry at a time.
    let block = [&unhex("3f31 4006 6162 6364 6566 0178 7e20")[..], &[b'v'; 32]].concat();
    let fields = decode(&mut decoder, &block).unwrap();
    assert_eq!(fields[1].0, b"abcdef");
    assert_eq!(decode(&mut decoder, &[0xbe]).unwrap(), fields[1..]);
    assert_eq!(decode(&mut decoder, &[0xbf]), Err(HpackError::NoSuchEntry));
}

#[test]
fn memory_stays_in_bounds() {
    let mut decoder = Decoder::new(4096);
    // Many entries without bytes, then ones that just fit, then strings that are long.
    let mut block = [0x40, 0x00, 0x00].repeat(1000);
    let mut large = b"\x40\x01c\x7f\x80\x1e".to_vec();
    large.extend([b'v'; 127 + (0x1e << 7)]);
    block.extend(large.repeat(20));
    for _ in 0..20 {
        decode(&mut decoder, &block).unwrap();
    }
    let coded = vec![b'a'; 100_000];
    let mut long = b"\x00\x01c\xff".to_vec();
    let text = super::coded(&coded);
    let mut rest = text.len() - 127;
    while rest >= 128 {
        long.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    long.push(rest as u8);
    long.extend(text);
    assert_eq!(decode(&mut decoder, &long).unwrap()[0].1, coded);
    assert!(decoder.capacity() <= 16 * 1024 + 128 * 16 + 32 * 1024, "{}", decoder.capacity());
}

#[test]
fn legal_is_what_a_message_may_have() {
    let check = |name: &[u8], value: &[u8], expect: bool| {
        let mut block = vec![0x40, name.len() as u8];
        block.extend_from_slice(name);
        block.push(value.len() as u8);
        block.extend_from_slice(value);
        // As a literal, from the table, and with the name from the table and a valid value.
        block.extend([0xbe, 0x7e, 0x01, b'v', 0xbe]);
        let mut legal = Vec::new();
        Decoder::new(4096).decode(&block, |field| legal.push(field.legal)).unwrap();
        let name_alone = expect || (value != b"v" && value != b"");
        assert_eq!(legal, [expect, expect, name_alone, name_alone], "{}", name.escape_ascii());
    };
    check(b"x-a", b"v", true);
    check(b"x-a", b"", true);
    check(b":path", b"v", true);
    check(b":x", b"v", true);
    check(b":", b"v", false);
    check(b"", b"v", false);
    check(b"X-a", b"v", false);
    check(b"x a", b"v", false);
    check(b"a:b", b"v", false);
    check(b"::path", b"v", false);
    check(b"a\xe4", b"v", false);
    check(b"x-a", b"a\r\nb", false);
    check(b"x-a", b"\0", false);
    check(b"x-a", b"a\t \xe4", true);
    for padded in [b" ".as_slice(), b"\t", b" v", b"v ", b"\tv", b"v\t", b" a b "] {
        check(b"x-a", padded, false);
        check(b":path", padded, false);
    }
}

#[test]
fn the_table_stays_in_step_when_the_caller_ignores_fields() {
    let mut encoder = Encoder::new();
    let mut decoder = Decoder::new(4096);
    for round in 0..50_u32 {
        let mut block = Vec::new();
        encoder.start(&mut block);
        for at in 0..20_u32 {
            let name = format!("x-{}", at % 7);
            encoder.field(Name::Other, name.as_bytes(), (round / 3 * at).to_string().as_bytes(), &mut block);
        }
        let mut last = None;
        decoder.decode(&block, |field| last = Some(field.value.to_vec())).unwrap();
        assert_eq!(last, Some((round / 3 * 19).to_string().into_bytes()));
    }
}

proptest! {
    /// Bytes with a bent for tables, and what follows them.
    #[test]
    fn no_bytes_do_harm(blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..8)) {
        let mut decoder = Decoder::new(4096);
        for block in blocks {
            if decode(&mut decoder, &block).is_err() {
                break;
            }
        }
        prop_assert!(decoder.capacity() <= 16 * 1024 + 128 * 16 + 32 * 1024);
    }
}
