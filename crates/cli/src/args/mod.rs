//! What can be typed. The help texts are the manual: the man pages and completions are made from them.

mod cluster;
mod examples;
mod store;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use cardinal_base::log::Format;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

pub(crate) use cluster::{CertArgs, ClusterCommand, NodeRole, TokenArgs};
pub(crate) use store::{
    AuditCommand, BackupArgs, BootstrapArgs, DiffArgs, ExportArgs, ExportFormat, HistoryArgs, ImportArgs, RbacCommand,
    RestoreArgs, RollbackArgs, ShowArgs, StatusArgs, StoreArgs, StoreCommand,
};

/// API gateway that runs unchanged Kong Gateway 3.x declarative files.
#[derive(Debug, Parser)]
#[command(name = "cardinal", version, arg_required_else_help = true, max_term_width = 100, after_help = examples::ALL)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve traffic according to configuration files, or to the entities of a store
    #[command(after_help = examples::RUN)]
    Run(RunArgs),
    /// Check configuration files, and report what differs from Kong
    #[command(after_help = examples::CHECK)]
    Check(CheckArgs),
    /// Show what would happen to a request, and why
    #[command(after_help = examples::EXPLAIN)]
    Explain(ExplainArgs),
    /// Show, export, import, back up or restore the store of entities
    #[command(subcommand, arg_required_else_help = true, after_help = examples::STORE)]
    Store(StoreCommand),
    /// List the revisions of the store: when, who, how many changes
    #[command(after_help = examples::HISTORY)]
    History(HistoryArgs),
    /// Show what a revision changed
    #[command(after_help = examples::SHOW)]
    Show(ShowArgs),
    /// Compare two revisions: entities, and the effect on routes
    #[command(after_help = examples::DIFF)]
    Diff(DiffArgs),
    /// Restore the entities of an older revision
    #[command(after_help = examples::ROLLBACK)]
    Rollback(RollbackArgs),
    /// Verify the change log of the store
    #[command(subcommand, arg_required_else_help = true, after_help = examples::AUDIT)]
    Audit(AuditCommand),
    /// Certificates and join tokens of control planes and data planes
    #[command(subcommand, arg_required_else_help = true, after_help = examples::CLUSTER)]
    Cluster(ClusterCommand),
    /// Create the first user of the Admin API
    #[command(subcommand, arg_required_else_help = true, after_help = examples::RBAC)]
    Rbac(RbacCommand),
    /// Run a test backend that echoes requests
    #[command(after_help = examples::ECHO)]
    Echo(EchoArgs),
    /// Print the version
    Version(VersionArgs),
    /// Print a completion script for a shell
    #[command(after_help = examples::COMPLETIONS)]
    Completions(CompletionsArgs),
    /// Print the manual page, or write all of them into a directory
    Man(ManArgs),
    /// Print the manual of settings
    Settings,
    /// Print the description of the Admin API in OpenAPI 3.1
    Openapi,
    /// List the plugins, or describe the fields of one
    #[command(after_help = examples::PLUGINS)]
    Plugins(PluginsArgs),
}

/// Where settings come from.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct SettingArgs {
    /// File of settings in the form of kong.conf
    #[arg(short = 'C', long, value_name = "FILE")]
    pub(crate) conf: Option<PathBuf>,
    /// Set a setting by its Kong name; overrides files and the environment
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub(crate) set: Vec<(String, String)>,
    /// Fill in `${{ env "DECK_..." }}` in configuration files from the environment, as decK does
    #[arg(long)]
    pub(crate) fill_env: bool,
}

/// How results are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Text
    #[default]
    Human,
    /// JSON
    Json,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Text on a terminal, JSON otherwise
    #[default]
    Auto,
    /// Text
    Text,
    /// One JSON object per line
    Json,
}

