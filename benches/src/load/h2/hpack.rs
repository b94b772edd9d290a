//! Header blocks ([RFC 7541](https://www.rfc-editor.org/rfc/rfc7541)).
//!
//! Requests are written without Huffman coding. Fields common to all requests are added to the dynamic table with the
//! first request of a connection and referenced by index afterwards, as browsers do; paths and hosts are written
//! literally.
//!
//! Of responses, only the status is read, and of gRPC trailers one field. This requires no dynamic table: status 200
//! has an index in the static table, and gRPC clients set their table size to 0.

use crate::load::link::LinkError;

/// Indices of the static table.
pub(in crate::load) const AUTHORITY: u8 = 1;
pub(in crate::load) const METHOD_GET: u8 = 2;
pub(in crate::load) const METHOD_POST: u8 = 3;
pub(in crate::load) const PATH: u8 = 4;
pub(in crate::load) const SCHEME_HTTP: u8 = 6;
pub(in crate::load) const SCHEME_HTTPS: u8 = 7;
pub(in crate::load) const STATUS_200: u8 = 8;
const STATUS_LAST: u64 = 14;
const FIRST_OWN: u64 = 62;
/// Default size of the peer's table, and overhead of an entry in addition to its text.
const TABLE: usize = 4096;
const ENTRY: usize = 32;

/// `grpc-status` and `0` in Huffman coding.
const GRPC_STATUS: [u8; 8] = [0x9a, 0xca, 0xc8, 0xb2, 0x12, 0x34, 0xda, 0x8f];
const ZERO: [u8; 1] = [0x07];

/// Writes a field of the static table.
pub(in crate::load) fn indexed(out: &mut Vec<u8>, index: u8) {
    integer(out, 0x80, 7, u64::from(index));
}

/// Writes a literal field without indexing, with a name of the static table.
pub(in crate::load) fn named(out: &mut Vec<u8>, name: u8, value: &str) {
    integer(out, 0, 4, u64::from(name));
    text(out, value);
}

/// Writes a literal field without indexing.
pub(in crate::load) fn literal(out: &mut Vec<u8>, name: &str, value: &str) {
    out.push(0);
    text(out, &name.to_ascii_lowercase());
    text(out, value);
}

/// Sets the table size to 0.
pub(in crate::load) fn no_table(out: &mut Vec<u8>) {
    out.push(0x20);
}

/// The fields common to all requests, in the three encodings used.
#[derive(Debug, Default)]
pub(in crate::load) struct Common {
    /// With the first request: with indexing.
    pub(in crate::load) first: Vec<u8>,
    /// Later: by index.
    pub(in crate::load) later: Vec<u8>,
    /// For peers without a table.
    pub(in crate::load) plain: Vec<u8>,
}

impl Common {
    pub(in crate::load) fn new(fields: &[(String, String)]) -> Self {
        let mut common = Self::default();
        let mut room = TABLE;
        let kept = fields.iter().take_while(|(name, value)| {
            let size = name.len() + value.len() + ENTRY;
            let fits = size <= room;
            room = room.saturating_sub(size);
            fits
        });
        let kept = kept.count();
        for (at, (name, value)) in fields.iter().enumerate() {
            literal(&mut common.plain, name, value);
            if at >= kept {
                literal(&mut common.first, name, value);
                literal(&mut common.later, name, value);
                continue;
            }
            common.first.push(0x40);
            text(&mut common.first, &name.to_ascii_lowercase());
            text(&mut common.first, value);
            // The newest entry has the lowest index.
            integer(&mut common.later, 0x80, 7, FIRST_OWN + (kept - 1 - at) as u64);
        }
        common
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    integer(out, 0, 7, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn integer(out: &mut Vec<u8>, flags: u8, bits: u32, value: u64) {
    let most = (1u64 << bits) - 1;
    if value < most {
        out.push(flags | value as u8);
        return;
    }
    out.push(flags | most as u8);
    let mut rest = value - most;
    while rest >= 128 {
        out.push(rest as u8 | 128);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// The status of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::load) enum Status {
    Ok,
    /// 1xx: another response follows.
    Interim,
    Other,
}

/// Parses the status, which is the first field.
pub(in crate::load) fn status(block: &[u8]) -> Result<Status, LinkError> {
    let mut fields = Fields(block);
    let field = fields.next()?.ok_or("a response has no fields")?;
    Ok(match field {
        Field { index, value: None, .. } if index == u64::from(STATUS_200) => Status::Ok,
        Field { index, value: Some(value), .. } if (u64::from(STATUS_200)..=STATUS_LAST).contains(&index) => {
            match (value.coded, value.bytes) {
                // "200" in Huffman coding or plain.
                (true, [0x10, 0x01]) | (false, b"200") => Status::Ok,
                // "10" begins with five zero bits and then five more, or one and four zeros.
                (false, [b'1', ..]) => Status::Interim,
                (true, [first, ..]) if first >> 3 == 1 => Status::Interim,
                _ => Status::Other,
            }
        }
        _ => Status::Other,
    })
}

/// Whether gRPC trailers report success.
pub(in crate::load) fn grpc_ok(block: &[u8]) -> Result<bool, LinkError> {
    let mut fields = Fields(block);
    while let Some(field) = fields.next()? {
        let (Some(name), Some(value)) = (field.name, field.value) else { continue };
        if name.is(b"grpc-status", &GRPC_STATUS) {
            return Ok(value.is(b"0", &ZERO));
        }
    }
    Ok(false)
}

/// Iterates over the fields of a block.
struct Fields<'a>(&'a [u8]);

/// A field: indices or texts for name and value.
struct Field<'a> {
    index: u64,
    name: Option<Text<'a>>,
    value: Option<Text<'a>>,
}

#[derive(Clone, Copy)]
struct Text<'a> {
    coded: bool,
    bytes: &'a [u8],
}

impl Text<'_> {
    fn is(self, plain: &[u8], coded: &[u8]) -> bool {
        self.bytes == if self.coded { coded } else { plain }
    }
}

