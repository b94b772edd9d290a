use std::time::Duration;

use anyhow::Result;
use cardinal_ir::{ListenerKind, Wire};
use cardinal_testkit::within;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::recorder::records;
use super::setup::{Running, Setup, tcp_server, udp_server};

/// Drains like the binary, from a thread without a runtime. Returns the number of connections that were cut off.
async fn drain(running: Running, budget: Duration) -> u64 {
    tokio::task::spawn_blocking(move || running.engine.drain(budget)).await.unwrap()
}

fn streams(server: std::net::SocketAddr, kind: ListenerKind, wire: Wire, name: &str) -> Running {
    let mut setup = Setup::default();
    setup.listener(kind, false);
    let backend = setup.backend(server, |_| {});
    setup.route(Some(backend), &[wire], &[]);
    setup.record(name, true);
    setup.start()
}

#[tokio::test]
async fn a_stream_goes_on_while_the_node_drains() -> Result<()> {
    let server = tcp_server("s", None).await;
    let running = streams(server.address, ListenerKind::Stream, Wire::Tcp, "drain-goes-on");
    let address = running.address();
    let mut tcp = TcpStream::connect(address).await?;
    tcp.read_exact(&mut [0; 2]).await?;
    let draining = drain(running, Duration::from_secs(20));
    let talking = async {
        // From some time on, no new connections are accepted; existing ones are unaffected.
        within("the listener's end", async { while TcpStream::connect(address).await.is_ok() {} }).await?;
        tcp.write_all(b"hello").await?;
        tcp.shutdown().await?;
        let mut answer = String::new();
        within("the rest", tcp.read_to_string(&mut answer)).await??;
        anyhow::Ok(answer)
    };
    let (left, answer) = tokio::join!(draining, talking);
    assert_eq!((left, answer?.as_str()), (0, "hello\n5"));
    assert!(records("drain-goes-on", 1).await.iter().any(|record| record.bytes[0] == 5));
    Ok(())
}

#[tokio::test]
async fn a_stream_that_does_not_end_is_cut_off_with_the_budget() -> Result<()> {
    let server = tcp_server("s", None).await;
    let running = streams(server.address, ListenerKind::Stream, Wire::Tcp, "drain-cut-off");
    let mut tcp = TcpStream::connect(running.address()).await?;
    tcp.read_exact(&mut [0; 2]).await?;
    within("the budget's end", drain(running, Duration::from_millis(100))).await?;
    assert!(matches!(within("the end", tcp.read(&mut [0; 2])).await?, Ok(0) | Err(_)));
    Ok(())
}

#[tokio::test]
async fn udp_sessions_end_when_no_more_answers_come() -> Result<()> {
    let server = udp_server("s").await;
    let running = streams(server.address, ListenerKind::Udp, Wire::Udp, "drain-udp");
    let client = UdpSocket::bind("127.0.0.1:0").await?;
    client.connect(running.address()).await?;
    client.send(b"x").await?;
    within("an answer", client.recv(&mut [0; 64])).await??;
    // The idle timeout is a minute: it is not what ends the session.
    assert_eq!(within("the end", drain(running, Duration::from_secs(60))).await?, 0);
    assert_eq!(records("drain-udp", 1).await[0].failure, None);
    Ok(())
}
