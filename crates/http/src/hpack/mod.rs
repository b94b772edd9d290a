//! HPACK, the compression of HTTP/2's header blocks (RFC 7541). Sans-io: blocks in, fields out, and back.
//!
//! [`Decoder`] and [`Encoder`] hold one direction of one connection each; blocks must pass in the order of the wire. A
//! field that the other side repeats costs an index and a look at a table, and no field costs an allocation once the
//! buffers have grown to what a connection needs.
//!
//! Memory is bounded: a table by its size in RFC accounting ([`Decoder::new`]), a string by the length of its block,
//! of which the Huffman code makes at most 8/5.

mod decode;
mod encode;
mod huffman;
mod known;
mod rules;
mod table;

#[cfg(test)]
mod tests;

pub use decode::Decoder;
pub use encode::Encoder;

use crate::headers::Name;

/// Initial maximum size of a table (RFC 9113 section 6.5.2), and the most that [`Encoder`] uses.
pub const TABLE_DEFAULT: usize = 4096;

/// Overhead of an entry in addition to its bytes (RFC 7541 section 4.1); the size of header lists is counted like this
/// too.
pub const ENTRY_OVERHEAD: usize = 32;

/// One field of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'x> {
    /// As it was sent; a legal name has no capitals.
    pub name: &'x [u8],
    /// As it was sent.
    pub value: &'x [u8],
    /// It must not be put into a table on its way on either: see [`Encoder::sensitive`] (RFC 7541 section 6.2.3).
    pub sensitive: bool,
    /// [`Name::of`] the name.
    pub known: Name,
    /// Which pseudo-header field it is; `None` for all whose name has no colon in front.
    pub pseudo: Option<Pseudo>,
    /// The name is a token in lower case, or one after a colon, and the value is one by [`crate::is_value`] without
    /// spaces or tabs around it (RFC 9113 section 8.2.1). Entries of tables keep this flag, so that their bytes are
    /// checked once.
    pub legal: bool,
}

/// Pseudo-header fields (RFC 9113 section 8.3, RFC 8441).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Pseudo {
    /// `:authority`
    Authority,
    /// `:method`
    Method,
    /// `:path`
    Path,
    /// `:protocol`
    Protocol,
    /// `:scheme`
    Scheme,
    /// `:status`
    Status,
    /// A colon, and then none of these.
    Unknown,
}

impl Pseudo {
    /// The one of this name.
    pub fn of(name: &[u8]) -> Option<Self> {
        let [b':', rest @ ..] = name else { return None };
        Some(match rest {
            b"authority" => Self::Authority,
            b"method" => Self::Method,
            b"path" => Self::Path,
            b"protocol" => Self::Protocol,
            b"scheme" => Self::Scheme,
            b"status" => Self::Status,
            _ => Self::Unknown,
        })
    }
}

/// Why a block cannot be read. Each is a connection error of type `COMPRESSION_ERROR`: the tables of the two sides
/// are no longer known to be the same (RFC 9113 section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HpackError {
    /// It ends in the middle of a field.
    #[error("a header block ends in the middle of a field")]
    Truncated,
    /// A number of more than 32 bits, or written with more bytes than such need.
    #[error("a number in a header block is too large")]
    NumberTooLarge,
    /// Index 0, or one past the last entry.
    #[error("a header block refers to an entry that is not there")]
    NoSuchEntry,
    /// A table size update behind a field.
    #[error("a table size update is not at the start of its header block")]
    SizeUpdateLate,
    /// A table size update over what our settings allow.
    #[error("a table size update exceeds the limit")]
    SizeUpdateTooLarge,
    /// Padding of more than seven bits, or not of ones, or the symbol that ends strings.
    #[error("a string in a header block breaks the Huffman code")]
    Huffman,
}
