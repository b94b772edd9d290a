//! HTTP/1 requests that two parsers may interpret differently.

/// The required outcome of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// An error response and a closed connection; no complete request at the backend.
    Refused,
    /// One request with a body of this length, then the next request.
    Passed(usize),
    /// The same, but the connection ends after the response.
    PassedAndClosed(usize),
}

use Fate::{Passed, PassedAndClosed, Refused};

/// `/case` stands for the target of a case.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) bytes: Vec<u8>,
    pub(super) fate: Fate,
}

/// A `POST` with these fields and this body.
fn post(name: &'static str, fields: &str, body: &str, fate: Fate) -> Case {
    let bytes = format!("POST /case HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{body}").into_bytes();
    Case { name, bytes, fate }
}

/// A chunked `POST` with this body.
fn chunked(name: &'static str, body: &str, fate: Fate) -> Case {
    post(name, "Transfer-Encoding: chunked", body, fate)
}

/// A head without its final line ends, which are added.
fn head(name: &'static str, head: &str, fate: Fate) -> Case {
    Case { name, bytes: format!("{head}\r\n\r\n").into_bytes(), fate }
}

const HIDDEN: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
const HELLO: &str = "5\r\nhello\r\n0\r\n\r\n";

/// All cases.
pub(super) fn cases() -> Vec<Case> {
    let mut cases = two_framings();
    cases.extend(codings());
    cases.extend(lengths());
    cases.extend(chunks());
    cases.extend(trailers());
    cases.extend(lines());
    cases.extend(hosts());
    cases.extend(connections());
    cases
}

fn two_framings() -> Vec<Case> {
    let both = "Content-Length: 5\r\nTransfer-Encoding: chunked";
    vec![
        post("CL.TE", both, &format!("0\r\n\r\n{HIDDEN}"), Refused),
        post(
            "TE.CL",
            "Transfer-Encoding: chunked\r\nContent-Length: 4",
            &format!("23\r\n{HIDDEN}\r\n0\r\n\r\n"),
            Refused,
        ),
        post("CL.0 with TE", "Content-Length: 0\r\nTransfer-Encoding: chunked", HELLO, Refused),
        post("TE and CL on one line", "Content-Length: 5, Transfer-Encoding: chunked", "hello", Refused),
        head("TE in HTTP/1.0", "POST /case HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0", Refused),
        post("CL and unknown TE", "Content-Length: 5\r\nTransfer-Encoding: cow", "hello", Refused),
        post("CL counts a hidden request", "Content-Length: 35", HIDDEN, Passed(35)),
    ]
}

