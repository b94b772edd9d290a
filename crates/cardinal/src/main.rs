//! The binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    cardinal_cli::main_with(&cardinal::PLUGINS, cardinal_plugins_observe::prometheus::register)
}
