//! h2spec: conformance of a server with RFC 9113 and RFC 7541.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::{Case, Context, Outcome, Report, Suite, install, program};

/// The newest version in the Go module proxy.
const MODULE: &str = "github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible";

pub(super) const CLEARTEXT: Suite = Suite {
    name: "h2spec, cleartext",
    about: "[h2spec](https://github.com/summerwind/h2spec) in its strict mode, by prior knowledge. Installed by \
            `go install github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible`.",
    run: |context, product| run(context, product.http, &[]),
};

pub(super) const TLS: Suite = Suite {
    name: "h2spec, TLS",
    about: "The same over TLS, with HTTP/2 selected by ALPN.",
    run: |context, product| run(context, product.https, &["-t", "-k"]),
};

fn run(context: &Context<'_>, port: u16, arguments: &[&str]) -> Result<Report> {
    let h2spec = obtain(context)?;
    let report = context.cache.join(format!("h2spec-{port}.xml"));
    let mut command = Command::new(&h2spec);
    command.args(["-h", "127.0.0.1", "-S", "-o", "5", "-p", &port.to_string(), "-j"]).arg(&report).args(arguments);
    let output = command.output().context("cannot run h2spec")?;
    let text = std::fs::read_to_string(&report);
    let text = text.with_context(|| format!("h2spec wrote no report: {}", String::from_utf8_lossy(&output.stdout)))?;
    std::fs::remove_file(&report)?;
    let cases = cases(&text);
    ensure!(!cases.is_empty(), "h2spec reports no cases: {}", String::from_utf8_lossy(&output.stdout));
    Ok(Report { tool: "h2spec 2.2.1".to_owned(), cases })
}

fn obtain(context: &Context<'_>) -> Result<PathBuf> {
    let folder = context.cache.join("bin");
    let h2spec = folder.join("h2spec");
    if !h2spec.exists() {
        install("h2spec", Command::new(program("go")?).args(["install", MODULE]).env("GOBIN", &folder))?;
    }
    Ok(h2spec)
}

/// Reads the report in JUnit's format.
pub(super) fn cases(xml: &str) -> Vec<Case> {
    let parts = xml.split("<testcase ").skip(1);
    let case = |part: &str| {
        let (head, body) = part.split_once('>')?;
        let body = body.split("</testcase>").next().unwrap_or_default();
        let name = format!("{} {}", attribute(head, "package")?, attribute(head, "classname")?);
        let outcome = if body.contains("<skipped") {
            Outcome::Skipped
        } else if body.contains("<failure") || body.contains("<error") {
            Outcome::Failed(body.trim().to_owned())
        } else {
            Outcome::Passed
        };
        Some(Case { name, outcome })
    };
    parts.filter_map(case).collect()
}

fn attribute(head: &str, name: &str) -> Option<String> {
    let (_, rest) = head.split_once(&format!("{name}=\""))?;
    let (value, _) = rest.split_once('"')?;
    Some(
        value
            .replace("&#34;", "\"")
            .replace("&#39;", "'")
            .replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&amp;", "&"),
    )
}
