//! A node serves what files and settings say.

use cardinal_test_tools::tools;
use cardinal_testkit::{EchoServer, H1Client, Server, TempDir, until, until_some};
use rustix::process::Signal;
use serde_json::Value;

use crate::kong_yaml;
use crate::process::{Process, cardinal};

#[tokio::test(flavor = "multi_thread")]
async fn a_file_serves_traffic() {
    let (folder, echo) = (TempDir::new("run"), EchoServer::start("backend").await);
    let mut node = Process::run(&folder.write("kong.yaml", kong_yaml(&echo.url())), &[]);
    let address = node.address();
    assert!(node.seen().iter().any(|l| l.starts_with("generation 1: 1 consumer, 1 service, 2 routes, ")));
    let mut client = H1Client::connect(address).await.unwrap();
    let open = client.get("/open/x?y=1", "a.example", &[]).await.unwrap();
    assert_eq!((open.status, open.json()["path"].as_str()), (200, Some("/open/x")), "{}", open.text());
    let refused = client.get("/private", "a.example", &[]).await.unwrap();
    assert_eq!(refused.status, 401, "{}", refused.text());
    let allowed = client.get("/private", "a.example", &[("apikey", "annas-key")]).await.unwrap();
    assert_eq!(allowed.status, 200);
    let seen = echo.seen().pop().unwrap();
    assert_eq!((seen.headers.get("x-consumer-username"), seen.headers.get("apikey")), (Some("anna"), None));
    assert_eq!(client.get("/nowhere", "a.example", &[]).await.unwrap().status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_come_from_file_environment_and_flags() {
    let (folder, echo) = (TempDir::new("run"), EchoServer::start("backend").await);
    let config = folder.write("kong.yaml", kong_yaml(&echo.url()));
    let conf = folder.write(
        "kong.conf",
        format!(
            "proxy_listen = 127.0.0.1:1\nheaders = via # for a while\ndeclarative_config = {}\nlog_levl = info\n",
            config.display()
        ),
    );
    let mut command = cardinal();
    command.args(["run", "-C"]).arg(conf).args(["--set", "proxy_listen=127.0.0.1:0"]);
    command.env("KONG_HEADERS", "server_tokens").env("CARDINAL_HEADERS", "X-Kong-Upstream-Status");
    command.env("KONG_STATUS_LISTEN", "off").env("CARDINAL_PROXY_ACCESS_LOG", "off").env("KONG_ROUTER_FLAVR", "x");
    let mut node = Process::start(command);
    let address = node.address();
    let said = node.seen().join("\n");
    assert!(said.contains("kong.conf:4: log_levl: unknown setting, did you mean 'log_level'?"), "{said}");
    assert!(said.contains("KONG_ROUTER_FLAVR: router_flavr: unknown setting, did you mean 'router_flavor'?"), "{said}");
    let response = H1Client::connect(address).await.unwrap().get("/open", "a.example", &[]).await.unwrap();
    assert_eq!(response.status, 200);
    assert_eq!(response.header("x-kong-upstream-status"), Some("200"), "{:?}", response.headers);
    assert_eq!(response.header("via"), None, "{:?}", response.headers);
}

#[tokio::test(flavor = "multi_thread")]
async fn directives_of_nginx_limit_requests() {
    let (folder, echo) = (TempDir::new("run"), EchoServer::start("backend").await);
    let mut node = Process::run(
        &folder.write("kong.yaml", kong_yaml(&echo.url())),
        &["--set", "nginx_proxy_client_max_body_size=1k", "--set", "nginx_http_large_client_header_buffers=8 128k"],
    );
    let mut client = H1Client::connect(node.address()).await.unwrap();
    let long = "a".repeat(60_000);
    let response = client.get("/open", "a.example", &[("x-long", &long)]).await.unwrap();
    assert_eq!(response.status, 200, "a header longer than the default buffers");
    let body = vec![b'a'; 5_000];
    let response = client.request("POST", "/open", "a.example", &[], &body).await.unwrap();
    assert_eq!(response.status, 413);
}

#[test]
fn unknown_settings_of_the_command_line_are_errors() {
    let folder = TempDir::new("run");
    let config = folder.write("kong.yaml", "_format_version: '3.0'\n");
    let mut node = Process::run(&config, &["--set", "proxy_lisen=127.0.0.1:0"]);
    node.wait_for("command line: proxy_lisen: unknown setting, did you mean 'proxy_listen'?");
    assert_eq!(node.ends().code(), Some(1));
    let config = config.display().to_string();
    for (setting, expected) in [("nonsense_=1", "nonsense_: unknown setting"), ("log_levl=info", "'log_level'")] {
        let output = crate::process::output(&["check", &config, "--set", setting]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert!(said.contains(expected), "{said}");
        assert_eq!(output.status.code(), Some(1), "{said}");
    }
}

#[test]
fn what_cannot_be_served_is_told_with_its_place() {
    let folder = TempDir::new("run");
    let mut node = Process::run(&folder.write("kong.yaml", "_format_version: '3.0'\nservices:\n- nam: a\n"), &[]);
    let message = node.wait_for("not started");
    assert!(message.contains("kong.yaml:3:3"), "{message}");
    assert!(message.contains("did you mean 'name'?"), "{message}");
    assert_eq!(node.ends().code(), Some(1));
}

#[test]
fn errors_are_values_in_json_and_excerpts_in_text() {
    let folder = TempDir::new("run");
    let file = folder.write("kong.yaml", "_format_version: '3.0'\nservices:\n- nam: a\n");
    let run = |format: &str| {
        let mut command = cardinal();
        command.args(["run", "--log-format", format, "--set", "status_listen=off", "--config"]).arg(&file);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let json = run("json");
    let mut line = json.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let line = line.rfind(|line| line["level"] == "ERROR").unwrap();
    let error = line["errors"].as_array().unwrap().iter().find(|error| error["field"] == "nam").unwrap();
    assert_eq!((&error["file"], &error["line"], &error["column"]), (&file.to_str().into(), &3.into(), &3.into()));
    assert_eq!((&error["message"], &error["help"]), (&"unknown field".into(), &"did you mean 'name'?".into()));
    assert_eq!(line["error_count"], line["errors"].as_array().unwrap().len());
    assert!(!line["message"].as_str().unwrap().contains('\n'), "{line}");
    let text = run("text");
    assert!(text.contains("not started:\nerror: ") && text.contains("3 | - nam: a"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn access_log_follows_its_name() {
    let (folder, echo) = (TempDir::new("run"), EchoServer::start("backend").await);
    let log = folder.path().join("access.log").display().to_string();
    let mut node = Process::run(
        &folder.write("kong.yaml", kong_yaml(&echo.url())),
        &["--set", &format!("proxy_access_log={log}"), "--set", "log_level=notice"],
    );
    let mut client = H1Client::connect(node.address()).await.unwrap();
    client.get("/open/first", "a.example", &[]).await.unwrap();
    wait_for_line(&folder, "access.log", "/open/first").await;
    std::fs::rename(&log, folder.path().join("old.log")).unwrap();
    node.signal(Signal::USR1);
    node.wait_for("log files reopened");
    // What is noted right after the signal may still go to the old file.
    for _ in 0..200 {
        client.get("/open/second", "a.example", &[]).await.unwrap();
        if folder.read("access.log").contains("/open/second") {
            return;
        }
    }
    panic!("nothing was written to the new file");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_serves_on_when_nobody_reads_the_log() {
    let (folder, echo) = (TempDir::new("run"), EchoServer::start("backend").await);
    let mut node = Process::run(&folder.write("kong.yaml", kong_yaml(&echo.url())), &[]);
    let address = node.address();
    node.close_log();
    for number in 2..6 {
        let path = format!("/number-{number}");
        folder.write("kong.yaml", kong_yaml(&echo.url()).replace("/open", &path));
        node.signal(Signal::HUP);
        let mut client = H1Client::connect(address).await.unwrap();
        let is_served = async || (client.get(&path, "a.example", &[]).await.unwrap().status == 200).then_some(());
        until_some("the new route to be served", is_served).await.unwrap();
    }
    node.signal(Signal::TERM);
    assert!(node.ends().success());
}

async fn wait_for_line(folder: &TempDir, file: &str, text: &str) {
    let waited = until("a line of a file", || folder.read(file).contains(text)).await;
    assert!(waited.is_ok(), "{file}: {}", folder.read(file));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_good_configuration_survives_a_broken_file() {
    let (folder, echo) = (TempDir::new("run"), EchoServer::start("backend").await);
    let data = folder.path().join("data").display().to_string();
    let config = folder.write("kong.yaml", kong_yaml(&echo.url()));
    let mut node = Process::run(&config, &["--data-dir", &data]);
    node.address();
    node.signal(Signal::TERM);
    assert!(node.ends().success());
    folder.write("kong.yaml", "services: [");
    let mut strict = Process::run(&config, &["--data-dir", &data, "--strict"]);
    strict.wait_for("not started");
    assert_eq!(strict.ends().code(), Some(1));
    let mut node = Process::run(&config, &["--data-dir", &data]);
    let address = node.address();
    let expected = "serving the last known good configuration, from 1 saved file, saved ";
    let is_told = |line: &String| line.starts_with(expected) && line.contains(" ago; fix the files");
    assert!(node.seen().iter().any(is_told), "{:?}", node.seen());
    let get =
        || async { H1Client::connect(address).await.unwrap().get("/open", "a.example", &[]).await.unwrap().status };
    assert_eq!(get().await, 200);
    // When the file is put right, it is served.
    folder.write("kong.yaml", kong_yaml(&echo.url()).replace("/open", "/other"));
    node.wait_for("generation 2");
    assert_eq!(get().await, 404);
}

/// Upstreams of before TLS 1.2 had today's cipher suites.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_handshake_with_an_upstream_is_explained() {
    let Some([openssl]) = tools!("openssl") else { return };
    for (arguments, reason) in [
        (["-tls1_2", "-cipher", "AES128-GCM-SHA256"], "the server refused the handshake"),
        (["-tls1_2", "-cipher", "ECDHE-RSA-AES128-SHA"], "the server refused the handshake"),
        (["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"], "the server supports no TLS version that is offered"),
    ] {
        let folder = TempDir::new("legacy");
        let made = std::process::Command::new(&openssl)
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key", "-out", "crt", "-subj", "/CN=up"])
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(made.status.success());
        let mut command = std::process::Command::new(&openssl);
        command.args(["s_server", "-www", "-cert"]).arg(folder.path().join("crt")).arg("-key");
        command.arg(folder.path().join("key")).args(arguments);
        let server = Server::start("legacy", command, folder, |command, port| {
            command.args(["-accept", &format!("127.0.0.1:{port}")]);
        });
        let server = server.unwrap();
        let folder = TempDir::new("run");
        let yaml = kong_yaml(&format!("https://{}", server.address()));
        let mut node = Process::run(&folder.write("kong.yaml", yaml), &[]);
        let mut client = H1Client::connect(node.address()).await.unwrap();
        assert_eq!(client.get("/open", "a.example", &[]).await.unwrap().status, 502);
        let line = node.wait_for("upstream_tls");
        for part in [
            &server.address().to_string(),
            reason,
            "offered: TLS 1.3 and TLS 1.2",
            "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            "docs/failures.md",
        ] {
            assert!(line.contains(part), "{arguments:?}, {part}: {line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_settings_without_effect_are_named() {
    let (folder, echo) = (TempDir::new("run"), EchoServer::start("backend").await);
    let config = folder.write("kong.yaml", kong_yaml(&echo.url()));
    let said = |settings: &[&str]| {
        let mut node = Process::run(&config, settings);
        let _address = node.address();
        node.seen().join("\n")
    };
    let text = said(&["--set", "ssl_cipher_suite=old", "--set", "ssl_protocols=TLSv1 TLSv1.1 TLSv1.2 TLSv1.3"]);
    assert!(text.contains("ssl_cipher_suite: 'old' is served as 'intermediate'"), "{text}");
    assert!(text.contains("ssl_protocols: TLSv1 TLSv1.1 has no effect"), "{text}");
    let ciphers = "ssl_ciphers=ECDHE-RSA-AES128-GCM-SHA256:AES128-SHA:DHE-RSA-AES256-GCM-SHA384:!aNULL";
    let text = said(&["--set", "ssl_cipher_suite=custom", "--set", ciphers]);
    assert!(text.contains("ssl_ciphers: AES128-SHA DHE-RSA-AES256-GCM-SHA384 has no effect"), "{text}");
    assert!(!text.contains("no suite of TLS 1.2 is left"), "{text}");
    let text = said(&["--set", "ssl_cipher_suite=custom", "--set", "ssl_ciphers=HIGH:!MD5"]);
    assert!(text.contains("ssl_ciphers: HIGH has no effect") && text.contains("no suite of TLS 1.2 is left"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_through_a_pipe_is_served_and_kept() {
    let echo = EchoServer::start("backend").await;
    let mut command = cardinal();
    command.args(["run", "--config", "-", "--workers", "1", "--access-log", "off"]);
    command.args(["--set", "proxy_listen=127.0.0.1:0", "--set", "status_listen=off"]);
    let (reader, mut writer) = std::io::pipe().unwrap();
    command.stdin(reader);
    let text = kong_yaml(&echo.url());
    let written = std::thread::spawn(move || std::io::Write::write_all(&mut writer, text.as_bytes()));
    let mut node = Process::start(command);
    let address = node.address();
    written.join().unwrap().unwrap();
    let mut client = H1Client::connect(address).await.unwrap();
    assert_eq!(client.get("/open", "a.example", &[]).await.unwrap().status, 200);
    node.signal(Signal::HUP);
    let line = node.wait_for("cannot read <stdin>");
    assert!(line.contains("generation 1 stays: cannot read <stdin>: it can be read only once; restart"), "{line}");
    assert_eq!(client.get("/open", "a.example", &[]).await.unwrap().status, 200);
}
