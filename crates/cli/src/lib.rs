//! The command line: what users type, and the commands behind it.
//!
//! *Must not know*: plugins by name (the binary hands the list over), how requests are served.
//!
//! Start at [`main_with`]; what can be typed is in `args`, the running node in `run`.

mod args;
mod check;
mod cluster;
mod config;
pub mod echo;
mod explain;
mod history;
mod manual;
mod out;
mod rbac;
mod run;
mod store;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use cardinal_base::log;
use cardinal_sdk::{PluginDef, Services};
use clap::Parser as _;
use tokio::runtime::Runtime;

use args::{AuditCommand, Cli, Command};

/// Called once when a node has started to serve: for what plugins show of a node before they are configured.
pub type Started = fn(&Services);

/// Runs the command that the process was called with. `plugins` are all that the program has, in the order they run.
///
/// Exit code 0 for success, 1 when the command failed, and 2 when the command line is invalid.
pub fn main_with(plugins: &'static [&'static PluginDef], started: Started) -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // A closed output is not an error.
            error.print().ok();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let outcome = dispatch(cli.command, plugins, started);
    log::flush(log::FLUSH_TIMEOUT);
    match outcome {
        Ok(code) => code,
        Err(error) if out::is_closed(&error) => ExitCode::SUCCESS,
        Err(error) => {
            out::complain(&format!("error: {error:#}\n"));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command, plugins: &'static [&'static PluginDef], started: Started) -> Result<ExitCode> {
    match command {
        Command::Run(args) => run::run(args, plugins, started, environment()),
        Command::Check(args) => check::check(args, plugins, environment()),
        Command::Explain(args) => explain::explain(args, plugins, environment()),
        Command::Store(command) => store::run(command, plugins, environment()),
        Command::History(args) => history::history(args, plugins, environment()),
        Command::Show(args) => history::show(args, plugins, environment()),
        Command::Diff(args) => history::diff(args, plugins, environment()),
        Command::Rollback(args) => history::rollback(args, plugins, environment()),
        Command::Audit(AuditCommand::Verify(args)) => history::verify(args, plugins, environment()),
        Command::Cluster(command) => cluster::run(command, plugins, environment()),
        Command::Rbac(command) => rbac::run(command, plugins, environment()),
        Command::Echo(args) => echo_backend(args.listen),
        Command::Version(args) => manual::version(args.output),
        Command::Completions(args) => manual::completions(args.shell),
        Command::Man(args) => manual::man(args.dir.as_deref()),
        Command::Settings => manual::settings(),
        Command::Openapi => manual::openapi(plugins),
        Command::Plugins(args) => manual::plugins(plugins, args.name.as_deref(), args.output),
    }
}

/// The environment as far as it is text: the one place that reads it.
fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

fn echo_backend(address: SocketAddr) -> Result<ExitCode> {
    // Fails only if a subscriber is installed, and none is.
    log::install("info", log::Format::Auto).ok();
    Runtime::new().context("cannot start the runtime")?.block_on(async {
        let stop = run::stop_signal().context("signals")?;
        let echo = echo::Echo::bind(address).await?;
        tracing::info!(address = %echo.address(), "echo: listening on {}", echo.address());
        tokio::select! {
            () = echo.serve() => {}
            () = stop => {}
        }
        Ok(ExitCode::SUCCESS)
    })
}
