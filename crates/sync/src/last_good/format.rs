//! The format of the file with the last known good configuration.
//!
//! | part | bytes |
//! |---|---|
//! | magic | `CARDINAL` |
//! | format version | 4, big-endian |
//! | about the configuration | length (4, big-endian), JSON |
//! | each record | length of the table's name (1, not 0), name, id (16), length (4, big-endian), binary form |
//! | end of the records | one zero |
//! | each secret | 1, length of the reference (1), reference, length (4, big-endian), the secret |
//! | end of the secrets | one zero |
//! | checksum | SHA-256 of everything before it (32); in a signed file the HMAC-SHA256 of that |
//!
//! The version is 3 for signed files, else 2. The checksum is verified before anything is decoded. A record stands for itself, so that one which this version of the
//! program cannot read does not affect the others. Records and secrets are in one file so that neither is ever replaced without
//! the other.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use cardinal_ir::{Id, Ir, RecordKind, Rejected, Secret, SecretKey, Secrets};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{LoadError, Loaded, Saved};
use crate::restricting;

const MAGIC: &[u8; 8] = b"CARDINAL";
/// Files that end with a checksum.
const VERSION: u32 = 2;
/// Files that end with a message authentication code.
const VERSION_SIGNED: u32 = 3;
/// What the key of the node is used for.
const PURPOSE: &str = "last known good configuration";
const CHECKSUM_LEN: u64 = 32;
/// Rejected records that are reported one by one.
const REJECTED_MAX: usize = 1_000;

/// Why a file cannot be read: [`LoadError`] without its path.
pub(super) enum Unreadable {
    Io(io::Error),
    Damaged(&'static str),
    Version(u32),
    Unrestricted { table: String, reason: String },
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Damaged("it ends early"),
            _ => Self::Io(error),
        }
    }
}

impl Unreadable {
    pub(super) fn of(self, path: PathBuf) -> LoadError {
        match self {
            Self::Io(error) => LoadError::Io { path, error },
            Self::Damaged(why) => LoadError::Damaged { path, why: why.to_owned() },
            Self::Version(version) => LoadError::Version { path, version },
            Self::Unrestricted { table, reason } => LoadError::Unrestricted { path, table, reason },
        }
    }
}

/// Writes a configuration.
pub(super) fn write(file: &mut File, saved: &Saved, key: Option<&SecretKey>) -> io::Result<()> {
    let mut out = Summed { out: BufWriter::new(file), sum: Sha256::new() };
    out.write_all(MAGIC)?;
    out.write_all(&version(key).to_be_bytes())?;
    write_sized(&mut out, &serde_json::to_vec(&saved.about)?)?;
    saved.ir.for_each_encoded(&mut |kind, id, bytes| {
        write_record(&mut out, kind.as_str(), id, bytes).map_err(WriteError::Io)
    })?;
    out.write_all(&[0])?;
    let mut secrets = saved.secrets.clone();
    secrets.retain_used(&saved.ir);
    for (reference, secret) in secrets.iter() {
        out.write_all(&[1])?;
        write_short(&mut out, &reference.to_string())?;
        write_sized(&mut out, secret.expose().as_bytes())?;
    }
    out.write_all(&[0])?;
    let Summed { mut out, sum } = out;
    out.write_all(&seal(&sum.finalize(), key))?;
    out.flush()
}

fn version(key: Option<&SecretKey>) -> u32 {
    if key.is_some() { VERSION_SIGNED } else { VERSION }
}

/// The end of a file whose content has this checksum.
fn seal(sum: &[u8], key: Option<&SecretKey>) -> Vec<u8> {
    key.map_or_else(|| sum.to_vec(), |key| key.authenticate(PURPOSE, sum).to_vec())
}

pub(super) fn write_record(out: &mut impl Write, table: &str, id: Id, bytes: &[u8]) -> io::Result<()> {
    write_short(out, table)?;
    out.write_all(id.as_bytes())?;
    write_sized(out, bytes)
}

fn write_short(out: &mut impl Write, text: &str) -> io::Result<()> {
    out.write_all(&[u8::try_from(text.len()).map_err(io::Error::other)?])?;
    out.write_all(text.as_bytes())
}

fn write_sized(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    out.write_all(&u32::try_from(bytes.len()).map_err(io::Error::other)?.to_be_bytes())?;
    out.write_all(bytes)
}

/// Errors while writing records.
enum WriteError {
    Io(io::Error),
    Encode(rmp_serde::encode::Error),
}

impl From<rmp_serde::encode::Error> for WriteError {
    fn from(error: rmp_serde::encode::Error) -> Self {
        Self::Encode(error)
    }
}

impl From<WriteError> for io::Error {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Io(error) => error,
            WriteError::Encode(error) => Self::other(error),
        }
    }
}

