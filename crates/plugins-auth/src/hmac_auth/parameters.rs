//! The parameters of a signature, as `Authorization` has them. Kong: `retrieve_hmac_fields` of its `access.lua`.

use memchr::{memmem, memrchr};

/// `hmac username="...", algorithm="...", headers="...", signature="..."`, in this order.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parameters<'h> {
    /// The credential.
    pub(super) username: &'h [u8],
    /// The name of the algorithm.
    pub(super) algorithm: &'h [u8],
    /// What was signed: names, separated by single spaces.
    pub(super) headers: &'h [u8],
    /// The signature in base64.
    pub(super) signature: &'h [u8],
}

impl<'h> Parameters<'h> {
    /// Takes a header value apart. Values may contain quotes: each extends as far as the rest leaves it. A parameter that
    /// occurs twice or stands elsewhere thus becomes part of the value before it. Takes linear time.
    pub(super) fn parse(header: &'h [u8]) -> Option<Self> {
        let header = header.trim_ascii_start();
        let rest = header.strip_prefix(b"hmac").or_else(|| header.strip_prefix(b"Hmac"))?;
        let rest = rest.trim_ascii_start().strip_prefix(b"username=\"")?;
        let rest = rest.get(..memrchr(b'"', rest)?)?;
        let (rest, signature) = split_last(rest, b"signature=\"")?;
        let (rest, headers) = split_last(rest, b"headers=\"")?;
        let (username, algorithm) = split_last(rest, b"algorithm=\"")?;
        Some(Self { username, algorithm, headers, signature })
    }

    /// The names of what was signed, in order.
    pub(super) fn names(&self) -> impl Iterator<Item = &'h [u8]> + use<'h> {
        self.headers.split(|byte| *byte == b' ')
    }
}

/// The text before the last parameter of this name that has a value, and the value.
fn split_last<'h>(text: &'h [u8], name: &[u8]) -> Option<(&'h [u8], &'h [u8])> {
    memmem::rfind_iter(text, name).find_map(|at| {
        let value = text.get(at + name.len()..).filter(|value| !value.is_empty())?;
        let before = text.get(..at)?.trim_ascii_end().strip_suffix(b"\",")?;
        (!before.is_empty()).then_some((before, value))
    })
}
