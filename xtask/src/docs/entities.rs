//! Tables of entities.

use cardinal_kong::Registry;
use cardinal_kong::settings::RouterFlavor;
use cardinal_schema::DocRow;
use cardinal_sdk::PluginDef;

use super::markdown::{code, rows_table};

/// A section for each kind of entity, in alphabetical order.
pub(super) fn tables(plugins: &[&'static PluginDef]) -> String {
    let registry = Registry::new(plugins);
    let expressions = Registry::with_flavor(plugins, RouterFlavor::Expressions);
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
        let mut rows = kind.schema.doc_rows();
        if let Some(kind) = expressions.kind(kind.name) {
            rows.extend(fields_of_flavor(&rows, kind.schema.doc_rows()));
        }
        out.push_str(&rows_table(&rows));
        out.push('\n');
    }
    out
}

/// The fields that only exist with the expressions flavor.
fn fields_of_flavor(plain: &[DocRow], rows: Vec<DocRow>) -> Vec<DocRow> {
    let is_new = |row: &DocRow| plain.iter().all(|known| known.path != row.path);
    let marked = |row: DocRow| DocRow { text: format!("{} With `router_flavor = expressions`.", row.text), ..row };
    rows.into_iter().filter(is_new).map(marked).collect()
}