fn codings() -> Vec<Case> {
    let refused = [
        ("xchunked", "Transfer-Encoding: xchunked"),
        ("space before colon", "Transfer-Encoding : chunked"),
        ("tab before colon", "Transfer-Encoding\t: chunked"),
        ("chunked and x", "Transfer-Encoding: chunked\r\nTransfer-Encoding: x"),
        ("x and chunked", "Transfer-Encoding: x\r\nTransfer-Encoding: chunked"),
        ("chunked twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
        ("chunked, chunked", "Transfer-Encoding: chunked, chunked"),
        ("chunked, identity", "Transfer-Encoding: chunked, identity"),
        ("identity", "Transfer-Encoding: identity"),
        ("gzip, chunked", "Transfer-Encoding: gzip, chunked"),
        ("quoted", "Transfer-Encoding: \"chunked\""),
        ("with a parameter", "Transfer-Encoding: chunked;q=1"),
        ("vertical tab", "Transfer-Encoding: \x0bchunked"),
        ("NUL", "Transfer-Encoding: chunked\0"),
        ("empty", "Transfer-Encoding:"),
        ("leading space", "X: y\r\n Transfer-Encoding: chunked"),
        ("bare LF before", "X: y\nTransfer-Encoding: chunked"),
        ("bare CR before", "X: y\rTransfer-Encoding: chunked"),
        ("folded name", "Transfer-Encoding\r\n: chunked"),
        ("folded value", "Transfer-Encoding:\r\n chunked"),
        ("non-ASCII letter", "Transfer-Encoding: chun\u{212a}ed"),
        ("in the middle of a name", "Transfer-Encoding\0: chunked"),
    ];
    let mut cases: Vec<Case> = refused.map(|(name, fields)| post(name, fields, HELLO, Refused)).into();
    cases.push(post("tab after colon", "Transfer-Encoding:\tchunked", HELLO, Passed(5)));
    cases.push(post("other case", "tRANSFER-eNCODING: cHUNKED", HELLO, Passed(5)));
    cases.push(post("spaces around", "Transfer-Encoding:   chunked \t", HELLO, Passed(5)));
    // A list may have empty members (RFC 9110 section 5.6.1.2), which are not forwarded.
    cases.push(post("comma before", "Transfer-Encoding: , chunked", HELLO, Passed(5)));
    cases.push(post("underscore", "Transfer_Encoding: chunked\r\nContent-Length: 5", "hello", Passed(5)));
    cases
}

fn lengths() -> Vec<Case> {
    let refused = [
        ("two lengths", "Content-Length: 5\r\nContent-Length: 6"),
        ("two lengths, other case", "Content-Length: 5\r\ncontent-length: 0"),
        ("a list of lengths", "Content-Length: 5, 6"),
        ("plus", "Content-Length: +5"),
        ("minus", "Content-Length: -5"),
        ("hexadecimal", "Content-Length: 0x5"),
        ("letters after", "Content-Length: 5a"),
        ("nothing", "Content-Length: "),
        ("a fraction", "Content-Length: 5.0"),
        ("an exponent", "Content-Length: 5e0"),
        ("two numbers", "Content-Length: 5 5"),
        ("too large", "Content-Length: 184467440737095516210"),
        ("wide digit", "Content-Length: \u{ff15}"),
        ("length: space before colon", "Content-Length : 5"),
        ("length: folded", "Content-Length:\r\n 5"),
        ("length: quoted", "Content-Length: \"5\""),
        ("length: NUL", "Content-Length: 5\0"),
        ("length: comma after", "Content-Length: 5,"),
    ];
    let mut cases: Vec<Case> = refused.map(|(name, fields)| post(name, fields, "hello", Refused)).into();
    cases.push(post("length: space after", "Content-Length: 5 ", "hello", Passed(5)));
    cases.push(post("length: zeros before", "Content-Length: 0005", "hello", Passed(5)));
    let get = "GET /case HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    cases.push(Case { name: "GET with a body", bytes: get.as_bytes().to_vec(), fate: Passed(5) });
    cases
}

fn chunks() -> Vec<Case> {
    let long = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(40_000));
    let zeros = format!("{}5\r\nhello\r\n0\r\n\r\n", "0".repeat(5_000));
    vec![
        chunked("extension", "5;a=b\r\nhello\r\n0\r\n\r\n", Passed(5)),
        chunked("quoted extension", "5;a=\"b;c\"\r\nhello\r\n0\r\n\r\n", Passed(5)),
        chunked("extension at the end", "5\r\nhello\r\n0;x\r\n\r\n", Passed(5)),
        chunked("zeros before the size", "0005\r\nhello\r\n000\r\n\r\n", Passed(5)),
        chunked("many small chunks", "1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n", Passed(3)),
        chunked("hidden in a chunk", &format!("23\r\n{HIDDEN}\r\n0\r\n\r\n"), Passed(35)),
        chunked("extension with a bare LF", "5;a\nhello\r\n0\r\n\r\n", Refused),
        chunked("extension with a bare CR", "5;a\rb\r\nhello\r\n0\r\n\r\n", Refused),
        chunked("extension with NUL", "5;a\0\r\nhello\r\n0\r\n\r\n", Refused),
        chunked("extension without end", &long, Refused),
        chunked("size of many zeros", &zeros, Refused),
        chunked("size: 0x", "0x5\r\nhello\r\n0\r\n\r\n", Refused),
        chunked("size: plus", "+5\r\nhello\r\n0\r\n\r\n", Refused),
        chunked("size: minus", "-5\r\nhello\r\n0\r\n\r\n", Refused),
        chunked("size: none", "\r\nhello\r\n0\r\n\r\n", Refused),
        chunked("size: space before", " 5\r\nhello\r\n0\r\n\r\n", Refused),
        chunked("size: underscore", "0_5\r\nhello\r\n0\r\n\r\n", Refused),
        chunked("size: too large", "10000000000000005\r\nhello\r\n0\r\n\r\n", Refused),
        chunked("size: largest", "ffffffffffffffff\r\nhello\r\n0\r\n\r\n", Refused),
        chunked("bare LFs", "5\nhello\n0\n\n", Refused),
        chunked("bare LF after data", "5\r\nhello\n0\r\n\r\n", Refused),
        chunked("bare CR after the size", "5\rhello\r\n0\r\n\r\n", Refused),
        chunked("data too long", "5\r\nhelloXX\r\n0\r\n\r\n", Refused),
        chunked("data too short", "8\r\nhello\r\n0\r\n\r\n", Refused),
        chunked("end without CR", "5\r\nhello\r\n0\n\n", Refused),
    ]
}

