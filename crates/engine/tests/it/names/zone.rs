//! A minimal DNS server: it answers from a table that may change.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use cardinal_base::task;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

const A: u16 = 1;
const AAAA: u16 = 28;
const SRV: u16 = 33;

/// Records by name and type; a name without records does not exist, and `broken.test` fails.
type Records = HashMap<(String, u16), Vec<(u32, Vec<u8>)>>;

/// The server. Dropping it ends it.
pub(super) struct Zone {
    address: SocketAddr,
    records: Arc<Mutex<Records>>,
    serving: JoinHandle<()>,
}

impl Drop for Zone {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Zone {
    pub(super) async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("127.0.0.1 has a free port");
        let address = socket.local_addr().expect("a bound socket has an address");
        let records = Arc::new(Mutex::new(Records::new()));
        let table = Arc::clone(&records);
        let serving = task::spawn("dns server", async move {
            let mut buffer = [0; 2_048];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
                let reply = reply(&buffer[..length], &table.lock().unwrap_or_else(PoisonError::into_inner));
                // Datagrams may be lost, including this one.
                socket.send_to(&reply, peer).await.ok();
            }
        });
        Self { address, records, serving }
    }

    /// The value for the setting `dns_resolver`.
    pub(super) fn resolver(&self) -> String {
        self.address.to_string()
    }

    fn set(&self, name: &str, kind: u16, data: Vec<(u32, Vec<u8>)>) {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.insert((name.to_owned(), kind), data);
    }

    /// Replaces the addresses of a name; all are of one family.
    pub(super) fn addresses(&self, name: &str, ttl_s: u32, ips: &[&str]) {
        let ips: Vec<IpAddr> = ips.iter().map(|ip| ip.parse().expect("an address")).collect();
        let kind = if ips.iter().all(IpAddr::is_ipv4) { A } else { AAAA };
        let data = |ip: &IpAddr| match ip {
            IpAddr::V4(ip) => (ttl_s, ip.octets().to_vec()),
            IpAddr::V6(ip) => (ttl_s, ip.octets().to_vec()),
        };
        self.set(name, kind, ips.iter().map(data).collect());
    }

    /// Replaces the services of a name: priority, weight, port, target.
    pub(super) fn services(&self, name: &str, ttl_s: u32, services: &[(u16, u16, u16, &str)]) {
        let data = |(priority, weight, port, target): &(u16, u16, u16, &str)| {
            let numbers = [*priority, *weight, *port].into_iter().flat_map(u16::to_be_bytes);
            (ttl_s, numbers.chain(encode(target)).collect())
        };
        self.set(name, SRV, services.iter().map(data).collect());
    }
}

fn encode(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in name.split('.') {
        out.push(u8::try_from(label.len()).expect("a short label"));
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out
}

/// The answer to a query of one question.
fn reply(query: &[u8], records: &Records) -> Vec<u8> {
    let (mut labels, mut at) = (Vec::new(), 12);
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..end]).to_ascii_lowercase());
        at = end;
    }
    let question = &query[12..at + 5];
    let (name, kind) = (labels.join("."), u16::from_be_bytes([query[at + 1], query[at + 2]]));
    let code = match name.as_str() {
        "broken.test" => 2,
        name if records.keys().any(|(known, _)| known == name) => 0,
        _ => 3,
    };
    let found = records.get(&(name, kind)).map(Vec::as_slice).unwrap_or_default();
    let count = u16::try_from(found.len()).expect("few records");
    let mut out = [&query[..2], &[0x81, 0x80 | code], &[0, 1], &count.to_be_bytes(), &[0; 4], question].concat();
    for (ttl_s, data) in found {
        let length = u16::try_from(data.len()).expect("a short record");
        out.extend_from_slice(&[0xc0, 12]);
        out.extend_from_slice(&kind.to_be_bytes());
        out.extend_from_slice(&[0, 1]);
        out.extend_from_slice(&ttl_s.to_be_bytes());
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(data);
    }
    out
}
