//! The tour of the README and the guides: their commands are executed, in their order, in a network of their own, as the ports
//! are those that the texts name.

use std::io::Read as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use cardinal_test_tools::{find, tools};
use cardinal_testkit::{Isolation, TempDir, isolated, set_up, until_some_blocking};
use rustix::process::Signal;

use crate::process::Process;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// Makes nodes of a guide run in the background with data of their own, and takes the place of service managers. The commands
/// of data planes are those of a second machine.
const PRELUDE: &str = r#"
set -u
PATH=$BIN:$PATH
nodes=0
retry() {
  for _ in {1..150}; do
    "$@" && return
    sleep 0.1
  done
  return 1
}
serves() { curl -i "http://127.0.0.1:8000$1" | grep '200 OK'; }
cardinal() {
  case "$*" in
    *--data-dir* | 'cluster cert'*) ;;
    *) set -- "$@" --data-dir "$DATA" ;;
  esac
  if [ "$1" != run ]; then
    command cardinal "$@"
    return
  fi
  nodes=$((nodes + 1))
  local status=127.0.0.1:8007
  case "$*" in
    *data-plane*)
      set -- "${@//$DATA/$DATA-of-data-plane}"
      status=127.0.0.1:8107
      ;;
  esac
  command cardinal "$@" --workers 1 --access-log off --set "status_listen=$status" > "$LOGS/$nodes.log" 2>&1 &
  node=$!
  echo "$node" >> "$LOGS/pids"
  retry grep -q 'listening on' "$LOGS/$nodes.log" || cat "$LOGS/$nodes.log" >&2
}
curl() {
  local code
  for _ in {1..100}; do
    command curl --silent --show-error "$@"
    code=$?
    # Nobody listens yet.
    [ "$code" = 7 ] || break
    sleep 0.1
  done
  echo
  return "$code"
}
systemctl() {
  case "$1" in
    stop) kill "$node"; wait "$node" ;;
    start) cardinal run ;;
  esac
}
"#;

