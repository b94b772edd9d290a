use std::net::{Ipv4Addr, Ipv6Addr};

use tokio::net::TcpListener;

use super::*;

/// A connection to a listener bound to `bind`; both addresses use the same port.
async fn connection(bind: &str, to: &str) -> (Arrival, Arrival, Arrival) {
    let bound = crate::bind_tcp(format!("{bind}:0").parse().unwrap(), 16).unwrap();
    let listener = TcpListener::from_std(bound.socket).unwrap();
    let target: SocketAddr = format!("{to}:{}", bound.address.port()).parse().unwrap();
    let (client, accepted) = tokio::join!(TcpStream::connect(target), listener.accept());
    let ((tcp, peer), _client) = (accepted.unwrap(), client.unwrap());
    let arrival =
        |capture| Arrival::accepted(Id::nil(), bound.address, capture, (&tcp, peer), Protocol::Bytes).unwrap();
    assert_eq!(tcp.local_addr().unwrap(), target);
    (arrival(Capture::Direct), arrival(Capture::Redirect), arrival(Capture::Transparent))
}

#[tokio::test]
async fn connections_to_the_listener_itself_are_not_captured() {
    for (bind, to) in
        [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("0.0.0.0", "127.0.0.7"), ("[::]", "[::1]")]
    {
        let (direct, redirected, transparent) = connection(bind, to).await;
        for arrival in [&direct, &redirected, &transparent] {
            assert_eq!(arrival.original_dst, None, "{bind} {to}");
            assert_eq!(arrival.destination(), arrival.local);
        }
    }
}

#[test]
fn only_the_listener_itself_is_a_loop() {
    let at = |text: &str| text.parse::<SocketAddr>().unwrap();
    let check = |original: &str, bound: &str, expect: bool| {
        assert_eq!(original::is_listener(at(original), at(bound)), expect, "{original} {bound}");
    };
    check("127.0.0.1:15001", "127.0.0.1:15001", true);
    check("127.0.0.1:15001", "0.0.0.0:15001", true);
    check("127.9.9.9:15001", "0.0.0.0:15001", true);
    check("[::1]:15001", "[::]:15001", true);
    check("192.0.2.1:15001", "192.0.2.1:15001", true);
    // The same port at another address, and another port at the same address.
    check("192.0.2.1:15001", "0.0.0.0:15001", false);
    check("[2001:db8::1]:15001", "[::]:15001", false);
    check("127.0.0.2:15001", "127.0.0.1:15001", false);
    check("127.0.0.1:80", "0.0.0.0:15001", false);
}

#[test]
fn addresses_of_ipv4_within_ipv6_are_of_ipv4() {
    let mapped = SocketAddr::new(Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped().into(), 80);
    assert_eq!(original::canonical(mapped), SocketAddr::from(([192, 0, 2, 1], 80)));
    let scoped = |ip: Ipv6Addr| SocketAddr::V6(std::net::SocketAddrV6::new(ip, 80, 0, 3));
    let link_local: Ipv6Addr = "fe80::1".parse().unwrap();
    assert_eq!(original::canonical(scoped(link_local)), scoped(link_local));
    assert_eq!(original::canonical(scoped(Ipv6Addr::LOCALHOST)), SocketAddr::from((Ipv6Addr::LOCALHOST, 80)));
}
