//! Tests of the real client with a minimal DNS server on a loopback port.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Mutex;

use hickory_resolver::proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::net::UdpSocket;

use super::*;
use crate::dns::Wire;

/// Records by name and type; a name without records does not exist, `fail.test.` fails.
#[derive(Debug, Default)]
struct Zone {
    records: HashMap<(String, RecordType), Vec<(u32, RData)>>,
    asked: Mutex<Vec<String>>,
}

impl Zone {
    fn add(&mut self, name: &str, ttl: u32, data: RData) {
        self.records.entry((name.to_owned(), data.record_type())).or_default().push((ttl, data));
    }

    fn answer(&self, query: &Message) -> Message {
        let mut reply = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
        reply.metadata.recursion_desired = true;
        reply.metadata.recursion_available = true;
        let question = query.queries[0].clone();
        let (mut name, kind) = (question.name().to_ascii().to_ascii_lowercase(), question.query_type());
        reply.add_query(question);
        self.asked.lock().unwrap().push(format!("{name} {kind}"));
        if name == "fail.test." {
            reply.metadata.response_code = ResponseCode::ServFail;
            return reply;
        }
        // Like a recursive server, it follows aliases within the answer.
        while let Some(alias) =
            self.records.get(&(name.clone(), RecordType::CNAME)).filter(|_| kind != RecordType::CNAME)
        {
            let (ttl, data) = alias[0].clone();
            let RData::CNAME(target) = &data else { unreachable!() };
            let owner = Name::from_ascii(&name).unwrap();
            name = target.0.to_ascii();
            reply.add_answer(Record::from_rdata(owner, ttl, data));
        }
        let owner = Name::from_ascii(&name).unwrap();
        for (ttl, data) in self.records.get(&(name.clone(), kind)).into_iter().flatten() {
            reply.add_answer(Record::from_rdata(owner.clone(), *ttl, data.clone()));
        }
        if !self.records.keys().any(|(known, _)| *known == name) {
            reply.metadata.response_code = ResponseCode::NXDomain;
        }
        reply
    }
}

/// Serves a zone until the test's runtime ends.
async fn serve(zone: Arc<Zone>) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    cardinal_base::task::spawn("test dns server", async move {
        let mut buffer = [0; 4_096];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
            let reply = zone.answer(&Message::from_vec(&buffer[..length]).unwrap());
            socket.send_to(&reply.to_vec().unwrap(), peer).await.unwrap();
        }
    });
    address
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn zone() -> Zone {
    let mut zone = Zone::default();
    zone.add("a.test.", 30, RData::A(A::new(10, 0, 0, 1)));
    zone.add("a.test.", 20, RData::A(A::new(10, 0, 0, 2)));
    zone.add("six.test.", 30, RData::AAAA(AAAA::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)));
    zone.add("zero.test.", 0, RData::A(A::new(10, 0, 0, 3)));
    zone.add("alias.test.", 5, RData::CNAME(CNAME(name("a.test."))));
    zone.add("srv.test.", 60, RData::SRV(SRV::new(1, 30, 8_080, name("a.test."))));
    zone.add("srv.test.", 60, RData::SRV(SRV::new(2, 10, 9_090, name("six.test."))));
    zone.add("text.test.", 60, RData::CNAME(CNAME(name("nowhere.test."))));
    zone
}

/// Resolves a name with the real client: the addresses, and the seconds until the answer expires.
async fn check(host: &str, expect: &str, ttl_s: u64) {
    let server = serve(Arc::new(zone())).await;
    let dns = dns(&settings(), &clock(), Wire::new(&[server]).unwrap());
    let result = dns.resolve(host, 80).await;
    assert_eq!(text(&result), expect, "{host}");
    if let Ok(answer) = result {
        assert_eq!(answer.expires().millis(), ttl_s * 1_000, "{host}");
    }
}

#[tokio::test]
async fn records_of_all_types() {
    check("a.test.", "10.0.0.1:80 10.0.0.2:80", 20).await;
    check("A.Test", "10.0.0.1:80 10.0.0.2:80", 20).await;
    check("six.test.", "[2001:db8::1]:80", 30).await;
    check("srv.test.", "10.0.0.1:8080/30 10.0.0.2:8080/30", 20).await;
    check("alias.test.", "10.0.0.1:80 10.0.0.2:80", 5).await;
    check("zero.test.", "10.0.0.3:80", 0).await;
}

#[tokio::test]
async fn failures() {
    check("no.test.", "dns server error: 3 name error", 0).await;
    check("text.test.", "dns server error: 3 name error", 0).await;
    check("fail.test.", "dns server error: 2 server failure", 0).await;
    check("bad..name", "not a host name", 0).await;
}

#[tokio::test]
async fn only_our_cache_remembers() {
    let zone = Arc::new(zone());
    let server = serve(Arc::clone(&zone)).await;
    let clock = clock();
    let dns = dns(&Resolver { order: vec!["A".into()], ..settings() }, &clock, Wire::new(&[server]).unwrap());
    for round in 1..=3 {
        assert!(dns.resolve("a.test.", 80).await.is_ok());
        assert!(dns.resolve("a.test.", 80).await.is_ok());
        assert_eq!(zone.asked.lock().unwrap().len(), round);
        // After the TTL and the stale time.
        clock.advance(seconds(1_000));
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_silence() {
    let mute = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let wire = Wire::with_timeout(&[mute.local_addr().unwrap()], Some(Duration::from_millis(20))).unwrap();
    let dns = dns(&settings(), &clock(), wire);
    assert!(matches!(dns.resolve("a.test.", 80).await, Err(DnsError::Unreachable(_))));
}

#[test]
fn workers_ask_from_their_own_runtimes() {
    let control = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let server = control.block_on(serve(Arc::new(zone())));
    let settings = Resolver { servers: vec![server], ..settings() };
    let dns = Dns::new(&settings, Arc::new(cardinal_base::SystemClock::new()), control.handle().clone()).unwrap();
    let (sender, told) = std::sync::mpsc::channel();
    let _watch = dns.watch("six.test.", 443, move |result| sender.send(text(result)).unwrap());
    assert_eq!(told.recv().unwrap(), "[2001:db8::1]:443");
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let worker = tokio::runtime::Builder::new_current_thread().build().unwrap();
                assert_eq!(text(&worker.block_on(dns.resolve("a.test.", 80))), "10.0.0.1:80 10.0.0.2:80");
            });
        }
    });
    // After the control runtime has ended, requests do not hang.
    drop(control);
    let worker = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert!(matches!(worker.block_on(dns.resolve("new.test.", 80)), Err(DnsError::Unreachable(_))));
    assert!(worker.block_on(dns.resolve("a.test.", 80)).is_ok());
}
