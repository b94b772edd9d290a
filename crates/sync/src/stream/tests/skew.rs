//! Data planes and control planes of different versions.

use cardinal_ir::{Backend, Filter, FilterSet, Host, Record, Target, binary};
use serde_json::json;

use super::wire::{AnyValue, Part, Resource, TYPE_PREFIX};
use super::*;

const NOW: Tick = Tick(0);

fn with_protocol(major: u32, minor: u32) -> Client {
    let options = ClientOptions { protocol: ProtocolVersion { major, minor }, ..ClientOptions::new(node(1)) };
    Client::new(options, Held::default())
}

#[test]
fn minor_versions_work_together_and_major_ones_do_not() {
    let mut history = History::new(HISTORY);
    history.publish(&ir(&[(1, "a")]), Secrets::default(), 1).unwrap();
    for (server_minor, client_minor) in [(1, 0), (0, 1), (2, 1)] {
        let protocol = ProtocolVersion { major: 1, minor: server_minor };
        let mut server = Server::new(ServerOptions { protocol, ..ServerOptions::new(true) }, NOW);
        let mut client = with_protocol(1, client_minor);
        client.connected(NOW);
        exchange(&mut client, &mut server, &history, NOW);
        assert_eq!((apply(&mut client).id.number, server.protocol().minor), (1, server_minor.min(client_minor)));
    }
    let mut client = with_protocol(2, 0);
    client.connected(NOW);
    let error = server(NOW).receive(client.poll(NOW).unwrap(), &history, NOW);
    assert_eq!(error, Err(ServerError::Protocol { theirs: 2, ours: 1 }));
}

/// A control plane of a later version, by hand: records with their type, id, content, and whether they restrict access.
struct Later {
    sum: Fingerprint,
    number: u64,
}

type Content<'c> = (&'c str, u128, Vec<u8>, bool);

fn bytes(content: &impl serde::Serialize) -> Vec<u8> {
    binary::encode(content).unwrap()
}

