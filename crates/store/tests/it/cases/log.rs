//! The change log and what is built on it.

use std::time::Duration;

use cardinal_store::{StoreError, changed_since, documents_at, verify};
use serde_json::{Value, json};

use crate::world::{Subject, With as _, batch, delete, document, key, thing};

pub(super) async fn changes(s: Subject) {
    let at_ms = i64::try_from(cardinal_base::Clock::unix(&*s.clock).0).unwrap();
    s.ok(vec![document("a", json!(1)).within("w").put(), thing("b").below("a").put()]).await;
    s.clock.advance(Duration::from_millis(5));
    s.ok(vec![document("a", json!(2)).within("v").put()]).await;
    s.ok(vec![thing("c").put(), delete("a")]).await;
    let changes = s.store.changes(0, 100).await.unwrap();
    let short: Vec<_> = changes
        .iter()
        .map(|one| (one.revision, one.position, &*one.key.id, one.old.clone(), one.new.clone(), one.cascaded))
        .collect();
    let b = Some(json!({ "id": "b" }));
    assert_eq!(
        short,
        [
            (1, 0, "a", None, Some(json!(1)), false),
            (1, 1, "b", None, b.clone(), false),
            (2, 0, "a", Some(json!(1)), Some(json!(2)), false),
            (3, 0, "c", None, Some(json!({ "id": "c" })), false),
            (3, 1, "a", Some(json!(2)), None, false),
            (3, 2, "b", b, None, true),
        ]
    );
    let times: Vec<i64> = changes.iter().map(|change| change.at_ms - at_ms).collect();
    assert_eq!(times, [0, 0, 5, 5, 5, 5]);
    let spaces: Vec<&str> = changes.iter().map(|change| &*change.space).collect();
    assert_eq!(spaces, ["w", "", "v", "", "v", ""]);
    assert!(changes.iter().all(|change| change.author == batch(vec![]).author));
}

pub(super) async fn whole_revisions(s: Subject) {
    for round in 0..4 {
        s.ok((0..3).map(|n| document(&n.to_string(), json!(round)).put()).collect()).await;
    }
    for (after, max, count) in [
        (0, 1, 3),
        (0, 2, 3),
        (0, 3, 3),
        (0, 5, 3),
        (0, 6, 6),
        (0, 100, 12),
        (2, 4, 3),
        (3, 1, 3),
        (4, 9, 0),
        (9, 9, 0),
    ] {
        let changes = s.store.changes(after, max).await.unwrap();
        assert_eq!(changes.len(), count, "{max} after {after}");
        assert!(changes.iter().zip(0..).all(|(change, n)| change.revision == after + 1 + n / 3));
    }
    assert_eq!(s.store.changes(0, 0).await.unwrap().len(), 3);
}

pub(super) async fn generations(s: Subject) {
    for round in 0..5 {
        s.ok((0..=round).map(|n| document(&n.to_string(), json!(round)).put()).collect()).await;
        s.clock.advance(Duration::from_secs(1));
    }
    let list = async |before, max| {
        let generations = s.store.generations(before, max).await.unwrap();
        generations.iter().map(|one| (one.revision, one.changes)).collect::<Vec<_>>()
    };
    assert_eq!(list(None, 100).await, [(5, 5), (4, 4), (3, 3), (2, 2), (1, 1)]);
    assert_eq!(list(None, 2).await, [(5, 5), (4, 4)]);
    assert_eq!(list(Some(4), 2).await, [(3, 3), (2, 2)]);
    assert_eq!(list(Some(1), 2).await, []);
    assert_eq!(list(None, 0).await, []);
    let generations = s.store.generations(None, 2).await.unwrap();
    assert_eq!(generations[0].at_ms - generations[1].at_ms, 1_000);
    assert_eq!(generations[0].author, batch(vec![]).author);
}

pub(super) async fn the_watch(s: Subject) {
    let mut watch = s.store.watch();
    assert_eq!(*watch.borrow_and_update(), 0);
    s.ok(vec![thing("a").put()]).await;
    watch.changed().await.unwrap();
    assert_eq!(*watch.borrow_and_update(), 1);
    s.ok(vec![thing("a").put()]).await;
    s.violation(vec![thing("a").put_if(cardinal_store::Expect::Absent)]).await;
    s.ok(vec![thing("b").put()]).await;
    watch.wait_for(|revision| *revision == 2).await.unwrap();
    assert_eq!(*s.store.watch().borrow(), 2);
}

pub(super) async fn the_chain(s: Subject) {
    let verified = verify(s.store.log()).await.unwrap();
    assert_eq!((verified.entries, verified.revision, verified.hash), (0, 0, [0; 32]));
    for round in 0..3 {
        s.ok((0..800).map(|n| document(&n.to_string(), json!([n, round])).put()).collect()).await;
    }
    s.ok((0..800).map(|n| delete(&n.to_string())).collect()).await;
    let verified = verify(s.store.log()).await.unwrap();
    assert_eq!((verified.entries, verified.revision, verified.oldest), (3_200, 4, 0));
    assert_eq!(verified.hash, s.store.changes(3, 1_000).await.unwrap().last().unwrap().hash);
}

