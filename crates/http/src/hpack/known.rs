//! The static table (RFC 7541 appendix A).

use super::Pseudo;
use super::table::Label;
use crate::headers::Name;

/// An entry of the static table.
pub(super) struct Known {
    pub(super) name: &'static [u8],
    pub(super) value: &'static [u8],
    pub(super) label: Label,
}

/// How many there are. Index 1 is the first.
pub(super) const KNOWN: usize = 61;

const fn pseudo(pseudo: Pseudo, name: &'static str, value: &'static str) -> Known {
    let label = Label::legal(Name::Other, Some(pseudo), 0);
    Known { name: name.as_bytes(), value: value.as_bytes(), label }
}

const fn named(known: Name, name: &'static str, value: &'static str) -> Known {
    let label = Label::legal(known, None, 0);
    Known { name: name.as_bytes(), value: value.as_bytes(), label }
}

const fn other(name: &'static str) -> Known {
    named(Name::Other, name, "")
}

/// The table, in its order.
pub(super) static TABLE: [Known; KNOWN] = [
    pseudo(Pseudo::Authority, ":authority", ""),
    pseudo(Pseudo::Method, ":method", "GET"),
    pseudo(Pseudo::Method, ":method", "POST"),
    pseudo(Pseudo::Path, ":path", "/"),
    pseudo(Pseudo::Path, ":path", "/index.html"),
    pseudo(Pseudo::Scheme, ":scheme", "http"),
    pseudo(Pseudo::Scheme, ":scheme", "https"),
    pseudo(Pseudo::Status, ":status", "200"),
    pseudo(Pseudo::Status, ":status", "204"),
    pseudo(Pseudo::Status, ":status", "206"),
    pseudo(Pseudo::Status, ":status", "304"),
    pseudo(Pseudo::Status, ":status", "400"),
    pseudo(Pseudo::Status, ":status", "404"),
    pseudo(Pseudo::Status, ":status", "500"),
    other("accept-charset"),
    named(Name::Other, "accept-encoding", "gzip, deflate"),
    other("accept-language"),
    other("accept-ranges"),
    named(Name::Accept, "accept", ""),
    other("access-control-allow-origin"),
    other("age"),
    other("allow"),
    named(Name::Authorization, "authorization", ""),
    other("cache-control"),
    other("content-disposition"),
    other("content-encoding"),
    other("content-language"),
    named(Name::ContentLength, "content-length", ""),
    other("content-location"),
    other("content-range"),
    named(Name::ContentType, "content-type", ""),
    named(Name::Cookie, "cookie", ""),
    named(Name::Date, "date", ""),
    other("etag"),
    named(Name::Expect, "expect", ""),
    other("expires"),
    other("from"),
    named(Name::Host, "host", ""),
    other("if-match"),
    other("if-modified-since"),
    other("if-none-match"),
    other("if-range"),
    other("if-unmodified-since"),
    other("last-modified"),
    other("link"),
    other("location"),
    other("max-forwards"),
    other("proxy-authenticate"),
    other("proxy-authorization"),
    other("range"),
    other("referer"),
    other("refresh"),
    other("retry-after"),
    named(Name::Server, "server", ""),
    other("set-cookie"),
    other("strict-transport-security"),
    named(Name::TransferEncoding, "transfer-encoding", ""),
    other("user-agent"),
    other("vary"),
    named(Name::Via, "via", ""),
    other("www-authenticate"),
];
