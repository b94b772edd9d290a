//! [`Batch`]: writes of one transaction.

use crate::{Author, Document, Key, NewDocument};

/// Writes that are applied together, or not at all. At most [`Batch::WRITES_MAX`] writes.
///
/// References and unique keys are checked for the state after all writes, so their order does not matter: a document may
/// be written before one that it references, and two documents may exchange their names. Each document may be written
/// once; or deleted and then written, which makes a new document of the same key: those that referenced the old one are
/// deleted with it, or forbid it. Expectations are about the state before the batch, or after that deletion. What the batch
/// writes is never deleted by cascade: if it references a document that the batch deletes, the batch is refused.
///
/// The limits of a document are constants of this crate, such as [`VALUE_BYTES_MAX`](crate::VALUE_BYTES_MAX).
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Who makes the change, for the change log.
    pub author: Author,
    /// The writes.
    pub writes: Vec<Write>,
    /// The batch is refused if the store has another revision than this one.
    pub revision: Option<u64>,
}

impl Batch {
    /// Writes of one batch at most.
    pub const WRITES_MAX: usize = 2_000_000;
}

/// A write.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Creates or replaces a document. Replacing it by an equal one is no change and leaves its revision.
    Put(Box<NewDocument>, Expect),
    /// Deletes a document, and those that reference it with [`OnDelete::Cascade`](crate::OnDelete::Cascade), transitively.
    /// Deleting a document that does not exist is no change, unless something else is expected.
    Delete(Key, Expect),
}

/// The state of a document that a write expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Anything.
    Any,
    /// It does not exist.
    Absent,
    /// It exists.
    Present,
    /// It exists, and was last written at this revision.
    Revision(u64),
}

/// The result of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Committed {
    /// The revision of the store: that of this batch, or the one before if the batch changed nothing.
    pub revision: u64,
    /// Whether anything changed.
    pub changed: bool,
    /// The written documents as they are stored, in the order of the writes; `None` for deletions.
    pub documents: Vec<Option<Document>>,
    /// The documents that were deleted and not written again, those deleted by cascade included.
    pub deleted: Vec<Key>,
}
