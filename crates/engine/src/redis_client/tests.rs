//! Tests with real Redis servers, and with scripted servers that misbehave.

use std::net::IpAddr;
use std::time::Duration;

use cardinal_base::SystemClock;
use cardinal_ir::Resolver;
use cardinal_net::dns::{Data, DnsError, Found, Kind, Lookup};
use cardinal_sdk::redis::{RedisReply, RedisScript};
use cardinal_test_tools::tools;
use cardinal_testkit::{Authority, ScriptedPeer, Server as Process, Step, TempDir, free_port, until_some, within};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::runtime::Handle;

use super::*;

/// A DNS client with one name, which is not in the hosts file.
#[derive(Debug)]
struct OneName;

impl Lookup for OneName {
    fn lookup<'a>(&'a self, name: &'a str, kind: Kind) -> BoxFuture<'a, Result<Found, DnsError>> {
        let known = name.trim_end_matches('.') == "by-dns.test" && kind == Kind::A;
        let found = Found { data: vec![Data::Ip(IpAddr::from([127, 0, 0, 1]))], ttl_s: 60 };
        async move { if known { Ok(found) } else { Err(DnsError::NotFound) } }.boxed()
    }
}

/// A resolver that resolves `redis.test` and `other.test` to this machine by its hosts file, and `by-dns.test` by DNS.
fn dns() -> Arc<Dns> {
    let folder = TempDir::new("redis-client");
    let hosts = folder.write("hosts", "127.0.0.1 redis.test other.test\n");
    let settings = Resolver { hosts_file: hosts.to_str().unwrap().into(), ..Resolver::default() };
    let clock = Arc::new(SystemClock::new());
    Arc::new(Dns::with_lookup(&settings, clock, Handle::current(), Box::new(OneName)).unwrap())
}

fn client() -> RedisClient {
    RedisClient::new(dns(), Arc::default())
}

fn trusting(authorities: &str) -> (RedisClient, Arc<Trust>) {
    let trust = Arc::new(Trust::default());
    trust.set(Some(authorities));
    (RedisClient::new(dns(), Arc::clone(&trust)), trust)
}

fn at(port: u16) -> RedisSettings {
    RedisSettings { connect_timeout: Duration::from_secs(20), timeout: Duration::from_secs(20), ..plain(port) }
}

fn plain(port: u16) -> RedisSettings {
    RedisSettings::new("redis.test", port)
}

fn command(words: &[&str]) -> RedisCall {
    let mut call = RedisCall::new();
    add(&mut call, words);
    call
}

fn add(call: &mut RedisCall, words: &[&str]) {
    let (name, rest) = words.split_first().unwrap();
    call.command(name);
    for word in rest {
        call.arg(word);
    }
}

/// The reply to one command, which the server must accept.
async fn ask(server: &Arc<dyn RedisServer>, words: &[&str]) -> Result<RedisReply, RedisError> {
    let mut replies = within("a reply", server.call(command(words).repeatable())).await.unwrap()?;
    assert_eq!(replies.len(), 1);
    replies.remove(0).accepted()
}

/// The server's id of the connection.
async fn number(server: &Arc<dyn RedisServer>) -> i64 {
    ask(server, &["CLIENT", "ID"]).await.unwrap().integer().unwrap().unwrap()
}

fn bytes(text: &str) -> RedisReply {
    RedisReply::Bytes(text.to_owned().into())
}

