//! Heads of HTTP/2 messages: from header blocks, and to them.

use cardinal_http::hpack::{Decoder, Encoder, Field, HpackError, Pseudo};
use cardinal_http::{HeaderList, Method, Name, RequestHead, ResponseHead, Version, trim};

/// What RFC 9113 section 6.5.2 adds to each field when the size of a list is counted, bytes.
const FIELD_OVERHEAD: usize = 32;

/// A message that RFC 9113 section 8.1.1 calls malformed, and why.
pub(super) type Malformed = &'static str;

/// What a head says about its message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// `content-length`.
    pub(super) length: Option<u64>,
    /// The list is longer than allowed; the head has a part of it.
    pub(super) oversized: bool,
    /// Of a request: it has no place in HTTP/1 terms.
    pub(super) unreadable: bool,
}

/// Memory that heads are read with.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// `:path`, then `:authority`.
    path: Vec<u8>,
    authority: Vec<u8>,
    cookies: Vec<u8>,
}

/// A field list while it is read.
struct Progress {
    facts: Facts,
    malformed: Option<Malformed>,
    /// Regular fields have begun.
    regular: bool,
    left: usize,
}

impl Progress {
    fn new(list_max: usize) -> Self {
        Self { facts: Facts::default(), malformed: None, regular: false, left: list_max }
    }

    /// Whether the field is to be looked at.
    fn takes(&mut self, field: &Field<'_>) -> bool {
        match self.left.checked_sub(field.name.len() + field.value.len() + FIELD_OVERHEAD) {
            Some(left) => self.left = left,
            None => (self.left, self.facts.oversized) = (0, true),
        }
        if !field.legal {
            self.fail("an illegal field");
        }
        self.malformed.is_none() && !self.facts.oversized
    }

    fn fail(&mut self, why: Malformed) {
        self.malformed.get_or_insert(why);
    }

    fn check(&mut self, fine: bool, why: Malformed) {
        if !fine {
            self.fail(why);
        }
    }

    /// Adds a regular field.
    fn append(&mut self, headers: &mut HeaderList, id: Name, field: &Field<'_>) {
        match id {
            Name::Connection | Name::KeepAlive | Name::ProxyConnection | Name::TransferEncoding | Name::Upgrade => {
                return self.fail("a field that belongs to a connection");
            }
            Name::Te if !field.value.eq_ignore_ascii_case(b"trailers") => return self.fail("te is not trailers"),
            Name::ContentLength => {
                let length = std::str::from_utf8(field.value).ok().and_then(|v| v.parse().ok());
                let digits = field.value.iter().all(u8::is_ascii_digit);
                let before = self.facts.length.or(length);
                self.check(digits && length.is_some() && before == length, "content-length");
                self.facts.length = length;
            }
            _ => {}
        }
        let fine = headers.append_legal(id, field.name, field.value);
        self.check(fine, "an illegal field");
    }
}

/// The pseudo-fields of a request.
#[derive(Default)]
struct Pseudos {
    method: Option<Method>,
    scheme: Option<Scheme>,
    path: bool,
    authority: bool,
}

impl Pseudos {
    /// Takes one; false when it came before.
    fn take(&mut self, pseudo: Pseudo, value: &[u8], reader: &mut Reader) -> Result<bool, Malformed> {
        Ok(match pseudo {
            Pseudo::Method => self.method.replace(Method::parse(value).ok_or(":method")?).is_none(),
            Pseudo::Scheme => self.scheme.replace(Scheme::of(value).ok_or(":scheme")?).is_none(),
            Pseudo::Path => {
                reader.path.extend_from_slice(value);
                !std::mem::replace(&mut self.path, true)
            }
            Pseudo::Authority => {
                reader.authority.extend_from_slice(value);
                !std::mem::replace(&mut self.authority, true)
            }
            Pseudo::Protocol | Pseudo::Status | Pseudo::Unknown => return Err("an unknown pseudo-field"),
        })
    }

