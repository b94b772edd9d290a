use std::time::Duration;

use cardinal_base::ManualClock;
use cardinal_ir::{Code, Id, Origin, Severity};

use super::*;

fn found(id: u128, message: &str) -> Diagnostic {
    Diagnostic {
        severity: Severity::Error,
        code: Code::Schema,
        origin: Origin::new("test", "plugins", Id::from_u128(id)),
        location: None,
        path: String::new(),
        message: message.to_owned(),
        hint: None,
    }
}

#[test]
fn entities_are_counted_once_and_the_first_are_kept() {
    let mut all: Vec<Diagnostic> = (0..30).map(|id| found(id, "a")).collect();
    all.push(found(3, "b"));
    let mut list = ProblemList::by_entity(&all);
    assert_eq!((list.count(), list.first().len()), (30, PROBLEMS_MAX));
    list.extend(ProblemList::by_entity(&all[..2]));
    assert_eq!((list.count(), list.first().len()), (32, PROBLEMS_MAX));
    assert_eq!(ProblemList::by_entity([&found(1, "first"), &found(1, "second")]).first()[0].message, "first");
}

#[test]
fn the_age_of_the_last_known_good_configuration_is_that_of_its_file() {
    let clock = Arc::new(ManualClock::at(UnixMillis(1_700_000_000_000)));
    let status = ConfigStatus::new(Arc::clone(&clock) as Arc<dyn Clock>);
    assert_eq!(status.last_good_age_seconds(), None);
    let saved_at = Some(UnixMillis(1_699_999_900_000));
    status.report(ConfigOutcome::LastGood { problems: Vec::new(), incomplete: Incomplete::default(), saved_at });
    assert_eq!(status.last_good_age_seconds(), Some(100));
    clock.advance(Duration::from_secs(60));
    assert_eq!(status.last_good_age_seconds(), Some(160));
    status.report(ConfigOutcome::Rejected(Vec::new()));
    assert_eq!(status.last_good_age_seconds(), Some(160), "it is still served");
    status.report(ConfigOutcome::Applied(Incomplete::default()));
    assert_eq!(status.last_good_age_seconds(), None);
}

#[test]
fn a_source_is_available_again() {
    let status = ConfigStatus::default();
    assert!(!status.accepts_empty() && ConfigStatus::default().accepting_empty().accepts_empty());
    status.set_revision(7);
    status.set_unavailable(Some("no route to host".to_owned()));
    status.report(ConfigOutcome::Applied(Incomplete::default()));
    assert_eq!(status.state().unavailable.as_deref(), Some("no route to host"), "this is not about the last reload");
    status.set_unavailable(None);
    assert_eq!((status.state().unavailable, status.state().revision), (None, Some(7)));
}
