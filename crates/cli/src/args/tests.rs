use clap::CommandFactory as _;

use super::*;

fn explain(line: &str) -> ExplainArgs {
    match Cli::try_parse_from(line.split_whitespace()).unwrap().command {
        Command::Explain(args) => args.sort_out(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn definitions_are_consistent() {
    Cli::command().debug_assert();
}

/// Examples are not wrapped well by a program.
#[test]
fn help_fits_into_80_columns() {
    let mut cli = Cli::command().term_width(80);
    cli.build();
    let all = cli.get_subcommands().map(|command| command.get_name().to_owned()).collect::<Vec<_>>();
    let mut texts = vec![cli.render_long_help().to_string()];
    for name in all {
        let command = cli.find_subcommand_mut(&name).unwrap();
        let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        for nested in command.get_subcommands() {
            texts.push(nested.clone().term_width(80).render_long_help().to_string());
        }
        let long = command.clone().term_width(80).render_long_help().to_string();
        // As they were written.
        assert!(long.contains(&examples), "{name}: {long}");
        texts.push(long);
    }
    let too_long: Vec<&str> = texts.iter().flat_map(|text| text.lines()).filter(|line| line.len() > 80).collect();
    assert!(too_long.is_empty(), "{too_long:#?}");
}

#[test]
fn method_and_url_may_follow_the_files() {
    for line in [
        "cardinal explain --config a.yaml GET /x",
        "cardinal explain GET /x --config a.yaml",
        "cardinal explain GET --config a.yaml /x",
        "cardinal explain --config a.yaml --sni s GET /x",
        "cardinal explain --config a.yaml GET --sni s /x",
    ] {
        let args = explain(line);
        assert_eq!(args.config, [PathBuf::from("a.yaml")], "{line}");
        assert_eq!((args.method.as_deref(), args.url.as_deref()), (Some("GET"), Some("/x")), "{line}");
    }
    let args = explain("cardinal explain --config a.yaml b.yaml GET /x");
    assert_eq!(args.config.len(), 2);
}

#[test]
fn files_stay_files_when_there_is_no_request() {
    let args = explain("cardinal explain --config a.yaml b.yaml c.yaml --requests r.jsonl");
    assert_eq!(args.config.len(), 3);
    assert_eq!(args.method, None);
    let args = explain("cardinal explain --config a.yaml");
    assert_eq!((args.config.len(), args.method, args.url), (1, None, None));
}

#[test]
fn pairs_are_taken_apart() {
    assert_eq!(pair("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
    assert!(pair("a").is_err() && pair("=a").is_err());
    assert_eq!(header("A: b: c"), Ok(("A".to_owned(), "b: c".to_owned())));
    assert!(header("no colon").is_err());
}
