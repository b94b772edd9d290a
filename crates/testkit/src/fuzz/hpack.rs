//! Properties of the compression of HTTP/2's header blocks.

use cardinal_http::hpack::{Decoder, Encoder, Pseudo};
use cardinal_http::{Name, is_token, is_value};

/// Each a number of blocks, which have a byte with their length in front.
pub(super) const BLOCKS: &[&[u8]] = &[
    b"\x11\x82\x86\x84\x41\x0c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff\x04\x82\x86\x84\xbe",
    b"\x14\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff\x82\x86\x02\xbe\x90\x0e\x40\x03x-a\x03b c\x7e\x02de",
    b"\x04\x20\x3f\xe1\x1f\x0a\x10\x06apikey\x01k\x06\x0f\x2f\x01x\xbe\x88",
    b"\x08\x3f\x45\x40\x01a\x02bcd\x0c\x5f\x08text/htm\x76\x81\x1f\x03\xbf\xbe\x61",
];

/// No more than the documentation of [`Decoder::capacity`] says.
const MEMORY_MAX: usize = 16 * 1024 + 128 * 16 + 32 * 1024;

/// Blocks of one connection: what is read is the same when it is written and read again, and what is said of it is
/// true, from whichever table it came.
pub(super) fn check_blocks(input: &[u8]) {
    let (mut decoder, mut encoder, mut other) = (Decoder::new(4096), Encoder::new(), Decoder::new(4096));
    let mut rest = input;
    while let Some((len, after)) = rest.split_first() {
        let (block, after) = after.split_at(after.len().min(usize::from(*len)));
        rest = after;
        let mut wire = Vec::new();
        let mut fields = Vec::new();
        encoder.start(&mut wire);
        let result = decoder.decode(block, |field| {
            let pseudo = Pseudo::of(field.name);
            assert_eq!(field.pseudo, pseudo);
            let token = if pseudo.is_some() { &field.name[1..] } else { field.name };
            let lower = !token.iter().any(u8::is_ascii_uppercase);
            let is_padded = |byte: Option<&u8>| byte.is_some_and(|byte| matches!(byte, b' ' | b'\t'));
            let padded = is_padded(field.value.first()) || is_padded(field.value.last());
            assert_eq!(field.legal, is_token(token) && lower && is_value(field.value) && !padded);
            if field.legal && pseudo.is_none() {
                assert_eq!(field.known, Name::of(field.name));
                if field.sensitive {
                    encoder.sensitive(field.known, field.name, field.value, &mut wire);
                } else {
                    encoder.field(field.known, field.name, field.value, &mut wire);
                }
                fields.push((field.name.to_vec(), field.value.to_vec()));
            }
        });
        assert!(decoder.capacity() <= MEMORY_MAX, "{} bytes are held", decoder.capacity());
        let mut again = Vec::new();
        let written = other.decode(&wire, |field| again.push((field.name.to_vec(), field.value.to_vec())));
        assert_eq!((written, again), (Ok(()), fields));
        if result.is_err() {
            return;
        }
    }
}