/// A guide, and what is done besides its commands.
#[derive(Default)]
struct Guide {
    /// Below the root of the source tree.
    file: &'static str,
    /// Its part from this line on and up to the next heading of the same level.
    part: &'static str,
    /// What is there before the first command.
    before: &'static str,
    /// What the output of each block of commands has. `None`: the block is not executed here.
    blocks: &'static [Option<&'static [&'static str]>],
    /// Commands in the end, and what their output has.
    after: (&'static str, &'static [&'static str]),
}

impl Guide {
    /// The blocks of commands.
    fn commands(&self) -> Vec<String> {
        let text = std::fs::read_to_string(Path::new(ROOT).join(self.file)).unwrap();
        let part = text.split_once(self.part).unwrap_or_else(|| panic!("{} has no {:?}", self.file, self.part)).1;
        let part = if self.part.is_empty() { part } else { part.split_once("\n## ").map_or(part, |(part, _)| part) };
        let blocks = part.split("```sh\n").skip(1);
        blocks.map(|block| block.split_once("```").expect("a block ends").0.to_owned()).collect()
    }

    /// Executes the commands.
    fn follow(&self, test: &str) {
        let Some(_) = tools!("unshare", "ip", "curl", "bash", "git", "jq") else { return };
        if !isolated(env!("CARGO_PKG_NAME"), test, Isolation::Network) {
            return;
        }
        set_up("ip link set lo up");
        let folder = TempDir::new("guide");
        let path = |name: &str| folder.path().join(name).display().to_string();
        for name in ["bin", "logs", "backup", "etc", "tmp"] {
            std::fs::create_dir(path(name)).unwrap();
        }
        symlink(env!("CARGO_BIN_EXE_cardinal"), path("bin/cardinal")).unwrap();
        let commands = self.commands();
        let count = self.blocks.len();
        assert_eq!(commands.len(), count, "blocks of {}: {commands:#?}", self.file);
        let mut script = format!("{PRELUDE}\n{}\necho '== before'\n", self.before);
        for (number, (commands, expected)) in commands.iter().zip(self.blocks).enumerate() {
            let commands = if expected.is_some() { commands.as_str() } else { "" };
            // What has been written goes live.
            script.push_str(&format!("{commands}\nsleep 0.5; echo '== block {number}'\n"));
        }
        script.push_str(&format!("{}\necho '== after'\nkill $(cat $LOGS/pids) $(jobs -p); wait\n", self.after.0));
        for (from, to) in [
            ("/var/lib/cardinal", path("data")),
            ("/etc/cardinal", path("etc")),
            ("/backup", path("backup")),
            ("control.example", "127.0.0.1".to_owned()),
        ] {
            script = script.replace(from, &to);
        }
        let mut command = Command::new(find("bash").unwrap());
        command.args(["-c", &script]).current_dir(folder.path()).stdin(Stdio::null());
        command.env("BIN", path("bin")).env("DATA", path("data")).env("LOGS", path("logs")).env("HOME", folder.path());
        let (output, errors) = finish(command);
        let texts = [&[][..]].into_iter().chain(self.blocks.iter().map(|block| block.unwrap_or_default()));
        let mut rest = output.as_str();
        for (number, expected) in texts.chain([self.after.1]).enumerate() {
            let mark = match number {
                0 => "== before\n".to_owned(),
                _ if number > count => "== after\n".to_owned(),
                _ => format!("== block {}\n", number - 1),
            };
            let (own, more) = rest.split_once(&mark).unwrap_or_else(|| panic!("no {mark}: {rest}\n{errors}"));
            for text in expected {
                assert!(own.contains(text), "{} {mark} lacks {text:?}:\n{own}\n{errors}", self.file);
            }
            rest = more;
        }
    }
}

/// Runs a shell to its end: what it writes to both streams.
fn finish(mut command: Command) -> (String, String) {
    let mut shell = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut errors = shell.stderr.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        errors.read_to_string(&mut text).map(|_| text)
    });
    let mut output = String::new();
    shell.stdout.take().unwrap().read_to_string(&mut output).unwrap();
    until_some_blocking("the shell to end", || shell.try_wait().unwrap()).unwrap();
    (output, reader.join().unwrap().unwrap())
}

#[test]
fn the_guide_to_databases() {
    let guide = Guide {
        file: "docs/database.md",
        before: "command cardinal echo --listen 127.0.0.1:9080 &",
        blocks: &[Some(&[]), Some(&["\"name\":\"orders\"", "\"paths\":[\"/orders\"]"]), None],
        after: ("retry serves /orders", &["HTTP/1.1 200 OK"]),
        ..Guide::default()
    };
    guide.follow("guides::the_guide_to_databases");
}

#[test]
fn the_guide_to_history_and_backups() {
    let guide = Guide {
        file: "docs/history.md",
        before: r#"
cardinal run
curl -X PUT http://127.0.0.1:8001/services/first -d url=http://127.0.0.1:9080
curl -X PUT http://127.0.0.1:8001/routes/old -d 'paths[]=/old' -d service.name=first
curl -X PUT http://127.0.0.1:8001/consumers/anna
for i in 4 5 6 7 8 9; do curl -X PUT "http://127.0.0.1:8001/services/s$i" -d url=http://127.0.0.1:9080; done
curl -X PUT http://127.0.0.1:8001/routes/orders -d 'paths[]=/orders' -d service.name=first
curl -X DELETE http://127.0.0.1:8001/routes/old
curl -X PUT http://127.0.0.1:8001/routes/old -d 'paths[]=/older' -d service.name=first
printf '_format_version: "3.0"\nservices:\n- name: of-team-a\n  url: http://127.0.0.1:9080\n' > team-a.yaml
"#,
        blocks: &[
            Some(&["REVISION", "from revision 10 to 12", "effect on routes", "orders"]),
            Some(&["restored revision 10"]),
            Some(&["the change log is intact"]),
            Some(&["\"data\":[]"]),
            Some(&[]),
            Some(&[]),
            Some(&["\"revision\""]),
        ],
        after: ("cardinal store export", &["of-team-a", "custom_id: \"7\""]),
        ..Guide::default()
    };
    guide.follow("guides::the_guide_to_history_and_backups");
}

#[test]
fn the_guide_to_hybrid_installations() {
    let guide = Guide {
        file: "docs/hybrid.md",
        blocks: &[Some(&[]), Some(&[]), Some(&["\"connected\":true"]), Some(&[])],
        after: (
            r#"
command cardinal echo --listen 127.0.0.1:9080 &
curl -X PUT http://127.0.0.1:8001/services/orders -d url=http://127.0.0.1:9080
curl -X PUT http://127.0.0.1:8001/routes/orders -d 'paths[]=/orders' -d service.name=orders
retry serves /orders
cat /etc/cardinal/kong.conf
"#,
            &["HTTP/1.1 200 OK", "cluster_cert"],
        ),
        ..Guide::default()
    };
    guide.follow("guides::the_guide_to_hybrid_installations");
}

#[test]
fn the_guide_to_gitops() {
    let guide = Guide {
        file: "docs/gitops.md",
        before: r#"
git init -q . && mkdir gateway
printf '_format_version: "3.0"\nservices:\n# Orders: team A.\n- name: orders   # keep the name\n  url: http://127.0.0.1:9080\n' \
  > gateway/kong.yaml
git add gateway
"#,
        blocks: &[Some(&[]), Some(&["+  retries: 2", " # Orders: team A."]), None],
        ..Guide::default()
    };
    guide.follow("guides::the_guide_to_gitops");
}

#[test]
fn the_guide_to_users_and_roles() {
    let guide = Guide {
        file: "docs/rbac.md",
        blocks: &[Some(&["kong_admin"]), Some(&["orders-team", "anna"]), Some(&["\"host\":\"example.test\""])],
        ..Guide::default()
    };
    guide.follow("guides::the_guide_to_users_and_roles");
}

#[test]
fn the_guide_to_workspaces() {
    let guide = Guide {
        file: "docs/workspaces.md",
        before: "cardinal run",
        blocks: &[Some(&["\"name\":\"team-a\"", "\"name\":\"orders\"", "\"paths\":[\"/orders\"]"])],
        after: ("curl -i http://127.0.0.1:8001/workspaces/team-a", &["404"]),
        ..Guide::default()
    };
    guide.follow("guides::the_guide_to_workspaces");
}

/// What the output of each step of the tour has, by its number.
const TOUR: [(&str, &[&str]); 12] = [
    ("1", &["HTTP/1.1 200", "\"x-forwarded-proto\""]),
    ("2", &["HTTP/1.1 401", "HTTP/1.1 200", "x-consumer-username"]),
    ("3", &["RateLimit-Remaining: 0", "HTTP/1.1 429"]),
    ("4", &["HTTP/2 200"]),
    ("5", &["HTTP/1.1 101 Switching Protocols"]),
    ("6", &["grpc-status: 0", "hi"]),
    ("7", &["key-auth", "rate-limiting"]),
    ("8", &["key_name", "did you mean"]),
    ("9", &["RateLimit-Limit: 100\r\nRateLimit-Limit: 100"]),
    ("10", &["kong_http_requests_total{"]),
    ("11", &["HTTP/1.1 201", "HTTP/1.1 200", "name: tour", "HTTP/1.1 204"]),
    ("12", &["\"name\":\"first\"", "HTTP/1.1 204", "REVISION", "first removed", "restored revision 2", "HTTP/1.1 200"]),
];

/// Numbers of the steps, and their commands.
fn steps(readme: &str) -> Vec<(String, String)> {
    let tour = readme.split_once("## Five-minute tour").expect("there is a tour").1;
    let tour = tour.split_once("\n## ").expect("it ends").0;
    let mut steps: Vec<(String, String)> = Vec::new();
    for step in tour.split("\n**").skip(1) {
        let number = step.split_once('.').expect("a step has a number").0.to_owned();
        let commands = step.split("```sh\n").skip(1).map(|block| block.split_once("```").expect("a block ends").0);
        steps.push((number, commands.collect()));
    }
    steps
}

/// The quick start is what `make run` starts after building.
#[test]
fn the_tour_of_the_readme() {
    let Some(_) = tools!("unshare", "ip", "curl", "bash") else { return };
    if !isolated(env!("CARGO_PKG_NAME"), "guides::the_tour_of_the_readme", Isolation::Network) {
        return;
    }
    set_up("ip link set lo up");
    let (folder, root) = (TempDir::new("tour"), Path::new(ROOT));
    for file in ["scripts/quickstart.sh", "examples/quickstart/kong.yaml"] {
        let to = folder.path().join(file);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(root.join(file), to).unwrap();
    }
    let release = folder.path().join("target/release");
    std::fs::create_dir_all(&release).unwrap();
    symlink(env!("CARGO_BIN_EXE_cardinal"), release.join("cardinal")).unwrap();
    let bash = find("bash").unwrap();
    let command = |script: &str| {
        let mut command = Command::new(&bash);
        command.args(["-c", script]).current_dir(folder.path()).env_remove("CARGO_TARGET_DIR").stdin(Stdio::null());
        command
    };
    let mut quick_start = Process::start(command("exec scripts/quickstart.sh target/release/cardinal 1>&2"));
    quick_start.wait_for("README.md goes on from here");

    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let readme = readme.replace("/tmp/", &format!("{}/", folder.path().display()));
    let steps = steps(&readme);
    assert_eq!(steps.iter().map(|(number, _)| number.as_str()).collect::<Vec<_>>(), TOUR.map(|(number, _)| number));
    // One shell for all, as in the tour; each step ends with a line that says so.
    let script = steps.iter().map(|(number, commands)| format!("{commands}\necho; echo '== {number}'\n"));
    let (output, errors) = finish(command(&script.collect::<String>()));
    let mut rest = output.as_str();
    for (number, texts) in TOUR {
        let (own, more) = rest.split_once(&format!("== {number}\n")).unwrap_or_else(|| panic!("{rest}\n{errors}"));
        for text in texts {
            assert!(own.contains(text), "step {number} lacks {text:?}:\n{own}\n{errors}");
        }
        rest = more;
    }
    quick_start.signal(Signal::TERM);
    assert_eq!(quick_start.ends().code(), Some(0));
}
