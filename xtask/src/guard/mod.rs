//! `guard`: instruction counts of requests in fixed workloads, compared with the counts in the repository.
//!
//! Instruction counts are reproducible on a busy machine, unlike times. Callgrind counts the instructions of n and of
//! 2n requests; the difference, divided by n, is the cost of one request when everything is warm. Start at [`run`];
//! [`counts`] is the file and the comparison, [`valgrind`] does the counting.

mod counts;
#[cfg(test)]
mod tests;
mod valgrind;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use self::counts::{Counts, FILE, Verdict, grouped};
use self::valgrind::Valgrind;

/// Number of functions listed on failure.
const FUNCTIONS_SHOWN: usize = 15;

/// Number of functions listed by `--annotate`.
const FUNCTIONS_ANNOTATED: usize = 60;

/// Counts the instructions that requests of fixed workloads cost.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Writes what is counted to benches/guard/counts.txt
    #[arg(long)]
    update: bool,
    /// Only this workload; may be given several times
    #[arg(long, value_name = "NAME")]
    workload: Vec<String>,
    /// Shows where the instructions of a request are: functions with all they call
    #[arg(long)]
    annotate: bool,
    /// Counts this build of cardinal-guard instead of making one
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
}

/// A workload, and the number of requests after which its count is reproducible.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Work {
    name: String,
    requests: u64,
}

/// Builds, counts, compares.
pub(crate) fn run(root: &Path, args: &Args) -> Result<ExitCode> {
    let valgrind = Valgrind::find()?;
    let binary = match &args.binary {
        Some(binary) => binary.canonicalize().with_context(|| format!("cannot find {}", binary.display()))?,
        None => build(root)?,
    };
    let all = listed(&binary)?;
    let chosen = choose(&all, &args.workload)?;
    let path = root.join(FILE);
    let stored = match std::fs::read_to_string(&path) {
        Ok(text) => Counts::parse(&text).with_context(|| format!("cannot read {FILE}"))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Counts::default(),
        Err(error) => return Err(error).with_context(|| format!("cannot read {FILE}")),
    };
    let folder = binary.parent().unwrap_or(root).join("guard");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut now = Counts { made_by: made_by(&valgrind)?, ..Counts::default() };
    let mut failed = Vec::new();
    println!("{}", counts::HEADER);
    for work in &chosen {
        let count = valgrind.count(&binary, work, &folder)?;
        now.of.insert(work.name.clone(), count);
        let verdict = Verdict::of(stored.of.get(&work.name).copied(), count);
        println!("{}", counts::row(&work.name, stored.of.get(&work.name).copied(), count));
        if args.annotate {
            println!("\nInstructions of a request of `{}`, functions with all that they call:", work.name);
            println!("{}", listing(&valgrind, &folder, work, true)?);
        }
        if !args.update && verdict != Verdict::Same {
            failed.push((work, verdict));
        }
    }
    if args.update {
        let whole = chosen.len() == all.len();
        let text = stored.updated(now, whole).context("cannot update a part of the file")?.to_string();
        std::fs::write(&path, text).with_context(|| format!("cannot write {FILE}"))?;
        println!("wrote {FILE}");
        return Ok(ExitCode::SUCCESS);
    }
    let names: Vec<&str> = all.iter().map(|work| work.name.as_str()).collect();
    let gone = stored.of.keys().filter(|name| !names.contains(&name.as_str())).cloned().collect::<Vec<_>>();
    judge(&Findings { stored, now, failed, gone }, |work| listing(&valgrind, &folder, work, false))
}

/// Differences from the file.
struct Findings<'a> {
    stored: Counts,
    now: Counts,
    failed: Vec<(&'a Work, Verdict)>,
    gone: Vec<String>,
}

