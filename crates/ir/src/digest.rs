//! [`Digest`]: a hash over the canonical bytes of records. Equal records have equal hashes on every node.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::tables::Visit;
use crate::{Id, Ir, Row, Table, binary};

/// The first 16 bytes of a SHA-256 hash of the canonical [binary encoding](crate::binary) of records. Displayed as 32
/// hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Digest(Id);

impl Digest {
    /// Digest of a generation without records.
    pub const EMPTY: Self = Self(Id::nil());

    /// The hash of a record that is given in its [binary form](crate::binary): that of [`Record::digest`](crate::Record::digest)
    /// if this version of the program reads and writes every field of the record.
    pub fn of_encoded(record: &[u8]) -> Self {
        let mut hasher = Hasher::default();
        hasher.0.update(record);
        hasher.finish()
    }

    /// The hash with these bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Id::from_bytes(bytes))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.simple(), f)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Ir {
    /// The hash of all records and their ids. Two generations have the same hash if and only if they are equal.
    pub fn digest(&self) -> Digest {
        if self.is_empty() {
            return Digest::EMPTY;
        }
        let mut hasher = Hasher::default();
        self.visit(&mut hasher);
        hasher.finish()
    }
}

/// The hash of one record, without its id.
pub(crate) fn of_row<T: Row>(row: &T) -> Digest {
    let mut hasher = Hasher::default();
    hasher.write_row(row);
    hasher.finish()
}

#[derive(Default)]
struct Hasher(Sha256);

impl Hasher {
    fn write_row<T: Row>(&mut self, row: &T) {
        // Hashing does not fail, and every record can be encoded.
        let written = binary::write(row, &mut *self);
        debug_assert!(written.is_ok(), "{written:?}");
    }

    fn finish(self) -> Digest {
        let bytes = self.0.finalize();
        let mut short = [0; 16];
        short.iter_mut().zip(bytes).for_each(|(short, byte)| *short = byte);
        Digest(Id::from_bytes(short))
    }
}

impl io::Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Visit for Hasher {
    fn table<T: Row>(&mut self, table: &Table<T>) {
        // The encoding of a record determines its length, and ids have a fixed length: different generations never
        // produce the same bytes.
        self.0.update([T::KIND as u8]);
        self.0.update(u64::try_from(table.len()).unwrap_or(u64::MAX).to_be_bytes());
        for (id, row) in table.iter() {
            self.0.update(id.as_bytes());
            self.write_row(&**row);
        }
    }
}
