//! Input that tries to break a store.

use cardinal_store::{
    CommitError, DEPTH_MAX, Expect, ID_BYTES_MAX, Key, NAME_BYTES_MAX, Query, Reference, StoreError, TAG_BYTES_MAX,
    TagFilter, VALUE_BYTES_MAX, Write,
};
use serde_json::{Value, json};

use crate::world::{Subject, With as _, batch, document, key, thing};

const TEXTS: [&str; 13] = [
    "",
    "'",
    "\"",
    "\\",
    "\0",
    "a\0b",
    "'; DROP TABLE documents; --",
    "$1",
    "?%_*",
    "\u{1f980}\u{10ffff}",
    "e\u{301}",
    "\r\n\t\u{7f}\u{85}",
    "\u{feff}\u{202e}",
];

pub(super) async fn texts(s: Subject) {
    for (n, text) in TEXTS.into_iter().enumerate() {
        let id = format!("x{text}");
        let to = thing(&format!("targets/{text}"));
        let mut hostile = document(&id, json!({ "text": text, text: [text] })).named(text).tagged(&[text]).within(text);
        hostile.references.push(Reference {
            field: text.into(),
            to: to.key.clone(),
            on_delete: cardinal_store::OnDelete::Cascade,
        });
        hostile.uniques[0].name = text.into();
        let mut batch = batch(vec![to.put(), hostile.clone().put()]);
        batch.author.name = text.into();
        batch.author.from = text.into();
        s.store.commit(batch).await.unwrap();
        let read = s.get(&id).await.unwrap();
        assert_eq!((&read.value, &read.space, &read.tags), (&hostile.value, &hostile.space, &hostile.tags));
        assert_eq!(s.find("things", text, text).await.as_deref(), Some(&*id));
        let query = Query {
            space: Some(text.into()),
            tags: TagFilter::All(vec![text.into()]),
            reference: Some((text.into(), hostile.references[0].to.clone())),
            ..Query::all("things")
        };
        assert_eq!(s.ids(query).await, [&*id]);
        let revision = 1 + n as u64;
        let change = s.store.changes(revision - 1, 9).await.unwrap().remove(1);
        assert_eq!((change.author.name.as_ref(), change.new), (text, Some(hostile.value)));
    }
    assert_eq!(s.ids(Query::all("things")).await.len(), TEXTS.len());
    cardinal_store::verify(s.store.log()).await.unwrap();
    let empty = Key::new("", "");
    s.ok(vec![Write::Put(Box::new(cardinal_store::NewDocument { key: empty.clone(), ..thing("a") }), Expect::Absent)])
        .await;
    assert!(s.store.get(empty).await.unwrap().is_some());
}

pub(super) async fn numbers(s: Subject) {
    let value = json!([
        0,
        -0.0,
        1e300,
        5e-324,
        0.1,
        -1.5,
        1e21,
        123_456_789.123_456_78,
        i64::MIN,
        i64::MAX,
        u64::MAX,
        f64::MAX
    ]);
    s.ok(vec![document("n", value.clone()).put()]).await;
    assert_eq!(s.get("n").await.unwrap().value.to_string(), value.to_string());
    assert!(!s.commit(vec![document("n", value).put()]).await.unwrap().changed);
}

fn nested(levels: usize) -> Value {
    (0..levels).fold(json!("bottom"), |value, n| if n % 2 == 0 { json!([value]) } else { json!({ "x": value }) })
}

async fn too_large(s: &Subject, writes: Vec<Write>, hint: &str) {
    let before = s.everything().await;
    match s.commit(writes).await {
        Err(CommitError::Store(StoreError::TooLarge(text))) => assert!(text.contains(hint), "{text}"),
        Ok(_) => panic!("{hint}: accepted"),
        Err(other) => panic!("{hint}: {other:?}"),
    }
    assert_eq!(s.everything().await, before);
}

pub(super) async fn depth(s: Subject) {
    s.ok(vec![document("a", nested(DEPTH_MAX)).put()]).await;
    assert_eq!(s.get("a").await.unwrap().value, nested(DEPTH_MAX));
    too_large(&s, vec![thing("b").put(), document("c", nested(DEPTH_MAX + 1)).put()], "nested").await;
    too_large(&s, vec![document("c", nested(3 * DEPTH_MAX)).put()], "nested").await;
}

pub(super) async fn sizes(s: Subject) {
    let text = "x".repeat(8 << 20);
    s.ok(vec![document("a", json!(text)).put()]).await;
    assert_eq!(s.get("a").await.unwrap().value, json!(text));
    s.ok(vec![document("a", json!(null)).put()]).await;
    assert_eq!(s.store.changes(1, 1).await.unwrap()[0].old, Some(json!(text)));
    too_large(&s, vec![document("b", json!("x".repeat(VALUE_BYTES_MAX))).put()], "bytes").await;
}

pub(super) async fn lengths(s: Subject) {
    let (name, id, tag) = ("n".repeat(NAME_BYTES_MAX), "\u{80}".repeat(ID_BYTES_MAX / 2), "t".repeat(TAG_BYTES_MAX));
    let long = || {
        let mut long = thing(&format!("{name}/{id}")).named(&"v".repeat(100_000)).tagged(&[&tag]).within(&id);
        long.uniques[0].name = name.as_str().into();
        let to = Key::new(name.as_str(), id.as_str());
        long.references.push(Reference {
            field: name.as_str().into(),
            to,
            on_delete: cardinal_store::OnDelete::Restrict,
        });
        long
    };
    s.ok(vec![long().put()]).await;
    assert_eq!(s.find(&name, &name, &"v".repeat(100_000)).await.as_deref(), Some(&*id));
    let query = Query { tags: TagFilter::Any(vec![tag.as_str().into()]), ..Query::all(name.as_str()) };
    assert_eq!(s.ids(query).await, [&*id]);
    let more = |text: &str| format!("{text}x").into();
    let mut variants = vec![long(); 7];
    variants[0].key.kind = more(&name);
    variants[1].key.id = more(&id);
    variants[2].space = more(&id);
    variants[3].tags[0] = more(&tag);
    variants[4].uniques[0].name = more(&name);
    variants[5].references[0].field = more(&name);
    variants[6].references[0].to.id = more(&id);
    for variant in variants {
        too_large(&s, vec![variant.put()], "the maximum is").await;
    }
    too_large(&s, vec![Write::Delete(Key::new(more(&name), "a"), Expect::Any)], "the maximum is").await;
    let mut twice = thing("a").below("b").below("b");
    twice.references[1].field = twice.references[0].field.clone();
    too_large(&s, vec![thing("b").put(), twice.put()], "two references").await;
    // Reading what cannot exist is no error.
    assert_eq!(s.store.get(Key::new(more(&name), more(&id))).await.unwrap(), None);
    assert_eq!(s.store.get(key("no")).await.unwrap(), None);
}