fn trailers() -> Vec<Case> {
    let after =
        |name: &'static str, trailer: &str, fate| chunked(name, &format!("5\r\nhello\r\n0\r\n{trailer}\r\n\r\n"), fate);
    vec![
        after("a trailer", "X-T: 1", Passed(5)),
        after("trailer: length", "Content-Length: 50", Passed(5)),
        after("trailer: coding", "Transfer-Encoding: chunked", Passed(5)),
        after("trailer: host", "Host: evil", Passed(5)),
        after("trailer: credentials", "Authorization: x\r\nCookie: x\r\nX-Forwarded-For: ::1", Passed(5)),
        after("trailer: space before colon", "X : y", Refused),
        after("trailer: bare LF", "X: y\nZ: z", Refused),
        after("trailer: bare CR", "X: y\rZ: z", Refused),
        after("trailer: no colon", HIDDEN.lines().next().unwrap_or_default(), Refused),
        after("trailer: folded", "X: y\r\n z", Refused),
    ]
}

fn lines() -> Vec<Case> {
    let start = "GET /case HTTP/1.1\r\nHost: a";
    let refused = [
        ("bare LF", "GET /case HTTP/1.1\nHost: a".to_owned()),
        ("bare LF in a value", format!("{start}\r\nX: y\nZ: z")),
        ("bare CR in a value", format!("{start}\r\nX: y\rZ: z")),
        ("bare CR in the target", "GET /case\r/ HTTP/1.1\r\nHost: a".to_owned()),
        ("NUL in a value", format!("{start}\r\nX: y\0")),
        ("NUL in the target", "GET /case\0 HTTP/1.1\r\nHost: a".to_owned()),
        ("folded field", format!("{start}\r\nX: y\r\n z")),
        ("first field folded", "GET /case HTTP/1.1\r\n Host: a\r\nHost: a".to_owned()),
        ("field without colon", format!("{start}\r\nfield")),
        ("field without name", format!("{start}\r\n: x")),
        ("space in a name", format!("{start}\r\nX Y: z")),
        ("request as a field", format!("{start}\r\nGET /smuggled HTTP/1.1")),
        ("space before the method", " GET /case HTTP/1.1\r\nHost: a".to_owned()),
        ("tabs", "GET\t/case\tHTTP/1.1\r\nHost: a".to_owned()),
        ("two spaces", "GET  /case HTTP/1.1\r\nHost: a".to_owned()),
        ("space in the target", "GET /case /smuggled HTTP/1.1\r\nHost: a".to_owned()),
        ("space after the version", "GET /case HTTP/1.1 \r\nHost: a".to_owned()),
        ("no version", "GET /case\r\nHost: a".to_owned()),
        ("lower case version", "GET /case http/1.1\r\nHost: a".to_owned()),
        ("version 1.10", "GET /case HTTP/1.10\r\nHost: a".to_owned()),
        ("version 2.0", "GET /case HTTP/2.0\r\nHost: a".to_owned()),
        ("odd method", "GE(T /case HTTP/1.1\r\nHost: a".to_owned()),
        ("no slash", "GET case HTTP/1.1\r\nHost: a".to_owned()),
        ("form feed", format!("{start}\r\nX: \x0c")),
        ("DEL in a name", format!("{start}\r\nX\x7f: y")),
    ];
    let mut cases: Vec<Case> = refused.iter().map(|(name, text)| head(name, text, Refused)).collect();
    cases.push(head("empty line before", &format!("\r\n{start}"), Passed(0)));
    cases.push(head("obs-text", &format!("{start}\r\nX: \u{e9}"), Passed(0)));
    cases.push(head("empty value", &format!("{start}\r\nX:"), Passed(0)));
    cases
}