fn judge(found: &Findings<'_>, listing: impl Fn(&Work) -> Result<String>) -> Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for (work, verdict) in &found.failed {
        let name = &work.name;
        let count = |counts: &Counts| grouped(counts.of.get(name).copied().unwrap_or_default());
        match verdict {
            Verdict::Same => {}
            Verdict::Shrank => println!(
                "{name}: cheaper than {FILE} says. Keep the gain: `cargo xtask guard --update`, and commit the file."
            ),
            Verdict::New => {
                code = ExitCode::FAILURE;
                eprintln!("{name}: not in {FILE}. Add it: `cargo xtask guard --update`.");
            }
            Verdict::Grew => {
                code = ExitCode::FAILURE;
                eprintln!(
                    "\n{name}: a request takes {} instructions; {FILE} says {}, and {} % more are allowed.",
                    count(&found.now),
                    count(&found.stored),
                    counts::PERCENT_MAX
                );
                eprintln!("Most of a request's instructions are here, without what is called from there:");
                eprintln!("{}{}", listing(work)?, advice(name));
            }
        }
    }
    for name in &found.gone {
        code = ExitCode::FAILURE;
        eprintln!("{name}: in {FILE}, but there is no such workload. Take it out: `cargo xtask guard --update`.");
    }
    if code == ExitCode::FAILURE && found.stored.made_by != found.now.made_by && !found.stored.of.is_empty() {
        eprintln!(
            "\n{FILE} was made with {}; here is {}. Counts differ between them: if only that has changed, run\n\
             `cargo xtask guard --update` with the code as it was, and commit the file by itself.",
            found.stored.made_by, found.now.made_by
        );
    }
    if code == ExitCode::SUCCESS {
        println!("guard: ok");
    }
    Ok(code)
}

/// How to find the cause of an increased count.
fn advice(name: &str) -> String {
    format!(
        "To see what has grown, compare with the code before, for example:\n  \
         git worktree add ../before HEAD && (cd ../before && cargo xtask guard --workload {name} --annotate > before.txt)\n  \
         cargo xtask guard --workload {name} --annotate > now.txt && diff ../before/before.txt now.txt\n\
         If the request is worth it: `cargo xtask guard --update`, and say in the commit why."
    )
}

/// Functions and their share of a request: alone, or including the functions that they call.
fn listing(valgrind: &Valgrind, folder: &Path, work: &Work, inclusive: bool) -> Result<String> {
    let rows = if inclusive { FUNCTIONS_ANNOTATED } else { FUNCTIONS_SHOWN };
    let functions = valgrind.profile(folder, work, inclusive)?;
    Ok(functions.iter().take(rows).map(|(count, function)| format!("{:>10}  {function}\n", grouped(*count))).collect())
}

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Builds the measured program, and returns its path.
fn build(root: &Path) -> Result<PathBuf> {
    let output = cargo()
        .args(["build", "--profile", "profiling", "--package", "cardinal-guard", "--bin", "cardinal-guard"])
        .arg("--message-format=json-render-diagnostics")
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo build")?;
    ensure!(output.status.success(), "cardinal-guard does not build");
    built(&String::from_utf8_lossy(&output.stdout)).context("cargo build tells of no program")
}

/// The path of the program, from cargo's messages.
fn built(messages: &str) -> Option<PathBuf> {
    let mut messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let program = messages.find(|m| m["reason"] == "compiler-artifact" && m["executable"].is_string())?;
    program["executable"].as_str().map(PathBuf::from)
}

/// The workloads of the program.
fn listed(binary: &Path) -> Result<Vec<Work>> {
    let output = Command::new(binary).output().with_context(|| format!("cannot run {}", binary.display()))?;
    let works = works(&String::from_utf8_lossy(&output.stdout));
    ensure!(output.status.success() && !works.is_empty(), "{} lists no workloads", binary.display());
    Ok(works)
}

fn works(text: &str) -> Vec<Work> {
    let work = |line: &str| {
        let (name, requests) = line.split_once(' ')?;
        let requests = requests.parse().ok().filter(|requests| *requests > 0)?;
        Some(Work { name: name.to_owned(), requests })
    };
    text.lines().filter_map(work).collect()
}

fn choose(all: &[Work], names: &[String]) -> Result<Vec<Work>> {
    if names.is_empty() {
        return Ok(all.to_vec());
    }
    let mut chosen = Vec::new();
    for name in names {
        let Some(work) = all.iter().find(|work| work.name == *name) else {
            let known: Vec<&str> = all.iter().map(|work| work.name.as_str()).collect();
            bail!("there is no workload `{name}`; there are {}", known.join(", "));
        };
        chosen.push(work.clone());
    }
    Ok(chosen)
}

/// The conditions of a count other than the code.
fn made_by(valgrind: &Valgrind) -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("-vV").output().context("cannot run rustc -vV")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    let rustc = text.lines().next().unwrap_or_default();
    Ok(format!("{rustc} for {host}{}, {}", vectors(), valgrind.version))
}

/// The vector instructions used for long copies, which differ between processors.
fn vectors() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    if !std::arch::is_x86_feature_detected!("avx2") {
        return " without AVX2";
    }
    ""
}
