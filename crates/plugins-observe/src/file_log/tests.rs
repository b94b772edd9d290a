use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cardinal_base::ManualClock;
use cardinal_http::ResponseHead;
use cardinal_sdk::queue::drain;
use cardinal_sdk::testing::{Bench, build, services};
use serde_json::{Value, json};

use super::PLUGIN;

/// A folder of its own, removed with the value.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("cardinal-file-log-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

async fn log(bench: &mut Bench, target: &str) {
    bench.get(target);
    bench.log(Some(&ResponseHead::new(200)));
    assert_eq!(drain(&bench.services, Duration::from_secs(10)).await, 0);
}

fn lines(path: &str) -> Vec<Value> {
    std::fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn uris(path: &str) -> Vec<String> {
    lines(path).iter().map(|line| line["request"]["uri"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn each_request_is_a_line_after_what_was_there() {
    let folder = Folder::new("append");
    let path = folder.path("log.json");
    std::fs::write(&path, "{\"request\":{\"uri\":\"/old\"}}\n").unwrap();
    let mut bench = Bench::new(&PLUGIN, json!({ "path": path }));
    log(&mut bench, "/a?x").await;
    log(&mut bench, "/b").await;
    assert_eq!(uris(&path), ["/old", "/a?x", "/b"]);
    assert_eq!(lines(&path)[2]["response"]["status"], 200);
}

#[tokio::test]
async fn a_new_file_can_be_read_by_all() {
    let folder = Folder::new("mode");
    let path = folder.path("log.json");
    let mut bench = Bench::new(&PLUGIN, json!({ "path": path }));
    log(&mut bench, "/").await;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
}

#[tokio::test]
async fn a_moved_file_is_followed_only_with_reopen() {
    for (reopen, expect) in [(false, None), (true, Some(vec!["/b".to_owned()]))] {
        let folder = Folder::new(&format!("reopen-{reopen}"));
        let (path, moved) = (folder.path("log.json"), folder.path("moved.json"));
        let mut bench = Bench::new(&PLUGIN, json!({"path": path, "reopen": reopen}));
        log(&mut bench, "/a").await;
        std::fs::rename(&path, &moved).unwrap();
        log(&mut bench, "/b").await;
        let found = std::path::Path::new(&path).exists().then(|| uris(&path));
        assert_eq!(found, expect);
        assert_eq!(uris(&moved).len(), if reopen { 1 } else { 2 });
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_written_loses_its_lines_alone() {
    let folder = Folder::new("broken");
    let path = folder.path("none/log.json");
    let mut bench = Bench::new(&PLUGIN, json!({ "path": path }));
    log(&mut bench, "/a").await;
    std::fs::create_dir(folder.path("none")).unwrap();
    log(&mut bench, "/b").await;
    assert_eq!(uris(&path), ["/b"]);
}

#[tokio::test]
async fn constant_fields_are_set_and_removed() {
    let folder = Folder::new("fields");
    let path = folder.path("log.json");
    let fields = json!({"team.name": "return 'core'", "request.headers": "return nil", "n": "return 5"});
    let mut bench = Bench::new(&PLUGIN, json!({"path": path, "custom_fields_by_lua": fields}));
    log(&mut bench, "/").await;
    let line = &lines(&path)[0];
    assert_eq!((&line["team"]["name"], &line["n"]), (&json!("core"), &json!(5)));
    assert!(line["request"].get("headers").is_none());
}

#[tokio::test]
async fn configurations_are_checked() {
    let services = services(Arc::new(ManualClock::default()));
    let check = |config: Value, expect: &str| {
        let error = build(&PLUGIN, config, &services).err().unwrap();
        assert!(error.contains(expect), "{error}");
    };
    check(json!({}), "required field missing");
    check(json!({"path": "/tmp/*.log"}), "not a valid filename");
    check(json!({"path": "/tmp/log "}), "not a valid filename");
    let code = json!({"path": "/tmp/log", "custom_fields_by_lua": {"a": "return os.time()"}});
    check(code, "Lua code does not run here");
    let defaults = (PLUGIN.schema)().process(&json!({"path": "/tmp/log"}), &Default::default()).unwrap();
    assert_eq!(defaults, json!({"path": "/tmp/log", "reopen": false, "custom_fields_by_lua": null}));
}
