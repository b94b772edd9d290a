//! Messages of the configuration stream, on both sides of it.

use std::sync::Arc;

use cardinal_base::Tick;
use cardinal_ir::{Id, Ir, PrincipalGroup, SecretKey, Secrets};
use cardinal_sync::stream::wire::{Request, Response};
use cardinal_sync::stream::{Client, ClientOptions, Held, History, NodeInfo, Server, ServerOptions};
use prost::Message as _;

/// Lengths (2 bytes) and messages, which both sides take: requests of a data plane that subscribes, lists and acknowledges;
/// responses with records, removals and secrets.
pub(super) const MESSAGES: &[&[u8]] = &[include_bytes!("testdata/stream.bin")];

/// Bytes that a generation may have.
const GENERATION_BYTES_MAX: usize = 1 << 16;

/// Reads the messages on both sides: none panics, what is served is what was announced, and what a side sends can be read.
pub(super) fn check_messages(input: &[u8]) {
    let now = Tick::from_millis(1);
    let mut history = History::new(Id::from_u128(1));
    let mut ir = Ir::default();
    let group = PrincipalGroup { name: "a".into(), ..PrincipalGroup::default() };
    ir.groups.insert(Id::from_u128(1), group);
    let mut secrets = Secrets::default();
    secrets.add(&SecretKey::default(), "s");
    history.publish(&Arc::new(ir), secrets, 2).expect("the first generation");
    let mut server = Server::new(ServerOptions::new(true), now);
    let options =
        ClientOptions { generation_bytes_max: GENERATION_BYTES_MAX, ..ClientOptions::new(NodeInfo::default()) };
    let mut client = Client::new(options, Held::default());
    client.connected(now);
    let mut rest = input;
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let end = usize::from(u16::from_be_bytes(*length)).min(after.len());
        let (message, after) = after.split_at(end);
        rest = after;
        if let Ok(request) = Request::decode(message)
            && server.receive(request, &history, now).is_err()
        {
            server = Server::new(ServerOptions::new(true), now);
        }
        for _ in 0..3 {
            let Some(response) = server.poll(&history) else { break };
            assert_eq!(Response::decode(&*response.encode_to_vec()).as_ref(), Ok(&response));
        }
        assert!(server.report().rejections.len() <= cardinal_sync::stream::REJECTIONS_MAX);
        if let Ok(response) = Response::decode(message)
            && client.receive(response, now).is_err()
        {
            client.connected(now);
        }
        while let Some(request) = client.poll(now) {
            assert_eq!(Request::decode(&*request.encode_to_vec()).as_ref(), Ok(&request));
        }
        if let Some(received) = client.take() {
            client.acknowledge(&received, None, Vec::new());
            let is_announced = cardinal_sync::stream::Fingerprint::of(&received.ir) == received.id.records;
            assert!(is_announced || !received.is_exact, "what is served is what was announced");
        }
    }
}
