//! tlsfuzzer: the behaviour of a TLS server for unusual and invalid handshakes and records.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use super::product::Product;
use super::{Case, Context, Outcome, Report, Suite, Unavailable, install, program};

pub(super) const SUITE: Suite = Suite {
    name: "tlsfuzzer",
    about: "Scripts of [tlsfuzzer](https://github.com/tlsfuzzer/tlsfuzzer) about records and handshakes of TLS 1.3, with an \
            RSA certificate. Those of TLS 1.2 need cipher suites with CBC, which Cardinal does not have. No package registry has it; with a checkout: \
            `cargo xtask conform --suite tlsfuzzer --tlsfuzzer DIR`.",
    run,
};

/// The library used by tlsfuzzer, in the version that it requires.
const LIBRARY: &str = "tlslite-ng==0.9.0b2";

/// The scripts. Excluded are scripts that choose cases at random or depend on timing, that need a differently
/// configured server (client certificates, other keys, early data), and those for TLS 1.2, which all use CBC cipher
/// suites.
const SCRIPTS: [&str; 14] = [
    "test-tls13-ccs",
    "test-tls13-conversation",
    "test-tls13-count-tickets",
    "test-tls13-empty-alert",
    "test-tls13-finished-plaintext",
    "test-tls13-hrr",
    "test-tls13-invalid-ciphers",
    "test-tls13-keyshare-omitted",
    "test-tls13-nociphers",
    "test-tls13-record-padding",
    "test-tls13-session-resumption",
    "test-tls13-unencrypted-alert",
    "test-tls13-zero-content-type",
    "test-tls13-zero-length-data",
];

fn run(context: &Context<'_>, product: &Product) -> Result<Report> {
    let Some(checkout) = context.tlsfuzzer else {
        return Err(Unavailable("no package registry has it; name a checkout with --tlsfuzzer DIR".to_owned()).into());
    };
    let python = obtain(context)?;
    let mut cases = Vec::new();
    for script in SCRIPTS {
        let mut command = Command::new(&python);
        command.arg(checkout.join("scripts").join(format!("{script}.py"))).env("PYTHONPATH", checkout);
        command.args(["-h", "127.0.0.1", "-p", &product.https.to_string()]);
        let output = command.output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let found = cases_of(script, &text);
        ensure!(!found.is_empty(), "{script} reports nothing: {text}{}", String::from_utf8_lossy(&output.stderr));
        cases.extend(found);
    }
    Ok(Report { tool: format!("tlsfuzzer {} with {LIBRARY}", revision(checkout)), cases })
}

fn obtain(context: &Context<'_>) -> Result<PathBuf> {
    let place = context.cache.join("tlsfuzzer");
    let python = place.join("bin/python");
    if !place.join("done").exists() {
        install("a Python environment", Command::new(program("python3")?).args(["-m", "venv"]).arg(&place))?;
        install(LIBRARY, Command::new(&python).args(["-m", "pip", "install", "--quiet", LIBRARY]))?;
        std::fs::write(place.join("done"), "")?;
    }
    Ok(python)
}

/// The commit of a checkout, if it is a git checkout.
fn revision(checkout: &Path) -> String {
    let output = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).current_dir(checkout).output();
    let text = output.ok().filter(|o| o.status.success()).map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
    text.unwrap_or_else(|| "of an unknown commit".to_owned())
}

/// Parses a script's summary: counts, and the names of failed cases. Passed cases have no names there.
pub(super) fn cases_of(script: &str, text: &str) -> Vec<Case> {
    let count = |key: &str| -> Option<usize> {
        text.lines().rev().find_map(|line| line.strip_prefix(key)).and_then(|rest| rest.trim().parse().ok())
    };
    let (Some(total), Some(skipped)) = (count("TOTAL:"), count("SKIP:")) else { return Vec::new() };
    let failed = text.split_once("\nFAILED:\n").map(|(_, rest)| rest).unwrap_or_default();
    let names = failed.lines().take_while(|line| line.starts_with('\t')).map(|line| line.trim().trim_matches('\''));
    let mut times = BTreeMap::<&str, usize>::new();
    names.for_each(|name| *times.entry(name).or_default() += 1);
    let mut cases =
        vec![Case { name: script.to_owned(), outcome: Outcome::Passed }; total.saturating_sub(skipped + times.len())];
    cases.extend(vec![Case { name: script.to_owned(), outcome: Outcome::Skipped }; skipped]);
    cases.extend(
        times.keys().map(|name| Case { name: format!("{script}: {name}"), outcome: Outcome::Failed(String::new()) }),
    );
    cases
}
