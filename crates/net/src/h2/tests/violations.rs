//! Violations of RFC 9113, frame by frame, and the resulting error codes.

use super::*;
use crate::h2::error::{Code, H2Error};

/// The connection ends with this code.
fn connection(code: Code, act: impl FnOnce(&mut Hand)) {
    let mut hand = Hand::new();
    act(&mut hand);
    let (_, goaway) = hand.codes();
    assert_eq!(goaway.map(Code), Some(code));
    assert!(matches!(hand.state.dead, Some(H2Error::Connection(found, _)) if found == code), "{:?}", hand.state.dead);
}

/// The stream ends with this code, and the connection continues.
fn stream(id: u32, code: Code, act: impl FnOnce(&mut Hand)) {
    let mut hand = Hand::new();
    act(&mut hand);
    assert_eq!(hand.codes(), (vec![(id, code.0)], None));
    hand.send(kind::PING, 0, 0, b"12345678");
    assert_eq!((hand.frames()[0].kind, hand.state.dead), (kind::PING, None));
}

#[test]
fn beginnings() {
    for bytes in [&b"PRI * HTTP/1.1\r\n\r\nSM\r\n\r\n"[..], b"GET"] {
        let mut hand = Hand::silent(SETTINGS);
        hand.give(bytes);
        assert!(matches!(hand.state.dead, Some(H2Error::Connection(Code::PROTOCOL_ERROR, _))));
    }
    for (kind, flags) in [(kind::PING, 0), (kind::SETTINGS, flag::ACK), (kind::HEADERS, 4), (99, 0)] {
        let mut hand = Hand::silent(SETTINGS);
        hand.give(PREFACE);
        hand.send(kind, flags, 0, b"");
        assert!(matches!(hand.state.dead, Some(H2Error::Connection(Code::PROTOCOL_ERROR, _))), "{kind}");
    }
}

#[test]
fn sizes() {
    for (kind, stream, payload) in [
        (kind::PING, 0, 7),
        (kind::PING, 0, 9),
        (kind::SETTINGS, 0, 5),
        (kind::RST_STREAM, 1, 3),
        (kind::WINDOW_UPDATE, 0, 5),
        (kind::WINDOW_UPDATE, 1, 3),
        (kind::PRIORITY, 1, 4),
        (kind::GOAWAY, 0, 7),
    ] {
        connection(Code::FRAME_SIZE_ERROR, |hand| {
            hand.open(1, false);
            hand.send(kind, 0, stream, &vec![1; payload]);
        });
    }
    connection(Code::FRAME_SIZE_ERROR, |hand| hand.send(kind::SETTINGS, flag::ACK, 0, &[0; 6]));
    connection(Code::FRAME_SIZE_ERROR, |hand| hand.send(kind::HEADERS, 4 | flag::PRIORITY, 1, &[0; 4]));
    // The frame header is enough.
    connection(Code::FRAME_SIZE_ERROR, |hand| hand.give(&[0, 0x40, 1, kind::DATA, 0, 0, 0, 0, 1]));
}

#[test]
fn streams_that_do_not_fit_the_frame() {
    for (kind, payload) in [
        (kind::DATA, &b"x"[..]),
        (kind::HEADERS, b"\x82"),
        (kind::RST_STREAM, &[0; 4]),
        (kind::PRIORITY, &[0; 5]),
        (kind::CONTINUATION, b""),
        (kind::PUSH_PROMISE, &[0; 4]),
    ] {
        connection(Code::PROTOCOL_ERROR, |hand| hand.send(kind, 0, 0, payload));
    }
    for (kind, payload) in [(kind::SETTINGS, &b""[..]), (kind::PING, &[0; 8]), (kind::GOAWAY, &[0; 8])] {
        connection(Code::PROTOCOL_ERROR, |hand| {
            hand.open(1, false);
            hand.send(kind, 0, 1, payload);
        });
    }
    // Never opened; even numbers are the server's.
    for (kind, payload) in [(kind::DATA, &b"x"[..]), (kind::RST_STREAM, &[0; 4]), (kind::WINDOW_UPDATE, &[0, 0, 0, 1])]
    {
        for id in [2, 3] {
            connection(Code::PROTOCOL_ERROR, |hand| {
                hand.open(1, false);
                hand.send(kind, 0, id, payload);
            });
        }
    }
    connection(Code::PROTOCOL_ERROR, |hand| hand.request(2, true, &[]));
    connection(Code::PROTOCOL_ERROR, |hand| hand.send(kind::HEADERS, 4 | flag::PRIORITY, 1, &[0, 0, 0, 1, 0]));
    connection(Code::PROTOCOL_ERROR, |hand| hand.send(kind::PRIORITY, 0, 7, &[0, 0, 0, 7, 0]));
}

