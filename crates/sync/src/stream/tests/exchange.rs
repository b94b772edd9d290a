//! One client and one server on a connection without faults.

use cardinal_ir::{Action, Matches, Origin, Rank, RecordKind, Route};

use super::*;

const NOW: Tick = Tick(0);

/// Both sides of a connection, at rest.
fn connected(history: &History, held: Held) -> (Client, Server, Traffic) {
    let (mut client, mut server) = (client(held), server(NOW));
    client.connected(NOW);
    let traffic = exchange(&mut client, &mut server, history, NOW);
    (client, server, traffic)
}

#[test]
fn a_generation_arrives_whole_and_then_by_its_changes() {
    let mut history = History::new(HISTORY);
    history.publish(&ir(&[(1, "a"), (2, "b")]), secrets(&["x", "y"]), 5).unwrap();
    let (mut client, mut server, _) = connected(&history, Held::default());
    let received = apply(&mut client);
    assert_eq!((&*received.ir, received.id.number), (&*ir(&[(1, "a"), (2, "b")]), 5));
    assert_eq!(received.secrets, secrets(&["x", "y"]));
    exchange(&mut client, &mut server, &history, NOW);
    assert_eq!((server.report().number, server.report().served, server.report().is_applied), (5, 5, true));
    assert_eq!(server.node().map(|node| &*node.hostname), Some("node-1"));

    history.publish(&ir(&[(2, "c"), (3, "d")]), secrets(&["y", "z"]), 6).unwrap();
    exchange(&mut client, &mut server, &history, NOW);
    let next = apply(&mut client);
    assert_eq!((&*next.ir, &next.secrets), (&*ir(&[(2, "c"), (3, "d")]), &secrets(&["y", "z"])));
    assert!(received.ir.clusters.get(&id(1)).zip(next.ir.clusters.get(&id(1))).is_some_and(|(a, b)| Arc::ptr_eq(a, b)));
}

#[test]
fn slow_data_planes_skip_generations() {
    let mut history = History::new(HISTORY);
    history.publish(&ir(&[(1, "a")]), Secrets::default(), 1).unwrap();
    let (mut client, mut server, _) = connected(&history, Held::default());
    let first = client.take().unwrap();
    for number in 2..=9 {
        history.publish(&ir(&[(number.into(), "a")]), Secrets::default(), number).unwrap();
        assert_eq!(exchange(&mut client, &mut server, &history, NOW).parts, 0, "{number}: not acknowledged yet");
    }
    client.acknowledge(&first, None, vec![Rejection::new(RecordKind::PrincipalGroup, id(1), "no".to_owned())]);
    exchange(&mut client, &mut server, &history, NOW);
    assert_eq!((server.report().rejected, &*server.report().rejections[0].reason), (1, "no"));
    let newest = client.take().unwrap();
    assert_eq!((newest.id.number, &*newest.ir), (9, &*ir(&[(9, "a")])));
    client.acknowledge(&newest, Some("out of descriptors".to_owned()), Vec::new());
    exchange(&mut client, &mut server, &history, NOW);
    let report = server.report();
    assert_eq!((report.number, report.is_applied, report.served), (9, false, 1));
    assert_eq!(report.refusal.as_deref(), Some("out of descriptors"));
}

