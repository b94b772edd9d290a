//! Tables of entities.

use cardinal_gateway::Registry;

use super::markdown::{code, fields};

/// A section for each kind of entity, in alphabetical order.
pub(super) fn tables(registry: &Registry) -> String {
    let mut kinds: Vec<_> = registry.kinds().collect();
    kinds.sort_by_key(|kind| kind.name);
    let mut out = String::new();
    for kind in kinds {
        out.push_str(&format!("### {}\n\n", kind.name));
        if !kind.schema.description.is_empty() {
            out.push_str(&format!("{}\n\n", kind.schema.description));
        }
        if let Some(key) = kind.key {
            let scope = if key.unique { "" } else { " within its parent" };
            out.push_str(&format!("May be named by its {}{scope}.\n\n", code(key.field)));
        }
        out.push_str(&fields(&kind.schema));
        out.push('\n');
    }
    out
}
