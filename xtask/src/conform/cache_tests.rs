//! http-cache-tests: conformance of a cache with RFC 9111, for the plugin `proxy-cache`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::product::{Product, free_port};
use super::{Case, Context, Outcome, Report, Suite, install, program};

const VERSION: &str = "0.4.5";

pub(super) const SUITE: Suite = Suite {
    name: "http-cache-tests",
    about: "The required tests of [http-cache-tests](https://cache-tests.fyi) for the plugin `proxy-cache` with \
            `cache_control: true`. Installed by `npm install http-cache-tests@0.4.5`. Like Kong's, the plugin \
            caches what its configuration says, and is no complete cache in the sense of RFC 9111.",
    run,
};

fn run(context: &Context<'_>, product: &Product) -> Result<Report> {
    let node = program("node")?;
    let folder = obtain(context)?;
    let (origin, gateway) = (free_port()?, free_port()?);
    let mut own = product.beside()?;
    let mut server = Command::new(&node);
    server.arg("server/server.mjs").current_dir(&folder).env("npm_config_protocol", "http");
    server.env("npm_config_port", origin.to_string()).env("npm_config_pidfile", own.folder.join("pid"));
    own.spawn(&mut server, origin)?;
    let config = format!(
        "_format_version: '3.0'\nservices:\n- name: origin\n  url: http://127.0.0.1:{origin}\n  routes:\n  - name: all\n    \
         paths: [/]\n    preserve_host: true\n    plugins:\n    - name: proxy-cache\n      config:\n        \
         strategy: memory\n        cache_control: true\n        content_type: [text/plain, text/plain;charset=UTF-8]\n"
    );
    own.gateway("cache", &config, &format!("127.0.0.1:{gateway}"), gateway)?;
    let required = required(&node, &folder)?;
    let mut client = Command::new(&node);
    client.args(["--no-warnings", "cli.mjs"]).current_dir(&folder).env("npm_package_config_id", "");
    let output = client.env("npm_config_base", format!("http://127.0.0.1:{gateway}")).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let start = text.find('{').with_context(|| format!("no results: {}", String::from_utf8_lossy(&output.stderr)))?;
    let results: Value = serde_json::from_str(text.get(start..).unwrap_or_default())?;
    let cases: Vec<_> = required.iter().map(|name| case(name, &results[name.as_str()])).collect();
    ensure!(!cases.is_empty(), "the suite names no required tests");
    Ok(Report { tool: format!("http-cache-tests {VERSION}"), cases })
}

fn obtain(context: &Context<'_>) -> Result<PathBuf> {
    let place = context.cache.join("cache-tests");
    let folder = place.join("node_modules/http-cache-tests");
    if !folder.exists() {
        std::fs::create_dir_all(&place)?;
        let mut npm = Command::new(program("npm")?);
        npm.args(["install", "--ignore-scripts", "--no-save", "--prefix"]).arg(&place);
        install("http-cache-tests", npm.arg(format!("http-cache-tests@{VERSION}")).current_dir(&place))?;
    }
    Ok(folder)
}

/// The tests that are mandatory for a cache, without those for browsers.
fn required(node: &Path, folder: &Path) -> Result<Vec<String>> {
    let script = "import suites from './tests/index.mjs'; \
        console.log(JSON.stringify(suites.flatMap(s => s.tests).filter(t => (t.kind ?? 'required') === 'required' \
        && !t.browser_only).map(t => t.id)))";
    let mut command = Command::new(node);
    let output = command.args(["--no-warnings", "--input-type=module", "-e", script]).current_dir(folder).output()?;
    serde_json::from_slice(&output.stdout).context("the suite does not name its tests")
}

/// A result is `true`, or a kind and a message.
pub(super) fn case(name: &str, result: &Value) -> Case {
    let outcome = match result {
        Value::Bool(true) => Outcome::Passed,
        Value::Null => Outcome::Skipped,
        other => Outcome::Failed(other.to_string()),
    };
    Case { name: name.to_owned(), outcome }
}
