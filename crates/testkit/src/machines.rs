//! [`Network`] and [`Machine`]: network namespaces that reach each other, as machines on one network do.

use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use cardinal_test_tools::find;

use crate::set_up;

/// A bridge in the namespace of the test. The test itself is on it, too, with the address [`Network::ADDRESS`].
///
/// Made in a test that runs in a network of its own ([`crate::isolated`]), where it ends with the test.
#[derive(Debug)]
pub struct Network {
    machines: u8,
}

impl Network {
    /// The address of the test.
    pub const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 1));

    /// All addresses.
    pub const RANGE: &str = "10.77.0.0/24";

    /// Sets up the bridge.
    #[allow(clippy::new_without_default, reason = "it changes the namespace of the process")]
    pub fn new() -> Self {
        set_up("ip link set lo up");
        set_up("ip link add bridge type bridge");
        set_up(&format!("ip address add {}/24 dev bridge", Self::ADDRESS));
        set_up("ip link set bridge up");
        Self { machines: 0 }
    }

    /// Adds a machine.
    pub fn machine(&mut self) -> Machine {
        self.machines += 1;
        let number = self.machines;
        let mut command = Command::new(find("unshare").unwrap_or_else(|| "unshare".into()));
        // The namespace is there as long as the process, which ends with its input.
        command.args(["--net", "--", "sh", "-c", "echo ready; exec cat"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("unshare is installed");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut line).expect("the process tells");
        assert_eq!(line, "ready\n", "a namespace");
        let address = Ipv4Addr::new(10, 77, 0, 10 + number);
        let machine = Machine { child, address };
        set_up(&format!("ip link add machine{number} type veth peer name eth0 netns {}", machine.child.id()));
        set_up(&format!("ip link set machine{number} master bridge up"));
        machine.set_up("ip link set lo up");
        machine.set_up(&format!("ip address add {address}/24 dev eth0"));
        machine.set_up("ip link set eth0 up");
        machine
    }
}

/// A network namespace on a [`Network`].
#[derive(Debug)]
pub struct Machine {
    child: Child,
    address: Ipv4Addr,
}

impl Machine {
    /// Its address.
    pub fn address(&self) -> IpAddr {
        self.address.into()
    }

    /// The beginning of a command that runs on this machine: program and arguments are to follow.
    pub fn enter(&self) -> Command {
        let mut command = Command::new(find("nsenter").unwrap_or_else(|| "nsenter".into()));
        command.arg(format!("--net={}", self.namespace().display()));
        command
    }

    /// A command, run on this machine. Its standard streams are to be set anew.
    pub fn on(&self, command: &Command) -> Command {
        let mut entered = self.enter();
        entered.arg("--").arg(command.get_program()).args(command.get_args()).env_clear();
        entered.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        entered
    }

    /// Loses all packets from and to other machines from now on, without a word to either side.
    pub fn cut(&self) {
        self.set_up("iptables -I INPUT -i eth0 -j DROP");
        self.set_up("iptables -I OUTPUT -o eth0 -j DROP");
    }

    /// Ends [`Self::cut`].
    pub fn mend(&self) {
        self.set_up("iptables -D INPUT -i eth0 -j DROP");
        self.set_up("iptables -D OUTPUT -o eth0 -j DROP");
    }

    fn namespace(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.child.id()).into()
    }

    fn set_up(&self, line: &str) {
        set_up(&format!("nsenter --net={} -- {line}", self.namespace().display()));
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended with the test's output.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
