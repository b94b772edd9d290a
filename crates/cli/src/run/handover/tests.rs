use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc::Receiver;

use cardinal_engine::Socket;
use cardinal_testkit::TempDir;

use super::*;

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn tcp() -> Handover {
    let socket = TcpListener::bind(loopback()).unwrap();
    Handover { address: socket.local_addr().unwrap(), kind: ListenerKind::Http, socket: Socket::Tcp(socket) }
}

fn udp() -> Handover {
    let socket = UdpSocket::bind(loopback()).unwrap();
    Handover { address: socket.local_addr().unwrap(), kind: ListenerKind::Udp, socket: Socket::Udp(socket) }
}

/// A process that serves `sockets`; the receiver gets what comes after they were asked for.
fn serving(folder: &TempDir, sockets: Vec<Handover>) -> Receiver<&'static str> {
    let (events, mut received) = tokio::sync::mpsc::channel(4);
    let (told, telling) = sync_channel(4);
    offer(folder.path(), events);
    let mut sockets = Some(sockets);
    std::thread::spawn(move || {
        while let Some(event) = received.blocking_recv() {
            match event {
                Event::Sockets(reply) => reply.send(Ok(sockets.take().unwrap_or_default())).unwrap(),
                Event::Succeeded => told.send("succeeded").unwrap(),
                other => panic!("{other:?}"),
            }
        }
    });
    telling
}

#[test]
fn sockets_arrive_and_accept() {
    let folder = TempDir::new("handover");
    // More than one message holds.
    let mut sockets: Vec<Handover> = (0..100).map(|_| tcp()).collect();
    sockets.push(udp());
    let addresses: Vec<_> = sockets.iter().map(|h| (h.address, h.kind)).collect();
    let told = serving(&folder, sockets);
    let (got, predecessor) = Predecessor::find(folder.path()).unwrap().unwrap().take().unwrap();
    assert_eq!(got.iter().map(|h| (h.address, h.kind)).collect::<Vec<_>>(), addresses);
    let Socket::Tcp(last) = &got[99].socket else { panic!("not TCP") };
    assert_eq!(last.local_addr().unwrap(), got[99].address);
    let _client = TcpStream::connect(got[99].address).unwrap();
    last.set_nonblocking(false).unwrap();
    last.accept().unwrap();
    assert!(told.try_recv().is_err(), "nothing happens before the word");
    predecessor.tell_ready();
    assert_eq!(told.recv_timeout(Duration::from_secs(5)), Ok("succeeded"));
}

#[test]
fn a_successor_that_fails_changes_nothing() {
    let folder = TempDir::new("handover");
    let told = serving(&folder, vec![tcp()]);
    let (_, predecessor) = Predecessor::find(folder.path()).unwrap().unwrap().take().unwrap();
    drop(predecessor);
    // The next one is heard.
    let (_, predecessor) = Predecessor::find(folder.path()).unwrap().unwrap().take().unwrap();
    assert!(told.try_recv().is_err());
    predecessor.tell_ready();
    assert_eq!(told.recv_timeout(Duration::from_secs(5)), Ok("succeeded"));
}

#[test]
fn a_process_that_listens_elsewhere_is_not_replaced() {
    // Another transport is another address.
    let own: [fn(SocketAddr, SocketAddr) -> Vec<Place>; 3] =
        [|_, _| Vec::new(), |a, _| vec![(false, a)], |a, b| vec![(false, a), (false, b)]];
    for own in own {
        let folder = TempDir::new("handover");
        let (one, other) = (tcp(), udp());
        let (at, at_other) = (one.address, other.address);
        let told = serving(&folder, vec![one, other]);
        let own = Takeover::Same(own(at, at_other).into_iter().collect());
        let error = inherit(folder.path(), &own).unwrap_err().to_string();
        let theirs = places_text(&[(false, at), (true, at_other)].into_iter().collect());
        let held = format!(
            "the data directory {} is in use by process {}, which listens on other addresses ({theirs})",
            folder.path().display(),
            std::process::id()
        );
        assert!(error.starts_with(&held) && error.contains("--data-dir"), "{error}");
        assert!(told.try_recv().is_err());
    }
}

#[test]
fn a_process_that_listens_at_the_same_addresses_is_replaced() {
    let folder = TempDir::new("handover");
    let one = tcp();
    let own = Takeover::Same([(false, one.address)].into_iter().collect());
    let told = serving(&folder, vec![one]);
    let (sockets, predecessor) = inherit(folder.path(), &own).unwrap();
    predecessor.unwrap().tell_ready();
    assert_eq!((sockets.len(), told.recv_timeout(Duration::from_secs(5))), (1, Ok("succeeded")));
}

#[test]
fn only_the_owner_may_connect() {
    let folder = TempDir::new("handover");
    let _told = serving(&folder, Vec::new());
    assert_eq!(fs::metadata(place(folder.path())).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn what_a_dead_process_left_behind_is_nobody() {
    let folder = TempDir::new("handover");
    assert!(Predecessor::find(folder.path()).unwrap().is_none());
    drop(UnixListener::bind(place(folder.path())).unwrap());
    assert!(Predecessor::find(folder.path()).unwrap().is_none());
}

#[test]
fn successors_take_turns() {
    let folder = TempDir::new("handover");
    let takeover = TakeoverLock::wait(folder.path(), Duration::ZERO).unwrap();
    let error = TakeoverLock::wait(folder.path(), TAKEOVER_PAUSE).unwrap_err();
    assert!(error.to_string().contains("is not serving yet"), "{error:#}");
    let path = folder.path().to_owned();
    let waiting = std::thread::spawn(move || TakeoverLock::wait(&path, TAKEOVER_WAIT_MAX));
    drop(takeover);
    waiting.join().unwrap().unwrap();
}

#[test]
fn a_hand_over_that_breaks_off_is_no_reason_for_new_sockets() {
    let folder = TempDir::new("handover");
    let listener = UnixListener::bind(place(folder.path())).unwrap();
    let resets = std::thread::spawn(move || {
        for _ in 0..ATTEMPTS_MAX {
            listener.accept().unwrap();
        }
        listener
    });
    let error = inherit(folder.path(), &Takeover::Any).unwrap_err();
    assert!(format!("{error:#}").contains("does not hand over its sockets"), "{error:#}");
    // The next attempt goes to the process that listens then.
    let listener = resets.join().unwrap();
    let path = folder.path().to_owned();
    let asking = std::thread::spawn(move || inherit(&path, &Takeover::Any));
    let (stream, _) = listener.accept().unwrap();
    let _told = serving(&folder, vec![tcp()]);
    drop((stream, listener));
    let (sockets, predecessor) = asking.join().unwrap().unwrap();
    assert_eq!((sockets.len(), predecessor.is_some()), (1, true));
}

#[test]
fn a_process_that_ends_is_not_waited_for() {
    let folder = TempDir::new("handover");
    let (events, received) = tokio::sync::mpsc::channel(4);
    offer(folder.path(), events);
    drop(received);
    let (sockets, predecessor) = inherit(folder.path(), &Takeover::Any).unwrap();
    assert!(sockets.is_empty() && predecessor.is_none());
}

#[test]
fn nonsense_is_refused() {
    use std::io::Write as _;

    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let mut said = |text: &str| {
        theirs.write_all(text.as_bytes()).unwrap();
        wire::read_request(&ours).unwrap_err().to_string()
    };
    assert_eq!(said("{}\n"), "the other process is not understood");
    assert_eq!(said("{\"version\":2,\"wish\":\"ready\"}\n"), "the other process is of version 2 of the hand-over");
}
