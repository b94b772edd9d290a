//! Single documents and batches.

use cardinal_store::{CommitError, Committed, Document, Expect, Violation, Write};
use serde_json::json;

use crate::world::{Subject, With as _, batch, delete, document, key, thing};

pub(super) async fn a_document_is_what_was_written(s: Subject) {
    assert_eq!(s.get("a").await, None);
    let value = json!({ "z": 1, "a": [true, null, -0.5, "text"], "m": {} });
    let committed = s.commit(vec![document("a", value.clone()).tagged(&["x", "y"]).within("w").put()]).await.unwrap();
    let tags = vec!["x".into(), "y".into()];
    let expected = Document { key: key("a"), space: "w".into(), value: value.clone(), revision: 1, tags };
    assert_eq!(
        committed,
        Committed { revision: 1, changed: true, documents: vec![Some(expected.clone())], deleted: vec![] }
    );
    let read = s.get("a").await.unwrap();
    assert_eq!(read, expected);
    assert_eq!(read.value.to_string(), value.to_string(), "fields keep their order");
    assert_eq!(s.store.snapshot().await.unwrap(), (1, vec![expected]));
    let committed = s.commit(vec![delete("a")]).await.unwrap();
    assert_eq!(committed, Committed { revision: 2, changed: true, documents: vec![None], deleted: vec![key("a")] });
    assert_eq!(s.get("a").await, None);
    assert_eq!(s.store.status().await.unwrap().documents, 0);
}

pub(super) async fn expectations(s: Subject) {
    let expectation = |found| Violation::Expectation { key: key("a"), found };
    for expect in [Expect::Present, Expect::Revision(0), Expect::Revision(1)] {
        assert_eq!(s.violation(vec![thing("b").put(), thing("a").put_if(expect)]).await, (1, expectation(None)));
        assert_eq!(s.violation(vec![Write::Delete(key("a"), expect)]).await, (0, expectation(None)));
    }
    assert_eq!(s.ok(vec![thing("a").put_if(Expect::Absent)]).await, 1);
    for expect in [Expect::Absent, Expect::Revision(0), Expect::Revision(2)] {
        assert_eq!(s.violation(vec![thing("a").put_if(expect)]).await, (0, expectation(Some(1))));
        assert_eq!(s.violation(vec![Write::Delete(key("a"), expect)]).await, (0, expectation(Some(1))));
    }
    assert_eq!(s.ok(vec![document("a", json!(2)).put_if(Expect::Revision(1))]).await, 2);
    assert_eq!(s.ok(vec![document("a", json!(3)).put_if(Expect::Present)]).await, 3);
    assert_eq!(s.ok(vec![Write::Delete(key("a"), Expect::Revision(3))]).await, 4);
}

pub(super) async fn expected_revision_of_the_store(s: Subject) {
    s.ok(vec![thing("a").put()]).await;
    let mut stale = batch(vec![thing("b").put()]);
    stale.revision = Some(0);
    match s.store.commit(stale.clone()).await {
        Err(CommitError::Stale { found: 1, expected: 0 }) => {}
        other => panic!("{other:?}"),
    }
    stale.revision = Some(1);
    assert_eq!(s.store.commit(stale).await.unwrap().revision, 2);
}

pub(super) async fn an_equal_put_is_no_change(s: Subject) {
    let a = || document("a", json!({ "x": 1, "y": 2 })).named("a").tagged(&["t"]).below("b").secret("/x");
    s.ok(vec![a().put(), thing("b").put()]).await;
    let before = s.everything().await;
    let committed = s.commit(vec![a().put_if(Expect::Present)]).await.unwrap();
    assert_eq!((committed.revision, committed.changed), (1, false));
    assert_eq!(committed.documents, vec![s.get("a").await]);
    let mut other_order = a();
    other_order.value = json!({ "y": 2, "x": 1 });
    assert!(!s.commit(vec![other_order.put()]).await.unwrap().changed);
    assert!(!s.commit(vec![delete("no")]).await.unwrap().changed);
    assert_eq!(s.everything().await, before);
    // Beside a change the equal document keeps its revision.
    let committed = s.commit(vec![a().put(), thing("c").put()]).await.unwrap();
    let revisions: Vec<u64> = committed.documents.iter().flatten().map(|document| document.revision).collect();
    assert_eq!((committed.revision, revisions), (2, vec![1, 2]));
}

