//! Greetings of scripted servers that speak first, through protocol detection, over loopback.

use cardinal_net::{Capture, Connector, Evidence, Protocol, bind_tcp};
use cardinal_testkit::{ScriptedPeer, Step};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::sidecar::Sidecar;
use super::{at, local};

/// A dialogue: what the server says, and what the client says to it.
type Dialogue<'a> = &'a [(&'a [u8], &'a [u8])];

const SMTP: Dialogue<'_> = &[
    (b"220 mail.example.com ESMTP\r\n", b"EHLO client\r\n"),
    (b"250-mail.example.com\r\n250 SMTPUTF8\r\n", b"QUIT\r\n"),
    (b"221 bye\r\n", b""),
];

/// The server's greeting (protocol 10, mysql_native_password), the client's answer as `root`, and that all is well.
const MYSQL: Dialogue<'_> = &[
    (
        b"\x4a\0\0\0\x0a5.7.44\0\x01\0\0\0abcdefgh\0\xff\xf7\x08\x02\0\xff\x81\x15\0\0\0\0\0\0\0\0\0\0ijklmnopqrst\0mysql_native_password\0",
        b"\x3c\0\0\x01\x05\xa2\x08\0\0\0\0\x01\x2d\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0root\0\0mysql_native_password\0",
    ),
    (b"\x07\0\0\x02\0\0\0\x02\0\0\0", b"\x01\0\0\0\x01"),
];

/// Holds `dialogue` through a sidecar; the client says nothing before it has been greeted, or closes its side instead of
/// saying anything.
async fn hold(dialogue: Dialogue<'_>, speaks: bool) {
    let spoken = if speaks { dialogue } else { &dialogue[..1] };
    let play = spoken.iter().flat_map(|(server, client)| {
        let client = if speaks { Step::Expect(client.to_vec()) } else { Step::Drain };
        [Step::send(server), client]
    });
    let server = ScriptedPeer::start(vec![play.collect()]).await;
    let mut sidecar = Sidecar::new(Capture::Direct, Connector::DIRECT);
    sidecar.upstream = Some(server.address());
    let bound = bind_tcp(at("127.0.0.1:0"), 16).unwrap();
    sidecar.serve(bound.socket);
    let mut client = TcpStream::connect(bound.address).await.unwrap();
    if !speaks {
        client.shutdown().await.unwrap();
    }
    for (greeting, answer) in spoken {
        let mut heard = vec![0; greeting.len()];
        client.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard.escape_ascii().to_string(), greeting.escape_ascii().to_string());
        if speaks {
            client.write_all(answer).await.unwrap();
        }
    }
    assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
    assert_eq!(server.errors(), Vec::<String>::new());
    let seen = sidecar.take_seen();
    let evidence = if speaks { Evidence::Silence } else { Evidence::Unfinished };
    assert_eq!((seen[0].protocol, seen[0].evidence), (Protocol::Bytes, evidence));
    assert_eq!(seen[0].sniffed_ms >= 500, speaks, "{seen:?}");
}

#[tokio::test]
async fn servers_that_speak_first_are_heard() {
    local(async {
        for dialogue in [SMTP, MYSQL] {
            hold(dialogue, true).await;
            hold(dialogue, false).await;
        }
    })
    .await;
}
