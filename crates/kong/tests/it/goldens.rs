//! Each `testdata/*.yaml` with what it lowers to, or why it is refused. A new case is a new file;
//! `UPDATE_GOLDEN=1` writes the expectations.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use cardinal_ir::Ir;
use cardinal_kong::settings::{RouterFlavor, Settings};
use cardinal_kong::{Registry, Source, check, load, lower};

use crate::plugins;

#[test]
fn files_lower_to_what_is_expected() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/testdata");
    let mut cases: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    cases.retain(|p| p.extension().is_some_and(|e| e == "yaml"));
    cases.sort();
    assert!(cases.len() >= 6, "the folder {} has too few cases", folder.display());
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    for case in cases {
        let got = describe(&case);
        let golden = case.with_extension("golden");
        if update {
            std::fs::write(&golden, &got).unwrap();
        } else if std::fs::read_to_string(&golden).unwrap_or_default() != got {
            wrong.push(format!("{}:\n{got}", golden.display()));
        }
    }
    assert!(wrong.is_empty(), "not as expected (UPDATE_GOLDEN=1 accepts):\n{}", wrong.join("\n"));
}

/// The first line of a file may name the router flavor: `# expressions`.
fn describe(case: &Path) -> String {
    let text = std::fs::read_to_string(case).unwrap();
    let name = case.file_name().unwrap().to_string_lossy().into_owned();
    let flavor = match text.lines().next() {
        Some("# expressions") => RouterFlavor::Expressions,
        Some("# traditional") => RouterFlavor::Traditional,
        _ => RouterFlavor::TraditionalCompatible,
    };
    let settings = Settings { router_flavor: flavor, loaded_at: 1_700_000_000.0, ..Settings::default() };
    let registry = Registry::with_flavor(&plugins::ALL, flavor);
    let mut out = String::new();
    match load(&[Source::new(name, text)], &registry, &settings) {
        Err(errors) => {
            out.push_str(&errors.render());
            let kong = serde_json::to_string_pretty(&errors.to_kong_json(true)).unwrap();
            writeln!(out, "{kong}").unwrap();
            report(&mut out, check::check_refused(&errors).into_iter());
        }
        Ok(snapshot) => {
            let (ir, _, diagnostics) = lower(&snapshot, &registry, &settings);
            assert_eq!(ir.verify(), [], "{}", case.display());
            for diagnostic in &diagnostics {
                writeln!(out, "{diagnostic}").unwrap();
            }
            out.push_str(&tables(&ir));
            let unmatchable = check::unmatchable(&ir);
            let said = check::Report::new(&snapshot, &registry, &settings);
            report(&mut out, said.lines(diagnostics.iter().chain(&unmatchable)));
        }
    }
    out
}

/// The tables that have records. Settings have tests of their own.
fn tables(ir: &Ir) -> String {
    let mut out = String::new();
    let mut table = |name: &str, text: String| {
        if text != "{}" {
            writeln!(out, "{name}: {text}").unwrap();
        }
    };
    table("routes", serde_json::to_string_pretty(&ir.routes).unwrap());
    table("filter_sets", serde_json::to_string_pretty(&ir.filter_sets).unwrap());
    table("policies", serde_json::to_string_pretty(&ir.policies).unwrap());
    table("backends", serde_json::to_string_pretty(&ir.backends).unwrap());
    table("clusters", serde_json::to_string_pretty(&ir.clusters).unwrap());
    table("endpoints", serde_json::to_string_pretty(&ir.endpoints).unwrap());
    table("certificates", serde_json::to_string_pretty(&ir.certificates).unwrap());
    table("trust_bundles", serde_json::to_string_pretty(&ir.trust_bundles).unwrap());
    table("principals", serde_json::to_string_pretty(&ir.principals).unwrap());
    table("groups", serde_json::to_string_pretty(&ir.groups).unwrap());
    table("credentials", serde_json::to_string_pretty(&ir.credentials).unwrap());
    out
}

fn report(out: &mut String, lines: impl Iterator<Item = check::Line>) {
    for line in lines {
        writeln!(out, "{:?}: {}: {}: {}", line.verdict, line.subject, line.path, line.how).unwrap();
    }
}
