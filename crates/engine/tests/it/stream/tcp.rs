use std::sync::Arc;

use anyhow::Result;
use cardinal_http::FailureKind;
use cardinal_ir::policy::Retry;
use cardinal_ir::{ListenerKind, Timeouts, Wire};
use cardinal_testkit::{free_port, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::recorder::records;
use super::setup::{Running, Setup, tcp_server};

/// Sends `data`, shuts down sending, and reads to the end.
async fn talk(running: &Running, data: &[u8]) -> Result<Vec<u8>> {
    let tcp = TcpStream::connect(running.address()).await?;
    let (mut read, mut write) = tcp.into_split();
    let mut answer = Vec::new();
    let send = async {
        // A rejected session may end before everything was sent.
        write.write_all(data).await.ok();
        write.shutdown().await.ok();
    };
    let (received, ()) = within("a stream", async { tokio::join!(read.read_to_end(&mut answer), send) }).await?;
    received.ok();
    Ok(answer)
}

#[tokio::test]
async fn bytes_go_both_ways_and_ends_are_passed_on() -> Result<()> {
    let server = tcp_server("one", None).await;
    let mut setup = Setup::default();
    setup.listener(ListenerKind::Stream, false);
    let backend = setup.backend(server.address, |_| {});
    let route = setup.route(Some(backend), &[Wire::Tcp], &[]);
    setup.record("tcp-both-ways", true);
    let running = setup.start();
    let data: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    let answer = talk(&running, &data).await?;
    // The server sends the total only after the client has shut down sending, and the client still receives it.
    let expect = [b"one\n".as_slice(), &data, b"\n1000000"].concat();
    assert!(answer == expect, "{} of {} bytes", answer.len(), expect.len());
    let record = &records("tcp-both-ways", 1).await[0];
    let sent = expect.len() as u64;
    assert_eq!(record.bytes, [1_000_000, sent, 1_000_000, sent]);
    assert_eq!((record.wire, record.route, record.failure), (Wire::Tcp, Some(route), None));
    assert_eq!((record.tries, &record.sni), ((0, 1), &None));
    Ok(())
}

/// Large and small amounts alternate: the forwarding method changes in between.
#[tokio::test]
async fn much_and_little_come_in_their_order() -> Result<()> {
    let server = tcp_server("one", None).await;
    let mut setup = Setup::default();
    setup.listener(ListenerKind::Stream, false);
    let backend = setup.backend(server.address, |_| {});
    setup.route(Some(backend), &[Wire::Tcp], &[]);
    setup.record("tcp-much", true);
    let running = setup.start();
    let tcp = TcpStream::connect(running.address()).await?;
    let (mut read, mut write) = tcp.into_split();
    let mut name = [0; 4];
    read.read_exact(&mut name).await?;
    let mut total = 0;
    for size in [10, 16_000_000, 1, 1_000, 9_000_001, 5] {
        let data: Vec<u8> = (0..size).map(|n: u32| (n % 251) as u8).collect();
        let mut back = vec![0; data.len()];
        let (sent, received) =
            within("a part", async { tokio::join!(write.write_all(&data), read.read_exact(&mut back)) }).await?;
        sent?;
        received?;
        assert!(back == data, "{size}");
        total += u64::from(size);
    }
    write.shutdown().await?;
    let mut rest = String::new();
    read.read_to_string(&mut rest).await?;
    assert_eq!(rest, format!("\n{total}"));
    let record = &records("tcp-much", 1).await[0];
    let sent = total + 4 + rest.len() as u64;
    assert_eq!((record.bytes, record.failure), ([total, sent, total, sent], None));
    Ok(())
}

#[tokio::test]
async fn another_endpoint_is_tried_when_one_is_not_there() -> Result<()> {
    let server = tcp_server("two", None).await;
    let mut setup = Setup::default();
    setup.listener(ListenerKind::Stream, false);
    let nobody = ([127, 0, 0, 1], free_port()).into();
    let target = setup.group(&[nobody, server.address]);
    let backend = setup.backend(server.address, |backend| {
        backend.target = target;
        backend.retry = Some(Arc::new(Retry { attempts: 1, ..Retry::default() }));
    });
    setup.route(Some(backend), &[Wire::Tcp], &[]);
    setup.record("tcp-retries", true);
    let running = setup.start();
    for _ in 0..4 {
        assert_eq!(talk(&running, b"x").await?, b"two\nx\n1");
    }
    let seen = records("tcp-retries", 4).await;
    assert!(seen.iter().all(|record| record.failure.is_none()), "{seen:?}");
    assert!(seen.iter().any(|record| record.tries == (1, 2)), "{seen:?}");
    Ok(())
}

#[tokio::test]
async fn sessions_that_lead_nowhere_are_closed_and_logged() -> Result<()> {
    let nobody = ([127, 0, 0, 1], free_port()).into();
    let check = async |name: &str, admit, prepare: &dyn Fn(&mut Setup), expect, tries| -> Result<()> {
        let mut setup = Setup::default();
        setup.listener(ListenerKind::Stream, false);
        prepare(&mut setup);
        setup.record(name, admit);
        let running = setup.start();
        assert_eq!(talk(&running, b"hello").await?, b"", "{name}");
        let record = &records(name, 1).await[0];
        assert_eq!((record.failure, record.tries), (expect, tries), "{name}");
        assert_eq!(record.bytes, [0; 4], "{name}");
        Ok(())
    };
    let to_nobody = |setup: &mut Setup| {
        let backend = setup.backend(nobody, |backend| {
            backend.retry = Some(Arc::new(Retry { attempts: 2, ..Retry::default() }));
        });
        setup.route(Some(backend), &[Wire::Tcp], &[]);
    };
    let other_wire = |setup: &mut Setup| {
        let backend = setup.backend(nobody, |_| {});
        setup.route(Some(backend), &[Wire::Udp], &[]);
    };
    let no_backend = |setup: &mut Setup| {
        setup.route(None, &[Wire::Tcp], &[]);
    };
    check("tcp-no-route", true, &other_wire, Some(FailureKind::NoRoute), (0, 0)).await?;
    check("tcp-no-backend", true, &no_backend, Some(FailureKind::NoBackend), (0, 0)).await?;
    check("tcp-nobody", true, &to_nobody, Some(FailureKind::UpstreamConnect), (3, 3)).await?;
    check("tcp-filter", false, &to_nobody, None, (0, 0)).await
}

#[tokio::test]
async fn a_silent_session_ends() -> Result<()> {
    for (name, read_ms, write_ms, idle_ms) in [("tcp-idle", 50, 100, 0), ("tcp-idle-own", 20_000, 20_000, 100)] {
        let server = tcp_server("one", None).await;
        let mut setup = Setup::default();
        setup.listener(ListenerKind::Stream, false);
        let backend = setup.backend(server.address, |backend| {
            backend.timeouts = Timeouts { read_ms, write_ms, idle_ms, ..backend.timeouts };
        });
        setup.route(Some(backend), &[Wire::Tcp], &[]);
        setup.record(name, true);
        let running = setup.start();
        let mut tcp = TcpStream::connect(running.address()).await?;
        let mut answer = Vec::new();
        within("the end of a silent session", tcp.read_to_end(&mut answer)).await??;
        assert_eq!(answer, b"one\n");
        let record = &records(name, 1).await[0];
        assert_eq!((record.failure, record.bytes), (None, [0, 4, 0, 4]));
    }
    Ok(())
}

#[tokio::test]
async fn a_session_ends_with_its_lifetime() -> Result<()> {
    let server = tcp_server("one", None).await;
    let mut setup = Setup::default();
    setup.listener(ListenerKind::Stream, false);
    let backend = setup.backend(server.address, |backend| backend.timeouts.stream_ms = 300);
    setup.route(Some(backend), &[Wire::Tcp], &[]);
    setup.record("tcp-lifetime", true);
    let running = setup.start();
    let mut tcp = TcpStream::connect(running.address()).await?;
    let mut buffer = [0; 64];
    let busy = async { while tcp.write_all(b"x").await.is_ok() && matches!(tcp.read(&mut buffer).await, Ok(1..)) {} };
    within("the end of a busy session", busy).await?;
    assert_eq!(records("tcp-lifetime", 1).await[0].failure, Some(FailureKind::UpstreamTimeout));
    Ok(())
}
