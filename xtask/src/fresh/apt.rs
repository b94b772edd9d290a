//! The package sources of this machine's apt: the repository names no mirror.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// One line or paragraph of apt's sources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) uris: Vec<String>,
    pub(super) suites: Vec<String>,
    pub(super) components: Vec<String>,
}

/// The package sources of this machine.
#[derive(Debug)]
pub(super) struct Sources {
    /// The sources of this release, or the one given mirror.
    list: Vec<Source>,
    /// The release of this machine, with which the suite names begin.
    release: String,
    /// Download settings of apt.
    settings: String,
}

impl Sources {
    /// Reads the sources and settings of this machine.
    pub(super) fn of_this_machine(mirror: Option<&str>) -> Result<Self> {
        let settings = settings(&dump()?);
        if let Some(mirror) = mirror {
            let list = vec![Source::new(mirror, "release", "main")];
            return Ok(Self { list, release: "release".to_owned(), settings });
        }
        let os = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
        let release = release(&os).context("/etc/os-release has no VERSION_CODENAME; name a mirror with --mirror")?;
        let mut files = vec!["/etc/apt/sources.list".into()];
        if let Ok(folder) = fs::read_dir("/etc/apt/sources.list.d") {
            files.extend(folder.filter_map(Result::ok).map(|entry| entry.path()));
        }
        files.sort();
        let texts = files.iter().filter_map(|file| Some((file, fs::read_to_string(file).ok()?)));
        let all = texts.flat_map(|(file, text)| parse(file, &text));
        let list = debian(all.collect(), &release);
        if !list.iter().any(|source| source.suites.contains(&release)) {
            bail!("the apt sources of this machine have no `{release} main` of Debian; name a mirror with --mirror");
        }
        Ok(Self { list, release, settings })
    }

    /// The mirror of the packages of a whole release.
    pub(super) fn mirror(&self) -> &str {
        let whole = self.list.iter().find(|source| source.suites.contains(&self.release));
        whole.and_then(|source| source.uris.first()).map(String::as_str).unwrap_or_default()
    }

    /// The sources of another release, in apt's format of lines.
    pub(super) fn text(&self, suite: &str) -> String {
        let mut out = String::new();
        for source in &self.list {
            for (uri, name) in source.uris.iter().flat_map(|uri| source.suites.iter().map(move |name| (uri, name))) {
                let rest = name.strip_prefix(&self.release).unwrap_or_default();
                writeln!(out, "deb {uri} {suite}{rest} main").ok();
            }
        }
        out
    }

    /// The apt settings to use in the system, too.
    pub(super) fn settings(&self) -> &str {
        &self.settings
    }

    /// The HTTP proxy in apt's settings.
    pub(super) fn proxy(&self) -> Option<&str> {
        let line = self.settings.lines().find_map(|line| line.strip_prefix("Acquire::http::Proxy \""))?;
        line.strip_suffix("\";").filter(|proxy| !proxy.is_empty())
    }

    #[cfg(test)]
    pub(super) fn new(list: Vec<Source>, release: &str, settings: &str) -> Self {
        Self { list, release: release.to_owned(), settings: settings.to_owned() }
    }
}

impl Source {
    pub(super) fn new(uri: &str, suite: &str, component: &str) -> Self {
        Self { uris: vec![uri.to_owned()], suites: vec![suite.to_owned()], components: vec![component.to_owned()] }
    }
}

fn dump() -> Result<String> {
    let output = Command::new("apt-config").arg("dump").output().context("cannot run apt-config")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The download settings in `apt-config dump`: proxies, certificates, clocks. A proxy auto-detection program is left
/// out, because it is not available in the other system.
pub(super) fn settings(dump: &str) -> String {
    let kept = ["http", "https", "Check-", "Retries", "ForceIP"].map(|key| format!("Acquire::{key}"));
    let lines = dump.lines().filter(|line| kept.iter().any(|key| line.starts_with(key.as_str())));
    lines
        .filter(|line| !line.to_ascii_lowercase().replace('-', "").contains("autodetect"))
        .map(|l| format!("{l}\n"))
        .collect()
}

/// The code name of a release in the text of `/etc/os-release`.
pub(super) fn release(os: &str) -> Option<String> {
    let line = os.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="))?;
    Some(line.trim_matches('"').to_owned())
}

/// The sources of this release: itself, its updates and its security fixes.
pub(super) fn debian(all: Vec<Source>, release: &str) -> Vec<Source> {
    let names = ["", "-updates", "-security"].map(|end| format!("{release}{end}"));
    let mut kept = Vec::new();
    for mut source in all.into_iter().filter(|source| source.components.iter().any(|component| component == "main")) {
        source.suites.retain(|suite| names.contains(suite));
        if !source.suites.is_empty() {
            kept.push(source);
        }
    }
    kept
}

/// Parses a sources file, in either of apt's formats.
pub(super) fn parse(file: &Path, text: &str) -> Vec<Source> {
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("sources") => text.split("\n\n").filter_map(paragraph).collect(),
        Some("list") => text.lines().filter_map(line).collect(),
        _ => Vec::new(),
    }
}

fn paragraph(text: &str) -> Option<Source> {
    let field = |name: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let value = lines.filter_map(|line| line.split_once(':')).find(|(key, _)| key.eq_ignore_ascii_case(name));
        value.map(|(_, value)| value.split_whitespace().map(str::to_owned).collect()).unwrap_or_default()
    };
    let is_on = field("Enabled") != ["no"] && field("Types").iter().any(|kind| kind == "deb");
    is_on.then(|| Source { uris: field("URIs"), suites: field("Suites"), components: field("Components") })
}

fn line(text: &str) -> Option<Source> {
    let text = text.split('#').next().unwrap_or_default();
    let rest = text.trim().strip_prefix("deb ")?.trim_start();
    let rest = if rest.starts_with('[') { rest.split_once(']')?.1 } else { rest };
    let mut words = rest.split_whitespace().map(str::to_owned);
    Some(Source { uris: vec![words.next()?], suites: vec![words.next()?], components: words.collect() })
}
