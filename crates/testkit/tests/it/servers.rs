//! Real servers, and that nothing of them stays behind.

use std::path::PathBuf;

use cardinal_test_tools::tools;
use cardinal_testkit::{H1Client, Server, TempDir, free_port};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[tokio::test]
async fn redis_answers_and_ends() {
    let Some(_) = tools!("redis-server") else { return };
    let server = Server::redis(&[]).unwrap();
    let mut tcp = TcpStream::connect(server.address()).await.unwrap();
    tcp.write_all(b"PING\r\n").await.unwrap();
    let mut answer = [0; 7];
    tcp.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"+PONG\r\n");
    let (address, folder, process) =
        (server.address(), folder(&server), PathBuf::from(format!("/proc/{}", server.id())));
    assert!(process.exists());
    drop(server);
    assert!(TcpStream::connect(address).await.is_err());
    assert!(!folder.exists());
    assert!(!process.exists());
}

#[tokio::test]
async fn nginx_serves_its_configuration() {
    let Some(_) = tools!("nginx") else { return };
    let server = Server::nginx("server { listen 127.0.0.1:PORT; location / { return 200 hello; } }").unwrap();
    let mut client = H1Client::connect(server.address()).await.unwrap();
    let response = client.get("/", "h", &[]).await.unwrap();
    assert_eq!((response.status, response.text().as_str()), (200, "hello"));
    assert!(response.header("server").unwrap().starts_with("nginx"));
}

#[test]
fn a_server_that_does_not_start_says_why() {
    let Some(_) = tools!("nginx") else { return };
    let error = Server::nginx("no_such_directive;").unwrap_err();
    assert!(error.to_string().contains("no_such_directive"), "{error}");
}

#[test]
fn temporary_directories_go() {
    let folder = TempDir::new("x");
    let path = folder.write("a/b.txt", "text");
    assert_eq!((folder.read("a/b.txt").as_str(), path.exists()), ("text", true));
    drop(folder);
    assert!(!path.exists());
    assert_ne!(free_port(), 0);
}

fn folder(server: &Server) -> PathBuf {
    server.folder().path().to_path_buf()
}