pub(super) async fn pruning(s: Subject) {
    for round in 0..5 {
        s.ok(vec![document("a", json!(round)).put(), document("b", json!(round)).put()]).await;
    }
    let hash = verify(s.store.log()).await.unwrap().hash;
    assert_eq!(s.store.prune(2).await.unwrap(), 2);
    assert_eq!(s.store.prune(1).await.unwrap(), 2);
    assert_eq!(s.store.status().await.unwrap().oldest, 2);
    match s.store.changes(1, 10).await {
        Err(StoreError::TooLarge(text)) => assert!(text.contains("revision 2"), "{text}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(s.store.changes(2, 100).await.unwrap().len(), 6);
    assert_eq!(s.store.generations(None, 100).await.unwrap().len(), 3);
    assert!(documents_at(s.store.store(), 1).await.is_err());
    assert_eq!(documents_at(s.store.store(), 2).await.unwrap()[&key("a")].value, json!(1));
    let verified = verify(s.store.log()).await.unwrap();
    assert_eq!((verified.entries, verified.oldest, verified.hash), (6, 2, hash));
    // The newest revision stays.
    assert_eq!(s.store.prune(100).await.unwrap(), 4);
    assert_eq!(s.ok(vec![delete("a")]).await, 6);
    assert_eq!(verify(s.store.log()).await.unwrap().entries, 3);
}

pub(super) async fn pruning_by_time(s: Subject) {
    let start = i64::try_from(cardinal_base::Clock::unix(&*s.clock).0).unwrap();
    for round in 0..5 {
        s.ok(vec![document("a", json!(round)).put()]).await;
        s.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(s.store.prune_before(start).await.unwrap(), 0);
    assert_eq!(s.store.prune_before(start + 1_500).await.unwrap(), 2);
    assert_eq!(s.store.prune_before(start + 2_000).await.unwrap(), 2);
    assert_eq!(s.store.prune_before(i64::MAX).await.unwrap(), 4);
    verify(s.store.log()).await.unwrap();
}

pub(super) async fn pruned_documents_are_verified(s: Subject) {
    let many = |round: usize| (0..1_100).map(move |n| document(&format!("{n:04}"), json!([n, round])).put()).collect();
    s.ok(many(0)).await;
    s.ok(many(1)).await;
    s.ok(vec![delete("0001"), thing("a").put(), delete("0002"), document("0002", json!(null)).put()]).await;
    s.ok(vec![delete("0003"), thing("b").within("w").put()]).await;
    for round in 0..3 {
        s.ok(vec![document("last", json!(round)).put()]).await;
    }
    for up_to in [1, 2, 3, 6] {
        assert_eq!(s.store.prune(up_to).await.unwrap(), up_to);
        let verified = verify(s.store.log()).await.unwrap();
        assert_eq!((verified.documents, verified.oldest), (1_101, up_to));
    }
    s.ok(vec![delete("b"), document("0000", json!(true)).put()]).await;
    assert_eq!(verify(s.store.log()).await.unwrap().documents, 1_100);
}

pub(super) async fn documents_at_a_revision(s: Subject) {
    let mut expected = vec![documents_at(s.store.store(), 0).await.unwrap()];
    let batches = [
        vec![document("a", json!(1)).put(), document("b", json!(1)).put()],
        vec![document("a", json!(2)).put(), thing("c").below("b").put()],
        vec![delete("b"), document("d", json!(null)).put()],
        vec![document("b", json!(4)).put(), delete("a"), delete("d")],
    ];
    for batch in batches {
        let revision = s.ok(batch).await;
        expected.push(documents_at(s.store.store(), revision).await.unwrap());
    }
    for (revision, expected) in (0..).zip(&expected) {
        assert_eq!(documents_at(s.store.store(), revision).await.unwrap(), *expected, "at {revision}");
    }
    let ids: Vec<Vec<&str>> = expected.iter().map(|documents| documents.keys().map(|key| &*key.id).collect()).collect();
    assert_eq!(ids, [vec![], vec!["a", "b"], vec!["a", "b", "c"], vec!["a", "d"], vec!["b"]]);
    assert_eq!(expected[3][&key("d")].value, Value::Null);
    assert!(documents_at(s.store.store(), 5).await.is_err(), "there is no such revision");
    let since = changed_since(s.store.store(), 3).await.unwrap();
    let states =
        since.documents.iter().map(|(key, changed)| (&*key.id, changed.before.is_some(), changed.now.is_some()));
    let expected = vec![("a", true, false), ("b", false, true), ("d", true, false)];
    assert_eq!((since.revision, states.collect::<Vec<_>>()), (4, expected));
}
