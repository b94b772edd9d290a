//! Properties of the HTTP/1.1 codec.

use cardinal_http::h1::{
    BodyDecoder, Framing, HeadLimits, Parsed, Step, parse_request, parse_response, request_framing,
};
use cardinal_http::{HeaderList, RequestHead, ResponseHead};

const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 4096, line_bytes_max: 1024, header_count_max: 32 };

pub(super) const HEADS: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /a/b?c=d HTTP/1.1\r\nHost: example.com:80\r\nContent-Length: 5\r\nX-A:  b \r\n\r\nhello",
    b"OPTIONS * HTTP/1.1\r\nhost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nConnection: close, x\r\n\r\n",
    b"GET http://u@h/p?q HTTP/1.0\r\nExpect: 100-continue\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.0 404\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
];

pub(super) const BODIES: &[&[u8]] = &[
    b"5\r\nhello\r\n0\r\n\r\n",
    b"A;x=\"y\"\r\n0123456789\r\n1\r\n!\r\n0\r\nX-T: 1\r\nB: 2\r\n\r\nrest",
    b"ffffffffffffff\r\nx",
    b"5\nhello\n1;x\r\n!\r\n0\nX-T: 1\n\nrest",
];

/// Heads: a request that is accepted means the same when it is written out and read again, and is accepted only once
/// its last byte is there.
pub(super) fn check_head(input: &[u8]) {
    let mut response = ResponseHead::default();
    if let Ok(Parsed::Complete(used)) = parse_response(input, &LIMITS, &mut response) {
        assert!(used <= input.len());
        assert!((100..1000).contains(&response.status));
        // However its lines ended, it is passed on with CRLF.
        let mut wire = Vec::new();
        response.headers.write_h1(&mut wire);
        let ends = |end: &[u8]| wire.windows(end.len()).filter(|bytes| *bytes == end).count();
        assert_eq!((ends(b"\n"), ends(b"\r")), (ends(b"\r\n"), ends(b"\r\n")));
        for end in 0..used {
            let mut part = ResponseHead::default();
            assert_eq!(parse_response(&input[..end], &LIMITS, &mut part), Ok(Parsed::Partial), "cut at {end}");
        }
    }
    let mut head = RequestHead::default();
    let Ok(Parsed::Complete(used)) = parse_request(input, &LIMITS, &mut head) else { return };
    assert!(used <= input.len());
    forwarded_means_the_same(&head);
    for end in 0..used {
        let mut part = RequestHead::default();
        assert_eq!(parse_request(&input[..end], &LIMITS, &mut part), Ok(Parsed::Partial), "cut at {end}");
    }
}

fn forwarded_means_the_same(head: &RequestHead) {
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
    assert_eq!(request_framing(head), request_framing(&again));
}

/// Chunked bodies: data and its end, or the refusal, do not depend on how the bytes arrive.
pub(super) fn check_body(input: &[u8]) {
    for new in [BodyDecoder::new, BodyDecoder::of_response] {
        let whole = decode(new(Framing::Chunked), input, input.len().max(1));
        for piece in [1, 2, 7] {
            assert_eq!(whole, decode(new(Framing::Chunked), input, piece), "in pieces of {piece}");
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    Complete { left: usize },
    Open,
    Refused,
}

fn decode(mut decoder: BodyDecoder, input: &[u8], piece: usize) -> (Vec<u8>, End) {
    let mut trailers = HeaderList::new();
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
                assert!(len > 0, "a step without data must say so");
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
