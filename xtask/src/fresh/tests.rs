use std::path::{Path, PathBuf};
use std::process::Command;

use super::apt::{Source, Sources, debian, parse, release, settings};
use super::quick::{Tests, executables, script};
use super::room::{is_mounted, passed};
use crate::temp::TempTree;

const PARAGRAPHS: &str = "Types: deb\n# a comment: here\nURIs: http://mirror.test/debian\n\
    Suites: bookworm bookworm-updates\nComponents: main contrib\nSigned-By: /x.gpg\n\nTypes: deb deb-src\n\
    URIs: http://mirror.test/security\nSuites: bookworm-security\nComponents: main\n\nEnabled: no\nTypes: deb\n\
    URIs: http://off.test\nSuites: bookworm\nComponents: main\n";

#[test]
fn both_formats_of_apts_sources_are_read() {
    let found = parse(Path::new("debian.sources"), PARAGRAPHS);
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].uris, ["http://mirror.test/debian"]);
    assert_eq!(found[0].suites, ["bookworm", "bookworm-updates"]);
    let lines = "# deb http://off.test bookworm main\ndeb [signed-by=/x.gpg arch=amd64] http://m.test/d bookworm main # x\n\
        deb-src http://m.test/d bookworm main\n";
    assert_eq!(parse(Path::new("sources.list"), lines), [Source::new("http://m.test/d", "bookworm", "main")]);
    assert_eq!(parse(Path::new("sources.list.save"), lines), []);
}

#[test]
fn another_release_comes_from_the_same_mirrors() {
    let mut all = parse(Path::new("debian.sources"), PARAGRAPHS);
    all.push(Source::new("http://tools.test", "bookworm", "stable"));
    all.push(Source::new("http://tools.test", "nodistro", "main"));
    let sources = Sources::new(debian(all, "bookworm"), "bookworm", "");
    assert_eq!(sources.mirror(), "http://mirror.test/debian");
    assert_eq!(
        sources.text("trixie"),
        "deb http://mirror.test/debian trixie main\ndeb http://mirror.test/debian trixie-updates main\n\
         deb http://mirror.test/security trixie-security main\n"
    );
    assert_eq!(release("ID=debian\nVERSION_CODENAME=bookworm\n").as_deref(), Some("bookworm"));
}

#[test]
fn settings_of_downloads_are_taken_along() {
    let dump = "APT::Architecture \"amd64\";\nAcquire::http::Proxy \"http://proxy.test:3128\";\n\
        Acquire::http::Proxy-Auto-Detect \"/usr/bin/x\";\nAcquire::Check-Valid-Until \"false\";\nDir \"/\";\n";
    let kept = settings(dump);
    assert_eq!(kept, "Acquire::http::Proxy \"http://proxy.test:3128\";\nAcquire::Check-Valid-Until \"false\";\n");
    assert_eq!(Sources::new(Vec::new(), "x", &kept).proxy(), Some("http://proxy.test:3128"));
    assert_eq!(Sources::new(Vec::new(), "x", "").proxy(), None);
}

#[test]
fn variables_of_the_network_are_taken_along_and_no_others() {
    let all = [("HTTPS_PROXY", "p"), ("no_proxy", "n"), ("CARGO_NET_OFFLINE", "x"), ("CARGO_REGISTRY_TOKEN", "secret")];
    let all = all.into_iter().chain([("PATH", "/x"), ("CARDINAL_SKIPS", "y")]);
    let found = passed(all.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!(found, ["CARGO_NET_OFFLINE=x", "HTTPS_PROXY=p", "no_proxy=n"]);
}

#[test]
fn a_system_with_mounts_is_not_removed() {
    let mounts = "proc /proc proc rw 0 0\n/dev/x /cache/run-1/dev ext4 rw 0 0\n";
    assert!(is_mounted(mounts, Path::new("/cache/run-1")));
    assert!(!is_mounted(mounts, Path::new("/cache/run-10")));
}

#[test]
fn cargos_messages_name_the_tests() {
    let artifact = |id: &str, test: bool, executable: &str| {
        format!(
            r#"{{"reason":"compiler-artifact","package_id":"path+file:///w/crates/a#{id}","manifest_path":"/w/crates/a/Cargo.toml","profile":{{"test":{test}}},"executable":{executable}}}"#
        )
    };
    let messages = [
        artifact("cardinal-a@0.1.0", true, r#""/t/a-1""#),
        artifact("0.1.0", true, r#""/t/a-2""#),
        artifact("0.1.0", false, r#""/t/program""#),
        artifact("0.1.0", false, "null"),
        r#"{"reason":"build-finished","success":true}"#.to_owned(),
    ];
    let found = executables(&messages.join("\n")).unwrap();
    let test = |package: &str, executable: &str| Tests {
        package: package.to_owned(),
        folder: "/w/crates/a".into(),
        executable: executable.into(),
    };
    assert_eq!(found, [test("cardinal-a", "/t/a-1"), test("a", "/t/a-2")]);
}

/// Runs the script of these executables; returns whether it succeeds, and its output.
fn run_script(executables: &[PathBuf], folder: &Path) -> (bool, String) {
    let tests: Vec<_> = executables
        .iter()
        .map(|path| Tests { package: "p".to_owned(), folder: folder.to_path_buf(), executable: path.clone() })
        .collect();
    let output = Command::new("/bin/bash").args(["-euc", &script(&tests)]).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn one_executable_that_fails_does_not_hide_the_next() {
    let tree = TempTree::new();
    tree.file("it's/x", "");
    let folder = tree.path().join("it's");
    let (passed, text) = run_script(&["/bin/true".into(), "/bin/true".into()], &folder);
    assert!(passed, "{text}");
    let (passed, text) = run_script(&["/bin/false".into(), "/bin/pwd".into()], &folder);
    assert!(!passed);
    assert!(text.contains("failed: p (false)") && text.contains("it's"), "{text}");
    assert!(!text.contains("failed: p (pwd)"), "{text}");
}