/// A writer that also computes a checksum.
struct Summed<W> {
    out: W,
    sum: Sha256,
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.sum.update(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Reads a configuration. A record that cannot be decoded is rejected, and with it what refers to it.
pub(super) fn read(mut file: File, key: Option<&SecretKey>) -> Result<Loaded, Unreadable> {
    let length = file.metadata()?.len();
    let mut start = [0; 12];
    file.read_exact(&mut start)?;
    let Some(found) = start.strip_prefix(MAGIC) else {
        return Err(Unreadable::Damaged("it does not begin as such a file does"));
    };
    match found.try_into().map(u32::from_be_bytes) {
        Ok(found) if found == version(key) => {}
        Ok(VERSION) => return Err(Unreadable::Damaged("it is not signed")),
        Ok(VERSION_SIGNED) => return Err(Unreadable::Damaged("it is signed, and there is no key to verify it")),
        Ok(other) => return Err(Unreadable::Version(other)),
        Err(_) => return Err(Unreadable::Damaged("it ends early")),
    }
    file.seek(SeekFrom::Start(0))?;
    let summed = length.checked_sub(CHECKSUM_LEN).ok_or(Unreadable::Damaged("it ends early"))?;
    verify(&mut file, summed, key)?;
    file.seek(SeekFrom::Start(start.len() as u64))?;
    read_records(&mut BufReader::new(file.take(summed.saturating_sub(start.len() as u64))))
}

/// Verifies the checksum of so many bytes, which follows them.
fn verify(file: &mut File, length: u64, key: Option<&SecretKey>) -> Result<(), Unreadable> {
    let (mut sum, mut left) = (Sha256::new(), length);
    let mut buffer = vec![0; 64 * 1024];
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let chunk = buffer.get_mut(..wanted).unwrap_or_default();
        file.read_exact(chunk)?;
        sum.update(&*chunk);
        left -= wanted as u64;
    }
    let mut expected = [0; CHECKSUM_LEN as usize];
    file.read_exact(&mut expected)?;
    // No early end: how long it takes does not depend on where the first difference is.
    let differs = seal(&sum.finalize(), key).iter().zip(expected).fold(0, |differs, (a, b)| differs | (a ^ b));
    match (differs, key) {
        (0, _) => Ok(()),
        (_, None) => Err(Unreadable::Damaged("its checksum is wrong")),
        (_, Some(_)) => Err(Unreadable::Damaged("its signature is wrong")),
    }
}

fn read_records(input: &mut impl Read) -> Result<Loaded, Unreadable> {
    let about = read_sized(input)?;
    let about = serde_json::from_slice(&about).map_err(|_| Unreadable::Damaged("its description is not JSON"))?;
    let (mut ir, mut rejected) = (Ir::default(), Vec::new());
    loop {
        let table = read_short(input)?;
        if table.is_empty() {
            break;
        }
        let mut id = [0; 16];
        input.read_exact(&mut id)?;
        let (id, bytes) = (Id::from_bytes(id), read_sized(input)?);
        let problem = match table.parse::<RecordKind>() {
            // An unknown table of a later version may restrict access.
            Err(unknown) => return Err(Unreadable::Unrestricted { table, reason: unknown.to_string() }),
            Ok(kind) => ir.insert_encoded(kind, id, &bytes).err().map(|error| (kind, error.to_string())),
        };
        match problem {
            None => {}
            Some((kind, reason)) if restricting::restricts(kind) => {
                return Err(Unreadable::Unrestricted { table, reason });
            }
            Some((kind, reason)) => rejected.push(Rejected { kind, id: id.to_string(), reason }),
        }
    }
    if !rejected.is_empty() {
        let policies = ir.policies.clone();
        let removed = ir.remove_dangling();
        if let Some(reason) = restricting::lost_policy(&policies, &ir, &removed) {
            return Err(Unreadable::Unrestricted { table: RecordKind::Policy.as_str().to_owned(), reason });
        }
        rejected.extend(removed);
        rejected.truncate(REJECTED_MAX);
    }
    Ok(Loaded { ir, secrets: read_secrets(input)?, about, rejected })
}

fn read_secrets(input: &mut impl Read) -> Result<Secrets, Unreadable> {
    let mut secrets = Secrets::default();
    loop {
        let mut more = [0];
        input.read_exact(&mut more)?;
        if more == [0] {
            return Ok(secrets);
        }
        let reference = read_short(input)?.parse();
        let secret = Zeroizing::new(read_sized(input)?);
        // The error message must not contain the secret.
        let (Ok(reference), Ok(secret)) = (reference, std::str::from_utf8(&secret)) else {
            return Err(Unreadable::Damaged("it has a secret that is no text"));
        };
        secrets.insert(reference, Secret::from(secret));
    }
}

fn read_short(input: &mut impl Read) -> Result<String, Unreadable> {
    let mut length = [0];
    input.read_exact(&mut length)?;
    let [length] = length;
    let mut text = vec![0; usize::from(length)];
    input.read_exact(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn read_sized(input: &mut impl Read) -> Result<Vec<u8>, Unreadable> {
    let mut length = [0; 4];
    input.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    let mut bytes = Vec::new();
    // The buffer grows as bytes are read: the length in the file is not trusted for allocating memory.
    if input.take(u64::from(length)).read_to_end(&mut bytes)? as u64 == u64::from(length) {
        Ok(bytes)
    } else {
        Err(Unreadable::Damaged("it ends early"))
    }
}

/// Content preceded by its header and checksum, for tests that modify a file.
#[cfg(test)]
pub(super) fn sealed(content: &[u8]) -> Vec<u8> {
    [content, Sha256::digest(content).as_slice()].concat()
}
