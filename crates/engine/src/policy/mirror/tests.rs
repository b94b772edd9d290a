use cardinal_base::{Rng as _, SeededRng};

use super::*;

fn mirror(percent: f64) -> Mirror {
    Mirror { percent, ..Mirror::default() }
}

#[test]
fn a_share_of_requests_is_chosen() {
    let none = || panic!("nothing to choose");
    assert!(is_chosen(&mirror(100.0), none) && is_chosen(&mirror(250.0), none));
    assert!(!is_chosen(&mirror(0.0), none) && !is_chosen(&mirror(-1.0), none) && !is_chosen(&mirror(f64::NAN), none));
    assert!(is_chosen(&mirror(50.0), || (1 << 63) - 1) && !is_chosen(&mirror(50.0), || 1 << 63));
    assert!(is_chosen(&mirror(0.1), || 0) && !is_chosen(&mirror(99.9), || u64::MAX));
    let mut rng = SeededRng::new(5);
    let count = (0..100_000).filter(|_| is_chosen(&mirror(12.5), || rng.next_u64())).count();
    assert!((12_000..13_000).contains(&count), "{count}");
}

#[test]
fn hosts_are_marked() {
    let cases = [
        ("a.test", "a.test-shadow"),
        ("a.test:81", "a.test-shadow:81"),
        ("10.0.0.1:81", "10.0.0.1-shadow:81"),
        ("[::1]:81", "[::1]:81"),
        ("", ""),
    ];
    for (host, expect) in cases {
        let mut marked = host.to_owned();
        mark_host(&mut marked);
        assert_eq!(marked, expect);
    }
}

#[test]
fn places_are_limited_and_given_back() {
    let in_flight = InFlight::default();
    let mut places: Vec<Place> = (0..IN_FLIGHT_MAX).map(|_| in_flight.enter().unwrap()).collect();
    assert!(in_flight.enter().is_none());
    places.pop();
    assert!(in_flight.enter().is_some_and(|_| true) && in_flight.enter().is_some());
}

#[test]
fn labels_are_in_the_order_of_the_counters() {
    for (number, fate) in Fate::ALL.into_iter().enumerate() {
        assert_eq!(fate as usize, number);
    }
}
