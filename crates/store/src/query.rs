//! [`Query`]: which documents to list.

use std::sync::Arc;

use crate::{Document, Key};

/// Which documents to list, in ascending order of their ids (by bytes).
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// The kind.
    pub kind: Arc<str>,
    /// Only documents of this tenant.
    pub space: Option<Arc<str>>,
    /// Only documents with these tags.
    pub tags: TagFilter,
    /// Only documents whose reference in this field leads to this document.
    pub reference: Option<(Arc<str>, Key)>,
    /// Only documents with greater ids: the cursor of the page before.
    pub after: Option<Arc<str>>,
    /// Documents of a page at most, from 1 to [`Query::LIMIT_MAX`].
    pub limit: usize,
}

impl Query {
    /// Documents of a page at most.
    pub const LIMIT_MAX: usize = 10_000;

    /// All documents of a kind, in pages of the greatest size.
    pub fn all(kind: impl Into<Arc<str>>) -> Self {
        let kind = kind.into();
        Self { kind, space: None, tags: TagFilter::None, reference: None, after: None, limit: Self::LIMIT_MAX }
    }

    /// The limit within its bounds.
    pub(crate) fn page_size(&self) -> usize {
        self.limit.clamp(1, Self::LIMIT_MAX)
    }
}

/// A filter by tags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TagFilter {
    /// No filter.
    #[default]
    None,
    /// Documents that have all of these tags.
    All(Vec<Arc<str>>),
    /// Documents that have at least one of these tags.
    Any(Vec<Arc<str>>),
}

/// A page of a list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// The documents.
    pub documents: Vec<Document>,
    /// The cursor of the next page: [`Query::after`]. `None` if this is the last one.
    pub next: Option<Arc<str>>,
}