pub(super) async fn every_part_of_a_document_is_a_change(s: Subject) {
    s.ok(vec![thing("x").put(), thing("a").put()]).await;
    let variants = [
        thing("a").named("n"),
        thing("a").tagged(&["t"]),
        thing("a").within("w"),
        thing("a").below("x"),
        thing("a").restricted_by("x"),
        thing("a").secret("/id"),
        document("a", json!({ "id": "a", "n": null })),
    ];
    for (variant, revision) in variants.into_iter().zip(2..) {
        assert_eq!(s.ok(vec![variant.put()]).await, revision);
    }
    // 1 and 1.0 are different numbers for whoever reads the document as text.
    s.ok(vec![document("n", json!(1)).put()]).await;
    assert!(s.commit(vec![document("n", json!(1.0)).put()]).await.unwrap().changed);
}

pub(super) async fn a_document_is_written_once(s: Subject) {
    let repeated = (1, Violation::Repeated { key: key("a") });
    assert_eq!(s.violation(vec![thing("a").put(), thing("a").put()]).await, repeated);
    assert_eq!(s.violation(vec![thing("a").put(), delete("a")]).await, repeated);
    assert_eq!(s.violation(vec![delete("a"), delete("a")]).await, repeated);
    let repeated = (2, Violation::Repeated { key: key("a") });
    assert_eq!(s.violation(vec![delete("a"), thing("a").put(), thing("a").put()]).await, repeated);
    assert_eq!(s.violation(vec![delete("a"), thing("a").put(), delete("a")]).await, repeated);
}

pub(super) async fn a_document_is_deleted_and_made_anew(s: Subject) {
    s.ok(vec![thing("a").named("x").put(), thing("b").put()]).await;
    let anew = || vec![Write::Delete(key("a"), Expect::Present), document("a", json!(2)).named("x").put()];
    let committed = s.commit(anew()).await.unwrap();
    let written = Document { key: key("a"), space: "".into(), value: json!(2), revision: 2, tags: vec![] };
    assert_eq!(
        committed,
        Committed { revision: 2, changed: true, documents: vec![None, Some(written.clone())], deleted: vec![] }
    );
    assert_eq!((s.get("a").await, s.find("things", "name", "x").await.as_deref()), (Some(written), Some("a")));
    let changes = s.store.changes(1, 10).await.unwrap();
    let states: Vec<_> = changes.iter().map(|one| (one.old.is_some(), one.new.is_some())).collect();
    assert_eq!(states, [(true, false), (false, true)], "the log has both");
    // The expectation of the second write is about the state after the deletion.
    let writes = vec![delete("a"), thing("a").put_if(Expect::Absent)];
    assert_eq!(s.ok(writes).await, 3);
    let writes = vec![delete("a"), thing("a").put_if(Expect::Present)];
    assert_eq!(s.violation(writes).await, (1, Violation::Expectation { key: key("a"), found: None }));
    cardinal_store::verify(s.store.log()).await.unwrap();
}

pub(super) async fn an_empty_batch_is_no_change(s: Subject) {
    let committed = s.commit(vec![]).await.unwrap();
    assert_eq!(committed, Committed { revision: 0, changed: false, documents: vec![], deleted: vec![] });
    assert_eq!(s.store.generations(None, 10).await.unwrap(), vec![]);
}

pub(super) async fn revisions_only_grow(s: Subject) {
    for round in 1..=20 {
        assert_eq!(s.ok(vec![document("a", json!(round)).put()]).await, round);
        s.violation(vec![thing("a").put_if(Expect::Absent)]).await;
        assert_eq!(s.revision().await, round);
    }
}

pub(super) async fn a_dropped_commit_is_applied_or_not(s: Subject) {
    for round in 0..10 {
        let id = format!("a{round}");
        let mut commit = Box::pin(s.commit(vec![thing(&id).named(&id).put(), thing(&format!("b{round}")).put()]));
        let _polled_once = futures_util::poll!(&mut commit);
        drop(commit);
    }
    s.ok(vec![thing("last").put()]).await;
    for round in 0..10 {
        let both = [s.get(&format!("a{round}")).await.is_some(), s.get(&format!("b{round}")).await.is_some()];
        assert_eq!(both[0], both[1], "half of a batch was applied");
        assert_eq!(s.find("things", "name", &format!("a{round}")).await.is_some(), both[0]);
    }
    cardinal_store::verify(s.store.log()).await.unwrap();
}
