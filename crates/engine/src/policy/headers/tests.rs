use super::*;

fn check(edits: &HeaderEdits, before: &[(&str, &str)], after: &[(&str, &str)]) {
    let mut headers = HeaderList::new();
    for (name, value) in before {
        assert!(headers.append(name.as_bytes(), value.as_bytes()));
    }
    edit(edits, &mut headers);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let edited: Vec<_> = headers.iter().map(|(name, value)| (text(name), text(value))).collect();
    let after: Vec<_> = after.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    assert_eq!(edited, after, "{edits:?}");
}

fn pairs(list: &[(&str, &str)]) -> Vec<(Box<str>, Box<str>)> {
    list.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

#[test]
fn fields_are_removed_replaced_and_added() {
    let edits = HeaderEdits {
        remove: vec!["x-gone".into(), "x-back".into()],
        set: pairs(&[("X-Set", "new"), ("X-New", "1")]),
        add: pairs(&[("x-kept", "2"), ("X-Back", "again")]),
    };
    check(
        &edits,
        &[("X-Gone", "a"), ("X-Set", "a"), ("X-Kept", "1"), ("x_gone", "b"), ("x-set", "b"), ("X-Back", "old")],
        &[("X-Kept", "1"), ("X-Set", "new"), ("X-New", "1"), ("x-kept", "2"), ("X-Back", "again")],
    );
    check(&HeaderEdits::default(), &[("a", "b")], &[("a", "b")]);
}

#[test]
fn framing_connection_and_host_stay() {
    let names = ["Host", "content-length", "Transfer-Encoding", "connection", "Upgrade", "TE", "Expect", "Keep-Alive"];
    let fields: Vec<(&str, &str)> = names.iter().map(|name| (*name, "1")).collect();
    let edits = HeaderEdits {
        remove: names.iter().map(|name| (*name).into()).collect(),
        set: names.iter().map(|name| ((*name).into(), "2".into())).collect(),
        add: names.iter().map(|name| ((*name).into(), "3".into())).collect(),
    };
    check(&edits, &fields, &fields);
}

#[test]
fn malformed_fields_are_left_out() {
    let edits = HeaderEdits { add: pairs(&[("a b", "1"), ("c", "1\r\nd: 2"), ("e", "f")]), ..HeaderEdits::default() };
    check(&edits, &[], &[("e", "f")]);
}
