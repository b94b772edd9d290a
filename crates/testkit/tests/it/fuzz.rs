//! A short run of every fuzz target, and that each has its program.

use std::path::Path;

use cardinal_testkit::fuzz::{
    DECLARATIVE, EXPRESSION, H1_BODY, H1_HEAD, H2_CONNECTION, HPACK, JWT, PATH_NORMALISER, PROXY_PROTOCOL, SNIFF,
    SPIFFE_ID, STREAM, TARGETS, TRACE_CONTEXT, TRUST_BUNDLE, Target, X509_SVID, fuzz_smoke,
};

fn run(target: &Target) {
    fuzz_smoke(target.seeds, target.iterations, target.check);
}

#[test]
fn declarative_files() {
    run(&DECLARATIVE);
}

#[test]
fn expressions() {
    run(&EXPRESSION);
}

#[test]
fn h1_bodies() {
    run(&H1_BODY);
}

#[test]
fn h1_heads() {
    run(&H1_HEAD);
}

#[test]
fn http2_connections() {
    run(&H2_CONNECTION);
}

#[test]
fn http2_header_blocks() {
    run(&HPACK);
}

#[test]
fn json_web_tokens() {
    run(&JWT);
}

#[test]
fn paths() {
    run(&PATH_NORMALISER);
}

#[test]
fn proxy_protocol_headers() {
    run(&PROXY_PROTOCOL);
}

#[test]
fn first_bytes_of_connections() {
    run(&SNIFF);
}

#[test]
fn configuration_streams() {
    run(&STREAM);
}

#[test]
fn spiffe_ids() {
    run(&SPIFFE_ID);
}

#[test]
fn trace_contexts() {
    run(&TRACE_CONTEXT);
}

#[test]
fn trust_bundles() {
    run(&TRUST_BUNDLE);
}

#[test]
fn x509_svids() {
    run(&X509_SVID);
}

#[test]
fn each_target_has_its_program() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    for target in TARGETS {
        let program = folder.join(format!("fuzz_targets/{}.rs", target.name));
        let text = std::fs::read_to_string(&program).unwrap_or_else(|e| panic!("{}: {e}", program.display()));
        assert!(text.contains(&format!("fuzz::{}", target.name.to_uppercase())), "{}", target.name);
        assert!(manifest.contains(&format!("name = \"{}\"", target.name)), "{} is not in fuzz/Cargo.toml", target.name);
    }
}

#[test]
fn a_fault_is_found_and_found_again() {
    let find = || {
        let mut last = Vec::new();
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            fuzz_smoke(&[b"hello"], 100_000, |input| {
                last = input.to_vec();
                assert!(!input.contains(&0));
            });
        }));
        (caught.is_err(), last)
    };
    let first = find();
    assert!(first.0, "a NUL comes up in 100,000 mutations");
    assert_eq!(first, find());
}
