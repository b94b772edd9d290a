//! The node's own log and the access log.

use std::io::{self, ErrorKind};
use std::path::Path;

use anyhow::{Result, anyhow};
use cardinal_base::log::{self, Destination, Format};
use cardinal_engine::AccessLog;
use cardinal_kong::Settings;

use super::log_level;

/// Open logs.
#[derive(Debug)]
pub(super) struct Logs {
    access: Option<AccessLog>,
}

impl Logs {
    /// Opens what the settings name, and installs the log.
    pub(super) fn open(settings: &Settings, format: Format) -> Result<Self> {
        let [access_place, error_place] = &settings.log_places;
        let error = settings.error_log.as_deref().unwrap_or("/dev/stderr");
        let error = LogFile { setting: "proxy_error_log", place: error_place, path: error, settings };
        // Standard error leads there too: what a library or the system writes to it is not lost.
        let destination =
            error.open(|path| Destination::open_with(path, |file| Ok(rustix::stdio::dup2_stderr(file)?)))?;
        log::install_to(log_level::filter(&settings.log_level), format, destination).map_err(|why| anyhow!(why))?;
        let access = settings.access_log.as_deref().map(|path| {
            LogFile { setting: "proxy_access_log", place: access_place, path, settings }.open(AccessLog::open)
        });
        Ok(Self { access: access.transpose()? })
    }

    pub(super) fn access(&self) -> Option<AccessLog> {
        self.access.clone()
    }

    /// Opens the files again, after they were moved away.
    pub(super) fn reopen(&self) {
        log::reopen();
        if let Some(access) = &self.access {
            access.reopen();
        }
    }
}

impl Drop for Logs {
    /// A normal end of the process flushes the log; a panic of the main thread would not.
    fn drop(&mut self) {
        if std::thread::panicking() {
            log::flush(log::FLUSH_TIMEOUT);
        }
    }
}

/// A log file that a setting names.
struct LogFile<'s> {
    setting: &'static str,
    /// Where the setting was given.
    place: &'s str,
    path: &'s str,
    settings: &'s Settings,
}

impl LogFile<'_> {
    /// Opens it. A directory below the prefix that is missing is made, as Kong makes `logs` in its prefix.
    fn open<T>(&self, open: impl Fn(&Path) -> io::Result<T>) -> Result<T> {
        let prefix = self.settings.prefix.as_deref().unwrap_or_default();
        let path = Path::new(prefix).join(self.path);
        let own = Path::new(self.path).is_relative() || (!prefix.is_empty() && path.starts_with(prefix));
        let folder = path.parent().filter(|folder| own && !folder.as_os_str().is_empty());
        let opened = folder.map_or(Ok(()), std::fs::create_dir_all).and_then(|()| open(&path));
        opened.map_err(|error| anyhow!(self.refusal(&path, prefix, &error)))
    }

    fn refusal(&self, path: &Path, prefix: &str, error: &io::Error) -> String {
        let place = if self.place.is_empty() { String::new() } else { format!("{}: ", self.place) };
        let prefix = if prefix.is_empty() { "prefix is not set".to_owned() } else { format!("prefix = {prefix}") };
        let hint = match error.kind() {
            ErrorKind::NotFound => ": create the directory",
            _ => "",
        };
        format!("{place}{}: cannot open {} ({prefix}): {error}{hint}", self.setting, path.display())
    }
}

#[cfg(test)]
mod tests {
    use cardinal_testkit::TempDir;

    use super::*;

    #[test]
    fn directories_below_the_prefix_are_made() {
        let folder = TempDir::new("logs");
        let prefix = folder.path().join("prefix");
        let settings = Settings { prefix: Some(prefix.display().to_string()), ..Settings::default() };
        let open = |path: &str| {
            let file = LogFile { setting: "proxy_access_log", place: "kong.conf:3", path, settings: &settings };
            file.open(|path| std::fs::write(path, "")).map_err(|error| error.to_string())
        };
        open("logs/access.log").unwrap();
        open(&prefix.join("more/a.log").display().to_string()).unwrap();
        assert!(prefix.join("logs/access.log").is_file() && prefix.join("more/a.log").is_file());
        let outside = folder.path().join("none/access.log").display().to_string();
        let said = open(&outside).unwrap_err();
        let expected =
            format!("kong.conf:3: proxy_access_log: cannot open {outside} (prefix = {}): ", prefix.display());
        assert!(said.starts_with(&expected) && said.ends_with(": create the directory"), "{said}");
    }
}
