//! Converts between heads of messages and HTTP/2 header blocks.

use cardinal_http::hpack::{Decoder, Encoder, Field, HpackError, Pseudo};
use cardinal_http::{HeaderList, Method, Name, RequestHead, ResponseHead, Version, trim};

/// Overhead of each field when the size of a header list is computed (RFC 9113 section 6.5.2), bytes.
const FIELD_OVERHEAD: usize = 32;

/// Why a message is malformed (RFC 9113 section 8.1.1).
pub(super) type Malformed = &'static str;

/// Properties of a message that follow from its head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct HeadInfo {
    /// `content-length`.
    pub(super) length: Option<u64>,
    /// The header list exceeds the limit; the head contains only a part of it.
    pub(super) oversized: bool,
    /// Of a request: it cannot be expressed in HTTP/1 terms.
    pub(super) unreadable: bool,
}

/// Memory for reading heads, reused.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// `:path`, then `:authority`.
    path: Vec<u8>,
    authority: Vec<u8>,
    cookies: Vec<u8>,
}

/// The state of reading a field list.
struct Progress {
    info: HeadInfo,
    malformed: Option<Malformed>,
    /// The first regular field has been read.
    regular: bool,
    left: usize,
}

impl Progress {
    fn new(list_max: usize) -> Self {
        Self { info: HeadInfo::default(), malformed: None, regular: false, left: list_max }
    }

    /// Whether the field is to be processed.
    fn takes(&mut self, field: &Field<'_>) -> bool {
        match self.left.checked_sub(field.name.len() + field.value.len() + FIELD_OVERHEAD) {
            Some(left) => self.left = left,
            None => (self.left, self.info.oversized) = (0, true),
        }
        if !field.legal {
            self.fail("an illegal field");
        }
        self.malformed.is_none() && !self.info.oversized
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
                let before = self.info.length.or(length);
                self.check(digits && length.is_some() && before == length, "content-length");
                self.info.length = length;
            }
            _ => {}
        }
        let fine = headers.append_legal(id, field.name, field.value);
        self.check(fine, "an illegal field");
    }
}

/// The pseudo-header fields of a request.
#[derive(Default)]
struct Pseudos {
    method: Option<Method>,
    scheme: Option<Scheme>,
    path: bool,
    authority: bool,
}

impl Pseudos {
    /// Stores a pseudo-header field; `false` if it is a duplicate.
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

    /// Stores the pseudo-header fields in the head, and checks that they are complete.
    fn place(self, head: &mut RequestHead, info: &mut HeadInfo, reader: &Reader) -> Result<(), Malformed> {
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
        info.unreadable |= !origin || !head.set_target(if connect { authority } else { path });
        match self.scheme {
            Some(Scheme::Http) => head.set_scheme(false),
            Some(Scheme::Https) => head.set_scheme(true),
            Some(Scheme::Other) => info.unreadable = true,
            None => {}
        }
        if self.authority {
            info.unreadable |= authority.is_empty();
            head.set_authority(authority);
        }
        Ok(())
    }
}

impl Reader {
    /// Reads a request head. The outer error is a connection error, the inner one a stream error.
    pub(super) fn request(
        &mut self,
        decoder: &mut Decoder,
        block: &[u8],
        list_max: usize,
        head: &mut RequestHead,
    ) -> Result<Result<HeadInfo, Malformed>, HpackError> {
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
                self.append_host(head, &mut progress.info);
            }
            match field.known {
                // With `:authority`, `Host` is optional but must not differ from it (RFC 9113 section 8.3.1). As in
                // HTTP/1.1, there is at most one.
                Name::Host if pseudos.authority => {
                    let again = std::mem::replace(&mut hosted, true);
                    progress.info.unreadable |= again || !self.authority.eq_ignore_ascii_case(field.value);
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
        let Progress { mut info, malformed, regular, .. } = progress;
        if let Some(why) = malformed {
            return Ok(Err(why));
        }
        if info.oversized {
            return Ok(Ok(info));
        }
        if !regular && pseudos.authority {
            self.append_host(head, &mut info);
        }
        // Cookies are joined into one field, because HTTP/1 allows only one (RFC 9113 section 8.2.3).
        if !self.cookies.is_empty() && !head.headers.append_legal(Name::Cookie, b"cookie", &self.cookies) {
            return Ok(Err("an illegal field"));
        }
        info.unreadable |= head.headers.known_all(Name::Host).count() > 1;
        Ok(pseudos.place(head, &mut info, self).map(|()| info))
    }

    /// As in nginx, filters and logs find the host in the `Host` field, as for HTTP/1.
    fn append_host(&self, head: &mut RequestHead, info: &mut HeadInfo) {
        // The list rejects fields with an invalid value.
        info.unreadable |= !head.headers.append_legal(Name::Host, b"host", &self.authority);
    }

    /// Clears the memory, and frees it after an unusually large head.
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

/// The value of `:scheme`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
    /// A scheme that is not served.
    Other,
}

impl Scheme {
    /// Parses a scheme (RFC 3986 section 3.1).
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

/// Reads a response head.
pub(super) fn read_response(
    decoder: &mut Decoder,
    block: &[u8],
    list_max: usize,
    head: &mut ResponseHead,
) -> Result<Result<HeadInfo, Malformed>, HpackError> {
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
    progress.check(head.status != 0 || progress.info.oversized, "no :status");
    Ok(progress.malformed.map_or(Ok(progress.info), Err))
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
    progress.check(!progress.info.oversized, "trailers over their limit");
    Ok(progress.malformed.map_or(Ok(()), Err))
}

/// The target of a request to an upstream.
#[derive(Clone, Copy, Debug)]
pub struct Target<'x> {
    /// The method.
    pub method: &'x Method,
    /// The scheme is `https`.
    pub https: bool,
    /// Host, with the port if it is not the default port.
    pub authority: &'x [u8],
    /// Path and query.
    pub path: &'x [u8],
}

/// Writes the fields of a head to be sent.
pub struct FieldWriter<'x> {
    pub(super) encoder: &'x mut Encoder,
    pub(super) out: &'x mut Vec<u8>,
}

impl FieldWriter<'_> {
    /// Adds a field, unless it is connection-specific (RFC 9113 section 8.2.2); strips white space around its value
    /// (section 8.2.1). `id` is the id of the name, as returned by [`Name::of`].
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
