//! Unique keys.

use cardinal_store::Violation;

use crate::world::{Subject, With as _, delete, key, thing};

fn taken(owner: &str) -> Violation {
    Violation::Unique { name: "name".into(), owner: key(owner) }
}

pub(super) async fn one_owner(s: Subject) {
    s.ok(vec![thing("a").named("x").put()]).await;
    assert_eq!(s.violation(vec![thing("b").named("y").put(), thing("c").named("x").put()]).await, (1, taken("a")));
    assert_eq!(s.find("things", "name", "x").await.as_deref(), Some("a"));
    assert_eq!(s.find("things", "name", "y").await, None);
    assert_eq!(s.find("things", "nam", "ex").await, None);
    // The document itself may keep it, and may say it twice.
    assert_eq!(s.ok(vec![thing("a").named("x").named("x").put()]).await, 2);
    assert_eq!(s.ok(vec![delete("a")]).await, 3);
    assert_eq!(s.find("things", "name", "x").await, None);
}

pub(super) async fn keys_are_exchanged_in_a_batch(s: Subject) {
    s.ok(vec![thing("a").named("x").put(), thing("b").named("y").put(), thing("c").named("z").put()]).await;
    s.ok(vec![thing("a").named("y").put(), thing("b").named("z").put(), thing("c").named("x").put()]).await;
    for (name, owner) in [("x", "c"), ("y", "a"), ("z", "b")] {
        assert_eq!(s.find("things", "name", name).await.as_deref(), Some(owner));
    }
    // Half of an exchange is none.
    assert_eq!(s.violation(vec![thing("a").named("z").put()]).await, (0, taken("b")));
}

pub(super) async fn a_key_moves_from_a_deleted_document(s: Subject) {
    s.ok(vec![thing("a").named("x").put()]).await;
    s.ok(vec![thing("b").named("x").put(), delete("a")]).await;
    assert_eq!(s.find("things", "name", "x").await.as_deref(), Some("b"));
}

pub(super) async fn kinds_do_not_share_keys(s: Subject) {
    s.ok(vec![thing("a").named("x").put(), thing("others/a").named("x").put()]).await;
    assert_eq!(s.find("others", "name", "x").await.as_deref(), Some("a"));
    s.ok(vec![delete("others/a")]).await;
    assert_eq!(s.find("things", "name", "x").await.as_deref(), Some("a"));
}

pub(super) async fn a_key_twice_in_a_batch(s: Subject) {
    assert_eq!(s.violation(vec![thing("a").named("x").put(), thing("b").named("x").put()]).await, (1, taken("a")));
    s.ok(vec![thing("a").named("x").put(), thing("b").named("y").put()]).await;
    // Both are rewritten, so neither owns it any more; the first to ask for it does.
    assert_eq!(s.violation(vec![thing("b").named("z").put(), thing("a").named("z").put()]).await, (1, taken("b")));
}

pub(super) async fn a_replaced_document_gives_its_keys_back(s: Subject) {
    s.ok(vec![thing("a").named("x").put()]).await;
    s.ok(vec![thing("a").put()]).await;
    assert_eq!(s.find("things", "name", "x").await, None);
    s.ok(vec![thing("b").named("x").put()]).await;
}

pub(super) async fn a_cascade_gives_keys_back(s: Subject) {
    s.ok(vec![thing("top").put(), thing("a").named("x").below("top").put()]).await;
    s.ok(vec![delete("top"), thing("b").named("x").put()]).await;
    assert_eq!(s.find("things", "name", "x").await.as_deref(), Some("b"));
    assert_eq!(s.get("a").await, None);
}