#[test]
fn paddings() {
    connection(Code::PROTOCOL_ERROR, |hand| {
        hand.open(1, false);
        hand.send(kind::DATA, flag::PADDED, 1, &[3, 1, 1]);
    });
    connection(Code::PROTOCOL_ERROR, |hand| {
        hand.open(1, false);
        hand.send(kind::DATA, flag::PADDED, 1, b"");
    });
    connection(Code::PROTOCOL_ERROR, |hand| hand.send(kind::HEADERS, 4 | flag::PADDED, 1, &[2, 0x82]));
    connection(Code::PROTOCOL_ERROR, |hand| hand.send(kind::HEADERS, 4 | flag::PADDED, 1, b""));
}

#[test]
fn header_blocks_that_are_interrupted() {
    connection(Code::PROTOCOL_ERROR, |hand| {
        hand.send(kind::HEADERS, 0, 1, b"\x82");
        hand.send(kind::PING, 0, 0, &[0; 8]);
    });
    connection(Code::PROTOCOL_ERROR, |hand| {
        hand.send(kind::HEADERS, 0, 1, b"\x82");
        hand.send(kind::CONTINUATION, 4, 3, b"\x82");
    });
    connection(Code::PROTOCOL_ERROR, |hand| hand.send(kind::CONTINUATION, 4, 1, b"\x82"));
    connection(Code::COMPRESSION_ERROR, |hand| hand.send(kind::HEADERS, 4, 1, b"\x80"));
}

#[test]
fn settings() {
    let parameter = |name: u16, value: u32| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat();
    for (name, value, code) in [
        (2, 2, Code::PROTOCOL_ERROR),
        (4, 1 << 31, Code::FLOW_CONTROL_ERROR),
        (5, 16_383, Code::PROTOCOL_ERROR),
        (5, 1 << 24, Code::PROTOCOL_ERROR),
    ] {
        connection(code, |hand| hand.send(kind::SETTINGS, 0, 0, &parameter(name, value)));
    }
    // Settings must not increase a window that was also increased by an update beyond the limit.
    connection(Code::FLOW_CONTROL_ERROR, |hand| {
        hand.open(1, false);
        hand.send(kind::WINDOW_UPDATE, 0, 1, &(i32::MAX as u32 - 65_535).to_be_bytes());
        hand.send(kind::SETTINGS, 0, 0, &parameter(4, 65_536));
    });
}

#[test]
fn windows() {
    connection(Code::PROTOCOL_ERROR, |hand| hand.send(kind::WINDOW_UPDATE, 0, 0, &[0; 4]));
    connection(Code::FLOW_CONTROL_ERROR, |hand| hand.send(kind::WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]));
    stream(1, Code::PROTOCOL_ERROR, |hand| {
        hand.open(1, false);
        hand.send(kind::WINDOW_UPDATE, 0, 1, &[0x80, 0, 0, 0]);
    });
    stream(1, Code::FLOW_CONTROL_ERROR, |hand| {
        hand.open(1, false);
        hand.send(kind::WINDOW_UPDATE, 0, 1, &[0x7f, 0xff, 0xff, 0xff]);
    });
    stream(1, Code::FLOW_CONTROL_ERROR, |hand| {
        hand.open(1, false);
        (0..5).for_each(|_| hand.send(kind::DATA, 0, 1, &[0; 16_000]));
    });
}

#[test]
fn what_comes_after_the_end() {
    stream(1, Code::STREAM_CLOSED, |hand| {
        hand.open(1, true);
        hand.send(kind::DATA, 0, 1, b"x");
    });
    stream(1, Code::STREAM_CLOSED, |hand| {
        hand.open(1, true);
        hand.request(1, true, &[]);
    });
    let answered = |hand: &mut Hand| {
        let slot = hand.open(1, true);
        hand.answer(slot, true);
        hand.state.release(slot, 0);
    };
    stream(1, Code::STREAM_CLOSED, |hand| {
        answered(hand);
        hand.send(kind::DATA, 0, 1, b"x");
    });
    connection(Code::STREAM_CLOSED, |hand| {
        answered(hand);
        hand.request(1, true, &[]);
    });
    // Stream ids only increase.
    connection(Code::STREAM_CLOSED, |hand| {
        hand.open(5, true);
        hand.request(3, true, &[]);
    });
}

