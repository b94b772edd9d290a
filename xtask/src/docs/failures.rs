//! The table of failures.

use cardinal_http::{FailureKind, Side};

use super::markdown::{code, table};

/// Each kind with the status that is answered and whose fault it is.
pub(super) fn kinds() -> String {
    let rows = FailureKind::ALL.iter().map(|kind| {
        let side = match kind.side() {
            Side::Downstream => "the client's",
            Side::Upstream => "the upstream's",
            Side::Local => "the node's or its configuration's",
        };
        [code(kind.label()), kind.status().to_string(), side.to_owned()]
    });
    table(["kind", "status", "whose fault"], rows)
}
