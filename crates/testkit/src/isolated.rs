//! Tests in namespaces of their own: with a network that nobody else sees, or without privileges.

use std::process::{Command, Stdio};

use cardinal_test_tools::{Need, find, missing};

/// Says to a test that it runs in its namespace.
const INSIDE: &str = "CARDINAL_TEST_NAMESPACE";

/// What a test has of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// A network with nothing but a loopback device, which is down, and all privileges in it.
    Network,
    /// No privileges over the machine's network.
    Unprivileged,
}

/// Runs the test `name` (its path, as the test runner prints it) of this program again, in a namespace; `true` for the
/// test that runs there. All others must end. Root is not needed where users may have namespaces of their own; where they
/// may not, the test is reported as skipped.
///
/// ```no_run
/// use cardinal_testkit::{Isolation, isolated};
/// if !isolated("my-crate", "captures::redirect", Isolation::Network) {
///     return;
/// }
/// ```
pub fn isolated(package: &str, name: &str, isolation: Isolation) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let unshare = find("unshare").unwrap_or_else(|| "unshare".into());
    let arguments: &[&str] = match isolation {
        // A user that is root in a namespace has its privileges there only.
        Isolation::Network if is_permitted(&unshare, &["--net"]) => &["--net"],
        Isolation::Network => &["--map-root-user", "--net"],
        Isolation::Unprivileged => &["--user"],
    };
    if !is_permitted(&unshare, arguments) {
        let reason = format!("`unshare {}` is not permitted here", arguments.join(" "));
        missing(package, Need::Optional, &reason);
        return false;
    }
    let program = std::env::current_exe().expect("a program knows its path");
    let mut command = Command::new(&unshare);
    command.args(arguments).arg("--").arg(program).args(["--exact", name, "--nocapture"]).env(INSIDE, "1");
    let output = command.output().unwrap_or_else(|error| panic!("{}: {error}", unshare.display()));
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    // A name that is not a test's would pass without having run anything.
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{name} in its namespace: {}\n{text}\n{errors}",
        output.status
    );
    false
}

/// The beginning of a command that has mounts of its own, in which it is root: program and arguments are to follow. `None` after a
/// report where that is not permitted, as in a changed root directory.
pub fn with_own_mounts(package: &str) -> Option<Command> {
    let unshare = find("unshare").unwrap_or_else(|| "unshare".into());
    let forms: [&[&str]; 2] = [&["--mount"], &["--mount", "--map-root-user"]];
    let Some(arguments) = forms.into_iter().find(|arguments| is_permitted(&unshare, arguments)) else {
        missing(package, Need::Optional, "`unshare --mount` is not permitted here");
        return None;
    };
    let mut command = Command::new(unshare);
    command.args(arguments).arg("--");
    Some(command)
}

fn is_permitted(unshare: &std::path::Path, arguments: &[&str]) -> bool {
    let mut command = Command::new(unshare);
    command.args(arguments).args(["--", "true"]).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Runs a command of the test's set-up, given as one line of words.
pub fn set_up(line: &str) {
    let mut words = line.split_whitespace();
    let program = words.next().expect("a command has a name");
    let path = find(program).unwrap_or_else(|| program.into());
    let output = Command::new(path).args(words).output().unwrap_or_else(|error| panic!("{line}: {error}"));
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}
