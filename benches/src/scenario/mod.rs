//! The scenarios. [`list`] defines them with their targets; there is a module for each measuring method.

mod cold;
mod idle;
mod latency;
mod list;
mod reload;
mod rounds;
mod routes;
mod throughput;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

pub(crate) use self::list::SCENARIOS;
use crate::load::{Counts, Load, Work};
use crate::metric::Metric;
use crate::peers::{Peer, Program, Programs, Setup};
use crate::progress::Progress;
use crate::results::{Entry, Outcome};

/// Minimum and maximum duration of the warm-up before a measurement.
const WARM_UP: Duration = Duration::from_millis(300);
const WARM_UP_MAX: Duration = Duration::from_secs(5);

/// Parameters of the measurements.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) programs: Programs,
    /// The programs to measure.
    pub(crate) chosen: Vec<Program>,
    pub(crate) rounds: u32,
    /// The length of one measurement.
    pub(crate) window: Duration,
    /// Maximum share of core 0 used by other processes.
    pub(crate) foreign_max: f64,
    /// Version of each program.
    pub(crate) versions: BTreeMap<String, String>,
    pub(crate) progress: RefCell<Progress>,
}

/// A scenario.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// The description, for readers.
    pub(crate) about: &'static str,
    pub(crate) group: Group,
    pub(crate) measure: Measure,
    /// The most important metric.
    pub(crate) headline: Metric,
    pub(crate) aims: &'static [Aim],
}

/// Scenarios that share a section and a plot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    Requests,
    Bodies,
    Tls,
    Http2,
    Streams,
    Latency,
    Memory,
    Routes,
    Changes,
    Start,
}

/// The measuring method of a scenario.
#[derive(Debug)]
pub(crate) enum Measure {
    /// CPU time under maximum load.
    Throughput { work: fn() -> Work, setup: Setup, programs: &'static [Program] },
    /// Latencies at a fixed rate.
    Latency,
    /// Latencies and failures at a fixed rate while the configuration changes.
    Reload,
    /// CPU time of Cardinal with few and many routes.
    Routes,
    /// Time to the first response.
    Cold,
    /// Memory with idle connections.
    Idle,
}

/// A target for Cardinal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Aim {
    pub(crate) metric: Metric,
    /// The target is a ratio to this program's value; if `None`, an absolute value.
    pub(crate) to: Option<Program>,
    /// The minimum if higher values are better, otherwise the maximum.
    pub(crate) at: f64,
}

impl Aim {
    /// Whether a value meets the target.
    pub(crate) fn is_met(&self, value: f64) -> bool {
        if self.metric.more_is_better() { value >= self.at } else { value <= self.at }
    }
}

impl Group {
    pub(crate) const ALL: &[Self] = &[
        Self::Requests,
        Self::Bodies,
        Self::Tls,
        Self::Http2,
        Self::Streams,
        Self::Latency,
        Self::Memory,
        Self::Routes,
        Self::Changes,
        Self::Start,
    ];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Requests => "Requests",
            Self::Bodies => "Bodies",
            Self::Tls => "TLS",
            Self::Http2 => "HTTP/2 and gRPC",
            Self::Streams => "TCP and WebSocket",
            Self::Latency => "Latency",
            Self::Memory => "Memory",
            Self::Routes => "Many routes",
            Self::Changes => "Changes under load",
            Self::Start => "Cold start",
        }
    }

    /// The file name of its plot, without extension.
    pub(crate) fn file(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Bodies => "bodies",
            Self::Tls => "tls",
            Self::Http2 => "http2",
            Self::Streams => "streams",
            Self::Latency => "latency",
            Self::Memory => "memory",
            Self::Routes => "routes",
            Self::Changes => "changes",
            Self::Start => "start",
        }
    }
}

