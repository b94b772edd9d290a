//! Lists.

use cardinal_store::{Query, TagFilter};
use serde_json::json;

use crate::world::{Subject, With as _, delete, document, key, thing};

fn page(after: Option<&str>, limit: usize) -> Query {
    Query { after: after.map(Into::into), limit, ..Query::all("things") }
}

async fn fill(s: &Subject, count: usize) {
    s.ok((0..count).map(|n| thing(&format!("{n:04}")).put()).collect()).await;
}

pub(super) async fn pages(s: Subject) {
    assert_eq!(s.store.list(Query::all("things")).await.unwrap(), cardinal_store::Page::default());
    fill(&s, 25).await;
    for limit in [1, 7, 24, 25, 26] {
        let (mut after, mut ids, mut count) = (None, Vec::new(), 0);
        loop {
            let page = s.store.list(page(after.as_deref(), limit)).await.unwrap();
            count += 1;
            assert!(!page.documents.is_empty() && page.documents.len() <= limit);
            ids.extend(page.documents.iter().map(|document| document.key.id.to_string()));
            match page.next {
                Some(next) => after = Some(next.to_string()),
                None => break,
            }
        }
        assert_eq!(count, 25_usize.div_ceil(limit));
        assert_eq!(ids, (0..25).map(|n| format!("{n:04}")).collect::<Vec<_>>());
    }
}

pub(super) async fn pages_under_writes(s: Subject) {
    fill(&s, 60).await;
    let (mut after, mut ids): (Option<String>, _) = (None, Vec::new());
    for round in 0.. {
        let page = s.store.list(page(after.as_deref(), 7)).await.unwrap();
        ids.extend(page.documents.iter().map(|document| document.key.id.to_string()));
        let Some(next) = page.next else { break };
        // The cursor is deleted, and documents come and go before and behind it.
        let (new, gone) = (format!("{next}x"), format!("{:04}", 59 - round));
        s.ok(vec![delete(&next), thing(&new).put(), thing(&format!("0000{round}")).put(), delete(&gone)]).await;
        after = Some(next.to_string());
    }
    let mut sorted = ids.clone();
    sorted.sort();
    sorted.dedup();
    assert_eq!(sorted, ids, "in order, and none twice");
    let stable: Vec<String> = (0..40).map(|n| format!("{n:04}")).collect();
    assert!(stable.iter().all(|id| ids.contains(id)), "none that was there all the time is left out: {ids:?}");
}

pub(super) async fn tags(s: Subject) {
    s.ok(vec![
        thing("1").tagged(&["a"]).put(),
        thing("2").tagged(&["b", "a"]).put(),
        thing("3").tagged(&["b", "c", "b"]).put(),
        thing("4").put(),
        thing("others/5").tagged(&["a", "b"]).put(),
    ])
    .await;
    let list = |tags, limit| s.ids(Query { tags, limit, ..Query::all("things") });
    let texts = |tags: &[&str]| tags.iter().map(|tag| (*tag).into()).collect::<Vec<_>>();
    for (tags, all, any) in [
        (vec!["a"], vec!["1", "2"], vec!["1", "2"]),
        (vec!["a", "b"], vec!["2"], vec!["1", "2", "3"]),
        (vec!["a", "a"], vec!["1", "2"], vec!["1", "2"]),
        (vec!["c", "no"], vec![], vec!["3"]),
        (vec!["A"], vec![], vec![]),
        (vec![], vec!["1", "2", "3", "4"], vec![]),
    ] {
        assert_eq!(list(TagFilter::All(texts(&tags)), 100).await, all, "all of {tags:?}");
        assert_eq!(list(TagFilter::Any(texts(&tags)), 100).await, any, "any of {tags:?}");
    }
    let query = Query { tags: TagFilter::Any(texts(&["a", "b"])), limit: 2, ..Query::all("things") };
    let first = s.store.list(query.clone()).await.unwrap();
    assert_eq!(first.next.as_deref(), Some("2"));
    assert_eq!(s.ids(Query { after: first.next, ..query }).await, ["3"]);
    // A changed tag is found, a removed one is not.
    s.ok(vec![thing("1").tagged(&["d"]).put()]).await;
    assert_eq!(list(TagFilter::All(texts(&["a"])), 100).await, ["2"]);
    assert_eq!(list(TagFilter::All(texts(&["d"])), 100).await, ["1"]);
}

