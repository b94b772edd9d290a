//! go-kong: the client of decK and of the ingress controller, with its own tests against the Admin API.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::product::{Product, free_port};
use super::{Case, Context, Outcome, Report, Suite, Unavailable, program};

/// The newest version that the Go module proxy has.
const MODULE: &str = "github.com/kong/go-kong";
const VERSION: &str = "v0.76.1";

/// A test of the client alone that needs port 8001, and tests of the credentials of a plugin that does not exist here yet.
const LEFT_OUT: &str = "^(TestBaseRootURL|TestOauth2.*)$";

pub(super) const SQLITE: Suite = Suite {
    name: "go-kong, SQLite",
    about: "The tests of [go-kong](https://github.com/Kong/go-kong) against the Admin API with a database. Tests for Kong \
            Enterprise and for other versions of Kong skip themselves. Left out are `TestBaseRootURL`, which tests the \
            client alone and needs port 8001, and the tests of the credentials of `oauth2`, a plugin that is not \
            implemented yet. Go obtains it.",
    run: |context, product| run(context, product, &[]),
};

pub(super) const EXPRESSIONS: Suite = Suite {
    name: "go-kong, expressions",
    about: "The same with `router_flavor = expressions`.",
    run: |context, product| run(context, product, &["router_flavor=expressions"]),
};

fn run(context: &Context<'_>, product: &Product, settings: &[&str]) -> Result<Report> {
    let folder = module(context)?;
    let mut beside = product.beside()?;
    let admin = free_port()?;
    beside.with_store("go-kong", admin, settings)?;
    let mut command = Command::new(program("go")?);
    command.args(["test", "-v", "-count=1", "-p", "1", "-skip", LEFT_OUT]).arg(format!("{MODULE}/kong"));
    command.current_dir(&folder).env("KONG_ADMIN_URL", format!("http://127.0.0.1:{admin}"));
    let output = command.output().context("cannot run go test")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let cases = cases(&text);
    ensure!(!cases.is_empty(), "go test reports no cases: {text}{}", String::from_utf8_lossy(&output.stderr));
    Ok(Report { tool: format!("go-kong {}", VERSION.trim_start_matches('v')), cases })
}

/// A module that requires go-kong.
fn module(context: &Context<'_>) -> Result<PathBuf> {
    let folder = context.cache.join("go-kong");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("go.mod"), format!("module conform\n\ngo 1.21\n\nrequire {MODULE} {VERSION}\n"))?;
    fs::write(folder.join("conform.go"), format!("package conform\n\nimport _ \"{MODULE}/kong\"\n"))?;
    let mut tidy = Command::new(program("go")?);
    let output = tidy.args(["mod", "tidy"]).current_dir(&folder).output().context("cannot run go")?;
    if output.status.success() {
        return Ok(folder);
    }
    let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Unavailable(format!("go-kong cannot be obtained: {text}")).into())
}

/// The tests in the output of `go test -v`, without those below another one.
pub(super) fn cases(text: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    // The output of a test comes before its result.
    let mut said = String::new();
    for line in text.lines() {
        let result = [("--- PASS: ", 'p'), ("--- SKIP: ", 's'), ("--- FAIL: ", 'f')];
        match result.iter().find_map(|(prefix, kind)| Some((line.strip_prefix(prefix)?, *kind))) {
            Some((rest, kind)) => {
                let name = rest.split(' ').next().unwrap_or_default().to_owned();
                let outcome = match kind {
                    'p' => Outcome::Passed,
                    's' => Outcome::Skipped,
                    _ => Outcome::Failed(said.trim().to_owned()),
                };
                cases.push(Case { name, outcome });
                said.clear();
            }
            None if line.starts_with("=== RUN") => said.clear(),
            None => {
                said.push_str(line);
                said.push('\n');
            }
        }
    }
    cases
}
