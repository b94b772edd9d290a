//! References between documents.

use cardinal_store::{Expect, Violation, Write};

use crate::world::{Subject, With as _, delete, key, thing};

fn missing(field: &str, to: &str) -> Violation {
    Violation::Missing { field: field.into(), to: key(to) }
}

fn referenced(what: &str, by: &str, field: &str) -> Violation {
    Violation::Referenced { key: key(what), by: key(by), field: field.into() }
}

async fn deleted(s: &Subject, writes: Vec<Write>) -> Vec<String> {
    let committed = s.commit(writes).await.unwrap();
    let mut ids: Vec<String> = committed.deleted.iter().map(|key| key.id.to_string()).collect();
    ids.sort();
    for id in &ids {
        assert_eq!(s.get(id).await, None);
    }
    ids
}

pub(super) async fn a_target_must_exist(s: Subject) {
    let writes = vec![thing("x").put(), thing("a").below("x").below("y").put()];
    assert_eq!(s.violation(writes).await, (1, missing("cascade1", "y")));
    let writes = vec![thing("others/y").put(), thing("a").below("y").put()];
    assert_eq!(s.violation(writes).await, (1, missing("cascade0", "y")), "of another kind");
}

pub(super) async fn the_order_of_writes_does_not_matter(s: Subject) {
    s.ok(vec![thing("c").below("b").put(), thing("b").below("a").put(), thing("a").put()]).await;
    s.ok(vec![thing("e").put(), thing("f").below("e").put()]).await;
    s.ok(vec![delete("a"), thing("c").below("e").put(), delete("b")]).await;
    assert!(s.get("c").await.is_some());
}

pub(super) async fn restricted(s: Subject) {
    s.ok(vec![thing("a").put(), thing("b").restricted_by("a").put()]).await;
    let found = s.violation(vec![thing("c").put(), delete("a")]).await;
    assert_eq!(found, (1, referenced("a", "b", "restrict0")));
    assert_eq!(deleted(&s, vec![delete("a"), delete("b")]).await, ["a", "b"]);
}

pub(super) async fn cascades_are_transitive(s: Subject) {
    s.ok(vec![thing("a").put()]).await;
    for n in 1..=30 {
        let above = if n == 1 { "a".to_owned() } else { format!("b{:02}", n - 1) };
        s.ok(vec![thing(&format!("b{n:02}")).below(&above).put()]).await;
    }
    assert_eq!(deleted(&s, vec![delete("a")]).await.len(), 31);
    let changes = s.store.changes(31, 100).await.unwrap();
    assert_eq!(changes.len(), 31);
    assert!(changes.iter().all(|change| change.cascaded == (change.key != key("a"))));
    assert_eq!(s.store.status().await.unwrap().documents, 0);
}

pub(super) async fn a_diamond(s: Subject) {
    let writes = vec![thing("a").put(), thing("l").below("a").put(), thing("r").below("a").put()];
    s.ok(writes).await;
    s.ok(vec![thing("z").below("l").below("r").put(), thing("other").put()]).await;
    assert_eq!(deleted(&s, vec![delete("a")]).await, ["a", "l", "r", "z"]);
    assert!(s.get("other").await.is_some());
}

pub(super) async fn a_cycle(s: Subject) {
    s.ok(vec![thing("a").below("c").put(), thing("b").below("a").put(), thing("c").below("b").put()]).await;
    assert_eq!(deleted(&s, vec![delete("b")]).await, ["a", "b", "c"]);
}

pub(super) async fn a_reference_to_itself(s: Subject) {
    s.ok(vec![thing("a").below("a").put(), thing("b").restricted_by("b").put()]).await;
    assert_eq!(deleted(&s, vec![delete("a"), delete("b")]).await, ["a", "b"]);
}

pub(super) async fn a_restriction_below_a_cascade(s: Subject) {
    s.ok(vec![thing("a").put(), thing("b").below("a").put(), thing("c").restricted_by("b").put()]).await;
    assert_eq!(s.violation(vec![delete("a")]).await, (0, referenced("b", "c", "restrict0")));
    assert_eq!(deleted(&s, vec![delete("a"), delete("c")]).await, ["a", "b", "c"]);
}

