//! Crashes and full disks under a control plane that is written to: no write is lost that was acknowledged, and none is
//! applied in part.

use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use cardinal_test_tools::tools;
use cardinal_testkit::{EchoServer, TempDir, until, with_own_mounts};
use futures_util::future::{join, join_all};
use serde_json::{Value, json};

use crate::admin::Node;
use crate::history::text;
use crate::process::cardinal;

const WRITERS: usize = 8;
/// How often the process is killed, if the variable does not say otherwise.
const KILLS: u64 = 5;
const KILLS_VARIABLE: &str = "CARDINAL_KILLS";

/// What each writer counted up to: the last count that was acknowledged.
type Counts = [AtomicU64; WRITERS];

/// Counts up in two services, both in one batch, until the node does not answer any more or refuses a write; gives the
/// refusal.
async fn write(node: &Node, writer: usize, counts: &Counts, total: &AtomicU64) -> Option<(u16, Value)> {
    loop {
        let count = counts[writer].load(Ordering::SeqCst) + 1;
        let side = |side: &str| {
            json!({ "method": "put", "kind": "services", "key": format!("{side}{writer}"),
                "body": { "host": "a.test", "path": format!("/{count}"), "tags": [format!("count-{count}")] } })
        };
        match node.try_send("POST", "/cardinal/v1/batch", json!([side("left"), side("right")])).await {
            Some((200, _)) => {
                counts[writer].store(count, Ordering::SeqCst);
                total.fetch_add(1, Ordering::SeqCst);
            }
            refused => return refused,
        }
    }
}

/// Compares what the node has with what was acknowledged; the newer state counts from then on.
async fn check(node: &Node, counts: &Counts) {
    for (writer, acknowledged) in counts.iter().enumerate() {
        let mut sides = Vec::new();
        for side in ["left", "right"] {
            let (status, service) = node.send("GET", &format!("/services/{side}{writer}"), Value::Null).await;
            let path = service["path"].as_str().unwrap_or("/0").trim_start_matches('/');
            let count: u64 = path.parse().unwrap();
            assert!(status == 200 || (status, count) == (404, 0), "{status} {service}");
            let (_, tagged) = node.send("GET", &format!("/services?tags=count-{count}"), Value::Null).await;
            let names = tagged["data"].as_array().unwrap();
            let name = format!("{side}{writer}");
            assert!(count == 0 || names.iter().any(|one| one["name"] == *name), "{name} is not found by its tag");
            sides.push(count);
        }
        assert_eq!(sides[0], sides[1], "a batch of writer {writer} was applied in part");
        let before = acknowledged.swap(sides[0], Ordering::SeqCst);
        assert!(sides[0] >= before, "writer {writer}: {before} was acknowledged, {} is there", sides[0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(clippy::disallowed_methods, reason = "long runs are asked for by the environment")]
async fn acknowledged_writes_survive_a_kill() {
    let kills = std::env::var(KILLS_VARIABLE).map_or(KILLS, |kills| kills.parse().unwrap());
    let (data, counts) = (TempDir::new("faults"), Counts::default());
    for round in 0..kills {
        let node = Node::start(&data, &[]);
        check(&node, &counts).await;
        // Any number will do, as long as it is another one each time.
        let (total, enough) = (AtomicU64::new(0), 1 + round * 37 % 101);
        let killing = async {
            until("writes", || total.load(Ordering::SeqCst) >= enough).await.unwrap();
            node.kill();
        };
        let writing = join_all((0..WRITERS).map(|writer| write(&node, writer, &counts, &total)));
        let (refused, ()) = join(writing, killing).await;
        assert!(refused.iter().all(Option::is_none), "{refused:?}");
    }
    let node = Node::start(&data, &[]);
    check(&node, &counts).await;
    node.stop().await;
    assert!(text(&data, &["audit", "verify"]).starts_with("the change log is intact"));
}

/// The end of the log of SQLite is lost, as it may be with power: what was committed before is there, as a whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_end_of_the_log_is_as_if_it_had_never_been() {
    let (data, counts) = (TempDir::new("faults"), Counts::default());
    let node = Node::start(&data, &[]);
    let total = AtomicU64::new(0);
    let killing = async {
        until("writes", || total.load(Ordering::SeqCst) >= 60).await.unwrap();
        node.kill();
    };
    join(join_all((0..WRITERS).map(|writer| write(&node, writer, &counts, &total))), killing).await;
    drop(node);
    let log = data.path().join("store.db-wal");
    let mut bytes = std::fs::read(&log).unwrap();
    assert!(bytes.len() > 10_000, "the log was there: {} bytes", bytes.len());
    let end = bytes.len() - 200;
    bytes[end..].iter_mut().for_each(|byte| *byte ^= 0x5a);
    std::fs::write(&log, &bytes).unwrap();
    // Only the last commit is damaged, which has at most a write of each writer.
    counts.iter().for_each(|count| {
        count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| Some(count.saturating_sub(1))).ok();
    });
    let node = Node::start(&data, &[]);
    check(&node, &counts).await;
    assert_eq!(write_once(&node).await, 200);
    node.stop().await;
    assert!(text(&data, &["audit", "verify"]).starts_with("the change log is intact"));
}

async fn write_once(node: &Node) -> u16 {
    node.send("PUT", "/services/more", json!({ "host": "a.test" })).await.0
}

/// Files may not grow beyond a limit, which is to programs what a full disk is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_loses_nothing() {
    let (data, counts) = (TempDir::new("faults"), Counts::default());
    let node = Node::start(&data, &[]);
    assert_eq!(write_once(&node).await, 200);
    node.stop().await;
    let mut limited = Command::new("/bin/sh");
    // In units of 512 bytes. Without a handler the signal would end the process.
    limited.args(["-c", "trap '' XFSZ; ulimit -f 1200; exec \"$@\"", "sh"]).arg(cardinal().get_program());
    limited.env_clear().env("KONG_ADMIN_LISTEN", "off");
    let node = Node::start_as(limited, &data, &[]);
    let total = AtomicU64::new(0);
    let refused = join_all((0..WRITERS).map(|writer| write(&node, writer, &counts, &total))).await;
    for (status, body) in refused.into_iter().map(Option::unwrap) {
        assert!(status >= 500 && body["message"].as_str().is_some_and(|text| text.contains("the store")), "{body}");
    }
    assert!(total.load(Ordering::SeqCst) > 0);
    // What is there can be read, and is what was acknowledged.
    check(&node, &counts).await;
    node.stop().await;
    let node = Node::start(&data, &[]);
    check(&node, &counts).await;
    assert_eq!(write_once(&node).await, 200);
    node.stop().await;
    assert!(text(&data, &["audit", "verify"]).starts_with("the change log is intact"));
}