impl Scenario {
    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        SCENARIOS.iter().find(|scenario| scenario.name == name)
    }

    /// The candidate with which others are compared in the table, if any.
    pub(crate) fn base(&self) -> Option<&'static str> {
        match self.measure {
            Measure::Throughput { .. } | Measure::Latency | Measure::Idle | Measure::Cold => Some("nginx"),
            Measure::Routes => Some(routes::BASE),
            Measure::Reload => None,
        }
    }

    /// The columns of its table.
    pub(crate) fn columns(&self) -> Vec<Metric> {
        match self.measure {
            Measure::Throughput { .. } => {
                let cpu: &[Metric] = if self.headline == Metric::MibPerCpuSecond {
                    &[]
                } else {
                    &[Metric::Micros, Metric::UserMicros, Metric::KernelMicros]
                };
                let others =
                    [Metric::Busy, Metric::Foreign, Metric::Rss, Metric::Peak, Metric::Retried, Metric::Errors];
                [&[self.headline], cpu, &others].concat()
            }
            Measure::Latency => vec![
                Metric::AddedP50,
                Metric::AddedP99,
                Metric::AddedP999,
                Metric::P50,
                Metric::P99,
                Metric::P999,
                Metric::Micros,
                Metric::Foreign,
                Metric::Errors,
            ],
            Measure::Reload => {
                vec![Metric::P50, Metric::P99, Metric::P999, Metric::Changes, Metric::Retried, Metric::Errors]
            }
            Measure::Routes => {
                vec![Metric::PerCpuSecond, Metric::Micros, Metric::Rss, Metric::Start, Metric::Foreign, Metric::Errors]
            }
            Measure::Cold => vec![Metric::Start],
            Measure::Idle => vec![Metric::RssStart, Metric::Rss64, Metric::Rss10k, Metric::IdleKib],
        }
    }

    /// Factor by which measurements are longer than usual; zero if they have no fixed duration.
    fn windows(&self) -> f64 {
        match self.measure {
            Measure::Throughput { .. } | Measure::Routes => 1.0,
            Measure::Latency => latency::WINDOWS,
            Measure::Reload => reload::WINDOWS,
            Measure::Cold | Measure::Idle => 0.0,
        }
    }

    /// Estimated seconds without repetitions.
    pub(crate) fn estimate(&self, bench: &Bench) -> f64 {
        let chosen = |programs: &[Program]| programs.iter().filter(|p| bench.chosen.contains(p)).count() as f64;
        let rounds = f64::from(bench.rounds);
        // Includes the time before and after the measurement.
        let one = bench.window.as_secs_f64() * self.windows() + WARM_UP.as_secs_f64() + 0.1;
        match self.measure {
            Measure::Throughput { programs, .. } => chosen(programs) * (rounds * one + 1.5),
            Measure::Latency => (chosen(Program::PROXIES) + 1.0) * (rounds * one + 1.0),
            Measure::Reload => 4.0 * (rounds * one + 1.0),
            Measure::Routes => 4.0 * (rounds * one + 2.0),
            Measure::Cold => chosen(Program::PROXIES) * rounds * 0.7,
            Measure::Idle => chosen(Program::PROXIES) * 12.0,
        }
    }

    /// Measures the scenario. Failures are recorded in the entry.
    pub(crate) fn run(&self, bench: &Bench) -> Entry {
        bench.progress.borrow_mut().begin(self.name, self.estimate(bench));
        let mut left_out = Vec::new();
        let outcome = match &self.measure {
            Measure::Throughput { work, setup, programs } => {
                throughput::run(bench, &work(), setup, programs, &mut left_out)
            }
            Measure::Latency => latency::run(bench, &mut left_out),
            Measure::Reload => reload::run(bench, &mut left_out),
            Measure::Routes => routes::run(bench),
            Measure::Cold => cold::run(bench, &mut left_out),
            Measure::Idle => idle::run(bench, &mut left_out),
        };
        bench.progress.borrow_mut().end();
        let outcome = outcome.unwrap_or_else(|error| Outcome::Failed { why: format!("{error:#}") });
        for line in &left_out {
            eprintln!("{}: left out: {line}", self.name);
        }
        match &outcome {
            Outcome::Failed { why } => eprintln!("{}: failed: {why}", self.name),
            Outcome::TooBusy { .. } => eprintln!("{}: other programs use core 0 too much", self.name),
            Outcome::Measured(_) => {}
        }
        let seconds = bench.window.as_secs_f64() * self.windows();
        Entry { programs: bench.versions.clone(), seconds, left_out, outcome }
    }
}