#[tokio::test]
async fn replies_come_in_the_order_of_the_commands_with_their_types() {
    let Some(_) = tools!("redis-server") else { return };
    let process = Process::redis(&[]).unwrap();
    let server = client().server(&at(process.address().port()));
    assert_eq!(server.name(), format!("redis.test:{}", process.address().port()));
    let mut call = command(&["SET", "text", "a\r\nb"]);
    for words in [&["GET", "text"][..], &["GET", "none"], &["INCR", "n"], &["RPUSH", "l", "x", "y"]] {
        add(&mut call, words);
    }
    add(&mut call, &["INCR", "l"]);
    add(&mut call, &["LRANGE", "l", "0", "-1"]);
    let mut replies = server.call(call).await.unwrap();
    let refused = replies.remove(5).accepted().unwrap_err();
    assert!(matches!(&refused, RedisError::Server { code, .. } if &**code == "WRONGTYPE"), "{refused}");
    let expect = [
        RedisReply::Status("OK".into()),
        bytes("a\r\nb"),
        RedisReply::Nil,
        RedisReply::Integer(1),
        RedisReply::Integer(2),
        RedisReply::List(vec![bytes("x"), bytes("y")]),
    ];
    assert_eq!(replies, expect);
    assert_eq!(server.call(RedisCall::new()).await, Ok(Vec::new()));
}

#[tokio::test]
async fn names_are_resolved_by_the_nodes_resolver() {
    let Some(_) = tools!("redis-server") else { return };
    let process = Process::redis(&[]).unwrap();
    let client = client();
    for host in ["redis.test", "REDIS.test", "by-dns.test", "127.0.0.1"] {
        let server = client.server(&RedisSettings { host: host.into(), ..at(process.address().port()) });
        assert_eq!(ask(&server, &["PING"]).await, Ok(RedisReply::Status("PONG".into())), "{host}");
    }
    let server = client.server(&RedisSettings { host: "nowhere.test".into(), ..at(process.address().port()) });
    let error = ask(&server, &["PING"]).await.unwrap_err();
    assert!(matches!(&error, RedisError::Unreachable(reason) if reason.contains("name error")), "{error}");
}

#[tokio::test]
async fn only_equal_settings_share_a_connection() {
    let Some(_) = tools!("redis-server") else { return };
    let process = Process::redis(&["--user", "alice", "on", ">hush", "~*", "+@all"]).unwrap();
    let client = client();
    let settings = at(process.address().port());
    let first = client.server(&settings);
    assert_eq!(number(&first).await, number(&client.server(&settings)).await);
    let other_database = RedisSettings { database: 3, ..settings.clone() };
    let user = |password: &str| RedisSettings {
        username: Some("alice".into()),
        password: Some(password.into()),
        ..settings.clone()
    };
    let (second, third) = (client.server(&other_database), client.server(&user("hush")));
    let numbers = [number(&first).await, number(&second).await, number(&third).await];
    assert!(numbers[0] != numbers[1] && numbers[1] != numbers[2] && numbers[0] != numbers[2], "{numbers:?}");
    ask(&first, &["SET", "key", "0"]).await.unwrap();
    assert_eq!(ask(&second, &["GET", "key"]).await, Ok(RedisReply::Nil));
    assert_eq!(ask(&third, &["ACL", "WHOAMI"]).await, Ok(bytes("alice")));
    // The connection of the user is still open.
    let error = ask(&client.server(&user("changed")), &["PING"]).await.unwrap_err();
    assert!(matches!(error, RedisError::Auth(_)), "{error}");
}