    /// Places them in the head: whether they are those that a request has.
    fn place(self, head: &mut RequestHead, facts: &mut Facts, reader: &Reader) -> Result<(), Malformed> {
        let Some(method) = self.method else { return Err("no :method") };
        let connect = method == Method::Connect;
        let complete = if connect {
            self.scheme.is_none() && !self.path
        } else {
            self.scheme.is_some() && !reader.path.is_empty()
        };
        let complete = complete && (!connect || self.authority);
        if !complete {
            return Err("pseudo-fields are missing, or too many");
        }
        head.method = method;
        let (path, authority) = (reader.path.as_slice(), reader.authority.as_slice());
        let origin = connect || path.first() == Some(&b'/') || path == b"*";
        facts.unreadable |= !origin || !head.set_target(if connect { authority } else { path });
        match self.scheme {
            Some(Scheme::Http) => head.set_scheme(false),
            Some(Scheme::Https) => head.set_scheme(true),
            Some(Scheme::Other) => facts.unreadable = true,
            None => {}
        }
        if self.authority {
            facts.unreadable |= authority.is_empty();
            head.set_authority(authority);
        }
        Ok(())
    }
}

impl Reader {
    /// Reads the head of a request. The outer error breaks the connection, the inner one the stream.
    pub(super) fn request(
        &mut self,
        decoder: &mut Decoder,
        block: &[u8],
        list_max: usize,
        head: &mut RequestHead,
    ) -> Result<Result<Facts, Malformed>, HpackError> {
        self.clear();
        head.clear();
        head.version = Version::H2;
        let (mut progress, mut pseudos, mut hosted) = (Progress::new(list_max), Pseudos::default(), false);
        decoder.decode(block, |field: Field<'_>| {
            if !progress.takes(&field) {
                return;
            }
            if let Some(pseudo) = field.pseudo {
                if progress.regular {
                    return progress.fail("a pseudo-field after others");
                }
                match pseudos.take(pseudo, field.value, self) {
                    Ok(first) => progress.check(first, "a pseudo-field twice"),
                    Err(why) => progress.fail(why),
                }
                return;
            }
            if !std::mem::replace(&mut progress.regular, true) && pseudos.authority {
                self.append_host(head, &mut progress.facts);
            }
            match field.known {
                // With `:authority`, `Host` is not needed, and must not disagree with it (RFC 9113 section 8.3.1). Like
                // in HTTP/1.1, there is one at most.
                Name::Host if pseudos.authority => {
                    let again = std::mem::replace(&mut hosted, true);
                    progress.facts.unreadable |= again || !self.authority.eq_ignore_ascii_case(field.value);
                }
                Name::Cookie => {
                    if !self.cookies.is_empty() {
                        self.cookies.extend_from_slice(b"; ");
                    }
                    self.cookies.extend_from_slice(field.value);
                }
                id => progress.append(&mut head.headers, id, &field),
            }
        })?;
        let Progress { mut facts, malformed, regular, .. } = progress;
        if let Some(why) = malformed {
            return Ok(Err(why));
        }
        if facts.oversized {
            return Ok(Ok(facts));
        }
        if !regular && pseudos.authority {
            self.append_host(head, &mut facts);
        }
        // One field, because HTTP/1 allows only one (RFC 9113 section 8.2.3).
        if !self.cookies.is_empty() && !head.headers.append_legal(Name::Cookie, b"cookie", &self.cookies) {
            return Ok(Err("an illegal field"));
        }
        facts.unreadable |= head.headers.known_all(Name::Host).count() > 1;
        Ok(pseudos.place(head, &mut facts, self).map(|()| facts))
    }

    /// As in nginx, filters and logs find the name where HTTP/1 has it.
    fn append_host(&self, head: &mut RequestHead, facts: &mut Facts) {
        // Fields with an illegal value are not taken.
        facts.unreadable |= !head.headers.append_legal(Name::Host, b"host", &self.authority);
    }

    /// Empties it; memory that a rare head needed is given back.
    fn clear(&mut self) {
        const KEPT: usize = 4096;
        for bytes in [&mut self.path, &mut self.authority, &mut self.cookies] {
            bytes.clear();
            if bytes.capacity() > KEPT {
                *bytes = Vec::new();
            }
        }
    }
}

