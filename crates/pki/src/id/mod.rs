//! SPIFFE IDs and trust domain names.
//!
//! Parsing is strict, as the SPIFFE-ID standard (section 2) demands of new identifiers: there is one spelling of each ID,
//! so that comparing texts compares identities. Nothing is normalised: capitals in the scheme or the trust domain are
//! refused instead of folded, and so are percent-encoding, ports, user info, queries and fragments.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// What every SPIFFE ID begins with.
const SCHEME: &str = "spiffe://";

/// Most bytes of a trust domain name (SPIFFE-ID section 2.3).
pub const TRUST_DOMAIN_BYTES_MAX: usize = 255;

/// Most bytes of a SPIFFE ID (SPIFFE-ID section 2.3).
pub const SPIFFE_ID_BYTES_MAX: usize = 2048;

/// Why a text is not a SPIFFE ID or a trust domain name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text does not begin with the scheme.
    #[error("a SPIFFE ID begins with spiffe://, in lower case")]
    Scheme,
    /// The ID as a whole is too long.
    #[error("a SPIFFE ID has at most {SPIFFE_ID_BYTES_MAX} bytes")]
    TooLong,
    /// No trust domain.
    #[error("the trust domain is empty")]
    DomainEmpty,
    /// The trust domain is too long.
    #[error("a trust domain has at most {TRUST_DOMAIN_BYTES_MAX} bytes")]
    DomainTooLong,
    /// A character that no trust domain may have. Ports, user info and percent-encoding come here too.
    #[error("a trust domain consists of lower-case letters, digits, dots, dashes and underscores, not {0:?}")]
    DomainCharacter(char),
    /// Two slashes in a row, or one at the end.
    #[error("the path has an empty segment; it must not end with a slash either")]
    SegmentEmpty,
    /// `.` or `..`.
    #[error("the path has a relative segment")]
    SegmentRelative,
    /// A character that no path may have. Queries, fragments and percent-encoding come here too.
    #[error("the path consists of letters, digits, dots, dashes, underscores and slashes, not {0:?}")]
    PathCharacter(char),
    /// A path that does not begin with a slash.
    #[error("the path begins with a slash")]
    PathStart,
}

/// The name of a trust domain: a set of identities with certificate authorities of its own.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// Parses a name, such as `east.example.com`; no scheme.
    ///
    /// # Errors
    /// The name is empty, too long, or has a character that is not allowed.
    pub fn parse(name: &str) -> Result<Self, IdError> {
        check_domain(name)?;
        Ok(Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The ID of the domain itself, which has no path. It identifies the domain's authorities, never a workload, and
    /// every ID of the domain [is within](SpiffeId::is_within) it.
    pub fn id(&self) -> SpiffeId {
        SpiffeId { text: format!("{SCHEME}{}", self.0).into(), path_at: SCHEME.len() + self.0.len() }
    }
}

/// A map by trust domains can be searched by a name that is part of an ID.
impl Borrow<str> for TrustDomain {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for TrustDomain {
    type Err = IdError;

    fn from_str(name: &str) -> Result<Self, IdError> {
        Self::parse(name)
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A SPIFFE ID, such as `spiffe://east.example.com/ns/shop/sa/cart`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    text: Arc<str>,
    /// Where the path begins: at its slash, or at the end of the text.
    path_at: usize,
}

impl SpiffeId {
    /// Parses an ID.
    ///
    /// # Errors
    /// The text is not a SPIFFE ID in its one spelling.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        if text.len() > SPIFFE_ID_BYTES_MAX {
            return Err(IdError::TooLong);
        }
        let rest = text.strip_prefix(SCHEME).ok_or(IdError::Scheme)?;
        let (domain, path) = rest.find('/').and_then(|at| rest.split_at_checked(at)).unwrap_or((rest, ""));
        check_domain(domain)?;
        check_path(path)?;
        Ok(Self { text: text.into(), path_at: SCHEME.len() + domain.len() })
    }

    /// The ID of this path in a trust domain. The path begins with a slash; an empty one gives [`TrustDomain::id`].
    ///
    /// # Errors
    /// The path is not one of a SPIFFE ID, or the ID becomes too long.
    pub fn new(domain: &TrustDomain, path: &str) -> Result<Self, IdError> {
        check_path(path)?;
        let path_at = SCHEME.len() + domain.0.len();
        if path_at + path.len() > SPIFFE_ID_BYTES_MAX {
            return Err(IdError::TooLong);
        }
        Ok(Self { text: format!("{SCHEME}{domain}{path}").into(), path_at })
    }

    /// The whole ID.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The name of its trust domain.
    pub fn domain_name(&self) -> &str {
        self.text.get(SCHEME.len()..self.path_at).unwrap_or_default()
    }

    /// Its trust domain.
    pub fn trust_domain(&self) -> TrustDomain {
        TrustDomain(self.domain_name().into())
    }

    /// Its path, with the slash in front; empty for the ID of a trust domain.
    pub fn path(&self) -> &str {
        self.text.get(self.path_at..).unwrap_or_default()
    }

    /// Whether it has a path. Only such IDs identify workloads.
    pub fn has_path(&self) -> bool {
        !self.path().is_empty()
    }

    /// Whether this ID is `prefix`, or is below it by whole segments: `…/ns/shop/sa/cart` is within `…/ns/shop`, while
    /// `…/ns/shopping` is not.
    pub fn is_within(&self, prefix: &Self) -> bool {
        self.text.strip_prefix(&*prefix.text).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl FromStr for SpiffeId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::parse(text)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn check_domain(name: &str) -> Result<(), IdError> {
    let is_allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '.' | '-' | '_');
    if name.is_empty() {
        return Err(IdError::DomainEmpty);
    }
    if name.len() > TRUST_DOMAIN_BYTES_MAX {
        return Err(IdError::DomainTooLong);
    }
    name.chars().find(|c| !is_allowed(*c)).map_or(Ok(()), |c| Err(IdError::DomainCharacter(c)))
}

fn check_path(path: &str) -> Result<(), IdError> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if path.is_empty() {
        return Ok(());
    }
    for segment in path.strip_prefix('/').ok_or(IdError::PathStart)?.split('/') {
        match segment {
            "" => return Err(IdError::SegmentEmpty),
            "." | ".." => return Err(IdError::SegmentRelative),
            _ => {}
        }
        if let Some(c) = segment.chars().find(|c| !is_allowed(*c)) {
            return Err(IdError::PathCharacter(c));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
