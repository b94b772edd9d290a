use cardinal_ir::{Attributes, Origin, PrincipalGroup};
use cardinal_schema::{Schema, record};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{BuildCx, BuildError, EntityDef, FailureMode, Filter, HTTP_PROTOCOLS, Prepared, Scopes};

const fn entity(kind: &'static str, unique: bool, prepare: Option<Prepare>) -> EntityDef {
    EntityDef {
        name: kind,
        collection: kind,
        nested: kind,
        kind,
        schema,
        lookup: "key",
        unique,
        secrets: &[],
        seal: None,
        prepare,
    }
}

fn schema() -> Schema {
    record([])
}

fn no_filter(_: &serde_json::Value, _: &BuildCx<'_>) -> Result<Arc<dyn Filter>, BuildError> {
    Err(BuildError::new("", "not for requests"))
}

fn picky(credential: &Credential) -> Result<Prepared, String> {
    match credential.data.as_u64() {
        Some(0) => Err("zero".to_owned()),
        other => Ok(Arc::new(other)),
    }
}

static PLUGIN: PluginDef = PluginDef {
    name: "keys",
    summary: "",
    priority: 1,
    schema,
    entities: &[entity("key", true, None), entity("group", false, None), entity("picky", true, Some(picky))],
    scopes: Scopes::ALL,
    protocols: HTTP_PROTOCOLS,
    failure: FailureMode::Closed,
    build: no_filter,
    lower: None,
};

const KINDS: [&str; 4] = ["key", "group", "picky", "stranger"];

#[derive(Clone, Debug)]
enum Edit {
    Principal(u128, Option<(Option<u8>, Option<u8>, Vec<u128>)>),
    Group(u128, Option<u8>),
    Credential(u128, Option<(usize, u128, u8, u64)>),
}

fn edit() -> impl Strategy<Value = Edit> {
    let name = || proptest::option::of(0_u8..3);
    let principal = (name(), name(), proptest::collection::vec(0_u128..3, 0..3));
    let credential = (0..KINDS.len(), 0_u128..4, 0_u8..3, 0_u64..2);
    prop_oneof![
        (0_u128..4, proptest::option::of(principal)).prop_map(|(id, p)| Edit::Principal(id, p)),
        (0_u128..3, name()).prop_map(|(id, name)| Edit::Group(id, name)),
        (0_u128..8, proptest::option::of(credential)).prop_map(|(id, c)| Edit::Credential(id, c)),
    ]
}

fn text(number: u8) -> Box<str> {
    format!("t{number}").into()
}

fn apply(ir: &mut Ir, edit: Edit) {
    let origin = Origin::default;
    match edit {
        Edit::Principal(id, Some((name, custom_id, groups))) => {
            let (name, custom_id) = (name.map(text), custom_id.map(text));
            let groups = groups.into_iter().map(Id::from_u128).collect();
            let record = Principal { origin: origin(), name, custom_id, groups, tenant: None, document: "{}".into() };
            ir.principals.insert(Id::from_u128(id), record);
        }
        Edit::Principal(id, None) => drop(ir.principals.remove(&Id::from_u128(id))),
        Edit::Group(id, Some(name)) => {
            ir.groups.insert(Id::from_u128(id), PrincipalGroup { origin: origin(), name: text(name) });
        }
        Edit::Group(id, None) => drop(ir.groups.remove(&Id::from_u128(id))),
        Edit::Credential(id, Some((kind, principal, lookup, data))) => {
            let (kind, principal) = (KINDS[kind], Id::from_u128(principal));
            let attributes = Arc::new(Attributes::new(kind, json!(data), ""));
            let record = Credential::new(origin(), attributes, principal, (&*text(lookup)).into());
            ir.credentials.insert(Id::from_u128(id), record);
        }
        Edit::Credential(id, None) => drop(ir.credentials.remove(&Id::from_u128(id))),
    }
}

/// The results of all queries.
fn answers(directory: &Directory) -> Vec<String> {
    let mut all = Vec::new();
    let principal = |found: Option<&Arc<PrincipalEntry>>| {
        format!("{:?}", found.map(|p| (p.id, Arc::as_ptr(&p.record), p.groups.clone())))
    };
    for number in 0..4 {
        let id = Id::from_u128(number);
        all.push(principal(directory.principal(&id)));
        all.push(directory.has_credentials(&id).to_string());
        for kind in KINDS {
            let attached = directory.attached(kind, &id).iter();
            all.push(format!("{:?}", attached.map(|e| (e.id, Arc::as_ptr(&e.record))).collect::<Vec<_>>()));
        }
    }
    for number in 0..3 {
        all.push(principal(directory.principal_by_name(&text(number))));
        all.push(principal(directory.principal_by_custom_id(&text(number))));
        for kind in KINDS {
            let found = directory.credential(kind, &text(number));
            all.push(format!("{:?}", found.map(|e| (e.id, Arc::as_ptr(&e.record), e.prepared.is_some()))));
        }
    }
    all.push(format!("{:?}", directory.diagnostics()));
    all
}

proptest! {
    #[test]
    fn what_is_changed_step_by_step_equals_what_is_built_at_once(
        steps in proptest::collection::vec(proptest::collection::vec(edit(), 0..6), 1..12),
    ) {
        let (mut ir, mut directory) = (Ir::default(), Directory::default());
        for step in steps {
            let mut next = ir.clone();
            step.into_iter().for_each(|edit| apply(&mut next, edit));
            let before = answers(&directory);
            let changes = ir.diff(&next);
            // Equal records must stay identical, as they are compared by address.
            next = ir.clone();
            next.apply(changes.clone());
            let changed = directory.rebuild(&changes, (&next, &Secrets::default()), &[&PLUGIN]);
            prop_assert_eq!(answers(&changed), answers(&Directory::build(&next, &[&PLUGIN]).0));
            prop_assert_eq!(answers(&directory), before, "the old one stays as it was");
            (ir, directory) = (next, changed);
        }
    }
}

#[test]
fn a_change_keeps_the_entries_of_others() {
    let mut ir = Ir::default();
    for number in 0..1_000_u32 {
        let name = Some(number);
        apply(&mut ir, Edit::Principal(number.into(), Some((name.map(|n| (n % 251) as u8), None, Vec::new()))));
    }
    let (old, _) = Directory::build(&ir, &[&PLUGIN]);
    let mut next = ir.clone();
    apply(&mut next, Edit::Principal(7, Some((Some(1), None, Vec::new()))));
    let new = old.rebuild(&ir.diff(&next), (&next, &Secrets::default()), &[&PLUGIN]);
    let same = (0..1_000_u32).map(|n| Id::from_u128(n.into())).filter(|id| {
        let (Some(a), Some(b)) = (old.principal(id), new.principal(id)) else { return false };
        Arc::ptr_eq(a, b)
    });
    assert_eq!(same.count(), 999);
}
