use super::*;
use crate::head::{Method, RequestHead, ResponseHead, Version};
use crate::headers::HeaderList;

const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 1024, line_bytes_max: 256, header_count_max: 8 };

fn request(text: &str) -> Result<(RequestHead, usize), HeadError> {
    let mut head = RequestHead::default();
    match parse_request(text.as_bytes(), &LIMITS, &mut head)? {
        Parsed::Complete(len) => Ok((head, len)),
        Parsed::Partial => panic!("partial: {text:?}"),
    }
}

fn refused(text: &str, expect: HeadError) {
    assert_eq!(request(text).map(|_| ()), Err(expect), "{text:?}");
}

#[test]
fn a_request_is_parsed_into_places() {
    let text = "GET /a/b?x=1&y HTTP/1.1\r\nHost: example.com:81\r\nX-One:  two \r\nx-one: three\r\n\r\nrest";
    let (head, len) = request(text).unwrap();
    assert_eq!(&text[len..], "rest");
    assert_eq!(head.method, Method::Get);
    assert_eq!(head.path(), b"/a/b");
    assert_eq!(head.query(), Some(b"x=1&y".as_slice()));
    assert_eq!(head.authority(), Some(b"example.com:81".as_slice()));
    assert_eq!(head.headers.get_all(b"X-ONE").collect::<Vec<_>>(), [b"two".as_slice(), b"three"]);
    let mut out = Vec::new();
    head.headers.write_h1(&mut out);
    assert_eq!(String::from_utf8(out).unwrap(), "Host: example.com:81\r\nX-One: two\r\nx-one: three\r\n");
}

#[test]
fn all_four_target_forms_are_read() {
    let (head, _) = request("GET http://a.test:8/p?q HTTP/1.1\r\nHost: b\r\n\r\n").unwrap();
    assert_eq!(head.authority(), Some(b"a.test:8".as_slice()));
    assert_eq!(
        (head.path(), head.query(), head.target_is_https()),
        (b"/p".as_slice(), Some(b"q".as_slice()), Some(false))
    );
    let (head, _) = request("GET https://a.test HTTP/1.1\r\nHost: b\r\n\r\n").unwrap();
    assert_eq!((head.path(), head.target_is_https()), (b"/".as_slice(), Some(true)));
    let (head, _) = request("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n").unwrap();
    assert_eq!(head.authority(), Some(b"a.test:443".as_slice()));
    let (head, _) = request("OPTIONS * HTTP/1.1\r\nHost: b\r\n\r\n").unwrap();
    assert_eq!(head.path(), b"*");
}