impl<'a> Fields<'a> {
    fn next(&mut self) -> Result<Option<Field<'a>>, LinkError> {
        while let Some(&first) = self.0.first() {
            if first & 0x80 != 0 {
                return Ok(Some(Field { index: self.integer(7)?, name: None, value: None }));
            }
            if first & 0xe0 == 0x20 {
                self.integer(5)?;
                continue;
            }
            let index = self.integer(if first & 0x40 != 0 { 6 } else { 4 })?;
            let name = if index == 0 { Some(self.text()?) } else { None };
            return Ok(Some(Field { index, name, value: Some(self.text()?) }));
        }
        Ok(None)
    }

    fn text(&mut self) -> Result<Text<'a>, LinkError> {
        let coded = self.0.first().is_some_and(|first| first & 0x80 != 0);
        let length = self.integer(7)? as usize;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(CUT)?;
        self.0 = rest;
        Ok(Text { coded, bytes })
    }

    fn integer(&mut self, bits: u32) -> Result<u64, LinkError> {
        let most = (1u64 << bits) - 1;
        let mut value = u64::from(self.byte()?) & most;
        if value < most {
            return Ok(value);
        }
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            value += u64::from(byte & 127) << shift;
            if byte < 128 {
                return Ok(value);
            }
        }
        Err("a number in a block of fields is too large")
    }

    fn byte(&mut self) -> Result<u8, LinkError> {
        let (first, rest) = self.0.split_first().ok_or(CUT)?;
        self.0 = rest;
        Ok(*first)
    }
}

const CUT: LinkError = "a block of fields is cut off";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_found() {
        let check = |block: &[u8], expect| assert_eq!(status(block), Ok(expect), "{block:?}");
        check(&[0x88], Status::Ok);
        check(&[0x20, 0x3f, 0xe1, 0x1f, 0x88, 0x40], Status::Ok);
        check(b"\x48\x03200", Status::Ok);
        check(b"\x08\x03200", Status::Ok);
        check(&[0x48, 0x82, 0x10, 0x01], Status::Ok);
        check(b"\x48\x03100", Status::Interim);
        // 100: 00001 00000 00000, padded; 502: 011011 00000 00010.
        check(&[0x48, 0x82, 0x08, 0x01], Status::Interim);
        check(&[0x48, 0x82, 0x6c, 0x02], Status::Other);
        check(b"\x48\x03502", Status::Other);
        check(&[0x8d], Status::Other);
        check(&[0xbe], Status::Other);
        assert!(status(&[]).is_err());
        assert!(status(b"\x48\x0320").is_err());
        assert!(status(&[0x48]).is_err());
    }

    #[test]
    fn trailers_are_read() {
        let mut trailers = Vec::new();
        named(&mut trailers, 31, "application/grpc");
        literal(&mut trailers, "grpc-status", "0");
        assert_eq!(grpc_ok(&trailers), Ok(true));
        for length in 1..trailers.len() {
            assert_ne!(grpc_ok(&trailers[..length]), Ok(true), "{length} bytes");
        }
        let mut failed = Vec::new();
        literal(&mut failed, "grpc-status", "13");
        assert_eq!(grpc_ok(&failed), Ok(false));
        let coded = [&[0x40, 0x88][..], &GRPC_STATUS, &[0x81], &ZERO].concat();
        assert_eq!(grpc_ok(&coded), Ok(true));
        assert_eq!(grpc_ok(&[0x88]), Ok(false));
    }

    /// From the table of RFC 7541, appendix B.
    #[test]
    fn texts_in_huffman_coding_are_right() {
        let code = |byte| match byte {
            b'g' => "100110",
            b'r' => "101100",
            b'p' => "101011",
            b'c' => "00100",
            b'-' => "010110",
            b's' => "01000",
            b't' => "01001",
            b'a' => "00011",
            b'u' => "101101",
            b'0' => "00000",
            _ => panic!("{byte} is not in the table"),
        };
        let coded = |text: &str| {
            let bits: String = text.bytes().map(code).collect();
            let padded = format!("{bits:1<width$}", width = bits.len().next_multiple_of(8));
            let octets = padded.as_bytes().chunks(8).map(|octet| std::str::from_utf8(octet).unwrap());
            octets.map(|octet| u8::from_str_radix(octet, 2).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(coded("grpc-status"), GRPC_STATUS);
        assert_eq!(coded("0"), ZERO);
    }

    #[test]
    fn common_fields_are_named_by_number() {
        let fields = [("A", "1"), ("B", "2")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let common = Common::new(&fields);
        assert_eq!(common.first, b"\x40\x01a\x011\x40\x01b\x012");
        assert_eq!(common.later, [0x80 | 63, 0x80 | 62]);
        assert_eq!(common.plain, b"\x00\x01a\x011\x00\x01b\x012");
        // A field that does not fit into the table is written literally each time.
        let long = [fields[0].clone(), ("C".to_owned(), "x".repeat(5000))];
        let common = Common::new(&long);
        assert_eq!(common.later[0], 0x80 | 62);
        assert!(common.later.len() > 5000 && common.first.len() > 5000);
    }
}