/// Runs `work` while another thread runs `load`.
fn serving<T>(load: &mut Load, work: impl FnOnce(&Counts) -> Result<T>) -> Result<T> {
    let counts = Counts::default();
    std::thread::scope(|scope| {
        let loop_thread = scope.spawn(|| load.run(&counts));
        let result = work(&counts);
        counts.stop();
        match loop_thread.join() {
            Ok(served) => served.and(result),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Runs `work` while clients on new connections generate load on a proxy.
fn under_load<T>(load: &mut Load, proxy: std::net::SocketAddr, work: impl FnOnce(&Counts) -> Result<T>) -> Result<T> {
    load.connect(proxy)?;
    let result = serving(load, work);
    load.disconnect();
    result
}

/// Waits until connections are warm: on average, each has received a response.
fn warm_up(counts: &Counts, work: &Work) -> Result<()> {
    let start = Instant::now();
    std::thread::sleep(WARM_UP);
    while counts.answered() < work.connections as u64 {
        ensure!(start.elapsed() < WARM_UP_MAX, "only {} answers to begin with", counts.answered());
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Starts the selected programs of a list and checks a response of each. Without Cardinal, nothing can be measured;
/// other programs that fail are left out.
fn start(
    bench: &Bench,
    programs: &[Program],
    left_out: &mut Vec<String>,
    mut start: impl FnMut(Program) -> Result<Peer>,
) -> Result<Vec<Peer>> {
    let mut peers = Vec::new();
    for program in programs.iter().filter(|program| bench.chosen.contains(program)) {
        match start(*program) {
            Ok(peer) => peers.push(peer),
            Err(error) if *program == Program::Cardinal => return Err(error),
            Err(error) => left_out.push(format!("{}: {error:#}", program.name())),
        }
    }
    ensure!(!peers.is_empty(), "none of the programs to measure is there");
    Ok(peers)
}

/// Keeps Cardinal under load, for a profiler that attaches to its process id.
pub(crate) fn hold(programs: &Programs, time: Duration) -> Result<()> {
    let mut load = Load::new(&Work::plain(1024))?;
    let peer = Peer::start(programs, Program::Cardinal, &Setup::Http, load.upstream()?)?;
    println!("Cardinal is process {}", peer.worker()?);
    let address = peer.address(crate::load::Kind::H1);
    let answered = under_load(&mut load, address, |counts| {
        std::thread::sleep(time);
        Ok(counts.answered())
    })?;
    println!("{answered} requests");
    Ok(())
}

/// A bench for tests that start no programs.
#[cfg(test)]
pub(crate) fn tests_bench() -> Bench {
    let nowhere = || std::path::PathBuf::from("/nowhere");
    Bench {
        programs: Programs {
            cardinal: nowhere(),
            baseline: None,
            nginx: nowhere(),
            haproxy: nowhere(),
            envoy: nowhere(),
            relay: nowhere(),
        },
        chosen: Program::ALL.to_vec(),
        rounds: 6,
        window: Duration::from_secs(1),
        foreign_max: 0.06,
        versions: BTreeMap::new(),
        progress: RefCell::new(Progress::new(0.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_it_takes_less_than_half_an_hour() {
        let bench = tests_bench();
        let seconds: f64 = SCENARIOS.iter().map(|scenario| scenario.estimate(&bench)).sum();
        assert!(seconds < 20.0 * 60.0, "{seconds} s, and measurements may have to be repeated");
    }

    #[test]
    fn names_are_unique_and_found() {
        for scenario in SCENARIOS {
            assert_eq!(SCENARIOS.iter().filter(|s| s.name == scenario.name).count(), 1, "{}", scenario.name);
            assert_eq!(Scenario::find(scenario.name).unwrap().title, scenario.title);
        }
        assert!(Scenario::find("none").is_none());
    }

    #[test]
    fn each_group_has_a_scenario_and_each_aim_a_column() {
        for group in Group::ALL {
            assert!(SCENARIOS.iter().any(|s| s.group == *group), "{group:?}");
        }
        for scenario in SCENARIOS {
            assert!(scenario.columns().contains(&scenario.headline), "{}", scenario.name);
            for aim in scenario.aims {
                assert!(scenario.columns().contains(&aim.metric), "{}: {aim:?}", scenario.name);
            }
        }
    }

    #[test]
    fn aims_are_floors_or_ceilings() {
        let aim = |metric| Aim { metric, to: None, at: 2.0 };
        assert!(aim(Metric::PerCpuSecond).is_met(2.1) && !aim(Metric::PerCpuSecond).is_met(1.9));
        assert!(aim(Metric::Rss).is_met(1.9) && !aim(Metric::Rss).is_met(2.1));
    }
}
