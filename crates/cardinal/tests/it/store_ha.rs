//! The commands of docs/postgresql-ha.md.

use std::process::Command;

use cardinal_testkit::{EchoServer, PostgresServer, TempDir};
use serde_json::Value;

use crate::process::cardinal;
use crate::store_away::Node;

const PAGE: &str = include_str!("../../../../docs/postgresql-ha.md");

/// The commands of the page, with places that exist.
fn commands(places: &[(&str, &str)]) -> Vec<String> {
    let blocks = PAGE.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap_or_default());
    blocks.map(|block| places.iter().fold(block.to_owned(), |text, (from, to)| text.replace(from, to))).collect()
}

fn shell(text: &str) -> Command {
    let binary = cardinal();
    let folder = std::path::Path::new(binary.get_program()).parent().unwrap();
    let mut command = Command::new("/bin/sh");
    command.args(["-ec", text]).env_clear();
    command.env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", folder.display()));
    for kind in ["PROXY", "STATUS", "ADMIN"] {
        command.env(format!("KONG_{kind}_LISTEN"), "127.0.0.1:0");
    }
    command
}

fn runs(text: &str) -> String {
    let output = shell(text).output().unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{text}: {}", said(&output.stderr));
    said(&output.stdout)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_guide_leads_to_two_nodes_that_survive_the_database() {
    let Some(_) = cardinal_test_tools::tools!("curl") else { return };
    let Some(mut server) = PostgresServer::start(env!("CARGO_PKG_NAME")) else { return };
    server.execute("postgres", "CREATE DATABASE cardinal");
    let (etc, echo) = (TempDir::new("etc"), EchoServer::start("backend").await);
    let homes = [TempDir::new("node"), TempDir::new("node")];
    let (etc, port) = (etc.path().display().to_string(), server.port().to_string());
    let on = |home: &TempDir, status: &str| {
        let home = home.path().display().to_string();
        commands(&[
            ("/etc/cardinal", &etc),
            ("/var/lib/cardinal", &home),
            ("db.example", "127.0.0.1"),
            ("5432", &port),
            ("127.0.0.1:8007", status),
        ])
    };
    let [setup, migrate, run, _] = <[String; 4]>::try_from(on(&homes[0], "")).unwrap();
    runs(&setup);
    assert!(runs(&migrate).starts_with("the schema of cardinal@127.0.0.1"));
    let first = Node::start_by(shell(&run));
    let second = Node::start_by(shell(&on(&homes[1], "")[2]));
    first.add_route("orders", &echo.url()).await;
    second.serves("/orders", 200).await;
    second.add_route("bills", &echo.url()).await;
    first.serves("/bills", 200).await;
    first.stop();

    server.stop();
    let first = Node::start_by(shell(&run));
    for node in [&first, &second] {
        assert_eq!((node.get("/orders", "").await, node.get("/bills", "").await), (200, 200));
        let ready = &on(&homes[0], &node.status.to_string())[3];
        let look = async || runs(ready).contains("warning").then_some(());
        cardinal_testkit::until_some("the warning", look).await.unwrap();
    }
    server.run();
    let look = async || (first.send("GET", "/services", Value::Null).await.0 == 200).then_some(());
    cardinal_testkit::until_some("the database", look).await.unwrap();
    first.add_route("more", &echo.url()).await;
    second.serves("/more", 200).await;
    first.stop();
    second.stop();
}
