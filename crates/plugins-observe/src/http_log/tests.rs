use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use cardinal_base::ManualClock;
use cardinal_http::{HeaderList, ResponseHead};
use cardinal_sdk::queue::drain;
use cardinal_sdk::testing::{Bench, build, services};
use cardinal_sdk::{CallError, HttpCall, HttpCaller, HttpReply};
use serde_json::{Value, json};

use super::PLUGIN;

/// A log server that gives these statuses, then 200, and keeps what it was sent. Status 0 is no answer.
#[derive(Default)]
struct Server {
    statuses: Mutex<Vec<u16>>,
    calls: Mutex<Vec<HttpCall>>,
}

impl HttpCaller for Server {
    fn call(&self, call: HttpCall) -> Pin<Box<dyn Future<Output = Result<HttpReply, CallError>> + Send>> {
        self.calls.lock().unwrap().push(call);
        let mut statuses = self.statuses.lock().unwrap();
        let status = if statuses.is_empty() { 200 } else { statuses.remove(0) };
        let reply = HttpReply { status, headers: HeaderList::new(), body: Bytes::from_static(b"why") };
        Box::pin(async move { if status == 0 { Err(CallError::Timeout) } else { Ok(reply) } })
    }
}

fn bench(config: Value, statuses: &[u16]) -> (Bench, Arc<Server>) {
    let server = Arc::new(Server { statuses: Mutex::new(statuses.to_vec()), ..Server::default() });
    let mut bench = Bench::new(&PLUGIN, json!({"http_endpoint": "http://unused.test"}));
    bench.services.http = Arc::clone(&server) as Arc<dyn HttpCaller>;
    bench.filter = build(&PLUGIN, config, &bench.services).unwrap();
    (bench, server)
}

fn log(bench: &mut Bench, target: &str) {
    bench.get(target);
    bench.log(Some(&ResponseHead::new(200)));
}

async fn bodies(bench: &Bench, server: &Server) -> Vec<Value> {
    assert_eq!(bench.clock.pass_until(drain(&bench.services, Duration::from_secs(100))).await, 0);
    let calls = server.calls.lock().unwrap();
    let uri = |record: &Value| record["request"]["uri"].clone();
    calls
        .iter()
        .map(|call| match serde_json::from_slice(&call.body).unwrap() {
            Value::Array(records) => Value::Array(records.iter().map(uri).collect()),
            record => uri(&record),
        })
        .collect()
}

#[tokio::test]
async fn one_record_at_a_time_is_an_object() {
    let config = json!({
        "http_endpoint": "https://user:pass@logs.test:8443/in?x=1",
        "method": "PUT",
        "content_type": "application/json; charset=utf-8",
        "timeout": 1500,
        "keepalive": 2500,
        "headers": {"X-Token": "t"},
    });
    let (mut bench, server) = bench(config, &[]);
    log(&mut bench, "/a");
    log(&mut bench, "/b");
    assert_eq!(bodies(&bench, &server).await, [json!("/a"), json!("/b")]);
    let calls = server.calls.lock().unwrap();
    let call = &calls[0];
    assert_eq!((&*call.method, &*call.url), ("PUT", "https://logs.test:8443/in?x=1"));
    assert_eq!((call.timeout, call.keepalive), (Duration::from_millis(1_500), Duration::from_millis(2_500)));
    assert!(call.insecure);
    let header = |name: &str| call.headers.get_str(name);
    assert_eq!(header("content-type"), Some("application/json; charset=utf-8"));
    assert_eq!(header("authorization"), Some("Basic dXNlcjpwYXNz"));
    assert_eq!(header("x-token"), Some("t"));
}

#[tokio::test]
async fn batches_are_lists_even_of_one() {
    let config = json!({"http_endpoint": "http://h", "queue": {"max_batch_size": 2}});
    let (mut bench, server) = bench(config, &[]);
    for target in ["/a", "/b", "/c"] {
        log(&mut bench, target);
    }
    assert_eq!(bodies(&bench, &server).await, [json!(["/a", "/b"]), json!(["/c"])]);
    let (mut bench, server) =
        self::bench(json!({"http_endpoint": "http://h", "queue_size": 3, "flush_timeout": 1}), &[]);
    log(&mut bench, "/a");
    assert_eq!(bodies(&bench, &server).await, [json!(["/a"])], "the old name of the setting works");
}

#[tokio::test]
async fn refused_records_are_sent_again() {
    let (mut bench, server) = bench(json!({"http_endpoint": "http://h"}), &[500, 302, 0]);
    log(&mut bench, "/a");
    assert_eq!(bodies(&bench, &server).await, vec![json!("/a"); 4]);
}

#[tokio::test]
async fn records_survive_a_new_configuration() {
    let config = json!({"http_endpoint": "http://h", "queue": {"max_batch_size": 9, "max_coalescing_delay": 3600}});
    let (mut bench, server) = bench(config.clone(), &[]);
    log(&mut bench, "/a");
    bench.filter = build(&PLUGIN, config, &bench.services).unwrap();
    log(&mut bench, "/b");
    let sent = bodies(&bench, &server).await;
    assert_eq!(sent.iter().flat_map(|list| list.as_array().unwrap().clone()).collect::<Vec<_>>(), ["/a", "/b"]);
}

#[tokio::test]
async fn constant_fields_are_set() {
    let config = json!({"http_endpoint": "http://h", "custom_fields_by_lua": {"a.b": "return 1"}});
    let (mut bench, server) = bench(config, &[]);
    log(&mut bench, "/");
    bodies(&bench, &server).await;
    let record: Value = serde_json::from_slice(&server.calls.lock().unwrap()[0].body).unwrap();
    assert_eq!(record["a"]["b"], 1);
}

#[tokio::test]
async fn configurations_are_checked() {
    let services = services(Arc::new(ManualClock::default()));
    let check = |config: Value, expect: &str| {
        let error = build(&PLUGIN, config, &services).err().unwrap();
        assert!(error.contains(expect), "{error}");
    };
    check(json!({}), "required field missing");
    check(json!({"http_endpoint": "h"}), "missing host in url");
    let twice = json!({"http_endpoint": "http://u:p@h", "headers": {"AUTHORIZATION": "x"}});
    check(twice, "specifying both an 'Authorization' header and user info in 'http_endpoint' is not allowed");
    check(json!({"http_endpoint": "http://h", "headers": {"Host": "x"}}), "cannot contain 'Host' header");
    check(
        json!({"http_endpoint": "http://h", "headers": {"content-type": "x"}}),
        "cannot contain 'Content-Type' header",
    );
    check(json!({"http_endpoint": "http://h", "method": "GET"}), "expected one of: POST, PUT, PATCH");
    check(json!({"http_endpoint": "http://h", "custom_fields_by_lua": {"a": "x()"}}), "Lua code does not run here");
}

#[test]
fn defaults_are_those_of_kong() {
    let value = (PLUGIN.schema)().process(&json!({"http_endpoint": "http://h"}), &Default::default()).unwrap();
    let expect = json!({
        "http_endpoint": "http://h", "method": "POST", "content_type": "application/json", "timeout": 10000,
        "keepalive": 60000, "retry_count": null, "queue_size": null, "flush_timeout": null, "headers": null,
        "queue": {"max_batch_size": 1, "max_coalescing_delay": 1, "max_entries": 10000, "max_bytes": null,
                  "max_retry_time": 60, "initial_retry_delay": 0.01, "max_retry_delay": 60, "concurrency_limit": 1},
        "custom_fields_by_lua": null,
    });
    assert_eq!(value, expect);
}
