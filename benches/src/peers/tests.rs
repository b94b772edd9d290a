use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use cardinal_test_tools::{Need, tools};

use super::*;

const SETUPS: [Setup; 5] = [Setup::Http, Setup::WebSocket, Setup::Plugins, Setup::Grpc, Setup::Tcp];

fn site(program: Program, setup: &Setup) -> Site {
    let upstream = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
    Site::new(program, setup.clone(), upstream).unwrap()
}

/// Lets a program validate the configuration of each setup.
fn judged(program: Program, path: &Path, command: impl Fn(&Path, &Site) -> Command) {
    for setup in &SETUPS {
        let site = site(program, setup);
        site.extra.set(1);
        let output = command(path, &site).output().unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{} with {setup:?}:\n{text}", program.name());
    }
}

#[test]
fn nginx_takes_its_configuration() {
    // The module is loaded by its path, if it exists.
    let Some([nginx, _]) = tools!("nginx", "nginx-stream") else { return };
    judged(Program::Nginx, &nginx, |path, site| {
        let mut command = nginx::command(path, site).unwrap();
        command.arg("-t");
        command
    });
}

#[test]
fn haproxy_takes_its_configuration() {
    let Some([haproxy]) = tools!("haproxy") else { return };
    judged(Program::Haproxy, &haproxy, |path, site| {
        let mut command = haproxy::command(path, site).unwrap();
        command.arg("-c");
        command
    });
}

#[test]
fn envoy_takes_its_configuration() {
    let Some([envoy]) = tools!("envoy") else { return };
    judged(Program::Envoy, &envoy, |path, site| {
        let mut command = envoy::command(path, site).unwrap();
        command.args(["--mode", "validate"]);
        command
    });
}

#[test]
fn cardinal_takes_its_configuration() {
    // The test binary is in `deps` below the folder of binaries. Testing the whole workspace builds the other binary,
    // too.
    let beside = std::env::current_exe().unwrap();
    let cardinal: PathBuf = beside.parent().unwrap().with_file_name("cardinal");
    if !cardinal.exists() {
        let reason = "the binary is not built (cargo build --package cardinal)";
        cardinal_test_tools::missing(env!("CARGO_PKG_NAME"), Need::Required, reason);
        return;
    }
    judged(Program::Cardinal, &cardinal, |path, site| {
        let mut command = Command::new(path);
        command.arg("check").arg("--strict").arg(site.dir.file("kong.yaml", &cardinal::file(site)).unwrap());
        command
    });
}

#[test]
fn all_write_the_same_routes() {
    for (program, write) in [
        (Program::Nginx, nginx::file as fn(&Site) -> String),
        (Program::Haproxy, |_| haproxy::routes()),
        (Program::Envoy, envoy::file),
        (Program::Cardinal, cardinal::file),
    ] {
        let text = write(&site(program, &Setup::Http));
        for (host, paths) in Site::routes() {
            assert!(text.contains(&format!("{host}.bench.test")), "{}: {text}", program.name());
            for path in paths {
                assert!(text.contains(&format!("/{path}")), "{}: {text}", program.name());
            }
        }
    }
}

#[test]
fn changes_make_other_files() {
    for (program, write) in [(Program::Nginx, nginx::file as fn(&Site) -> String), (Program::Cardinal, cardinal::file)]
    {
        let site = site(program, &Setup::Http);
        site.extra.set(1);
        let one = write(&site);
        site.extra.set(2);
        assert_ne!(one, write(&site), "{}", program.name());
    }
}

#[test]
fn many_routes_get_traffic_spread_over_all() {
    let targets = Setup::targets(100, 1000);
    assert_eq!(targets.len(), 100);
    assert_eq!(targets[1], ("h1.bench.test".to_owned(), "/r0/items/1234?page=3".to_owned()));
    assert_eq!(targets[99].0, "h99.bench.test");
    assert_eq!(Setup::targets(1000, 10).len(), 10);
    let text = cardinal::file(&site(Program::Cardinal, &Setup::Routes(20)));
    assert_eq!(text.matches("- name: h").count(), 20);
    assert!(text.contains("hosts: [h1.bench.test]\n    paths: [/r9]"), "{text}");
}

#[test]
fn versions_are_found() {
    assert_eq!(version(Program::Nginx, "nginx version: nginx/1.22.1"), "1.22.1");
    let line = "HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/";
    assert_eq!(version(Program::Haproxy, line), "2.6.12-1+deb12u4");
    let line = "/opt/envoy  version: 9e55/1.40.0/Clean/RELEASE/BoringSSL";
    assert_eq!(version(Program::Envoy, line), "1.40.0");
    assert_eq!(version(Program::Cardinal, "cardinal 0.1.0"), "0.1.0");
}
