//! A short fuzz run of the HTTP/1.1 codec. The long ones are `fuzz/fuzz_targets/h1_head.rs` and `h1_body.rs`.

use cardinal_http::h1::{
    BodyDecoder, Framing, HeadLimits, Parsed, Step, parse_request, parse_response, request_framing,
};
use cardinal_http::{HeaderList, RequestHead, ResponseHead};
use cardinal_testkit::fuzz_smoke;

const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 4096, line_bytes_max: 1024, header_count_max: 32 };

const REQUESTS: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /a/b?c=d HTTP/1.1\r\nHost: example.com:80\r\nContent-Length: 5\r\nX-A:  b \r\n\r\nhello",
    b"OPTIONS * HTTP/1.1\r\nhost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nConnection: close, x\r\n\r\n",
    b"GET http://u@h/p?q HTTP/1.0\r\nExpect: 100-continue\r\n\r\n",
];

/// A head that was accepted means the same when it is written out and read again.
#[test]
fn request_heads_survive_forwarding() {
    fuzz_smoke(REQUESTS, 60_000, |input| {
        let mut head = RequestHead::default();
        let Ok(Parsed::Complete(used)) = parse_request(input, &LIMITS, &mut head) else { return };
        assert!(used <= input.len());
        let mut wire = Vec::new();
        wire.extend_from_slice(head.method.as_str().as_bytes());
        wire.push(b' ');
        wire.extend_from_slice(head.target());
        wire.extend_from_slice(format!(" HTTP/{}\r\n", head.version.number()).as_bytes());
        head.headers.write_h1(&mut wire);
        wire.extend_from_slice(b"\r\n");
        let mut again = RequestHead::default();
        let limits = HeadLimits { head_bytes_max: 2 * LIMITS.head_bytes_max, ..LIMITS };
        assert_eq!(parse_request(&wire, &limits, &mut again), Ok(Parsed::Complete(wire.len())));
        assert_eq!((&head.method, head.path(), head.query()), (&again.method, again.path(), again.query()));
        assert!(head.headers.iter().eq(again.headers.iter()));
        assert_eq!(request_framing(&head), request_framing(&again));
    });
}

/// A head is accepted or refused however its bytes arrive.
#[test]
fn request_heads_do_not_depend_on_their_pieces() {
    fuzz_smoke(REQUESTS, 20_000, |input| {
        let mut whole = RequestHead::default();
        let Ok(Parsed::Complete(used)) = parse_request(input, &LIMITS, &mut whole) else { return };
        for end in 0..used {
            let mut head = RequestHead::default();
            assert_eq!(parse_request(&input[..end], &LIMITS, &mut head), Ok(Parsed::Partial), "cut at {end}");
        }
    });
}

#[test]
fn response_heads_do_not_break_it() {
    let seeds: &[&[u8]] = &[
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.0 404\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    ];
    fuzz_smoke(seeds, 60_000, |input| {
        let mut head = ResponseHead::default();
        if let Ok(Parsed::Complete(used)) = parse_response(input, &LIMITS, &mut head) {
            assert!(used <= input.len());
            assert!((100..1000).contains(&head.status));
        }
    });
}

/// Data and its end, or the error, do not depend on how the bytes arrive.
#[test]
fn chunked_bodies_do_not_depend_on_their_pieces() {
    let seeds: &[&[u8]] = &[
        b"5\r\nhello\r\n0\r\n\r\n",
        b"A;x=\"y\"\r\n0123456789\r\n1\r\n!\r\n0\r\nX-T: 1\r\nB: 2\r\n\r\nrest",
        b"ffffffffffffff\r\nx",
    ];
    fuzz_smoke(seeds, 40_000, |input| {
        let whole = decode(input, input.len().max(1));
        for piece in [1, 2, 7] {
            assert_eq!(whole, decode(input, piece), "in pieces of {piece}");
        }
    });
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    Complete { left: usize },
    Open,
    Refused,
}

fn decode(input: &[u8], piece: usize) -> (Vec<u8>, End) {
    let (mut decoder, mut trailers) = (BodyDecoder::new(Framing::Chunked), HeaderList::new());
    let (mut buf, mut data) = (Vec::new(), Vec::new());
    let mut pieces = input.chunks(piece);
    loop {
        match decoder.step(&buf, &mut trailers) {
            Err(_) => return (data, End::Refused),
            Ok(Step::End { skip }) => {
                let left = buf.len() - skip + pieces.map(<[u8]>::len).sum::<usize>();
                return (data, End::Complete { left });
            }
            Ok(Step::Data { skip, len }) => {
                assert!(len > 0);
                buf.drain(..skip);
                data.extend(buf.drain(..len));
                decoder.consumed(len);
            }
            Ok(Step::More { skip }) => {
                buf.drain(..skip);
                match pieces.next() {
                    Some(more) => buf.extend_from_slice(more),
                    None => return (data, End::Open),
                }
            }
        }
    }
}
