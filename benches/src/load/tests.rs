//! Each kind of client against an upstream, without a proxy between them.

use std::time::Duration;

use super::*;

/// What came of a run.
struct Ran {
    answered: u64,
    served: u64,
    bytes: u64,
    latencies: Latencies,
}

/// Runs until so many answers came.
fn run(load: &mut Load, proxy: SocketAddr, answers: u64) -> Ran {
    load.connect(proxy).unwrap();
    let counts = Counts::default();
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            for _wait in 0..2000 {
                if counts.answered() >= answers || counts.errors() > 0 || counts.stopped() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            counts.stop();
        });
        load.run(&counts).unwrap();
        watcher.join().unwrap();
    });
    assert_eq!(counts.errors(), 0, "{}", load.wrong);
    assert!(counts.answered() >= answers, "{} answers", counts.answered());
    load.disconnect();
    Ran { answered: counts.answered(), served: counts.served(), bytes: counts.bytes(), latencies: counts.latencies() }
}

/// Clients that speak to the upstream itself.
fn check(work: &Work, answers: u64) -> Ran {
    let mut load = Load::new(work).unwrap();
    let upstream = load.upstream().unwrap();
    let ran = run(&mut load, upstream, answers);
    assert!(ran.served >= ran.answered && ran.served <= ran.answered + (work.connections * work.streams) as u64);
    // A second time with other clients.
    run(&mut load, upstream, answers.min(10));
    ran
}

fn small(kind: Kind) -> Work {
    Work { kind, connections: 4, ..Work::plain(1024) }
}

#[test]
fn http1() {
    let ran = check(&small(Kind::H1), 200);
    assert!(ran.bytes >= ran.answered * 1024 && ran.bytes <= (ran.answered + 4) * 1024);
    assert_eq!(ran.latencies.count(), 0);
}

#[test]
fn http1_with_bodies_in_each_direction() {
    for direction in [Direction::Down, Direction::Up, Direction::Both] {
        for body in [0, 1, 64 * 1024, 3 << 20] {
            let ran = check(&Work { direction, body, ..small(Kind::H1) }, 20);
            let each = body as u64 * if direction == Direction::Both { 2 } else { 1 };
            assert!(ran.bytes >= ran.answered * each, "{direction:?} {body}");
        }
    }
}

#[test]
fn http1_with_a_connection_for_each_request() {
    check(&small(Kind::H1Fresh), 200);
}

#[test]
fn http1_at_a_rate() {
    for kind in [Kind::H1, Kind::H1Fresh] {
        let ran = check(&Work { rate: Some(1000), ..small(kind) }, 100);
        assert!(ran.latencies.count() >= 100 && ran.latencies.quantile(0.5) > Duration::ZERO);
        assert!(ran.latencies.max() < Duration::from_secs(10));
    }
}

#[test]
fn two_thousand_connections() {
    check(&Work { connections: 2000, ..small(Kind::H1) }, 4000);
}

#[test]
fn wrong_answers_are_errors() {
    let mut upstream = Load::new(&small(Kind::H1)).unwrap();
    let address = upstream.upstream().unwrap();
    let mut load = Load::new(&Work { body: 1023, ..small(Kind::H1) }).unwrap();
    load.connect(address).unwrap();
    let counts = Counts::default();
    std::thread::scope(|scope| {
        scope.spawn(|| upstream.run(&counts));
        let failed = load.run(&counts).unwrap_err().to_string();
        assert!(failed.contains("the length is wrong"), "{failed}");
        counts.stop();
    });
    assert_eq!(counts.answered(), 0);
}