/// What it costs to reconnect, by what the control plane knows.
#[test]
fn a_known_generation_is_neither_listed_nor_sent_again() {
    let mut history = History::new(HISTORY);
    let groups: Vec<(u128, String)> = (0..2_000).map(|n| (n, format!("group {n}"))).collect();
    let groups: Vec<(u128, &str)> = groups.iter().map(|(n, name)| (*n, &**name)).collect();
    history.publish(&ir(&groups), secrets(&["x"]), 1).unwrap();
    let (mut first, mut server, full) = connected(&history, Held::default());
    assert!(full.down > 100_000 && full.up < 500, "{full:?}");
    apply(&mut first);
    exchange(&mut first, &mut server, &history, NOW);

    // The connection breaks, or either side restarts.
    let mut restarted = History::new(HISTORY);
    restarted.publish(&ir(&groups), secrets(&["x"]), 1).unwrap();
    let saved = first.held().clone();
    let restored = Held::restored(&saved.ir, saved.secrets.clone(), saved.id.unwrap(), true);
    for history in [&history, &restarted] {
        let (mut client, server, traffic) = connected(history, restored.clone());
        assert!(traffic.parts == 0 && traffic.up < 500 && client.take().is_none(), "{traffic:?}");
        assert_eq!(server.report().served, 1);
    }
    // A control plane without a store counts in a history of its own.
    let mut other = History::new(id(78));
    other.publish(&ir(&groups), secrets(&["x"]), 900).unwrap();
    let (mut client, _, traffic) = connected(&other, restored.clone());
    assert!(traffic.parts == 1 && traffic.down < 500 && traffic.up < 500, "{traffic:?}");
    assert_eq!(client.take().unwrap().id.history, id(78));
    // One that does not know the generation compares versions.
    let mut later = History::new(HISTORY);
    later.publish(&ir(&groups[1..]), secrets(&["x", "y"]), 7).unwrap();
    let (mut client, _, traffic) = connected(&later, restored);
    assert!(traffic.down < 2_000 && traffic.up > 2_000 * 32 && traffic.up < 2_000 * 34, "{traffic:?}");
    let received = client.take().unwrap();
    assert_eq!((received.ir.groups.len(), received.secrets), (1_999, secrets(&["x", "y"])));
}

fn routes(count: u128, changed: Option<u128>) -> Arc<Ir> {
    let route = |number: u128| {
        let name = if changed == Some(number) { "changed".to_owned() } else { format!("route-{number}") };
        let origin = Origin::new("kong", "routes", id(number)).named(&name);
        let (rank, matches) = (Rank { weight: 1, tie: number }, Matches::from(cardinal_ir::Criteria::default()));
        Route { origin, rank, matches, action: Action::Forward(id(7)), ..Route::default() }
    };
    Arc::new(Ir { routes: (0..count).map(|number| (id(number), route(number))).collect(), ..Ir::default() })
}

#[test]
fn one_edit_among_100_000_routes_costs_kilobytes() {
    let mut history = History::new(HISTORY);
    history.publish(&routes(100_000, None), Secrets::default(), 1).unwrap();
    let (mut client, mut server, full) = connected(&history, Held::default());
    assert!(full.parts > 10, "{full:?}");
    apply(&mut client);
    exchange(&mut client, &mut server, &history, NOW);
    history.publish(&routes(100_000, Some(40_000)), Secrets::default(), 2).unwrap();
    let edit = exchange(&mut client, &mut server, &history, NOW);
    let received = apply(&mut client);
    let acknowledgement = exchange(&mut client, &mut server, &history, NOW);
    assert_eq!(received.ir.routes.get(&id(40_000)).unwrap().origin.name.as_deref(), Some("changed"));
    let total = edit.up + edit.down + acknowledgement.up + acknowledgement.down;
    assert!(total < 2_000, "{edit:?} {acknowledgement:?}");
}

/// Fingerprints that are equal by a fault: the records themselves are compared before anything is served.
#[test]
fn records_that_are_not_those_announced_are_never_served() {
    let mut history = History::new(HISTORY);
    history.publish(&ir(&[(1, "a"), (2, "b")]), secrets(&["x"]), 1).unwrap();
    let (mut good, _, _) = connected(&history, Held::default());
    let mut id = apply(&mut good).id;
    // The saved records are others than the fingerprint says.
    let lies = Held::restored(&ir(&[(1, "a"), (2, "damaged"), (3, "extra")]), secrets(&["x"]), id, true);
    history.publish(&ir(&[(1, "c"), (2, "b")]), secrets(&["x"]), 2).unwrap();
    history.publish(&ir(&[(1, "c"), (2, "d")]), secrets(&["x"]), 3).unwrap();
    let (mut client, mut server, _) = connected(&history, lies);
    exchange(&mut client, &mut server, &history, NOW);
    let received = client.take().unwrap();
    assert_eq!((&*received.ir, received.secrets), (&*ir(&[(1, "c"), (2, "d")]), secrets(&["x"])));
    // A control plane whose announcement is never true is left.
    id.number = 9;
    let mut client = super::client(Held::default());
    client.connected(NOW);
    let part = |index| wire::Part { generation: Some(id.to_wire()), index, last: true, whole: true };
    let response = || Response { part: Some(part(0)), ..Response::default() };
    for _ in 0..2 {
        client.poll(NOW).unwrap();
        client.receive(response(), NOW).unwrap();
    }
    client.poll(NOW).unwrap();
    assert_eq!(client.receive(response(), NOW), Err(ClientError::Mismatch(9)));
    assert!(client.take().is_none());
}

