//! `multipart/form-data` (RFC 7578).

use memchr::memmem;

use super::ops::{Ops, rendered};
use crate::template::Environment;

/// A part: the lines before its body, and the body.
#[derive(Clone, Debug, PartialEq)]
struct Part {
    name: Option<Vec<u8>>,
    head: Vec<u8>,
    body: Vec<u8>,
}

/// The new body. Kong renames first here, and does not append. A body that is not well formed is unchanged.
pub(super) fn transform(
    content_type: &[u8],
    body: &[u8],
    ops: &Ops,
    environment: &Environment<'_>,
) -> Result<Option<Vec<u8>>, String> {
    let Some(boundary) = parameter(content_type, b"boundary") else { return Ok(None) };
    let parsed = if body.is_empty() { Some(Vec::new()) } else { parse(body, &boundary) };
    let Some(mut parts) = parsed else { return Ok(None) };
    let mut changed = false;
    for pair in rendered(&ops.rename, environment) {
        let (name, new) = pair?;
        let Some(old) = find(&parts, name).filter(|_| name.as_bytes() != new) else { continue };
        parts.retain(|part| part.name.as_deref() != Some(&new));
        if let Some(part) = parts.iter_mut().find(|part| part.name == old.name) {
            *part = Part::simple(&new, old.body);
            changed = true;
        }
    }
    for op in ops.remove.iter().filter(|_| !body.is_empty()) {
        parts.retain(|part| part.name.as_deref() != Some(op.name.as_bytes()));
        changed = true;
    }
    for pair in rendered(&ops.replace, environment) {
        let (name, value) = pair?;
        if let Some(part) = parts.iter_mut().find(|part| part.name.as_deref() == Some(name.as_bytes())) {
            *part = Part::simple(name.as_bytes(), value);
            changed = true;
        }
    }
    for pair in rendered(&ops.add, environment) {
        let (name, value) = pair?;
        if find(&parts, name).is_none() {
            parts.push(Part::simple(name.as_bytes(), value));
            changed = true;
        }
    }
    Ok(changed.then(|| write(&parts, &boundary)))
}

fn find(parts: &[Part], name: &str) -> Option<Part> {
    parts.iter().find(|part| part.name.as_deref() == Some(name.as_bytes())).cloned()
}

impl Part {
    fn simple(name: &[u8], body: Vec<u8>) -> Self {
        let mut head = b"Content-Disposition: form-data; name=\"".to_vec();
        for byte in name {
            match byte {
                b'"' | b'\r' | b'\n' => head.extend_from_slice(format!("%{byte:02X}").as_bytes()),
                other => head.push(*other),
            }
        }
        head.push(b'"');
        Self { name: Some(name.to_vec()), head, body }
    }
}

fn parse(body: &[u8], boundary: &[u8]) -> Option<Vec<Part>> {
    let delimiter = [b"\r\n--", boundary].concat();
    // The first delimiter has no line before it, or a preamble.
    let mut rest = match body.strip_prefix(delimiter.get(2..)?) {
        Some(rest) => rest,
        None => body.get(memmem::find(body, &delimiter)? + delimiter.len()..)?,
    };
    let mut parts = Vec::new();
    while !rest.starts_with(b"--") {
        let content = rest.get(memmem::find(rest, b"\r\n")? + 2..)?;
        let end = memmem::find(content, &delimiter)?;
        parts.push(part(content.get(..end)?)?);
        rest = content.get(end + delimiter.len()..)?;
    }
    Some(parts)
}

fn part(content: &[u8]) -> Option<Part> {
    if let Some(body) = content.strip_prefix(b"\r\n") {
        return Some(Part { name: None, head: Vec::new(), body: body.to_vec() });
    }
    let end = memmem::find(content, b"\r\n\r\n")?;
    let (head, body) = (content.get(..end)?, content.get(end + 4..)?);
    let name = head
        .split(|b| *b == b'\n')
        .find(|line| line.get(..20).is_some_and(|start| start.eq_ignore_ascii_case(b"content-disposition:")))
        .and_then(|line| parameter(line, b"name"));
    Some(Part { name, head: head.to_vec(), body: body.to_vec() })
}

/// The value of a parameter, without its quotes.
fn parameter(line: &[u8], wanted: &[u8]) -> Option<Vec<u8>> {
    line.split(|b| *b == b';').skip(1).find_map(|parameter| {
        let at = memchr::memchr(b'=', parameter)?;
        let name = cardinal_http::trim(parameter.get(..at)?);
        let value = parameter.get(at + 1..)?.trim_ascii();
        let value = value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value);
        (name.eq_ignore_ascii_case(wanted) && !value.is_empty()).then(|| value.to_vec())
    })
}

fn write(parts: &[Part], boundary: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in parts {
        let head_end: &[u8] = if part.head.is_empty() { b"\r\n" } else { b"\r\n\r\n" };
        for piece in [b"--", boundary, b"\r\n", &part.head, head_end, &part.body, b"\r\n"] {
            out.extend_from_slice(piece);
        }
    }
    for piece in [b"--", boundary, b"--\r\n"] {
        out.extend_from_slice(piece);
    }
    out
}