#[test]
fn what_is_ambiguous_is_refused() {
    refused("GET / HTTP/1.1\nHost: a\r\n\r\n", HeadError::BareLf);
    refused("GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", HeadError::BareLf);
    refused("GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", HeadError::Folding);
    refused("GET / HTTP/1.1\r\nHost : a\r\n\r\n", HeadError::FieldName);
    refused("GET / HTTP/1.1\r\nHost: a\r\nNo colon\r\n\r\n", HeadError::FieldName);
    refused("GET / HTTP/1.1\r\nHost: a\r\n: empty\r\n\r\n", HeadError::FieldName);
    refused("GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", HeadError::FieldValue);
    refused("GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", HeadError::FieldValue);
    refused("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", HeadError::Host);
    refused("GET / HTTP/1.1\r\nX: a\r\n\r\n", HeadError::Host);
    refused("GET / HTTP/2.0\r\nHost: a\r\n\r\n", HeadError::Version);
    refused("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Target);
    refused("GET a HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Target);
    refused("GET * HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Target);
    refused("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Method);
    refused("GET /\r\n\r\n", HeadError::StartLine);
    refused("GET / http/1.1\r\nHost: a\r\n\r\n", HeadError::StartLine);
}

#[test]
fn limits_hold_for_complete_and_for_partial_heads() {
    let mut head = RequestHead::default();
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(300));
    assert_eq!(parse_request(long.as_bytes(), &LIMITS, &mut head), Err(HeadError::LineTooLong));
    head.clear();
    assert_eq!(parse_request(&long.as_bytes()[..280], &LIMITS, &mut head), Err(HeadError::LineTooLong));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(8));
    head.clear();
    assert_eq!(parse_request(many.as_bytes(), &LIMITS, &mut head), Err(HeadError::TooMany));
    let large = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(1024));
    head.clear();
    assert_eq!(parse_request(large.as_bytes(), &LIMITS, &mut head), Err(HeadError::TooLarge));
    head.clear();
    assert_eq!(parse_request(&large.as_bytes()[..1030], &LIMITS, &mut head), Err(HeadError::TooLarge));
}

#[test]
fn every_prefix_of_a_head_is_partial() {
    let text = b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n";
    for end in 0..text.len() {
        let mut head = RequestHead::default();
        assert_eq!(parse_request(&text[..end], &LIMITS, &mut head), Ok(Parsed::Partial), "{end}");
    }
}

#[test]
fn responses_keep_their_reason() {
    let mut head = ResponseHead::default();
    let text = b"HTTP/1.1 200 Very Good\r\nServer: x\r\n\r\n";
    assert_eq!(parse_response(text, &LIMITS, &mut head), Ok(Parsed::Complete(text.len())));
    assert_eq!((head.status, head.reason()), (200, b"Very Good".as_slice()));
    for (bad, error) in [
        ("HTTP/1.1 20 OK\r\n\r\n", HeadError::Status),
        ("HTTP/1.1 2000 OK\r\n\r\n", HeadError::StartLine),
        ("HTTP/1.1 099 OK\r\n\r\n", HeadError::Status),
        ("HTTP/3.1 200 OK\r\n\r\n", HeadError::Version),
        ("ICY 200 OK\r\n\r\n", HeadError::StartLine),
    ] {
        let mut head = ResponseHead::default();
        assert_eq!(parse_response(bad.as_bytes(), &LIMITS, &mut head), Err(error), "{bad:?}");
    }
}

#[test]
fn responses_may_end_their_lines_in_lf() {
    for text in [
        "HTTP/1.1 200 Very Good\nServer: x\nA: 1\n\n",
        "HTTP/1.1 200 Very Good\r\nServer: x\nA: 1\r\n\n",
        "HTTP/1.1 200 Very Good\nServer: x\r\nA:1\n\r\n",
    ] {
        let mut head = ResponseHead::default();
        let rest = format!("{text}rest");
        assert_eq!(parse_response(rest.as_bytes(), &LIMITS, &mut head), Ok(Parsed::Complete(text.len())), "{text:?}");
        let mut out = Vec::new();
        head.headers.write_h1(&mut out);
        let written = String::from_utf8(out).unwrap();
        assert_eq!((head.reason(), written.as_str()), (b"Very Good".as_slice(), "Server: x\r\nA: 1\r\n"), "{text:?}");
        for end in 0..text.len() {
            let mut head = ResponseHead::default();
            assert_eq!(parse_response(&text.as_bytes()[..end], &LIMITS, &mut head), Ok(Parsed::Partial), "{text:?}");
        }
    }
    for (bad, error) in [
        ("HTTP/1.1 200 OK\rA: 1\n\n", HeadError::StartLine),
        ("HTTP/1.1 200 OK\r\r\n\r\n", HeadError::StartLine),
        ("HTTP/1.1 200 OK\nA: 1\rB: 2\n\n", HeadError::FieldValue),
        ("HTTP/1.1 200 OK\nA: 1\r\r\n\n", HeadError::FieldValue),
        ("HTTP/1.1 200 OK\nA: 1\n\rB: 2\n\n", HeadError::FieldName),
        ("HTTP/1.1 200 OK\nA: 1\n folded\n\n", HeadError::Folding),
        ("HTTP/1.1 200 OK\nA\n\n", HeadError::BareLf),
    ] {
        assert_eq!(parse_response(bad.as_bytes(), &LIMITS, &mut ResponseHead::default()), Err(error), "{bad:?}");
    }
}

#[test]
fn a_host_is_readable_or_not() {
    let readable = |text: &str| request(text).unwrap().0.has_readable_host();
    assert!(readable("GET / HTTP/1.1\r\nHost: a_b.c.:80\r\n\r\n"));
    assert!(readable("GET / HTTP/1.0\r\n\r\n"));
    assert!(readable("GET http://a:8/ HTTP/1.1\r\nHost: b\r\n\r\n"));
    assert!(!readable("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"));
    assert!(!readable("GET / HTTP/1.1\r\nHost:\r\n\r\n"));
    assert!(!readable("GET http://a:x/ HTTP/1.1\r\nHost: b\r\n\r\n"));
    assert!(!readable("GET http://a/ HTTP/1.1\r\nHost: <b>\r\n\r\n"));
    assert!(!readable("CONNECT a:443:1 HTTP/1.1\r\nHost: a\r\n\r\n"));
}

fn framing(fields: &str) -> Result<Framing, FramingError> {
    let (head, _) = request(&format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).unwrap();
    request_framing(&head)
}

#[test]
fn framing_is_unambiguous_or_refused() {
    assert_eq!(framing(""), Ok(Framing::None));
    assert_eq!(framing("Content-Length: 5\r\n"), Ok(Framing::Length(5)));
    assert_eq!(framing("Content-Length: 5\r\nContent-Length: 5\r\n"), Ok(Framing::Length(5)));
    assert_eq!(framing("Transfer-Encoding: Chunked\r\n"), Ok(Framing::Chunked));
    for bad in ["5,6", "+5", "-1", "5 6", "0x5", "18446744073709551616", "5,", ""] {
        assert_eq!(framing(&format!("Content-Length: {bad}\r\n")), Err(FramingError::ContentLength), "{bad}");
    }
    for bad in ["gzip", "gzip, chunked", "chunked, chunked", "identity", "xchunked", "chunked;a=b", ""] {
        let got = framing(&format!("Transfer-Encoding: {bad}\r\n"));
        assert_eq!(got, Err(FramingError::TransferEncoding), "{bad}");
    }
    assert_eq!(framing("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), Err(FramingError::Both));
    let (head, _) = request("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    assert_eq!(request_framing(&head), Err(FramingError::TransferEncoding));
}

/// Decodes a body that arrives in pieces of `piece` bytes; gives the data, and what is left behind the body.
fn decode(framing: Framing, wire: &[u8], piece: usize) -> Result<(Vec<u8>, Vec<u8>, HeaderList), BodyError> {
    decode_with(BodyDecoder::new(framing), wire, piece)
}

fn decode_with(
    mut decoder: BodyDecoder,
    wire: &[u8],
    piece: usize,
) -> Result<(Vec<u8>, Vec<u8>, HeaderList), BodyError> {
    let mut trailers = HeaderList::new();
    let (mut buf, mut data) = (Vec::new(), Vec::new());
    let mut pieces = wire.chunks(piece);
    loop {
        match decoder.step(&buf, &mut trailers)? {
            Step::End { skip } => {
                buf.drain(..skip);
                buf.extend(pieces.flatten());
                return Ok((data, buf, trailers));
            }
            Step::Data { skip, len } => {
                buf.drain(..skip);
                data.extend(buf.drain(..len));
                decoder.consumed(len);
            }
            Step::More { skip } => {
                buf.drain(..skip);
                match pieces.next() {
                    Some(more) => buf.extend_from_slice(more),
                    None => decoder.closed()?,
                }
            }
        }
    }
}

#[test]
fn chunked_bodies_decode_at_any_split() {
    let wire = b"5\r\nhello\r\n1;ext=\"v\"\r\n \r\n00A\r\n0123456789\r\n0\r\nX-T: 1\r\n\r\nNEXT";
    for piece in 1..wire.len() {
        let (data, rest, trailers) = decode(Framing::Chunked, wire, piece).unwrap();
        assert_eq!((data.as_slice(), rest.as_slice()), (b"hello 0123456789".as_slice(), b"NEXT".as_slice()), "{piece}");
        assert_eq!(trailers.get(b"x-t"), Some(b"1".as_slice()));
    }
}

#[test]
fn chunks_of_responses_may_end_their_lines_in_lf() {
    let wire = b"5\nhello\n1;ext=\"v\"\n \r\n00A\r\n0123456789\n0\nX-T: 1\n\nNEXT";
    for piece in 1..wire.len() {
        let (data, rest, trailers) = decode_with(BodyDecoder::of_response(Framing::Chunked), wire, piece).unwrap();
        assert_eq!((data.as_slice(), rest.as_slice()), (b"hello 0123456789".as_slice(), b"NEXT".as_slice()), "{piece}");
        assert_eq!(trailers.get(b"x-t"), Some(b"1".as_slice()));
    }
    for (wire, error) in [
        ("5\rhello\n0\n\n", BodyError::ChunkSize),
        ("5\r\r\nhello\r\n", BodyError::ChunkSize),
        ("5;a\rb\nhello\n", BodyError::ChunkSize),
        ("5\nhello\r0\n\n", BodyError::ChunkEnd),
        ("5\nhello\n\n0\n\n", BodyError::ChunkSize),
        ("0\nA: 1\r\r\n\n", BodyError::Trailers(HeadError::FieldValue)),
        ("0\n\r", BodyError::Truncated),
    ] {
        let decoder = BodyDecoder::of_response(Framing::Chunked);
        assert_eq!(decode_with(decoder, wire.as_bytes(), 3).map(|_| ()), Err(error), "{wire:?}");
    }
}

#[test]
fn sizes_of_chunks_of_responses_may_be_padded() {
    let wire = b"5 \r\nhello\r\n000000000000000000001\t \r\n \r\n0 \r\n\r\nNEXT";
    for piece in 1..wire.len() {
        let (data, rest, _) = decode_with(BodyDecoder::of_response(Framing::Chunked), wire, piece).unwrap();
        assert_eq!((data.as_slice(), rest.as_slice()), (b"hello ".as_slice(), b"NEXT".as_slice()), "{piece}");
    }
    for wire in ["5 x\r\nhello\r\n", " 5\r\nhello\r\n", "5 5\r\nhello\r\n", "01000000000000000\r\n"] {
        let decoder = BodyDecoder::of_response(Framing::Chunked);
        assert_eq!(decode_with(decoder, wire.as_bytes(), 3).map(|_| ()), Err(BodyError::ChunkSize), "{wire:?}");
    }
}

#[test]
fn malformed_chunks_are_refused() {
    for (wire, error) in [
        ("x\r\n", BodyError::ChunkSize),
        ("\r\n", BodyError::ChunkSize),
        ("-5\r\n", BodyError::ChunkSize),
        ("5 \r\nhello\r\n", BodyError::ChunkSize),
        ("5\nhello\r\n", BodyError::ChunkSize),
        ("5\r\nhelloX", BodyError::ChunkEnd),
        ("5\r\nhello\n", BodyError::ChunkEnd),
        ("1000000000000000\r\n", BodyError::ChunkSize),
        ("0000000000000005\r\nhello\r\n", BodyError::ChunkSize),
        ("0x5\r\nhello\r\n", BodyError::ChunkSize),
        ("5;a\rb\r\nhello\r\n", BodyError::ChunkSize),
        ("5\r\nhel", BodyError::Truncated),
    ] {
        assert_eq!(decode(Framing::Chunked, wire.as_bytes(), 3).map(|_| ()), Err(error), "{wire:?}");
    }
}

#[test]
fn lengths_and_closes_end_bodies() {
    assert_eq!(decode(Framing::Length(3), b"abcdef", 2).unwrap().1, b"def");
    assert_eq!(decode(Framing::Length(3), b"ab", 2).map(|_| ()), Err(BodyError::Truncated));
    assert_eq!(decode(Framing::UntilClose, b"abcdef", 4).unwrap().0, b"abcdef");
}

#[test]
fn edits_keep_order_and_runs() {
    let (mut head, _) = request("GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 2\r\nA: 3\r\nC: 4\r\n\r\n").unwrap();
    assert!(head.headers.set(b"a", b"new"));
    assert!(head.headers.rename(b"c", b"D"));
    assert!(head.headers.append(b"E", b"5"));
    assert!(head.headers.set(b"F", b"6"), "a name that is not there is added");
    assert!(!head.headers.append(b"Bad Name", b"x"));
    assert!(!head.headers.append(b"Bad", b"x\r\ny"));
    let mut out = Vec::new();
    head.headers.write_h1(&mut out);
    assert_eq!(String::from_utf8(out).unwrap(), "Host: a\r\na: new\r\nB: 2\r\nD: 4\r\nE: 5\r\nF: 6\r\n");
}

#[test]
fn chunk_heads_are_hexadecimal() {
    for (len, expect) in [(0, "0\r\n"), (1, "1\r\n"), (16, "10\r\n"), (65_535, "ffff\r\n"), (65_536, "10000\r\n")] {
        let mut out = Vec::new();
        write_chunk_head(len, &mut out);
        assert_eq!(out, expect.as_bytes());
    }
}

#[test]
fn keep_alive_follows_version_and_connection() {
    let check = |text: &str, expect: bool| {
        let (head, _) = request(text).unwrap();
        assert_eq!(keep_alive(head.version, &head.headers), expect, "{text:?}");
    };
    check("GET / HTTP/1.1\r\nHost: a\r\n\r\n", true);
    check("GET / HTTP/1.1\r\nHost: a\r\nConnection: foo, Close\r\n\r\n", false);
    check("GET / HTTP/1.0\r\n\r\n", false);
    check("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true);
    assert!(Version::H10 < Version::H11);
}

/// Fields by the letter of RFC 9112 section 5, slowly: whole lines, then name, colon and value. With `lf`, lines may end
/// in LF alone.
fn naive_fields(block: &[u8], lf: bool) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut fields = Vec::new();
    for line in block.split_inclusive(|b| *b == b'\n') {
        let line = match line.strip_suffix(b"\r\n") {
            Some(line) => line,
            None => line.strip_suffix(b"\n").filter(|_| lf)?,
        };
        if line.is_empty() {
            return Some(fields);
        }
        let colon = line.iter().position(|b| *b == b':')?;
        let (name, value) = (line.get(..colon)?, line.get(colon + 1..)?);
        let legal = crate::token::is_token(name) && crate::token::is_value(value);
        legal.then(|| fields.push((name.to_vec(), crate::token::trim(value).to_vec())))?;
    }
    None
}

fn compare_with_naive<const LF: bool>(block: &[u8]) {
    let limits = HeadLimits { head_bytes_max: 10_000, line_bytes_max: 0, header_count_max: 100 };
    let own = |list: &HeaderList| list.iter().map(|(n, v)| (n.to_vec(), v.to_vec())).collect::<Vec<_>>();
    let mut list = HeaderList::new();
    match super::parse::parse_fields::<LF>(block, 0, &limits, &mut list) {
        Ok(Some(end)) => {
            assert_eq!(Some(own(&list)), naive_fields(&block[..end], LF), "{}", block.escape_ascii());
            // What is written ends its lines in CRLF, and reads the same.
            let (mut written, mut again) = (Vec::new(), HeaderList::new());
            list.write_h1(&mut written);
            written.extend_from_slice(b"\r\n");
            let read = super::parse::parse_fields::<{ super::parse::STRICT }>(&written, 0, &limits, &mut again);
            assert_eq!((read, own(&again)), (Ok(Some(written.len())), own(&list)), "{}", block.escape_ascii());
            // What comes earlier is a part of it, and leaves nothing behind.
            for cut in 0..end {
                let mut list = HeaderList::new();
                let read = super::parse::parse_fields::<LF>(&block[..cut], 0, &limits, &mut list);
                assert_eq!((read, list.is_empty()), (Ok(None), true), "{}", block.escape_ascii());
            }
        }
        Ok(None) => panic!("partial: {}", block.escape_ascii()),
        Err(_) => assert_eq!(naive_fields(block, LF), None, "{}", block.escape_ascii()),
    }
}

#[test]
fn control_characters_end_or_spoil_a_value_at_any_place() {
    for (len, byte) in (1..20).flat_map(|len| (0..=255_u8).map(move |byte| (len, byte))) {
        for (at, others) in (0..len).flat_map(|at| [b'~', 0xff].map(|others| (at, others))) {
            let mut value = vec![others; len];
            value[at] = byte;
            let block = [b"a: ", value.as_slice(), b"\r\n\r\n"].concat();
            compare_with_naive::<{ super::parse::STRICT }>(&block);
            compare_with_naive::<{ super::parse::LENIENT }>(&block);
        }
    }
}

proptest::proptest! {
    #[test]
    fn fields_are_those_of_the_slow_reading(
        parts in proptest::collection::vec(
            proptest::sample::select(vec![
                "a", "Host", "x-y", ":", ": ", "\t", " ", "\r\n", "\r\n", "\n", "\r", "value of some length", "\u{7f}", "\u{e9}", "\0", "12345678",
            ]),
            0..24,
        ),
    ) {
        let block = [parts.concat().as_bytes(), b"\r\n\r\n"].concat();
        compare_with_naive::<{ super::parse::STRICT }>(&block);
        compare_with_naive::<{ super::parse::LENIENT }>(&block);
    }
}