fn hosts() -> Vec<Case> {
    let refused = [
        ("no host", "GET /case HTTP/1.1\r\nX: y"),
        ("two hosts", "GET /case HTTP/1.1\r\nHost: a\r\nHost: b"),
        ("the same host twice", "GET /case HTTP/1.1\r\nHost: a\r\nHost: a"),
        ("host with a space", "GET /case HTTP/1.1\r\nHost: a b"),
        ("host with a slash", "GET /case HTTP/1.1\r\nHost: a/smuggled"),
        ("host with a user", "GET /case HTTP/1.1\r\nHost: user@a"),
        ("host with a comma", "GET /case HTTP/1.1\r\nHost: a, b"),
        ("authority as target", "GET a.test:80 HTTP/1.1\r\nHost: a.test:80"),
        ("target without host", "GET http:///case HTTP/1.1\r\nHost: a"),
    ];
    let mut cases: Vec<Case> = refused.map(|(name, text)| head(name, text, Refused)).into();
    cases.push(head("port that is none", "GET /case HTTP/1.1\r\nHost: a:80x", Refused));
    cases.push(head("user in the target", "GET http://user@a/case HTTP/1.1\r\nHost: a", Refused));
    for (name, host) in [
        ("two ports", "a:80:80"),
        ("a large port", "a:99999"),
        ("half an IPv6 address", "[::1"),
        ("angle brackets", "<a>"),
        ("a quote", "a\"b"),
    ] {
        cases.push(head(name, &format!("GET /case HTTP/1.1\r\nHost: {host}"), Refused));
    }
    cases.push(head("absolute and another host", "GET http://b.test/case HTTP/1.1\r\nHost: a", Passed(0)));
    cases.push(head("HTTP/1.0 without host", "GET /case HTTP/1.0\r\nX: y", PassedAndClosed(0)));
    cases.push(head("HTTP/1.0 that stays", "GET /case HTTP/1.0\r\nHost: a\r\nConnection: keep-alive", Passed(0)));
    cases
}

fn connections() -> Vec<Case> {
    let settings = "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA";
    vec![
        post("hop-by-hop length", "Connection: Content-Length\r\nContent-Length: 5", "hello", Passed(5)),
        post("hop-by-hop coding", "Connection: transfer-encoding\r\nTransfer-Encoding: chunked", HELLO, Passed(5)),
        head("hop-by-hop host", "GET /case HTTP/1.1\r\nHost: a\r\nConnection: host, via, x-forwarded-for", Passed(0)),
        head(
            "upgrade to h2c",
            &format!(
                "GET /case HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n{settings}"
            ),
            Passed(0),
        ),
        post(
            "upgrade to h2c with a body",
            &format!("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n{settings}\r\nContent-Length: 35"),
            HIDDEN,
            Passed(35),
        ),
        post("expectation with a body at once", "Expect: 100-continue\r\nContent-Length: 5", "hello", Passed(5)),
        post("unknown expectation", "Expect: 200-ok\r\nContent-Length: 5", "hello", Refused),
        post("asked to close", "Connection: close\r\nContent-Length: 5", "hello", PassedAndClosed(5)),
        post(
            "legacy connection",
            "Proxy-Connection: keep-alive\r\nKeep-Alive: timeout=5\r\nContent-Length: 5",
            "hello",
            Passed(5),
        ),
    ]
}
