use super::behaviour::{Behaviour, Body, Cut, Framing};
use std::time::Duration;

#[test]
fn words_say_how_to_answer() {
    let words = "status:503, delay:5,bytes:10,part:2,framing:chunked,trailers,cut:body,reset,header:A=b=c,interim:103";
    let behaviour = Behaviour::of(Some(words), None).unwrap();
    assert_eq!((behaviour.status, behaviour.delay), (503, Duration::from_millis(5)));
    assert_eq!((behaviour.body, behaviour.part_bytes), (Body::Bytes(10), 2));
    assert_eq!((behaviour.framing, behaviour.trailers), (Some(Framing::Chunked), true));
    assert_eq!((behaviour.cut, behaviour.reset), (Some(Cut::Body), true));
    assert_eq!(behaviour.headers, [("A".to_owned(), "b=c".to_owned())]);
    assert_eq!(behaviour.interim, [103]);
}

#[test]
fn the_field_goes_before_the_query() {
    assert_eq!(Behaviour::of(None, Some("a=1&echo=status:404")).unwrap().status, 404);
    assert_eq!(Behaviour::of(Some("status:500"), Some("echo=status:404")).unwrap().status, 500);
    assert_eq!(Behaviour::of(None, None).unwrap(), Behaviour::default());
}

#[test]
fn misspelt_words_are_errors() {
    for words in ["stauts:503", "status:x", "body:", "cut:middle", "reset:1", "header:x"] {
        assert!(Behaviour::of(Some(words), None).is_err(), "{words}");
    }
}