pub(super) async fn a_restriction_within_a_cascade(s: Subject) {
    // The document that restricts is deleted, too.
    let writes = vec![thing("a").put(), thing("b").below("a").put(), thing("c").below("a").restricted_by("b").put()];
    s.ok(writes).await;
    s.ok(vec![thing("d").below("a").restricted_by("a").put()]).await;
    assert_eq!(deleted(&s, vec![delete("a")]).await, ["a", "b", "c", "d"]);
}

pub(super) async fn a_target_deleted_in_the_same_batch(s: Subject) {
    s.ok(vec![thing("a").put(), thing("b").below("a").put()]).await;
    // What is written is not deleted by cascade, so its reference leads nowhere.
    assert_eq!(s.violation(vec![delete("a"), thing("b").below("a").put()]).await, (1, missing("cascade0", "a")));
    // The same if the target is deleted by cascade.
    assert_eq!(s.violation(vec![delete("a"), thing("c").below("b").put()]).await, (1, missing("cascade0", "b")));
    let absent = Write::Delete(key("no"), Expect::Absent);
    assert_eq!(s.violation(vec![absent, thing("c").below("no").put()]).await, (1, missing("cascade0", "no")));
}

pub(super) async fn a_reference_removed_in_the_same_batch(s: Subject) {
    s.ok(vec![thing("a").put(), thing("b").restricted_by("a").put(), thing("c").below("a").put()]).await;
    assert_eq!(deleted(&s, vec![delete("a"), thing("b").put(), thing("c").put()]).await, ["a"]);
    // Nothing remembers the references.
    s.ok(vec![thing("a").put()]).await;
    assert_eq!(deleted(&s, vec![delete("a")]).await, ["a"]);
}

pub(super) async fn the_first_write_with_a_violation_is_named(s: Subject) {
    s.ok(vec![thing("a").put(), thing("b").put(), thing("c").below("b").below("a").put()]).await;
    s.ok(vec![thing("x").restricted_by("c").put(), thing("y").restricted_by("c").put()]).await;
    // Both deletions lead to it, one over fewer steps.
    s.ok(vec![thing("d").put(), thing("e").below("d").put(), thing("f").below("e").put()]).await;
    assert_eq!(s.violation(vec![delete("b"), delete("a")]).await, (0, referenced("c", "x", "restrict0")));
    s.ok(vec![thing("z").restricted_by("f").put()]).await;
    assert_eq!(s.violation(vec![delete("d"), delete("f")]).await, (0, referenced("f", "z", "restrict0")));
    // Expectations come before restrictions, unique keys before missing targets.
    let writes = vec![delete("d"), thing("a").put_if(Expect::Absent)];
    assert!(matches!(s.violation(writes).await, (1, Violation::Expectation { .. })));
    s.ok(vec![thing("n").named("n").put()]).await;
    let writes = vec![thing("q").below("no").put(), thing("r").named("n").put()];
    assert!(matches!(s.violation(writes).await, (1, Violation::Unique { .. })));
}

pub(super) async fn a_target_that_is_made_anew_loses_its_children(s: Subject) {
    s.ok(vec![thing("a").put(), thing("b").below("a").put(), thing("c").below("b").put(), thing("d").below("a").put()])
        .await;
    // What the batch writes stays, and what references it.
    let writes = vec![delete("a"), thing("a").put(), thing("d").below("a").put()];
    let committed = s.commit(writes).await.unwrap();
    let ids: Vec<&str> = committed.deleted.iter().map(|key| &*key.id).collect();
    assert_eq!(ids, ["b", "c"]);
    assert_eq!(s.ids(cardinal_store::Query::all("things")).await, ["a", "d"]);
    assert_eq!(deleted(&s, vec![delete("a")]).await, ["a", "d"], "the new reference is known");
    // A reference that forbids the deletion forbids this one, too.
    s.ok(vec![thing("a").put(), thing("b").restricted_by("a").put()]).await;
    assert_eq!(s.violation(vec![delete("a"), thing("a").put()]).await, (0, referenced("a", "b", "restrict0")));
    assert_eq!(deleted(&s, vec![delete("a"), thing("a").put(), delete("b")]).await, ["b"]);
}
