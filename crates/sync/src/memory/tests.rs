#![allow(clippy::disallowed_methods, reason = "tests take the values and the panics of their tasks")]

use cardinal_ir::{Code, Diagnostic, Diagnostics, Id, Origin, PrincipalGroup, RecordKind, Severity};

use super::*;
use crate::{RecordResult, Refusal};

fn id(number: u128) -> Id {
    Id::from_u128(number)
}

fn origin(number: u128) -> Origin {
    Origin::new("test", "groups", id(number))
}

fn put(numbers: &[u128], name: &str) -> IrDelta {
    let group = |number: &u128| (id(*number), Some(PrincipalGroup { origin: origin(*number), name: name.into() }));
    IrDelta { groups: numbers.iter().map(group).collect(), ..IrDelta::default() }
}

fn error(number: u128) -> Diagnostic {
    Diagnostic {
        severity: Severity::Error,
        code: Code::Invariant,
        origin: origin(number),
        location: None,
        path: String::new(),
        message: "is odd".to_owned(),
        hint: None,
    }
}

/// Applies updates; an update with a record named "odd" is served without the record, one with "broken" is rejected.
async fn follow(mut source: MemorySource) -> Arc<Ir> {
    let mut generation = 0;
    while let Some(update) = source.next().await {
        let named = |name: &str| update.delta().groups.put().find(|(_, group)| &*group.name == name).map(|(id, _)| id);
        let ack = match named("broken") {
            Some(id) => Ack::Refused(Refusal::Invalid(Diagnostics::from(error(id.as_u128())))),
            None => {
                generation += 1;
                let diagnostics = named("odd").map(|id| error(id.as_u128())).into_iter().collect();
                Ack::Applied { generation, diagnostics }
            }
        };
        for (kind, id, result) in update.results(&ack) {
            assert_eq!(kind, RecordKind::PrincipalGroup);
            let expected = match (named("broken"), named("odd")) {
                (Some(broken), _) if broken != id => "withheld",
                (Some(_), _) => "rejected",
                (_, Some(odd)) if odd == id => "rejected",
                _ => "accepted",
            };
            let got = match result {
                RecordResult::Accepted => "accepted",
                RecordResult::Rejected(_) => "rejected",
                RecordResult::Withheld => "withheld",
            };
            assert_eq!(got, expected);
        }
        source.ack(ack);
    }
    Arc::clone(source.served())
}

#[tokio::test]
async fn changes_are_acknowledged_one_by_one() {
    let status = Arc::<ConfigStatus>::default();
    let (handle, source) = MemorySource::new(Arc::clone(&status));
    let following = tokio::spawn(follow(source));
    let generation = |ack: Ack| match ack {
        Ack::Applied { generation, .. } => Some(generation),
        Ack::Refused(_) => None,
    };
    assert_eq!(generation(handle.apply(put(&[1, 2], "a")).await.unwrap()), Some(1));
    let refused = handle.apply(put(&[2], "broken")).await.unwrap();
    assert!(matches!(refused.result_of(&origin(2)), RecordResult::Rejected(error) if error.message == "is odd"));
    assert_eq!(refused.result_of(&origin(1)), RecordResult::Withheld);
    assert!(!status.state().successful && status.state().reloads_failed == 1);
    // Rejected records are not part of the next generation.
    let odd = handle.apply(put(&[3], "odd")).await.unwrap();
    assert_eq!(odd.result_of(&origin(1)), RecordResult::Accepted);
    assert_eq!(odd.errors().count(), 1);
    assert_eq!((status.state().successful, status.state().incomplete.left_out.count()), (true, 1));
    let mut replacement = Ir::default();
    replacement.apply(put(&[7], "z"));
    assert_eq!(generation(handle.replace(Arc::new(replacement)).await.unwrap()), Some(3));
    assert_eq!(generation(handle.apply(put(&[8], "y")).await.unwrap()), Some(4));
    drop(handle);
    let served = following.await.unwrap();
    let names: Vec<&str> = served.groups.values().map(|group| &*group.name).collect();
    assert_eq!(names, ["z", "y"]);
}

#[tokio::test]
async fn senders_learn_that_nothing_follows() {
    let (handle, mut source) = MemorySource::new(Arc::default());
    let sent = tokio::spawn({
        let handle = handle.clone();
        async move { handle.apply(put(&[1], "a")).await }
    });
    assert!(source.next().await.is_some());
    drop(source);
    assert_eq!(sent.await.unwrap(), Err(Ended));
    assert_eq!(handle.apply(IrDelta::default()).await, Err(Ended));
}