/// The data directory cannot be written: what was served last is served, and nothing is changed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_data_directory_changes_nothing() {
    let Some(_) = tools!("unshare") else { return };
    let Some(mut isolated) = with_own_mounts(env!("CARGO_PKG_NAME")) else { return };
    let (data, echo) = (TempDir::new("faults"), EchoServer::start("backend").await);
    let node = Node::start(&data, &[]);
    assert_eq!(node.send("PUT", "/services/s", json!({ "url": echo.url() })).await.0, 200);
    assert_eq!(node.send("PUT", "/services/s/routes/r", json!({ "paths": ["/a"] })).await.0, 200);
    node.serves("/a", "", 200).await;
    node.stop().await;
    // The super-user may write whatever the mode is, so the directory is mounted read-only for the node.
    let mount = "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\" && exec \"$@\"";
    isolated.args(["/bin/sh", "-c", mount]).arg(data.path());
    isolated.arg(cardinal().get_program()).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let node = Node::start_as(isolated, &data, &[]);
    assert_eq!(node.proxied("/a", "").await, 200);
    let (status, told) = node.send("PUT", "/services/lost", json!({ "host": "a.test" })).await;
    let message = told["message"].as_str().unwrap_or_default();
    assert!(status >= 500 && message.contains("the store"), "{status} {told}");
    assert!(message.contains("Read-only file system"), "{told}");
    assert_eq!(node.proxied("/a", "").await, 200);
    node.stop().await;
    let node = Node::start(&data, &[]);
    assert_eq!(node.send("GET", "/services/lost", Value::Null).await.0, 404);
    assert_eq!(write_once(&node).await, 200);
    node.stop().await;
    assert!(text(&data, &["audit", "verify"]).starts_with("the change log is intact"));
}
