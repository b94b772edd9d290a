//! Schemathesis: the Admin API against its own description, with data that follows it and data that does not.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::product::{Product, free_port};
use super::{Case, Context, Outcome, Report, Suite, install, program};

const PACKAGE: &str = "schemathesis==4.32.5";

pub(super) const SUITE: Suite = Suite {
    name: "schemathesis",
    about: "[Schemathesis](https://schemathesis.io) sends what the API's description in OpenAPI allows, what it forbids, and \
            sequences of both along its links, to a node with a database. Answers must be described, and nothing forbidden \
            may be accepted. A case is an operation. Requests with `{}` in place of a list, or `[]` or `false` in place of \
            a record, are left out: as in Kong, Lua's tables make them valid. Installed by `pip install schemathesis`.",
    run,
};

/// The checks. Data that the description allows may still break rules that are in code, so it need not be accepted.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
                      response_schema_conformance,negative_data_rejection,unsupported_method,allow_header_conformance";

/// Statuses that refuse a request.
const SETTINGS: &str = "[checks.negative_data_rejection]\nexpected-statuses = [400, 403, 404, 405, 409, 413, 415]\n";

/// Leaves out requests that only Lua's tables make valid: `{}` for a list, `[]` or `false` for a record.
const HOOKS: &str = r##"import json
import os
import urllib.request

import schemathesis

with urllib.request.urlopen(os.environ["DESCRIPTION"]) as answer:
    DOCUMENT = json.load(answer)


def resolved(schema):
    while isinstance(schema, dict) and "$ref" in schema:
        at = DOCUMENT
        for part in schema["$ref"].removeprefix("#/").split("/"):
            at = at[part]
        schema = at
    return schema if isinstance(schema, dict) else {}


def is_lua(value, schema):
    schema = resolved(schema)
    for group in ("allOf", "anyOf", "oneOf"):
        if any(is_lua(value, one) for one in schema.get(group, [])):
            return True
    types = schema.get("type", [])
    types = types if isinstance(types, list) else [types]
    if value == {} and isinstance(value, dict):
        return "array" in types and "object" not in types
    if value == [] or value is False:
        return "object" in types and "array" not in types
    if isinstance(value, list):
        return any(is_lua(item, schema.get("items")) for item in value)
    if isinstance(value, dict):
        of = schema.get("properties", {})
        return any(is_lua(item, of.get(name, schema.get("additionalProperties"))) for name, item in value.items())
    return False


@schemathesis.hook
def filter_case(context, case):
    operation = DOCUMENT["paths"][case.operation.path].get(case.operation.method.lower(), {})
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    return not (case.media_type == "application/json" and is_lua(case.body, body))
"##;

fn run(context: &Context<'_>, product: &Product) -> Result<Report> {
    let tool = obtain(context)?;
    let mut beside = product.beside()?;
    let admin = free_port()?;
    beside.with_store("schemathesis", admin, &[])?;
    std::fs::write(beside.folder.join("schemathesis.toml"), SETTINGS)?;
    std::fs::write(beside.folder.join("hooks.py"), HOOKS)?;
    let report = beside.folder.join("report.json");
    let mut command = Command::new(tool);
    let description = format!("http://127.0.0.1:{admin}/cardinal/v1/openapi.json");
    command.args(["run", &description, "--checks", CHECKS]).env("DESCRIPTION", &description);
    command.args(["--phases", "coverage,fuzzing,stateful", "--max-examples", "20", "--seed", "1", "--workers", "1"]);
    command.args(["--continue-on-failure", "--no-color", "--report", "json", "--report-json-path"]).arg(&report);
    command.current_dir(&beside.folder).env("SCHEMATHESIS_HOOKS", "hooks").env("PYTHONPATH", &beside.folder);
    let output = command.output().context("cannot run schemathesis")?;
    let said = || String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let text = std::fs::read_to_string(&report).with_context(said)?;
    let cases = cases(&serde_json::from_str(&text)?, &said());
    ensure!(!cases.is_empty(), "schemathesis tests nothing: {}", said());
    Ok(Report { tool: PACKAGE.replace("==", " "), cases })
}

fn obtain(context: &Context<'_>) -> Result<PathBuf> {
    let place = context.cache.join(PACKAGE);
    if !place.join("done").exists() {
        install("a Python environment", Command::new(program("python3")?).args(["-m", "venv"]).arg(&place))?;
        let python = place.join("bin/python");
        install(PACKAGE, Command::new(&python).args(["-m", "pip", "install", "--quiet", PACKAGE]))?;
        std::fs::write(place.join("done"), "")?;
    }
    Ok(place.join("bin/st"))
}

/// The operations in a report. Only those that failed have names there. What went wrong with the tool itself is only in its
/// output.
pub(super) fn cases(report: &Value, output: &str) -> Vec<Case> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut failed = Vec::new();
    for failure in list(&report["failures"]) {
        let code = text(&failure["code"]);
        for operation in list(&failure["operations"]) {
            let name = format!("{} {code}", text(&operation));
            failed.push(Case { name, outcome: Outcome::Failed(text(&failure["title"])) });
        }
    }
    if !list(&report["errors"]).is_empty() {
        let said = output.split_once("= ERRORS =").map_or(output, |(_, rest)| rest);
        failed.push(Case { name: "error".to_owned(), outcome: Outcome::Failed(said.to_owned()) });
    }
    let mut names: Vec<&str> =
        failed.iter().filter_map(|case| case.name.rsplit_once(' ')).map(|(name, _)| name).collect();
    names.sort_unstable();
    names.dedup();
    let tested = report["operations"]["tested"].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or_default();
    let passed = Case { name: "operation".to_owned(), outcome: Outcome::Passed };
    let mut cases = vec![passed; tested.saturating_sub(names.len())];
    cases.extend(failed);
    cases
}
