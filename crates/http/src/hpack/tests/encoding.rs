//! What the encoder writes.

use super::*;

/// Writes a block of these fields.
fn block(encoder: &mut Encoder, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    encoder.start(&mut out);
    for (name, value) in fields {
        encoder.field(Name::of(name.as_bytes()), name.as_bytes(), value.as_bytes(), &mut out);
    }
    out
}

/// The same field in four blocks: what each is written as.
fn four_times(name: &str, mut value: impl FnMut(usize) -> String) -> [Vec<u8>; 4] {
    let mut encoder = Encoder::new();
    [0, 1, 2, 3].map(|round| block(&mut encoder, &[(name, &value(round))]))
}

#[test]
fn what_comes_again_becomes_an_index() {
    let [first, second, third, fourth] = four_times("Content-Type", |_| "a/b".to_owned());
    assert_eq!(first, b"\x0f\x10\x03a/b");
    assert_eq!(second, b"\x5f\x03a/b");
    assert_eq!((third, fourth), (vec![0xbe], vec![0xbe]));
    let [first, second, third, fourth] = four_times("X-One", |_| "2".to_owned());
    assert_eq!(first, b"\x00\x05x-one\x012");
    assert_eq!(second, b"\x40\x05x-one\x012");
    assert_eq!((third, fourth), (vec![0xbe], vec![0xbe]));
}

#[test]
fn of_what_varies_the_name_becomes_an_index() {
    for name in ["X-One", "X-Request-Id", "X-Kong-Upstream-Latency"] {
        let [first, second, third, fourth] = four_times(name, |round| (100 + round).to_string());
        let plain = [&[0, name.len() as u8], name.to_ascii_lowercase().as_bytes(), b"\x03100"].concat();
        assert_eq!(first, plain);
        assert_eq!((second[0], second.len()), (0x40, first.len()));
        assert_eq!((third, fourth), (b"\x0f\x2f\x03102".to_vec(), b"\x0f\x2f\x03103".to_vec()));
    }
    let [first, second, third, _] = four_times("X-Forwarded-For", |round| round.to_string());
    assert_eq!((&first[..3], second, third), (&b"\x40\x0fx"[..], b"\x0f\x2f\x011".to_vec(), b"\x0f\x2f\x012".to_vec()));
    let dates = four_times("Date", |_| "x".to_owned());
    assert!(dates.iter().all(|date| date == b"\x0f\x12\x01x"), "{dates:?}");
}

#[test]
fn names_are_the_same_in_any_case() {
    let mut encoder = Encoder::new();
    for name in ["X-Long-Name", "x-long-name"] {
        block(&mut encoder, &[(name, "v")]);
    }
    for name in ["x-long-name", "X-LONG-NAME", "x-LONG-name"] {
        assert_eq!(block(&mut encoder, &[(name, "v")]), [0xbe]);
    }
    // This one only has the same hash.
    assert_eq!(block(&mut encoder, &[("x\rlong\rname", "v")])[..3], *b"\x40\x0bx");
}

#[test]
fn secrets_are_never_indexed() {
    for (name, index) in [("Authorization", 23), ("Proxy-Authorization", 49), ("Cookie", 32), ("Set-Cookie", 55)] {
        let secrets = four_times(name, |_| "a=b".to_owned());
        assert!(secrets.iter().all(|secret| *secret == [0x1f, index - 15, 3, b'a', b'=', b'b']), "{name}");
    }
    let keys = four_times("apikey", |_| "a".to_owned());
    assert!(keys.iter().all(|key| key == b"\x10\x06apikey\x01a"));
    let cookies = four_times("cookie", |_| "session=0123456789abcdef".to_owned());
    assert!(cookies.iter().all(|cookie| cookie[..3] == [0x0f, 32 - 15, 24]));
    let mut encoder = Encoder::new();
    for _ in 0..3 {
        let mut out = Vec::new();
        encoder.sensitive(Name::Other, b"X-A", b"b", &mut out);
        encoder.sensitive(Name::Server, b"Server", b"b", &mut out);
        assert_eq!(out, b"\x10\x03x-a\x01b\x1f\x27\x01b");
    }
}