pub(super) async fn a_reference(s: Subject) {
    s.ok(vec![
        thing("x").put(),
        thing("y").put(),
        thing("a").below("x").put(),
        thing("b").below("y").below("x").put(),
        thing("c").below("x").tagged(&["t"]).put(),
        thing("others/d").below("x").put(),
    ])
    .await;
    let by = |field: &str, to| Query { reference: Some((field.into(), key(to))), ..Query::all("things") };
    assert_eq!(s.ids(by("cascade0", "x")).await, ["a", "c"]);
    assert_eq!(s.ids(by("cascade1", "x")).await, ["b"]);
    assert_eq!(s.ids(by("cascade0", "others/x")).await, Vec::<String>::new());
    assert_eq!(s.ids(Query { after: Some("a".into()), ..by("cascade0", "x") }).await, ["c"]);
    let both = Query { tags: TagFilter::All(vec!["t".into()]), space: Some("".into()), ..by("cascade0", "x") };
    assert_eq!(s.ids(both).await, ["c"]);
    s.ok(vec![thing("a").below("y").put()]).await;
    assert_eq!(s.ids(by("cascade0", "x")).await, ["c"]);
}

pub(super) async fn a_space(s: Subject) {
    s.ok(vec![thing("a").within("1").put(), thing("b").within("2").put(), thing("c").put()]).await;
    let within = |space: &str| Query { space: Some(space.into()), ..Query::all("things") };
    assert_eq!(s.ids(within("1")).await, ["a"]);
    assert_eq!(s.ids(within("")).await, ["c"]);
    assert_eq!(s.ids(Query::all("things")).await, ["a", "b", "c"]);
    // Ids are those of a kind, whatever the space.
    s.ok(vec![thing("a").within("2").put()]).await;
    assert_eq!(s.ids(within("2")).await, ["a", "b"]);
}

pub(super) async fn ids_are_ordered_by_bytes(s: Subject) {
    let mut ids = ["a", "B", "b", "_", "ä", "z", "\u{ffff}", "\u{10000}", "a\0", "a b", "A", "0", "10", "9", "a'"];
    s.ok(ids.iter().map(|id| thing(id).put()).collect()).await;
    ids.sort();
    assert_eq!(s.ids(Query::all("things")).await, ids);
    let order: Vec<String> =
        s.store.snapshot().await.unwrap().1.into_iter().map(|document| document.key.id.to_string()).collect();
    assert_eq!(order, ids);
}

pub(super) async fn limits_of_pages(s: Subject) {
    fill(&s, 3).await;
    assert_eq!(s.ids(page(None, 0)).await.len(), 1);
    assert_eq!(s.ids(page(None, usize::MAX)).await.len(), 3);
    assert_eq!(s.ids(page(Some(""), 5)).await.len(), 3);
    assert_eq!(s.ids(page(Some("zzz"), 5)).await.len(), 0);
}

pub(super) async fn kinds(s: Subject) {
    s.ok(vec![thing("b/1").put(), thing("a/2").put(), document("a/1", json!([])).put(), thing("ab/0").put()]).await;
    assert_eq!(s.ids(Query::all("a")).await, ["1", "2"]);
    let keys: Vec<String> =
        s.store.snapshot().await.unwrap().1.iter().map(|document| document.key.to_string()).collect();
    assert_eq!(keys, ["a/1", "a/2", "ab/0", "b/1"]);
}