impl Later {
    fn send(&mut self, client: &mut Client, records: &[Content<'_>], removed: &[(&str, u128)]) {
        self.number += 1;
        let nonce = self.number.to_string();
        let mut parts = Vec::new();
        for (type_name, number, content, restricts) in records {
            let value = content.clone();
            self.sum.add(type_name, id(*number), cardinal_ir::Digest::of_encoded(&value));
            let resource = Some(AnyValue { value, ..AnyValue::default() });
            let resource =
                Resource { name: id(*number).to_string(), resource, restricts: *restricts, ..Resource::default() };
            parts.push(Response {
                type_url: format!("{TYPE_PREFIX}{type_name}"),
                resources: vec![resource],
                ..Response::default()
            });
        }
        for (type_name, number) in removed {
            let version = client.held().version(type_name, id(*number)).unwrap();
            self.sum.subtract(type_name, id(*number), version);
            let removed_resources = vec![id(*number).to_string()];
            parts.push(Response {
                type_url: format!("{TYPE_PREFIX}{type_name}"),
                removed_resources,
                ..Response::default()
            });
        }
        let generation =
            GenerationId { history: HISTORY, number: self.number, records: self.sum, secrets: Fingerprint::default() };
        let last = parts.len() - 1;
        for (index, mut response) in parts.into_iter().enumerate() {
            let generation = Some(generation.to_wire());
            response.part = Some(Part { generation, index: index as u64, last: index == last, whole: false });
            response.nonce = nonce.clone();
            client.receive(response, NOW).unwrap();
        }
    }
}

fn backend(cluster: u128) -> Vec<u8> {
    let target = Target::Cluster { id: id(cluster), port: 80, subset: cardinal_ir::Labels::default() };
    bytes(&Backend { target, ..Backend::default() })
}

#[test]
fn records_of_a_later_version_are_left_out_and_reported() {
    let mut client = client(Held::default());
    client.connected(NOW);
    client.poll(NOW).unwrap();
    let mut later = Later { sum: Fingerprint::default(), number: 0 };
    // The form begins with the number of fields.
    let mut with_field = bytes(&group("a"));
    with_field[0] += 1;
    with_field.extend([bytes(&"colour"), bytes(&"red")].concat());
    let own = Backend { target: Target::Host(Host { host: "h".into(), port: 1 }), ..Backend::default() };
    later.send(
        &mut client,
        &[
            ("PrincipalGroup", 1, with_field, false),
            ("Cluster", 2, bytes(&json!({"algorithm": "by-mood"})), false),
            ("Backend", 3, backend(2), false),
            ("Backend", 4, bytes(&own), false),
            ("Horoscope", 5, bytes(&json!({"sign": "fish"})), false),
        ],
        &[],
    );
    let received = apply(&mut client);
    assert!(!received.is_exact);
    assert_eq!(
        received.ir.get(cardinal_ir::RecordKind::PrincipalGroup, &id(1)),
        Some(Record::PrincipalGroup(Arc::new(group("a"))))
    );
    assert_eq!(received.ir.backends.iter().map(|(id, _)| id.as_u128()).collect::<Vec<_>>(), [4]);
    let left_out: Vec<_> = received.left_out.iter().map(|r| (&*r.type_name, &*r.name, r.is_inexpressible)).collect();
    let names = [2, 5, 3].map(|number| id(number).to_string());
    assert_eq!(
        left_out,
        [("Cluster", &*names[0], true), ("Horoscope", &*names[1], true), ("Backend", &*names[2], true)]
    );
    let request = client.poll(NOW).unwrap();
    assert_eq!(request.error_detail.unwrap().message, "3 records are not served");
    assert_eq!(request.report.unwrap().rejections.len(), 3);

    // Their changes are known by the versions of the control plane, and they are served once they can be read.
    later.send(&mut client, &[], &[("Horoscope", 5), ("PrincipalGroup", 1), ("Cluster", 2)]);
    let cluster = bytes(&Cluster::default());
    let left = client.take().unwrap();
    assert!(left.left_out.iter().all(|r| r.type_name == "Backend") || left.left_out.is_empty(), "{:?}", left.left_out);
    later.send(&mut client, &[("Cluster", 2, cluster, false)], &[]);
    let received = apply(&mut client);
    assert!(received.is_exact && received.left_out.is_empty());
    assert_eq!(received.ir.backends.len(), 2);
}

/// Without them, more would be permitted than is configured.
#[test]
fn a_generation_with_unreadable_records_that_restrict_access_is_refused() {
    for (type_name, content, restricts) in
        [("FilterSet", bytes(&json!({"filters": 5})), false), ("Border", bytes(&json!({})), true)]
    {
        let mut client = client(Held::default());
        client.connected(NOW);
        client.poll(NOW).unwrap();
        let mut later = Later { sum: Fingerprint::default(), number: 0 };
        later.send(&mut client, &[("PrincipalGroup", 1, bytes(&group("a")), false)], &[]);
        assert_eq!(apply(&mut client).id.number, 1);
        later.send(&mut client, &[(type_name, 2, content, restricts)], &[]);
        assert!(client.take().is_none());
        let report = client.report();
        assert_eq!((report.number, report.is_applied, report.served, report.rejected), (2, false, 1, 1));
        let request = client.poll(NOW).unwrap();
        assert_eq!(request.response_nonce, "2", "acknowledged, so that the next generation comes");
        assert!(request.error_detail.unwrap().message.contains("restrict access"));
        let readable =
            FilterSet { filters: vec![Filter { kind: "x".into(), ..Filter::default() }], ..FilterSet::default() };
        later.send(&mut client, &[("FilterSet", 3, bytes(&readable), false)], &[(type_name, 2)]);
        assert_eq!(apply(&mut client).ir.filter_sets.len(), 1);
    }
}
