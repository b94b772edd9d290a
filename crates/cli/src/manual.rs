//! Documentation that the program prints: version, completions, man pages, settings, plugins.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use cardinal_kong::Registry;
use cardinal_kong::entities::no_plugin;
use cardinal_sdk::PluginDef;
use clap::CommandFactory as _;
use clap_complete::Shell;
use serde_json::json;

use crate::args::{Cli, Output};
use crate::out;

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The release of Kong that files and behaviour are compatible with.
const KONG: &str = "3.10";

pub(crate) fn version(output: Output) -> Result<ExitCode> {
    out::print(&match output {
        Output::Human => format!("cardinal {VERSION}\n"),
        Output::Json => format!("{}\n", json!({ "name": "cardinal", "version": VERSION, "kong": KONG })),
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn completions(shell: Shell) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "cardinal", &mut script);
    out::print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn man(dir: Option<&Path>) -> Result<ExitCode> {
    match dir {
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page)?;
            out::print(&String::from_utf8_lossy(&page))?;
        }
        Some(dir) => {
            std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
            clap_mangen::generate_to(Cli::command(), dir)
                .with_context(|| format!("cannot write into {}", dir.display()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn settings() -> Result<ExitCode> {
    out::print(&cardinal_kong::settings::table::manual())?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn openapi(plugins: &[&'static PluginDef]) -> Result<ExitCode> {
    let document = cardinal_control::api::openapi(&Registry::new(plugins));
    out::print(&format!("{document:#}\n"))?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn plugins(all: &[&PluginDef], name: Option<&str>, output: Output) -> Result<ExitCode> {
    let text = match (name, output) {
        (None, Output::Human) => list(all),
        (None, Output::Json) => {
            let list: Vec<_> = all.iter().map(|def| head(def)).collect();
            format!("{}\n", serde_json::Value::from(list))
        }
        (Some(name), output) => {
            let Some(def) = all.iter().find(|def| def.name == name) else {
                let why = no_plugin(name, all.iter().map(|def| def.name));
                bail!("{why}{}'cardinal plugins' lists those that it has", if why.ends_with('?') { " " } else { "; " })
            };
            match output {
                Output::Human => describe(def),
                Output::Json => {
                    let mut value = head(def);
                    value["schema"] = (def.schema)().json_schema();
                    format!("{value:#}\n")
                }
            }
        }
    };
    out::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn head(def: &PluginDef) -> serde_json::Value {
    json!({ "name": def.name, "priority": def.priority, "summary": def.summary })
}

fn list(all: &[&PluginDef]) -> String {
    let width = all.iter().map(|def| def.name.len()).max().unwrap_or_default();
    let mut out = format!("{:width$}  priority  what it does\n", "name");
    for def in all {
        out.push_str(&format!("{:width$}  {:>8}  {}\n", def.name, def.priority, def.summary));
    }
    out.push_str("\nThey run in this order. 'cardinal plugins NAME' describes the fields of a plugin.\n");
    out
}

fn describe(def: &PluginDef) -> String {
    let scopes = [
        ("route", def.scopes.route),
        ("service", def.scopes.service),
        ("consumer", def.scopes.consumer),
        ("consumer group", def.scopes.consumer_group),
    ];
    let scopes: Vec<&str> = scopes.iter().filter(|(_, may)| *may).map(|(name, _)| *name).collect();
    let scopes = if scopes.is_empty() { "global only".to_owned() } else { format!("global, {}", scopes.join(", ")) };
    let mut out = format!("{}: {}\n\n", def.name, def.summary);
    out.push_str(&format!(
        "priority   {}\nscopes     {scopes}\nprotocols  {}\n",
        def.priority,
        def.protocols.join(", ")
    ));
    if !def.entities.is_empty() {
        let names: Vec<&str> = def.entities.iter().map(|entity| entity.name).collect();
        out.push_str(&format!("entities   {}\n", names.join(", ")));
    }
    out.push_str("\nconfig:\n");
    for row in (def.schema)().doc_rows() {
        let default = row.default.map(|default| format!(", default {default}")).unwrap_or_default();
        let required = if row.required { ", required" } else { "" };
        out.push_str(&format!("\n  {}  ({}{required}{default})\n", row.path, row.kind));
        for line in [row.rules.join("; "), row.text].iter().filter(|line| !line.is_empty()) {
            out.push_str(&format!("      {line}\n"));
        }
    }
    out
}