#[test]
fn older_generations_of_a_history_are_refused_on_both_sides() {
    let mut ahead = History::new(HISTORY);
    ahead.publish(&ir(&[(1, "a")]), Secrets::default(), 8).unwrap();
    let (mut client, _, _) = connected(&ahead, Held::default());
    apply(&mut client);
    let mut behind = History::new(HISTORY);
    behind.publish(&ir(&[(1, "old")]), Secrets::default(), 7).unwrap();
    client.connected(NOW);
    let mut server = super::server(NOW);
    assert_eq!(exchange(&mut client, &mut server, &behind, NOW).parts, 0);
    behind.publish(&ir(&[(1, "new")]), Secrets::default(), 9).unwrap();
    exchange(&mut client, &mut server, &behind, NOW);
    assert_eq!(apply(&mut client).id.number, 9);
    let old = GenerationId { number: 3, ..ahead.newest().unwrap().id };
    let part = wire::Part { generation: Some(old.to_wire()), last: true, ..wire::Part::default() };
    let error = client.receive(Response { part: Some(part), ..Response::default() }, NOW);
    assert_eq!(error, Err(ClientError::Older { theirs: 3, ours: 9 }));
}

#[test]
fn silence_is_noticed_and_avoided() {
    let mut history = History::new(HISTORY);
    history.publish(&ir(&[]), Secrets::default(), 1).unwrap();
    let (mut client, mut server, _) = connected(&history, Held::default());
    let mut now = NOW;
    for _ in 0..20 {
        apply_if_ready(&mut client);
        exchange(&mut client, &mut server, &history, now);
        now = client.deadline();
        assert!(client.check(now).is_ok() && server.check(now).is_ok());
    }
    assert_eq!(now.millis(), 200_000);
    now = now.plus_millis(30_000);
    assert_eq!(client.check(now), Err(ClientError::Silent(30_000)));
    assert_eq!(server.check(now), Err(ServerError::Silent(30_000)));
}

fn apply_if_ready(client: &mut Client) {
    if client.is_ready() {
        apply(client);
    }
}

#[test]
fn secrets_go_only_where_they_may() {
    let mut history = History::new(HISTORY);
    history.publish(&ir(&[(1, "a")]), secrets(&["hush"]), 1).unwrap();
    let options = ClientOptions { with_secrets: false, ..ClientOptions::new(node(2)) };
    let mut without = Client::new(options, Held::default());
    without.connected(NOW);
    exchange(&mut without, &mut Server::new(ServerOptions::new(false), NOW), &history, NOW);
    let received = apply(&mut without);
    assert!(received.secrets.is_empty() && *received.ir == *ir(&[(1, "a")]));
    let mut with = client(Held::default());
    with.connected(NOW);
    let error = Server::new(ServerOptions::new(false), NOW).receive(with.poll(NOW).unwrap(), &history, NOW);
    assert_eq!(error, Err(ServerError::Insecure));
    let (_, mut server) = (client(Held::default()), server(NOW));
    server.receive(with_hello(), &history, NOW).unwrap();
    let mut shown = String::new();
    while let Some(response) = server.poll(&history) {
        shown += &format!("{response:?}");
    }
    assert!(shown.contains("AnyValue(4 bytes)") && !shown.contains("104, 117, 115, 104"), "{shown}");
}

fn with_hello() -> Request {
    let mut client = client(Held::default());
    client.connected(NOW);
    client.poll(NOW).unwrap()
}