/// What `:scheme` says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
    /// One that is not served here.
    Other,
}

impl Scheme {
    /// The one of this name (RFC 3986 section 3.1).
    fn of(text: &[u8]) -> Option<Self> {
        if text.eq_ignore_ascii_case(b"http") {
            return Some(Self::Http);
        }
        if text.eq_ignore_ascii_case(b"https") {
            return Some(Self::Https);
        }
        let legal = text.first().is_some_and(u8::is_ascii_alphabetic)
            && text.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
        legal.then_some(Self::Other)
    }
}

/// Reads the head of a response.
pub(super) fn read_response(
    decoder: &mut Decoder,
    block: &[u8],
    list_max: usize,
    head: &mut ResponseHead,
) -> Result<Result<Facts, Malformed>, HpackError> {
    head.clear();
    head.version = Version::H2;
    let mut progress = Progress::new(list_max);
    decoder.decode(block, |field: Field<'_>| {
        if !progress.takes(&field) {
            return;
        }
        if field.pseudo.is_none() {
            progress.regular = true;
            return progress.append(&mut head.headers, field.known, &field);
        }
        let status = match field.value {
            [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] => {
                u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0')
            }
            _ => 0,
        };
        let fine = field.pseudo == Some(Pseudo::Status) && !progress.regular && head.status == 0 && status != 0;
        progress.check(fine, ":status");
        head.status = status;
    })?;
    progress.check(head.status != 0 || progress.facts.oversized, "no :status");
    Ok(progress.malformed.map_or(Ok(progress.facts), Err))
}

/// Reads trailer fields.
pub(super) fn read_trailers(
    decoder: &mut Decoder,
    block: &[u8],
    list_max: usize,
    trailers: &mut HeaderList,
) -> Result<Result<(), Malformed>, HpackError> {
    let mut progress = Progress::new(list_max);
    decoder.decode(block, |field: Field<'_>| {
        if !progress.takes(&field) {
            return;
        }
        if field.pseudo.is_some() {
            return progress.fail("a pseudo-field in trailers");
        }
        progress.append(trailers, field.known, &field);
    })?;
    progress.check(!progress.facts.oversized, "trailers over their limit");
    Ok(progress.malformed.map_or(Ok(()), Err))
}

/// What a request to an upstream is for.
#[derive(Clone, Copy, Debug)]
pub struct Target<'x> {
    /// The method.
    pub method: &'x Method,
    /// The connection is secured.
    pub https: bool,
    /// Host, with the port where it is not the default one.
    pub authority: &'x [u8],
    /// Path and query.
    pub path: &'x [u8],
}

/// Takes the fields of a head that is sent.
pub struct FieldWriter<'x> {
    pub(super) encoder: &'x mut Encoder,
    pub(super) out: &'x mut Vec<u8>,
}

impl FieldWriter<'_> {
    /// Adds a field, unless it belongs to an HTTP/1 connection (RFC 9113 section 8.2.2); without spaces around its value
    /// (section 8.2.1). `id` is the name's, as [`Name::of`] has it.
    pub fn append(&mut self, id: Name, name: &[u8], value: &[u8]) {
        let value = trim(value);
        match id {
            Name::Connection
            | Name::KeepAlive
            | Name::ProxyConnection
            | Name::TransferEncoding
            | Name::Upgrade
            | Name::Host => {}
            Name::Te if !value.eq_ignore_ascii_case(b"trailers") => {}
            _ => self.encoder.field(id, name, value, self.out),
        }
    }

    pub(super) fn append_all(&mut self, list: &HeaderList) {
        for (id, name, value) in list.iter_known() {
            self.append(id, name, value);
        }
    }

    pub(super) fn target(&mut self, target: &Target<'_>) {
        let Self { encoder, out } = self;
        encoder.method(target.method.as_str().as_bytes(), out);
        if *target.method == Method::Connect {
            return encoder.authority(target.authority, out);
        }
        encoder.scheme(target.https, out);
        encoder.authority(target.authority, out);
        encoder.path(target.path, out);
    }
}
