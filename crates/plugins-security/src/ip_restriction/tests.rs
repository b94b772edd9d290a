use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cardinal_sdk::testing::Bench;
use cardinal_sdk::{Admit, ConnectCx, ReplyBody};
use serde_json::{Value, json};

use super::PLUGIN;
use super::ranges::Ranges;

/// Asks over HTTP and over a stream.
async fn check(config: Value, ip: &str, expect: Result<(), (u16, &str)>) {
    let mut bench = Bench::new(&PLUGIN, config.clone());
    bench.exchange.client.ip = ip.parse().unwrap();
    let reply = bench.request().await;
    let said = match reply.as_ref().map(|reply| (reply.status, &reply.body)) {
        None => Ok(()),
        Some((status, ReplyBody::Error(text))) => Err((status, &**text)),
        Some(other) => panic!("{other:?}"),
    };
    assert_eq!(said, expect, "{config} {ip}");
    let mut cx = ConnectCx { exchange: &mut bench.exchange, services: &bench.services, slot: 0 };
    let admit = if expect.is_ok() { Admit::Yes } else { Admit::No };
    assert_eq!(bench.filter.on_connect(&mut cx), admit, "{config} {ip}");
}

#[tokio::test]
async fn lists() {
    let refused = |text: &'static str| Err((403, text));
    let deny = || json!({"deny": ["127.0.0.0/8", "2001:db8::/32"]});
    check(deny(), "127.0.0.1", refused("IP address not allowed: 127.0.0.1")).await;
    check(deny(), "::ffff:127.9.9.9", refused("IP address not allowed: 127.9.9.9")).await;
    check(deny(), "128.0.0.0", Ok(())).await;
    check(deny(), "2001:db8:ffff::1", refused("IP address not allowed: 2001:db8:ffff::1")).await;
    check(deny(), "2001:db9::", Ok(())).await;
    let allow = || json!({"allow": ["10.1.2.3/16", "::1"]});
    check(allow(), "10.1.255.255", Ok(())).await;
    check(allow(), "::ffff:10.1.0.0", Ok(())).await;
    check(allow(), "10.2.0.0", refused("IP address not allowed: 10.2.0.0")).await;
    check(allow(), "::1", Ok(())).await;
    check(allow(), "::2", refused("IP address not allowed: ::2")).await;
    let both = || json!({"allow": ["10.0.0.0/8"], "deny": ["10.0.0.66"]});
    check(both(), "10.0.0.65", Ok(())).await;
    check(both(), "10.0.0.66", refused("IP address not allowed: 10.0.0.66")).await;
    check(json!({"allow": [], "deny": ["10.0.0.66"]}), "10.0.0.65", Ok(())).await;
    check(json!({"allow": ["::/0"]}), "10.0.0.65", Ok(())).await;
    check(json!({"allow": ["::ffff:10.0.0.0/104"]}), "10.255.0.1", Ok(())).await;
}

#[tokio::test]
async fn status_and_message() {
    let config = json!({"deny": ["0.0.0.0/0"], "status": 401, "message": "Go away"});
    check(config, "192.0.2.1", Err((401, "Go away"))).await;
    let services = cardinal_sdk::testing::services(Bench::new(&PLUGIN, json!({"deny": []})).clock);
    for status in [0.0, 199.0, 600.0, 403.5, -1.0] {
        let config = json!({"deny": ["::1"], "status": status});
        assert!(cardinal_sdk::testing::build(&PLUGIN, config, &services).is_err(), "{status}");
    }
    for bad in ["", "x", "1.2.3", "1.2.3.4/33", "::1/129", "1.2.3.4/-1", "localhost"] {
        assert!(cardinal_sdk::testing::build(&PLUGIN, json!({"deny": [bad]}), &services).is_err(), "{bad}");
    }
}

#[test]
fn ranges_are_what_a_scan_of_the_networks_finds() {
    let texts = ["10.0.0.0/30", "10.0.0.4/32", "10.0.0.8/29", "10.0.0.12", "255.255.255.255", "0.0.0.0", "fe80::/127"];
    let ranges = Ranges::parse(&texts).unwrap();
    let nets: Vec<ipnet::IpNet> = texts
        .iter()
        .map(|text| text.parse().unwrap_or_else(|_| ipnet::IpNet::from(text.parse::<IpAddr>().unwrap())))
        .collect();
    let v4 = (0..40).map(|n| IpAddr::V4(Ipv4Addr::from(0x0a00_0000_u32 - 10 + n)));
    let edges = [0_u32, 1, u32::MAX - 1, u32::MAX].map(|n| IpAddr::V4(Ipv4Addr::from(n)));
    let v6 = (0..4).map(|n| IpAddr::V6(Ipv6Addr::from(0xfe80_u128 << 112 | n)));
    for address in v4.chain(edges).chain(v6) {
        assert_eq!(ranges.contains(address), nets.iter().any(|net| net.contains(&address)), "{address}");
    }
}

#[test]
fn a_list_is_needed() {
    let check = super::schema::config().outer_checks.remove(0);
    let schema = cardinal_schema::record([cardinal_schema::field("config", super::schema::config())]).check(check);
    let process = |config: Value| schema.process(&json!({"config": config}), &Default::default());
    assert!(process(json!({"deny": ["::1"]})).is_ok());
    let errors = process(json!({})).unwrap_err().to_json().to_string();
    assert!(
        errors.contains("at least one of these fields must be non-empty: 'config.allow', 'config.deny'"),
        "{errors}"
    );
}