#[test]
fn large_values_are_not_indexed() {
    let blocks = four_times("server", |_| "v".repeat(400));
    assert!(blocks.iter().all(|block| block[..4] == [0x0f, 54 - 15, 0x7f, 0x91] && block.len() == 405));
}

#[test]
fn statuses() {
    let expect: [(u16, &[u8]); 8] = [
        (200, &[0x88]),
        (204, &[0x89]),
        (206, &[0x8a]),
        (304, &[0x8b]),
        (400, &[0x8c]),
        (404, &[0x8d]),
        (500, &[0x8e]),
        (429, b"\x08\x03429"),
    ];
    for (status, expect) in expect {
        let mut out = Vec::new();
        Encoder::new().status(status, &mut out);
        assert_eq!(out, expect);
        let fields = decode(&mut Decoder::new(4096), &out).unwrap();
        assert_eq!(shown(&fields), format!(":status: {status}\n"));
    }
}

#[test]
fn requests() {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(4096));
    for round in 0..3 {
        let mut out = Vec::new();
        for (method, https, authority, path) in
            [("GET", true, "a.b", "/"), ("POST", false, "a.b:80", "/c?d"), ("DELETE", true, "a.b", "/")]
        {
            out.clear();
            encoder.start(&mut out);
            encoder.method(method.as_bytes(), &mut out);
            encoder.scheme(https, &mut out);
            encoder.authority(authority.as_bytes(), &mut out);
            encoder.path(path.as_bytes(), &mut out);
            let fields = decode(&mut decoder, &out).unwrap();
            let scheme = if https { "https" } else { "http" };
            let expect = format!(":method: {method}\n:scheme: {scheme}\n:authority: {authority}\n:path: {path}\n");
            assert_eq!(shown(&fields), expect);
        }
        assert!(round < 2 || out.len() == 4, "all are indexes: {out:?}");
    }
}

#[test]
fn the_peers_table_size_is_answered_at_the_next_block() {
    let check = |sizes: &[u32], expect: &str| {
        let mut encoder = Encoder::new();
        sizes.iter().for_each(|size| encoder.set_table_max(*size));
        let mut out = Vec::new();
        encoder.start(&mut out);
        assert_eq!(out, unhex(expect), "{sizes:?}");
        encoder.start(&mut out);
        assert_eq!(out, unhex(expect), "once only");
    };
    check(&[], "");
    check(&[4096], "");
    check(&[65536], "");
    check(&[u32::MAX, 4096], "");
    check(&[0], "20");
    check(&[100], "3f45");
    check(&[0, 65536], "20 3fe11f");
    check(&[100, 0, 4096], "20 3fe11f");
    check(&[0, 100, 30], "20 3e");
    check(&[100, 4096], "3f45 3fe11f");
    check(&[30, 30], "3e");
}

#[test]
fn a_table_of_nothing_holds_nothing() {
    let mut encoder = Encoder::new();
    encoder.set_table_max(0);
    block(&mut encoder, &[]);
    for _ in 0..4 {
        assert_eq!(block(&mut encoder, &[("x-a", "v")]), b"\x00\x03x-a\x01v");
        assert_eq!(block(&mut encoder, &[("server", "v")]), b"\x0f\x27\x01v");
    }
    encoder.set_table_max(4096);
    for _ in 0..2 {
        block(&mut encoder, &[("x-a", "v")]);
    }
    assert_eq!(block(&mut encoder, &[("x-a", "v")]), [0xbe]);
}

#[test]
fn what_repeats_stays_where_much_varies() {
    let mut encoder = Encoder::new();
    let mut indexed = 0;
    for round in 0..1000 {
        let id = format!("{:032x}", round * 7919);
        let latency = (round % 50).to_string();
        let out = block(
            &mut encoder,
            &[
                ("server", "one"),
                ("x-trace", &id),
                ("x-took", &latency),
                ("content-type", if round % 2 == 0 { "a/b" } else { "c/d" }),
                ("x-constant", "v"),
            ],
        );
        indexed += usize::from(out[0] >= 0x80) + usize::from(out[out.len() - 1] >= 0x80);
    }
    assert!(indexed > 1950, "{indexed} of 2000 were indexes");
    assert!(encoder.capacity() <= 16 * 1024 + 128 * 16 + 1200, "{}", encoder.capacity());
}
