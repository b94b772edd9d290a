//! What was written is what is read, block after block.

use super::*;

/// OneOrMany names and values, so that they come again, in different cases; and any.
fn name() -> impl Strategy<Value = String> {
    let usual = prop::sample::select(vec![
        "Content-Type",
        "content-type",
        "Server",
        "date",
        "cookie",
        "Authorization",
        "set-cookie",
        "x-forwarded-for",
        "X-Request-ID",
        "x-request-id",
        "te",
        "a",
        "X-A-Rather-Long-Name-Of-A-Field",
        "x-a-rather-long-name-of-a-FIELD",
        "vary",
        "Cache-Control",
        "age",
        "x^y",
        "x~y",
        "x-`",
        "x-@",
    ])
    .prop_map(str::to_owned);
    prop_oneof![8 => usual, 1 => "[!-9;-~]{1,40}"]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => "[a-d]{0,2}".prop_map(String::into_bytes),
        2 => prop::sample::select(vec![b"a".repeat(16), b"b".repeat(17), b"c".repeat(300), b"d".repeat(1200)]),
        1 => prop::collection::vec(any::<u8>(), 0..70),
    ]
}

#[derive(Clone, Debug)]
struct Block {
    sizes: Vec<u32>,
    fields: Vec<(String, Vec<u8>, bool)>,
}

fn block() -> impl Strategy<Value = Block> {
    let size = prop_oneof![Just(0), 0..400_u32, Just(4096), Just(65536)];
    let sizes = prop_oneof![4 => Just(Vec::new()), 1 => prop::collection::vec(size, 0..3)];
    let field = (name(), value(), prop::bool::weighted(0.1));
    (sizes, prop::collection::vec(field, 0..20)).prop_map(|(sizes, fields)| Block { sizes, fields })
}

fn encode(encoder: &mut Encoder, block: &Block) -> Vec<u8> {
    for size in &block.sizes {
        encoder.set_table_max(*size);
    }
    let mut out = Vec::new();
    encoder.start(&mut out);
    for (name, value, sensitive) in &block.fields {
        let known = Name::of(name.as_bytes());
        if *sensitive {
            encoder.sensitive(known, name.as_bytes(), value, &mut out);
        } else {
            encoder.field(known, name.as_bytes(), value, &mut out);
        }
    }
    out
}

proptest! {
    #[test]
    fn what_was_written_is_read(blocks in prop::collection::vec(block(), 1..20)) {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(4096));
        for block in blocks {
            let wire = encode(&mut encoder, &block);
            let fields = decode(&mut decoder, &wire);
            let expect: Fields =
                block.fields.iter().map(|(name, value, _)| (name.to_ascii_lowercase().into_bytes(), value.clone())).collect();
            prop_assert_eq!(fields, Ok(expect));
        }
    }

    /// A peer that uses every form: what it means does not depend on the form.
    #[test]
    fn what_a_peer_writes_in_any_form_is_read(
        fields in prop::collection::vec((name(), value(), 0..3_u8, any::<bool>(), any::<bool>()), 1..60)
    ) {
        let mut decoder = Decoder::new(4096);
        let mut model: std::collections::VecDeque<(Vec<u8>, Vec<u8>)> = Default::default();
        for (name, value, form, huffman, by_index) in fields {
            let name = name.to_ascii_lowercase().into_bytes();
            let mut wire = Vec::new();
            let known = model.iter().position(|(other, _)| *other == name).filter(|_| by_index);
            let (prefix, mask) = [(0x00, 15), (0x40, 63), (0x10, 15)][usize::from(form)];
            number(&mut wire, prefix, mask, known.map_or(0, |at| at + 62));
            if known.is_none() {
                string(&mut wire, &name, huffman);
            }
            string(&mut wire, &value, huffman);
            let field = (name, value);
            prop_assert_eq!(decode(&mut decoder, &wire), Ok(vec![field.clone()]));
            if form == 1 {
                model.push_front(field);
                while model.iter().map(|(name, value)| name.len() + value.len() + 32).sum::<usize>() > 4096 {
                    model.pop_back();
                }
            }
            let mut wire = Vec::new();
            (0..model.len()).for_each(|at| number(&mut wire, 0x80, 127, at + 62));
            prop_assert_eq!(decode(&mut decoder, &wire), Ok(Vec::from(model.clone())));
        }
    }
}

fn number(out: &mut Vec<u8>, form: u8, mask: usize, value: usize) {
    if value < mask {
        return out.push(form | value as u8);
    }
    out.push(form | mask as u8);
    let mut rest = value - mask;
    while rest > 127 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn string(out: &mut Vec<u8>, text: &[u8], huffman: bool) {
    let coded = if huffman { coded(text) } else { text.to_vec() };
    number(out, if huffman { 0x80 } else { 0 }, 127, coded.len());
    out.extend(coded);
}
