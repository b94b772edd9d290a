//! Files and directories of entities.

use std::fs::{self, FileType};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use cardinal_base::descriptors;
use cardinal_kong::Source;
use cardinal_kong::declarative::{BYTES_MAX, parse_bytes};

use super::refusal::Refusal;
use super::streams::{Streams, is_stream, name_of};

/// Most files in a directory.
const FILES_MAX: usize = 10_000;

/// Reads the files, the streams, and the files in the directories, in order.
pub(super) fn read_sources(paths: &[PathBuf], streams: &Streams) -> Result<Vec<Source>, Refusal> {
    let mut sources = Vec::new();
    for (at, path) in paths.iter().enumerate() {
        let name = name_of(path);
        if paths.iter().take(at).any(|before| name_of(before) == name) {
            return Err(Unreadable::from("it is named twice".to_owned()).of(Path::new(&name)));
        }
        if is_stream(path) {
            let text = streams.text(path).map_err(|why| Unreadable::from(why).of(Path::new(&name)))?;
            sources.push(Source::new(name, &*text));
            continue;
        }
        for file in expand(path)? {
            let text = read_text(&file).map_err(|why| why.of(&file))?;
            sources.push(Source::new(file.display().to_string(), text));
        }
    }
    Ok(sources)
}

/// Why a file cannot be read.
#[derive(Debug)]
pub(crate) struct Unreadable {
    why: String,
    /// It may be readable a little later.
    pub(crate) transient: bool,
}

impl Unreadable {
    /// The refusal of a configuration that is in this file.
    pub(super) fn of(self, path: &Path) -> Refusal {
        Refusal::Read { path: path.to_owned(), why: self.why, transient: self.transient }
    }
}

impl From<std::io::Error> for Unreadable {
    fn from(error: std::io::Error) -> Self {
        // A file that is being replaced may be missing for a moment.
        let transient = descriptors::is_transient(&error) || error.kind() == ErrorKind::NotFound;
        Self { why: error.to_string(), transient }
    }
}

impl From<String> for Unreadable {
    fn from(why: String) -> Self {
        Self { why, transient: false }
    }
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.why)
    }
}

/// The text of a file that is not too large; otherwise why there is none.
pub(crate) fn read_text(path: &Path) -> Result<String, Unreadable> {
    // Before it is opened: opening a FIFO blocks until it has a writer.
    let found = fs::metadata(path)?;
    if !found.is_file() {
        return Err(format!("it is {}, not a file", words(found.file_type())).into());
    }
    let mut bytes = Vec::new();
    // One byte more than fits, as the file may grow meanwhile.
    let file = fs::File::open(path)?;
    let length = match found.len() {
        length if length > BYTES_MAX as u64 => length,
        _ => file.take(BYTES_MAX as u64 + 1).read_to_end(&mut bytes)? as u64,
    };
    if length > BYTES_MAX as u64 {
        return Err(format!("the file has {length} bytes or more, but at most {} MiB are read", BYTES_MAX >> 20).into());
    }
    Ok(text(bytes)?)
}

/// Bytes as text; otherwise where they are none.
pub(super) fn text(bytes: Vec<u8>) -> Result<String, String> {
    String::from_utf8(bytes).map_err(|error| match parse_bytes(error.as_bytes()) {
        Err(reason) => format!("line {}: {}", reason.place.line, reason.message),
        Ok(_) => error.to_string(),
    })
}

/// The type of something that is not a file.
fn words(kind: FileType) -> &'static str {
    match kind {
        kind if kind.is_dir() => "a directory",
        kind if kind.is_fifo() => "a pipe",
        kind if kind.is_socket() => "a socket",
        _ => "a device",
    }
}

/// Whether a file in a directory is one of entities: `.yaml`, `.yml` and `.json`, unless it is hidden.
pub(crate) fn is_config_name(path: &Path) -> bool {
    let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    let extension = path.extension().and_then(|e| e.to_str());
    !hidden && matches!(extension, Some("yaml" | "yml" | "json"))
}

/// The file itself, or the files of a directory in the order of their names.
fn expand(path: &Path) -> Result<Vec<PathBuf>, Refusal> {
    let refused = |why: Unreadable| why.of(path);
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(|e| refused(e.into()))? {
        let file = entry.map_err(|e| refused(e.into()))?.path();
        if is_config_name(&file) && !file.is_dir() {
            files.push(file);
        }
        if files.len() > FILES_MAX {
            return Err(refused(format!("the directory has more than {FILES_MAX} files").into()));
        }
    }
    if files.is_empty() {
        return Err(refused("the directory has no .yaml, .yml or .json file".to_owned().into()));
    }
    files.sort();
    Ok(files)
}
