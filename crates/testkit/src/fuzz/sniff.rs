//! Properties of protocol detection.

use cardinal_http::RequestHead;
use cardinal_http::h1::{HeadLimits, Parsed, parse_request};
use cardinal_net::{Classifier, ClientHello, Protocol, SNIFF_MAX};

const LIMITS: HeadLimits =
    HeadLimits { head_bytes_max: 2 * SNIFF_MAX, line_bytes_max: 2 * SNIFF_MAX, header_count_max: 32 };

pub(super) const FIRST_BYTES: &[&[u8]] = &[
    b"GET /a?b HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\r\n\r\nCONNECT a:443 HTTP/1.0\r\nHost: a\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
    b"\x16\x03\x01\x00T\x01\x00\x00P\x03\x03rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr\x00\x00\x02\xc0/\x01\x00\x00%\x00\x00\x00\x08\x00\x06\x00\x00\x03a.b\x00\x0d\x00\x04\x00\x02\x04\x03\x00\x0a\x00\x04\x00\x02\x00\x1d\x00\x10\x00\x05\x00\x03\x02h2\x14\x03\x03\x00\x01\x01",
    b"\x16\x03\x01\x00(\x01\x00\x00P\x03\x03rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr\x00\x00\x16\x03\x01\x00(\x02\xc0/\x01\x00\x00%\x00\x00\x00\x08\x00\x06\x00\x00\x03a.b\x00\x0d\x00\x04\x00\x02\x04\x03\x00\x0a\x00\x04\x00\x02\x00\x1d\x00\x10\x00\x05\x00\x16\x03\x01\x00\x04\x03\x02h2",
    b"SSH-2.0-OpenSSH_9.2 Debian-2\r\n",
    b"0\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\0\x80\0",
];

/// The result is the same however the bytes come, is there in time, and nothing that the HTTP codecs serve is missed.
pub(super) fn check_first_bytes(input: &[u8]) {
    let (byte_by_byte, after) = pieces(input, 1);
    for size in [2, 7, 64, input.len().max(1)] {
        assert_eq!(pieces(input, size).0, byte_by_byte, "in pieces of {size}");
    }
    let padded = [input, &[b'a'; SNIFF_MAX]].concat();
    let (decided, in_time) = pieces(&padded, SNIFF_MAX / 8);
    assert!(decided.is_some() && in_time <= SNIFF_MAX, "{in_time}");
    let Some((protocol, hello)) = byte_by_byte else { return };
    assert!(after <= SNIFF_MAX);
    assert_eq!(protocol == Protocol::Tls, hello.is_some());
    assert_eq!(protocol == Protocol::Http2, input.starts_with(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
    if let Ok(Parsed::Complete(_)) = parse_request(input, &LIMITS, &mut RequestHead::default()) {
        assert_eq!(protocol, Protocol::Http1);
    }
}

/// The protocol of bytes that come in pieces of this size, and how many had come by then.
fn pieces(input: &[u8], size: usize) -> (Option<(Protocol, Option<ClientHello>)>, usize) {
    let mut classifier = Classifier::default();
    let ends = (0..input.len()).step_by(size).map(|start| (start + size).min(input.len()));
    for end in ends {
        if let Some(protocol) = classifier.classify(&input[..end]) {
            return (Some((protocol, classifier.take_hello())), end);
        }
    }
    (None, input.len())
}
