//! The order in which Kong goes through entities: it decides which of two equal names counts as the second one.

use super::item::Item;

/// Kong's kinds: what is referenced before what references it, otherwise by name. Kinds of plugins follow, by name.
const KINDS: [&str; 17] = [
    "workspaces",
    "ca_certificates",
    "certificates",
    "clustering_data_planes",
    "consumers",
    "consumer_groups",
    "key_sets",
    "keys",
    "parameters",
    "services",
    "routes",
    "filter_chains",
    "plugins",
    "snis",
    "upstreams",
    "targets",
    "vaults",
];

fn rank(kind: &str) -> (usize, &str) {
    (KINDS.iter().position(|known| *known == kind).unwrap_or(KINDS.len()), kind)
}

/// The positions of the items, nested ones before their parents.
pub(super) fn kong_order(items: &[Item<'_, '_>]) -> Vec<usize> {
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); items.len()];
    let mut top = Vec::new();
    for (at, item) in items.iter().enumerate() {
        match item.parent.and_then(|(parent, _)| children.get_mut(parent)) {
            Some(siblings) => siblings.push(at),
            None => top.push(at),
        }
    }
    let by_kind = |list: &mut Vec<usize>| list.sort_by_key(|at| items.get(*at).map(|item| rank(item.kind.name)));
    by_kind(&mut top);
    children.iter_mut().for_each(by_kind);
    let mut out = Vec::with_capacity(items.len());
    // Files are nested a few levels deep only: the schema limits the depth.
    fn visit(at: usize, children: &[Vec<usize>], out: &mut Vec<usize>) {
        for child in children.get(at).into_iter().flatten() {
            visit(*child, children, out);
        }
        out.push(at);
    }
    for at in top {
        visit(at, &children, &mut out);
    }
    out
}