#[test]
fn messages_that_are_malformed() {
    let usual = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")];
    let with = |field| [&usual[..], &[field]].concat();
    let without = |name| usual.iter().copied().filter(|(n, _)| *n != name).collect::<Vec<_>>();
    let cases = [
        with((":method", "GET")),
        with((":path", "/")),
        with((":scheme", "http")),
        with((":authority", "b")),
        with((":status", "200")),
        with((":protocol", "websocket")),
        with((":x", "y")),
        with(("connection", "close")),
        with(("transfer-encoding", "chunked")),
        with(("upgrade", "h2c")),
        with(("keep-alive", "1")),
        with(("proxy-connection", "x")),
        with(("te", "gzip")),
        with(("X", "y")),
        with(("Content-Length", "0")),
        with(("", "y")),
        with(("a b", "y")),
        with(("x", "a\nb")),
        with(("x", "a\0b")),
        with(("content-length", "1")),
        with(("content-length", "-0")),
        with(("content-length", "+0")),
        with(("content-length", "")),
        with(("content-length", "99999999999999999999")),
        without(":method"),
        without(":scheme"),
        without(":path"),
        vec![(":method", "GET"), (":scheme", "http"), (":path", "")],
        vec![(":method", "GET"), (":scheme", "ht tp"), (":path", "/")],
        vec![(":method", "G T"), (":scheme", "http"), (":path", "/")],
        vec![(":method", "GET"), (":scheme", "http"), ("x", "y"), (":path", "/")],
        vec![(":method", "CONNECT"), (":scheme", "http"), (":path", "/"), (":authority", "a:1")],
        vec![(":method", "CONNECT")],
    ];
    for case in cases {
        let mut hand = Hand::new();
        let block = hand.block(&case);
        hand.send(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &block);
        assert_eq!(hand.codes(), (vec![(1, 1)], None), "{case:?}");
        assert!(hand.state.accepted.is_empty());
        // The header tables are still in sync.
        hand.open(3, true);
    }
}

#[test]
fn heads_that_have_no_place_in_http_1() {
    for (fields, unreadable) in [
        (&[(":path", "/"), (":authority", "a"), ("host", "A")][..], false),
        (&[(":path", "/"), (":authority", "a"), ("host", "b")], true),
        (&[(":path", "/"), ("host", "b")], false),
        (&[(":path", "/"), ("host", "b"), ("host", "b")], true),
        (&[(":path", "/"), (":authority", "")], true),
        (&[(":path", "x"), (":authority", "a")], true),
        (&[(":path", "*"), (":authority", "a")], true),
        (&[(":path", "http://b/"), (":authority", "a")], true),
        (&[(":path", "/a b"), (":authority", "a")], true),
        (&[(":path", "/#x"), (":authority", "a")], true),
    ] {
        let mut hand = Hand::new();
        let all = [&[(":method", "GET"), (":scheme", "http")][..], fields].concat();
        let block = hand.block(&all);
        hand.send(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &block);
        assert_eq!(hand.accept().info.unreadable, unreadable, "{fields:?}");
    }
    let mut hand = Hand::new();
    let block = hand.block(&[(":method", "CONNECT"), (":authority", "a:443")]);
    hand.send(kind::HEADERS, 4, 1, &block);
    let accepted = hand.accept();
    assert_eq!((accepted.info.unreadable, accepted.head.target()), (false, &b"a:443"[..]));
}

#[test]
fn bodies_that_are_not_as_long_as_they_said() {
    stream(1, Code::PROTOCOL_ERROR, |hand| {
        hand.request(1, false, &[("content-length", "3")]);
        hand.send(kind::DATA, 0, 1, b"four");
    });
    stream(1, Code::PROTOCOL_ERROR, |hand| {
        hand.request(1, false, &[("content-length", "3")]);
        hand.send(kind::DATA, flag::END_STREAM, 1, b"ab");
    });
    stream(1, Code::PROTOCOL_ERROR, |hand| {
        hand.request(1, false, &[("content-length", "3")]);
        let block = hand.block(&[("x", "y")]);
        hand.send(kind::HEADERS, 5, 1, &block);
    });
    for (trailer, flags) in [((":path", "/"), 5), (("X", "y"), 5), (("connection", "x"), 5), (("x", "y"), 4)] {
        stream(1, Code::PROTOCOL_ERROR, |hand| {
            hand.open(1, false);
            let block = hand.block(&[trailer]);
            hand.send(kind::HEADERS, flags, 1, &block);
        });
    }
}
