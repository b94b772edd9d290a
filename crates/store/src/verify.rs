//! [`verify`]: whether a change log is intact, and says what the documents are.

use serde::Serialize;

use crate::StoreError;
use crate::chain::{Entry, Head, Log, entry_hash};
use crate::replay::{Replay, Tampered};

/// A log whose chain is intact, and that says what the documents are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Number of entries.
    pub entries: u64,
    /// Number of documents.
    pub documents: u64,
    /// The newest revision.
    pub revision: u64,
    /// The oldest revision that the log reaches back to.
    pub oldest: u64,
    /// The hash of the newest entry.
    pub hash: [u8; 32],
}

/// Why a log does not verify.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// An entry is not as it was written, or entries around it are missing or added.
    #[error("the change log is broken at revision {revision}, position {position}: {why}")]
    At {
        /// The revision.
        revision: u64,
        /// The place in the revision.
        position: u32,
        /// What is wrong.
        why: &'static str,
    },
    /// Documents are not what the log says, although its chain is intact: something else than a commit changed them.
    /// At most 100 are listed.
    #[error("{}", tampered_text(.0))]
    Documents(Vec<Tampered>),
    /// The log cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Entries that are read at a time.
const ENTRIES: usize = 1_000;

/// Verifies the chain from its base to its head, and the documents against it. Commits may go on meanwhile.
///
/// # Errors
/// At the first entry that does not fit, or with the documents that differ.
pub async fn verify(log: &dyn Log) -> Result<Verified, Broken> {
    let mut differed = None;
    loop {
        let base = log.head().await?;
        match verify_from(log, base).await {
            // The log was shortened meanwhile.
            Err(_) if log.head().await?.oldest != base.oldest => {}
            // Secrets may have been encrypted again meanwhile.
            Err(Broken::Documents(tampered)) if differed.as_ref() != Some(&tampered) => differed = Some(tampered),
            result => return result,
        }
    }
}

fn tampered_text(tampered: &[Tampered]) -> String {
    let line = |Tampered { key, why }: &Tampered| format!("\n  {key}: {why}");
    format!("documents are not what the change log says:{}", tampered.iter().map(line).collect::<String>())
}

/// How far a log was read.
struct Place {
    hash: [u8; 32],
    /// Revision and position of the last entry.
    at: (u64, u32),
    count: u64,
}

impl Place {
    fn follow(&mut self, entry: &Entry) -> Result<(), Broken> {
        check_place(entry, self.at, self.count == 0)?;
        if entry_hash(&self.hash, entry) != entry.hash {
            return Err(broken(entry, "the hash does not match the entry and the one before it"));
        }
        (self.hash, self.at) = (entry.hash, (entry.revision, entry.position));
        self.count += 1;
        Ok(())
    }

    fn break_here(&self, why: &'static str) -> Broken {
        Broken::At { revision: self.at.0, position: self.at.1, why }
    }
}

async fn verify_from(log: &dyn Log, base: Head) -> Result<Verified, Broken> {
    let mut place = Place { hash: base.base_hash, at: (base.oldest, 0), count: 0 };
    let mut replay = Replay::begin(log, base.oldest).await?;
    let head = loop {
        for entry in log.entries(place.at.0, ENTRIES).await? {
            place.follow(&entry)?;
            replay.apply(log, entry);
        }
        let head = log.head().await?;
        if head.revision > place.at.0 {
            // More was committed since the entries were read, or they are missing.
            if log.entries(place.at.0, 1).await?.is_empty() {
                return Err(place.break_here("the entries after this one are missing"));
            }
        } else if head.revision < place.at.0 || head.hash != place.hash {
            return Err(place.break_here("this is not the newest entry, by what the store says of its log"));
        } else {
            break head;
        }
    };
    let (revision, stored) = log.stored().await?;
    let mut at = place.at.0;
    // What was committed since the head was read.
    while at < revision {
        let newer = log.entries(at, ENTRIES).await?;
        let newer: Vec<Entry> = newer.into_iter().filter(|entry| entry.revision <= revision).collect();
        at =
            newer.last().map(|entry| entry.revision).ok_or_else(|| place.break_here("entries after it are missing"))?;
        newer.into_iter().for_each(|entry| replay.apply(log, entry));
    }
    let documents = stored.len() as u64;
    let tampered = replay.compare(stored);
    if !tampered.is_empty() {
        return Err(Broken::Documents(tampered));
    }
    let Place { hash, count: entries, .. } = place;
    Ok(Verified { entries, documents, revision: head.revision, oldest: base.oldest, hash })
}

fn check_place(entry: &Entry, (revision, position): (u64, u32), is_first: bool) -> Result<(), Broken> {
    let follows = !is_first && entry.revision == revision && entry.position == position + 1;
    let begins = entry.revision == revision + 1 && entry.position == 0;
    if follows || begins { Ok(()) } else { Err(broken(entry, "an entry before this one is missing or was added")) }
}

fn broken(entry: &Entry, why: &'static str) -> Broken {
    Broken::At { revision: entry.revision, position: entry.position, why }
}
