//! Where the node's own lines and the access log go.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use cardinal_base::log::{Format, install};
use cardinal_engine::AccessLog;
use cardinal_gateway::Settings;

/// Open logs.
#[derive(Debug)]
pub(super) struct Logs {
    access: Option<AccessLog>,
    /// The file that standard error leads to, when it is another one than the process was started with.
    error: Option<PathBuf>,
}

impl Logs {
    /// Opens what the settings name, and installs the log.
    pub(super) fn open(settings: &Settings, format: Format) -> Result<Self> {
        let prefix = settings.prefix.as_deref().map(Path::new);
        let error = settings.error_log.as_deref().filter(|path| *path != "/dev/stderr").map(|path| below(prefix, path));
        if let Some(path) = &error {
            redirect(path)?;
        }
        install(filter(&settings.log_level), format).map_err(|why| anyhow!(why))?;
        let access = settings.access_log.as_deref().map(|path| {
            let path = below(prefix, path).display().to_string();
            AccessLog::open(&path).with_context(|| format!("cannot open the access log {path}"))
        });
        Ok(Self { access: access.transpose()?, error })
    }

    pub(super) fn access(&self) -> Option<AccessLog> {
        self.access.clone()
    }

    /// Opens the files anew, for those who move them away.
    pub(super) fn reopen(&self) {
        if let Some(path) = &self.error
            && let Err(error) = redirect(path)
        {
            tracing::error!("the log stays where it was: {error:#}");
        }
        if let Some(access) = &self.access {
            access.reopen();
        }
    }
}

/// Lets standard error lead to the end of a file.
fn redirect(path: &Path) -> Result<()> {
    let open = |path: &Path| -> std::io::Result<File> { OpenOptions::new().create(true).append(true).open(path) };
    let file = open(path).with_context(|| format!("cannot open the log {}", path.display()))?;
    rustix::stdio::dup2_stderr(&file).with_context(|| format!("cannot log to {}", path.display()))
}

fn below(prefix: Option<&Path>, path: &str) -> PathBuf {
    prefix.map_or_else(|| PathBuf::from(path), |prefix| prefix.join(path))
}

/// What is logged at Kong's level. `notice` has no like here: what the node itself has to say, and warnings.
fn filter(level: &str) -> &'static str {
    match level {
        "debug" => "debug",
        "info" => "info",
        "warn" => "warn",
        "error" | "crit" | "alert" | "emerg" => "error",
        _ => "warn,cardinal_cli=info",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_start_from_the_prefix() {
        let prefix = Some(Path::new("/srv"));
        assert_eq!(below(prefix, "logs/access.log"), Path::new("/srv/logs/access.log"));
        assert_eq!(below(prefix, "/dev/stdout"), Path::new("/dev/stdout"));
        assert_eq!(below(None, "a.log"), Path::new("a.log"));
    }

    #[test]
    fn every_level_of_kong_is_one_here() {
        for (level, expected) in [("debug", "debug"), ("crit", "error"), ("notice", "warn,cardinal_cli=info")] {
            assert_eq!(filter(level), expected);
        }
    }
}