#[tokio::test]
async fn logins_that_the_server_does_not_accept_are_told_apart() {
    let Some(_) = tools!("redis-server") else { return };
    let process = Process::redis(&["--requirepass", "secret"]).unwrap();
    let client = client();
    let settings = at(process.address().port());
    let with = |password: Option<&str>, database: i64| RedisSettings {
        password: password.map(Into::into),
        database,
        ..settings.clone()
    };
    assert!(ask(&client.server(&with(Some("secret"), 2)), &["PING"]).await.is_ok());
    for wrong in [with(Some("wrong"), 0), with(None, 0), with(Some("secret"), 99)] {
        let error = ask(&client.server(&wrong), &["PING"]).await.unwrap_err();
        assert!(matches!(error, RedisError::Auth(_)), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[tokio::test]
async fn servers_are_verified_by_the_nodes_authorities() {
    let Some(_) = tools!("redis-server") else { return };
    let authority = Authority::new("ours");
    let process = Process::redis_tls(&authority.issue(&["redis.test"]), &[]).unwrap();
    let settings = at(process.address().port());
    let verified = settings.clone().with_tls(true, None);
    let by_other_name = |name| RedisSettings { host: "other.test".into(), ..settings.clone().with_tls(true, name) };
    let (knows, trust) = trusting(authority.cert_pem());
    let server = knows.server(&verified);
    assert!(ask(&server, &["PING"]).await.is_ok());
    assert!(ask(&knows.server(&by_other_name(Some("redis.test"))), &["PING"]).await.is_ok());
    let refused = |outcome: Result<RedisReply, RedisError>, what: &str| match outcome {
        Err(RedisError::Unreachable(reason)) => assert!(reason.contains("TLS"), "{what}: {reason}"),
        other => panic!("{what}: {other:?}"),
    };
    refused(ask(&knows.server(&by_other_name(None)), &["PING"]).await, "another name");
    let (stranger, _) = trusting(Authority::new("theirs").cert_pem());
    assert!(ask(&stranger.server(&settings.clone().with_tls(false, None)), &["PING"]).await.is_ok(), "not verified");
    refused(ask(&stranger.server(&verified), &["PING"]).await, "another authority");
    refused(ask(&client().server(&verified), &["PING"]).await, "the system's authorities");
    assert!(ask(&client().server(&settings), &["PING"]).await.is_err(), "the server speaks TLS only");
    // Other authorities after a reload: the connection verified by the old ones is not reused.
    trust.set(Some(Authority::new("theirs").cert_pem()));
    refused(ask(&server, &["PING"]).await, "authorities that changed");
}

#[tokio::test]
async fn a_server_that_comes_back_is_used_again() {
    let Some(_) = tools!("redis-server") else { return };
    let mut process = Process::redis(&[]).unwrap();
    let port = process.address().port();
    let server = client().server(&at(port));
    assert!(ask(&server, &["PING"]).await.is_ok());
    process.kill();
    let error = ask(&server, &["PING"]).await.unwrap_err();
    assert!(matches!(error, RedisError::Unreachable(_)), "{error}");
    let _process = Process::redis_on(port, &[]).unwrap();
    until_some("the server to be used again", async || ask(&server, &["PING"]).await.ok()).await.unwrap();
}

#[tokio::test]
async fn a_connection_that_the_server_has_closed_is_replaced() {
    let Some(_) = tools!("redis-server") else { return };
    let process = Process::redis(&[]).unwrap();
    let client = client();
    let server = client.server(&at(process.address().port()));
    let observer = client.server(&RedisSettings { database: 1, ..at(process.address().port()) });
    for _ in 0..3 {
        let before = number(&server).await;
        ask(&observer, &["CLIENT", "KILL", "ID", &before.to_string()]).await.unwrap();
        assert_ne!(number(&server).await, before);
    }
}

#[tokio::test]
async fn commands_are_sent_again_only_where_that_is_allowed() {
    let reads_and_closes = vec![Step::until("PING"), Step::send("+PONG\r\n"), Step::until("PING")];
    let answers = vec![Step::until("PING"), Step::send("+PONG\r\n"), Step::Drain];
    for (repeatable, connections) in [(true, 2), (false, 1)] {
        let peer = ScriptedPeer::start(vec![reads_and_closes.clone(), answers.clone()]).await;
        let server = client().server(&at(peer.address().port()));
        assert!(server.call(command(&["PING"])).await.is_ok());
        let call = command(&["PING"]);
        let outcome = server.call(if repeatable { call.repeatable() } else { call }).await;
        match outcome {
            Ok(_) => assert!(repeatable),
            Err(error) => assert!(!repeatable && matches!(error, RedisError::Broken(_)), "{error}"),
        }
        assert_eq!(peer.connections(), connections);
    }
}

#[tokio::test]
async fn a_failed_attempt_is_not_made_again_at_once() {
    let peer = ScriptedPeer::start(vec![vec![Step::Reset]]).await;
    let server = client().server(&at(peer.address().port()).with_tls(false, None));
    let first = ask(&server, &["PING"]).await.unwrap_err();
    assert!(matches!(first, RedisError::Unreachable(_)), "{first}");
    assert_eq!(ask(&server, &["PING"]).await, Err(first));
    assert_eq!(peer.connections(), 1);
    let again = until_some("another attempt", async || {
        ask(&server, &["PING"]).await.unwrap_err();
        (peer.connections() > 1).then_some(())
    });
    again.await.unwrap();
}

#[tokio::test]
async fn scripts_are_sent_by_digest_until_the_server_forgets_them() {
    let Some(_) = tools!("redis-server") else { return };
    let process = Process::redis(&["--user", "alice", "on", ">hush", "~*", "+eval", "+incrby", "+get"]).unwrap();
    let client = client();
    let server = client.server(&at(process.address().port()));
    let script = RedisScript::new("return redis.call('INCRBY', KEYS[1], ARGV[1])");
    let call = || {
        let mut call = command(&["GET", "key"]);
        call.script(&script, &["key"]).integer(5);
        call.command("GET").arg("key");
        call.script(&script, &["key"]).integer(1);
        call
    };
    let mut last = Vec::new();
    for round in 1..=4 {
        if round == 3 {
            ask(&server, &["SCRIPT", "FLUSH"]).await.unwrap();
        }
        last = server.call(call()).await.unwrap();
        assert_eq!(last[3], RedisReply::Integer(round * 6), "each script runs once");
    }
    assert_eq!(last, [bytes("18"), RedisReply::Integer(23), bytes("23"), RedisReply::Integer(24)]);
    let RedisReply::Bytes(statistics) = ask(&server, &["INFO", "commandstats"]).await.unwrap() else {
        panic!("no text")
    };
    let statistics = String::from_utf8(statistics.to_vec()).unwrap();
    // Two commands per round were unknown in the first and the third round.
    assert!(statistics.contains("cmdstat_eval:calls=4,"), "{statistics}");
    // A user who may only run scripts by their text.
    let mut settings = at(process.address().port());
    (settings.username, settings.password) = (Some("alice".into()), Some("hush".into()));
    let replies = client.server(&settings).call(call()).await.unwrap();
    assert_eq!(replies[3], RedisReply::Integer(30));
}

#[tokio::test]
async fn a_server_that_does_not_answer_costs_the_time_limit() {
    let peer = ScriptedPeer::start(vec![vec![Step::Drain]]).await;
    let client = client();
    let server = client.server(&at(peer.address().port()));
    for connections in 1..=2 {
        let call = command(&["PING"]).within(Duration::from_millis(30));
        let outcome = within("the limit", server.call(call)).await.unwrap();
        assert_eq!(outcome, Err(RedisError::Timeout("waiting for the reply")));
        // Late replies must not be taken for those of the next call.
        assert_eq!(peer.connections(), connections);
    }
    let short = Duration::from_millis(30);
    let settings = RedisSettings { timeout: short, ..at(peer.address().port()) };
    assert_eq!(ask(&client.server(&settings), &["PING"]).await, Err(RedisError::Timeout("waiting for the reply")));
    let settings = RedisSettings { connect_timeout: short, ..settings }.with_tls(false, None);
    assert_eq!(ask(&client.server(&settings), &["PING"]).await, Err(RedisError::Timeout("while connecting")));
}

#[tokio::test]
async fn what_is_no_reply_breaks_the_connection() {
    let nested = "*1\r\n".repeat(100_000);
    for answer in
        ["HTTP/1.1 400 Bad Request\r\n\r\n", "*1000000000\r\n", "*99999999999999999999\r\n", ":x\r\n", "\r\n", &nested]
    {
        let peer = ScriptedPeer::start(vec![vec![Step::until("PING"), Step::send(answer)]]).await;
        let server = client().server(&at(peer.address().port()));
        let outcome = within("an answer", server.call(command(&["PING"]))).await.unwrap();
        assert!(matches!(outcome, Err(RedisError::Broken(_))), "{answer:.40}: {outcome:?}");
    }
}

#[tokio::test]
async fn replies_are_bounded() {
    let limits = Limits { reply_bytes_max: 1_000_000, ..Limits::default() };
    let client = RedisClient::with_limits(dns(), Arc::default(), limits);
    let fits = vec![Step::until("GET"), Step::send("$900000\r\n"), Step::Flood(vec![b'x'; 900_000], 900_000)];
    let over = vec![Step::until("GET"), Step::send("$50000000\r\n"), Step::Flood(vec![b'x'; 65_536], 50_000_000)];
    let peer = ScriptedPeer::start(vec![[fits, vec![Step::send("\r\n")], over].concat()]).await;
    let server = client.server(&at(peer.address().port()));
    let outcome = within("an answer", server.call(command(&["GET", "k"]))).await.unwrap();
    assert_eq!(outcome, Ok(vec![bytes(&"x".repeat(900_000))]));
    let outcome = within("an answer", server.call(command(&["GET", "k"]))).await.unwrap();
    assert!(matches!(&outcome, Err(RedisError::Broken(reason)) if reason.contains("larger than")), "{outcome:?}");
}

#[tokio::test]
async fn calls_are_bounded() {
    let Some(_) = tools!("redis-server") else { return };
    let process = Process::redis(&[]).unwrap();
    let client = RedisClient::with_limits(dns(), Arc::default(), Limits { calls_max: 1, ..Limits::default() });
    let server = client.server(&at(process.address().port()));
    let waits = server.call(command(&["BLPOP", "nothing", "0.1"]));
    let (waited, refused) = tokio::join!(waits, ask(&server, &["PING"]));
    assert_eq!(waited, Ok(vec![RedisReply::Nil]));
    assert!(refused.unwrap_err().is_local());
    assert!(ask(&server, &["PING"]).await.is_ok());
}

#[tokio::test]
async fn a_connection_that_is_not_used_is_closed() {
    let Some(_) = tools!("redis-server") else { return };
    let process = Process::redis(&[]).unwrap();
    let limits = Limits { idle_timeout: Duration::from_millis(20), ..Limits::default() };
    let short = RedisClient::with_limits(dns(), Arc::default(), limits);
    let server = short.server(&at(process.address().port()));
    let before = number(&server).await;
    let observer = client().server(&at(process.address().port()));
    let is_open = async |number: i64| {
        let RedisReply::Bytes(list) = ask(&observer, &["CLIENT", "LIST"]).await.unwrap() else { panic!("no text") };
        String::from_utf8(list.to_vec()).unwrap().lines().any(|line| line.starts_with(&format!("id={number} ")))
    };
    let closed = async |number: i64| {
        let is_closed = async || (!is_open(number).await).then_some(());
        until_some("a connection to be closed", is_closed).await.unwrap();
    };
    within("the idle connection to be closed", closed(before)).await.unwrap();
    assert_ne!(number(&server).await, before);
    // A connection without handles is closed immediately.
    let long = client();
    let dropped = long.server(&at(process.address().port()));
    let number = number(&dropped).await;
    assert!(is_open(number).await);
    drop(dropped);
    within("the connection to be closed", closed(number)).await.unwrap();
}

#[tokio::test]
async fn connections_outlive_the_runtime_that_asked() {
    let Some(_) = tools!("redis-server") else { return };
    let process = Process::redis(&[]).unwrap();
    let server = client().server(&at(process.address().port()));
    let mut numbers = Vec::new();
    for _ in 0..2 {
        let server = Arc::clone(&server);
        let elsewhere = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(server.call(command(&["CLIENT", "ID"])))
        };
        numbers.push(tokio::task::spawn_blocking(elsewhere).await.unwrap().unwrap());
    }
    assert_eq!(numbers[0], numbers[1]);
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_unreachable() {
    let server = client().server(&at(free_port()));
    let error = ask(&server, &["PING"]).await.unwrap_err();
    assert!(matches!(&error, RedisError::Unreachable(reason) if reason.contains("connect to")), "{error}");
}
