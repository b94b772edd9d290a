//! The workspace `default`, which is there before anything of it is stored.

use cardinal_kong::entities::{Kind, WORKSPACES};
use cardinal_store::{Document, Expect, Key, Page, Query};
use serde_json::json;

use super::access::DEFAULT_WORKSPACE;

/// The name of the workspace that is always there.
pub(crate) const DEFAULT_NAME: &str = "default";
/// The revision of the workspace `default` as long as nothing of it is stored.
const NOT_STORED: u64 = u64::MAX;

/// What a document that was read is to be found as when it is written.
pub(super) fn expectation(revision: u64) -> Expect {
    if revision == NOT_STORED { Expect::Absent } else { Expect::Revision(revision) }
}

/// The workspace `default`, if this is its id or, otherwise, its name.
pub(super) fn unstored(kind: &Kind, is_id: bool, text: &str) -> Option<Document> {
    let is_default = if is_id { text.eq_ignore_ascii_case(DEFAULT_WORKSPACE) } else { text == DEFAULT_NAME };
    (kind.name == WORKSPACES && is_default).then(default_document)
}

/// Adds the workspace `default` to a page of stored workspaces that it belongs to.
pub(super) fn add_unstored(query: &Query, page: &mut Page) {
    let id = DEFAULT_WORKSPACE;
    let is_after = query.after.as_deref().is_none_or(|after| id > after);
    let is_before = page.next.as_deref().is_none_or(|next| id < next);
    let at = page.documents.partition_point(|document| *document.key.id < *id);
    let is_stored = page.documents.get(at).is_some_and(|document| *document.key.id == *id);
    if &*query.kind != WORKSPACES || !is_after || !is_before || is_stored {
        return;
    }
    page.documents.insert(at, default_document());
    if page.documents.len() > query.limit {
        page.documents.truncate(query.limit);
        page.next = page.documents.last().map(|document| document.key.id.clone());
    }
}

/// The workspace `default` as long as nothing of it is stored.
fn default_document() -> Document {
    let value = json!({
        "id": DEFAULT_WORKSPACE, "created_at": 1, "updated_at": 1, "name": DEFAULT_NAME, "comment": null, "meta": null,
        "config": null,
    });
    let key = Key::new(WORKSPACES, DEFAULT_WORKSPACE);
    Document { key, space: "".into(), value, revision: NOT_STORED, tags: Vec::new() }
}