impl From<LogFormat> for Format {
    fn from(format: LogFormat) -> Self {
        match format {
            LogFormat::Auto => Self::Auto,
            LogFormat::Text => Self::Text,
            LogFormat::Json => Self::Json,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The same as --config
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Files with entities, YAML or JSON; for a directory, all .yaml, .yml and .json files in the order of their names.
    /// Without files, entities are in the store (setting database) and are written through the Admin API
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub(crate) config: Vec<PathBuf>,
    /// What the node does (setting role): keep entities and serve traffic, keep entities for data planes, or serve traffic as
    /// its control planes say
    #[arg(long, value_name = "ROLE")]
    pub(crate) role: Option<NodeRole>,
    #[command(flatten)]
    pub(crate) settings: SettingArgs,
    /// Directory for state: the store, the last known good configuration, the handover socket, the pid file (without files
    /// by default /var/lib/cardinal for root, ~/.local/share/cardinal for others). One process at a time
    /// uses it; another one on the same addresses takes over
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Take over from the process that uses the data directory even if it listens on other addresses
    #[arg(long, requires = "data_dir")]
    pub(crate) takeover: bool,
    /// Start with an empty database although the data directory has the last known good configuration of files
    #[arg(long)]
    pub(crate) new_store: bool,
    /// Number of worker threads (setting nginx_worker_processes; default: one per core)
    #[arg(long, value_name = "N")]
    pub(crate) workers: Option<u32>,
    /// Fail if any entity would be left out; warnings, such as a missing secret, do not count
    #[arg(long)]
    pub(crate) strict: bool,
    /// Write changes of the Admin API back to the files of --config, as edits that keep comments and order
    #[arg(long)]
    pub(crate) writable: bool,
    /// Minimum log level: debug, info, notice, warn, error, crit, alert or emerg (setting log_level; default: notice)
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
    /// Log format
    #[arg(long, value_name = "FORMAT", default_value = "auto")]
    pub(crate) log_format: LogFormat,
    /// Access log file, or off (setting proxy_access_log)
    #[arg(long, value_name = "PATH|off")]
    pub(crate) access_log: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Files or directories with entities
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// The same as FILE
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub(crate) config: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) settings: SettingArgs,
    /// Output format
    #[arg(long, value_name = "FORM", default_value = "human")]
    pub(crate) output: Output,
    /// Fail if any entity would be left out; warnings, such as a missing secret, do not count
    #[arg(long)]
    pub(crate) strict: bool,
    /// Report only differences
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// Files or directories with entities
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub(crate) config: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) settings: SettingArgs,
    /// Explain by the entities of the store at this revision instead of files
    #[arg(long, value_name = "REVISION", conflicts_with = "config", alias = "generation")]
    pub(crate) revision: Option<u64>,
    /// Directory of the store, with --revision (default: that of 'cardinal run')
    #[arg(long, value_name = "DIR", requires = "revision")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The request's method
    #[arg(value_name = "METHOD")]
    pub(crate) method: Option<String>,
    /// The request's URL, or a path
    #[arg(value_name = "URL")]
    pub(crate) url: Option<String>,
    /// A header of the request
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = header)]
    pub(crate) headers: Vec<(String, String)>,
    /// The client's address (default: loopback)
    #[arg(long, value_name = "IP")]
    pub(crate) client_ip: Option<IpAddr>,
    /// TLS server name (default: the URL's host)
    #[arg(long, value_name = "NAME")]
    pub(crate) sni: Option<String>,
    /// Make the request over HTTP/2
    #[arg(long)]
    pub(crate) http2: bool,
    /// The request's body
    #[arg(long, value_name = "TEXT")]
    pub(crate) data: Option<String>,
    /// File of requests, one JSON object per line; - for standard input
    #[arg(long, value_name = "FILE.jsonl", conflicts_with_all = ["headers", "client_ip", "sni", "http2", "data"])]
    pub(crate) requests: Option<PathBuf>,
    /// Output format
    #[arg(long, value_name = "FORM", default_value = "human")]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct EchoArgs {
    /// Address to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9000")]
    pub(crate) listen: SocketAddr,
}

#[derive(Debug, Args)]
pub(crate) struct VersionArgs {
    /// Output format
    #[arg(long, value_name = "FORM", default_value = "human")]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: Shell,
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Directory to write the pages of all commands into
    pub(crate) dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct PluginsArgs {
    /// The plugin whose fields to describe
    pub(crate) name: Option<String>,
    /// Output format
    #[arg(long, value_name = "FORM", default_value = "human")]
    pub(crate) output: Output,
}

impl ExplainArgs {
    /// `--config a.yaml GET /x` gives all three words to `--config`, which takes many: those at its end that are
    /// missing as method and URL are these.
    pub(crate) fn sort_out(mut self) -> Self {
        if self.requests.is_some() {
            return self;
        }
        let missing = usize::from(self.method.is_none()) + usize::from(self.url.is_none());
        // At least one file stays.
        let at = self.config.len().saturating_sub(missing).max(1);
        let words = self.config.split_off(at.min(self.config.len()));
        let mut words = words.into_iter().map(|word| word.to_string_lossy().into_owned());
        // Clap fills the method first.
        if self.method.is_none() {
            self.method = words.next();
        }
        if self.url.is_none() {
            self.url = words.next();
        }
        // A method has no slash: the words came from both places, in the other order.
        if self.method.as_ref().is_some_and(|m| m.contains('/')) {
            std::mem::swap(&mut self.method, &mut self.url);
        }
        self
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.trim().to_owned())),
        _ => Err("expected NAME=VALUE, such as proxy_listen=127.0.0.1:8000".to_owned()),
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.trim().to_owned())),
        _ => Err("expected 'NAME: VALUE', such as 'apikey: secret'".to_owned()),
    }
}
