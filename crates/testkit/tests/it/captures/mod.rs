//! Connections that the packet filter captures, in a network that only the test sees: where they wanted to go, what they
//! speak, and that real servers which speak first are reached.

mod engine;
mod greetings;
mod sidecar;

use std::net::SocketAddr;
use std::process::Command;

use cardinal_base::{Id, task};
use cardinal_net::arrival::bind_transparent;
use cardinal_net::{Arrival, Capture, Connector, Evidence, Protocol, SocketOptions, Source, Stage, bind_tcp};
use cardinal_test_tools::{find, tools};
use cardinal_testkit::{Isolation, Server, isolated, set_up, within};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use self::sidecar::Sidecar;

const PACKAGE: &str = env!("CARGO_PKG_NAME");

/// The mark of the sidecar's own connections, which are not captured.
const MARK: u32 = 0x539;

fn marked() -> Connector {
    Connector { options: SocketOptions { mark: Some(MARK), source: None }, tunnel: None }
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A network with the addresses 192.0.2.1 and 2001:db8::1.
fn network() {
    set_up("ip link set lo up");
    set_up("ip address add 192.0.2.1/32 dev lo");
    set_up("ip -6 address add 2001:db8::1/128 dev lo nodad");
}

/// Redirects what goes to the port `from` of both addresses, or to any of them, to the ports `to_v4` and `to_v6`.
fn redirect(from: Option<u16>, to_v4: u16, to_v6: u16) {
    let port = from.map(|port| format!("--dport {port}")).unwrap_or_default();
    for (program, to, port_to) in [("iptables", "192.0.2.1", to_v4), ("ip6tables", "2001:db8::1", to_v6)] {
        set_up(&format!(
            "{program} -w -t nat -A OUTPUT -p tcp -m mark ! --mark {MARK} -d {to} {port} -j REDIRECT --to-ports {port_to}"
        ));
    }
}

async fn local(future: impl Future<Output = ()>) {
    tokio::task::LocalSet::new().run_until(within("the scene", future)).await.unwrap();
}

/// A server that answers a request with the address that it came from.
async fn who_am_i(address: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(task::spawn_local("server", async move {
        while let Ok((mut tcp, peer)) = listener.accept().await {
            let mut request = [0; REQUEST.len()];
            tcp.read_exact(&mut request).await.unwrap();
            assert_eq!(request, *REQUEST);
            tcp.write_all(peer.to_string().as_bytes()).await.unwrap();
        }
    }));
    address
}

const REQUEST: &[u8; 27] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// What `address` answers to [`REQUEST`]; nothing when it closes the connection.
async fn ask(address: SocketAddr) -> String {
    let mut tcp = TcpStream::connect(address).await.unwrap();
    let mut answer = Vec::new();
    // A connection that was not served may be reset.
    let _sent = tcp.write_all(REQUEST).await;
    let _end = tcp.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

/// REDIRECT, both families: the destination before it is found, the sidecar's own connections pass by, and what leads to
/// the sidecar itself ends there.
#[tokio::test]
async fn redirected_connections_reach_their_destination() {
    let Some(_) = tools!("unshare", "ip", "iptables", "ip6tables") else { return };
    if !isolated(PACKAGE, "captures::redirected_connections_reach_their_destination", Isolation::Network) {
        return;
    }
    network();
    local(async {
        let sidecar = Sidecar::new(Capture::Redirect, marked());
        let (v4, v6) = (bind_tcp(at("0.0.0.0:0"), 16).unwrap(), bind_tcp(at("[::]:0"), 16).unwrap());
        redirect(None, v4.address.port(), v6.address.port());
        sidecar.serve(v4.socket);
        sidecar.serve(v6.socket);
        for (target, own_port, loopback) in [
            (at("192.0.2.1:80"), v4.address.port(), at("127.0.0.1:0")),
            (at("[2001:db8::1]:80"), v6.address.port(), at("[::1]:0")),
        ] {
            let server = who_am_i(target).await;
            assert!(ask(server).await.parse::<SocketAddr>().is_ok());
            let seen = sidecar.take_seen();
            assert_eq!(seen.len(), 1, "{seen:?}");
            assert_eq!((seen[0].original_dst, seen[0].protocol), (Some(server), Protocol::Http1));
            // Straight to the sidecar, and captured on the way to it.
            for itself in [SocketAddr::new(loopback.ip(), own_port), SocketAddr::new(target.ip(), own_port)] {
                assert_eq!(ask(itself).await, "");
                let seen = sidecar.take_seen();
                assert_eq!(seen.len(), 1, "it does not go round: {seen:?}");
                assert_eq!(seen[0].original_dst, None, "{itself}");
            }
        }
    })
    .await;
}

/// IPv4 on a socket of both families.
#[tokio::test]
async fn redirected_connections_to_a_socket_of_both_families() {
    let Some(_) = tools!("unshare", "ip", "iptables", "ip6tables") else { return };
    if !isolated(PACKAGE, "captures::redirected_connections_to_a_socket_of_both_families", Isolation::Network) {
        return;
    }
    network();
    let socket = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
    socket.set_only_v6(false).unwrap();
    socket.bind(&at("[::]:0").into()).unwrap();
    socket.listen(16).unwrap();
    socket.set_nonblocking(true).unwrap();
    let listener = TcpListener::from_std(socket.into()).unwrap();
    let bound = listener.local_addr().unwrap();
    redirect(None, bound.port(), bound.port());
    for target in [at("192.0.2.1:80"), at("[2001:db8::1]:80")] {
        let (client, accepted) = tokio::join!(TcpStream::connect(target), listener.accept());
        let ((tcp, peer), _client) = (accepted.unwrap(), client.unwrap());
        let accepted = Arrival::accepted(Id::nil(), bound, Capture::Redirect, (&tcp, peer), Protocol::Bytes);
        assert_eq!(accepted.unwrap().original_dst, Some(target));
    }
}

/// TPROXY, both families: the destination is the local address, though nobody has it, and the upstream sees the client's
/// address.
#[tokio::test]
async fn transparent_connections_keep_both_addresses() {
    let Some(_) = tools!("unshare", "ip", "iptables", "ip6tables") else { return };
    if !isolated(PACKAGE, "captures::transparent_connections_keep_both_addresses", Isolation::Network) {
        return;
    }
    network();
    local(async {
        for (ip, iptables, any, nowhere, client, server, all) in [
            ("ip", "iptables", "0.0.0.0:0", "198.51.100.7", "203.0.113.9:0", "192.0.2.1:0", "0.0.0.0/0"),
            ("ip -6", "ip6tables", "[::]:0", "2001:db8:1::7", "[2001:db8:2::9]:0", "[2001:db8::1]:0", "::/0"),
        ] {
            let (client, server) = (at(client), who_am_i(at(server)).await);
            let bound = bind_transparent(at(any), 16).unwrap();
            let port = bound.address.port();
            // Marked packets are delivered here, whatever their destination is.
            set_up(&format!("{ip} rule add fwmark 1 lookup 100"));
            set_up(&format!("{ip} route add local {all} dev lo table 100"));
            set_up(&format!("{ip} route add default dev lo"));
            for foreign in [nowhere, &client.ip().to_string()] {
                set_up(&format!("{iptables} -w -t mangle -A OUTPUT -p tcp -d {foreign} -j MARK --set-mark 1"));
            }
            set_up(&format!(
                "{iptables} -w -t mangle -A PREROUTING -p tcp -d {nowhere} -j TPROXY --on-port {port} --tproxy-mark 1"
            ));
            let options = SocketOptions { mark: None, source: Some(Source::Foreign(client)) };
            let mut sidecar = Sidecar::new(Capture::Transparent, Connector { options, tunnel: None });
            sidecar.upstream = Some(server);
            sidecar.serve(bound.socket);
            let target = SocketAddr::new(nowhere.parse().unwrap(), 8080);
            let peer: SocketAddr = ask(target).await.parse().unwrap();
            assert_eq!(peer.ip(), client.ip());
            let seen = sidecar.take_seen();
            assert_eq!(seen.len(), 1, "{seen:?}");
            assert_eq!((seen[0].original_dst, seen[0].protocol), (Some(target), Protocol::Http1));
            // Straight to the listener.
            assert_eq!(ask(SocketAddr::new(server.ip(), port)).await, "");
            assert_eq!(sidecar.take_seen()[0].original_dst, None);
        }
    })
    .await;
}

/// Runs a Python program; what it printed.
async fn python(tool: &'static str, program: &'static str, port: u16) -> String {
    let run = tokio::task::spawn_blocking(move || {
        Command::new(find(tool).unwrap()).args(["-c", program, &port.to_string()]).output().unwrap()
    });
    let output = run.await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A client of a server that speaks first comes through the sidecar: at once by the port `usual`, and after the client's
/// silence by any other.
async fn served_first(server: &Server, usual: u16, client: impl AsyncFn(u16)) {
    let mut sidecar = Sidecar::new(Capture::Redirect, marked());
    sidecar.upstream = Some(server.address());
    let bound = bind_tcp(at("127.0.0.1:0"), 16).unwrap();
    redirect(None, bound.address.port(), bound.address.port());
    sidecar.serve(bound.socket);
    for (port, evidence) in [(usual, Evidence::Declared), (10_000, Evidence::Silence)] {
        client(port).await;
        let seen = sidecar.take_seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        assert_eq!((seen[0].protocol, seen[0].evidence), (Protocol::Bytes, evidence));
        assert_eq!(seen[0].original_dst, Some(SocketAddr::new(at("192.0.2.1:0").ip(), port)));
        assert_eq!(seen[0].sniffed_ms >= 500, evidence == Evidence::Silence, "{seen:?}");
    }
}

const SMTP_CLIENT: &str = "
import smtplib, sys
client = smtplib.SMTP('192.0.2.1', int(sys.argv[1]), local_hostname='client', timeout=9)
client.sendmail('a@example.com', ['b@example.com'], 'Subject: port ' + sys.argv[1] + '\\r\\n\\r\\nhello')
client.quit()
";

/// A real SMTP client and server.
#[tokio::test]
async fn smtp_is_not_held_up() {
    let Some(_) = tools!("unshare", "ip", "iptables", "ip6tables", "python3-smtp") else { return };
    if !isolated(PACKAGE, "captures::smtp_is_not_held_up", Isolation::Network) {
        return;
    }
    network();
    local(async {
        let server = Server::smtp().unwrap();
        served_first(&server, 25, async |port| {
            python("python3-smtp", SMTP_CLIENT, port).await;
            assert!(server.folder().read("output").contains(&format!("Subject: port {port}")));
        })
        .await;
    })
    .await;
}

const MYSQL_CLIENT: &str = "
import pymysql, sys
client = pymysql.connect(host='192.0.2.1', port=int(sys.argv[1]), user='root', connect_timeout=9)
cursor = client.cursor()
cursor.execute('SELECT 6 * 7')
print(cursor.fetchone()[0])
client.close()
";

/// A real client of MySQL and MariaDB.
#[tokio::test]
async fn mysql_is_not_held_up() {
    let Some(_) = tools!("unshare", "ip", "iptables", "ip6tables", "python3-mysql", "mariadbd") else { return };
    if !isolated(PACKAGE, "captures::mysql_is_not_held_up", Isolation::Network) {
        return;
    }
    network();
    local(async {
        let server = Server::mariadb().unwrap();
        served_first(&server, 3306, async |port| {
            assert_eq!(python("python3-mysql", MYSQL_CLIENT, port).await, "42\n");
        })
        .await;
    })
    .await;
}

/// What needs a privilege says which one, and does not count against the upstream.
#[tokio::test]
async fn a_missing_privilege_is_named() {
    let Some(_) = tools!("unshare") else { return };
    if !isolated(PACKAGE, "captures::a_missing_privilege_is_named", Isolation::Unprivileged) {
        return;
    }
    let target = at("127.0.0.1:9");
    let foreign = SocketOptions { mark: None, source: Some(Source::Foreign(at("192.0.2.1:0"))) };
    for (options, option) in [
        (marked().options, "the socket mark 0x539 (SO_MARK)"),
        (foreign, "the source address 192.0.2.1:0 (IP_TRANSPARENT)"),
    ] {
        let connector = Connector { options, tunnel: None };
        let error = connector.connect(target, None, None, &Stage::default()).await.unwrap_err();
        assert!(error.is_local());
        assert_eq!(
            error.to_string(),
            format!(
                "connect to {target}: cannot set {option}: Operation not permitted (os error 1); the process needs the \
                 capability CAP_NET_ADMIN"
            )
        );
    }
    let error = bind_transparent(at("127.0.0.1:0"), 16).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot set IP_TRANSPARENT on the listener 127.0.0.1:0: Operation not permitted (os error 1); the process needs \
         the capability CAP_NET_ADMIN"
    );
}
