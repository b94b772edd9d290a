//! What can be typed about the store and its history.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{Output, SettingArgs, examples};

/// Which store.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct StoreArgs {
    #[command(flatten)]
    pub(crate) settings: SettingArgs,
    /// Directory of the store (default: that of 'cardinal run')
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Show where the store is and what it has
    Status(StatusArgs),
    /// List the entities that are valid and cannot be served, with the reason
    #[command(after_help = examples::QUARANTINE)]
    Quarantine(StatusArgs),
    /// Create the store, or bring its schema to the version of this program
    Migrate(StoreArgs),
    /// Write all entities as a declarative file
    #[command(after_help = examples::EXPORT)]
    Export(ExportArgs),
    /// Make the entities of declarative files those of the store
    #[command(after_help = examples::IMPORT)]
    Import(ImportArgs),
    /// Copy a store of SQLite into a file, while it is in use
    Backup(BackupArgs),
    /// Replace a store of SQLite by a copy, whose change log is verified first
    Restore(RestoreArgs),
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// Output format
    #[arg(long, value_name = "FORM", default_value = "human")]
    pub(crate) output: Output,
}

/// How entities are exported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// A declarative file
    #[default]
    Yaml,
    /// One JSON object per stored document
    JsonLines,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// Form of the entities
    #[arg(long, value_name = "FORM", default_value = "yaml")]
    pub(crate) format: ExportFormat,
    /// File to write, closed to other users (default: standard output)
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// Files or directories with entities
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Keep entities that the files do not have
    #[arg(long)]
    pub(crate) merge: bool,
    /// Show what would change, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// The file to create
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// A file of 'cardinal store backup'
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Restore although a process seems to use the data directory
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// Only revisions below this one
    #[arg(long, value_name = "REVISION")]
    pub(crate) before: Option<u64>,
    /// Number of revisions
    #[arg(long, value_name = "N", default_value = "20")]
    pub(crate) limit: usize,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// Output format
    #[arg(long, value_name = "FORM", default_value = "human")]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The revision, a number of 'cardinal history'
    #[arg(value_name = "REVISION")]
    pub(crate) revision: u64,
    /// Show secrets instead of ***
    #[arg(long)]
    pub(crate) reveal: bool,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// Output format
    #[arg(long, value_name = "FORM", default_value = "human")]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// The first revision
    #[arg(value_name = "REVISION")]
    pub(crate) from: u64,
    /// The second revision (default: the newest)
    #[arg(value_name = "REVISION")]
    pub(crate) to: Option<u64>,
    /// Show secrets instead of ***
    #[arg(long)]
    pub(crate) reveal: bool,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// Output format
    #[arg(long, value_name = "FORM", default_value = "human")]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct RollbackArgs {
    /// The revision whose entities to restore
    #[arg(value_name = "REVISION")]
    pub(crate) revision: u64,
    /// Show what would change, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// Output format
    #[arg(long, value_name = "FORM", default_value = "human")]
    pub(crate) output: Output,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Verify the hash chain of the change log
    Verify(StatusArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum RbacCommand {
    /// Create a user with the role super-admin and print its token once
    Bootstrap(BootstrapArgs),
}

#[derive(Debug, Args)]
pub(crate) struct BootstrapArgs {
    /// Name of the user (default: kong_admin)
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Give an existing user a new token, enable it, and restore the rules of the role super-admin
    #[arg(long)]
    pub(crate) reset: bool,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}
