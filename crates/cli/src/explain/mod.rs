//! `cardinal explain`: what would happen to a request, by the code that serves.

mod discreet;
mod origins;
mod requests;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow, bail};
use bytes::Bytes;
use cardinal_engine::EngineError;
use cardinal_engine::explain::{Applied, Decision, Explainer, Question};
use cardinal_ir::{Diagnostic, Id, Severity};
use cardinal_kong::{Settings, Source, SourceMap};
use cardinal_sdk::PluginDef;
use tokio::runtime::Builder;

use crate::args::{ExplainArgs, Output, StoreArgs};
use crate::config::{Loaded, Refusal, Site, is_stdin, is_stream, read_stream, read_text, render_diagnostics};
use crate::out::{self, Screen};
use crate::store::source_at;

/// Maximum number of similar routes that are shown.
const LOSERS_MAX: usize = 5;

pub(crate) fn explain(
    args: ExplainArgs,
    plugins: &'static [&'static PluginDef],
    env: BTreeMap<String, String>,
) -> Result<ExitCode> {
    let args = args.sort_out();
    let both = |path: &PathBuf| is_stdin(path) && args.config.iter().any(|config| is_stdin(config));
    if args.requests.as_ref().is_some_and(both) {
        bail!("--config and --requests cannot both be standard input");
    }
    let site = Site::new(plugins, args.config.clone(), args.settings.clone(), env.clone());
    let refused = |refusal: Refusal| anyhow!(refusal.report());
    let preferences = site.settings().map_err(refused)?;
    let sources = match args.revision {
        Some(revision) => {
            let store = StoreArgs { settings: args.settings.clone(), data_dir: args.data_dir.clone() };
            vec![source_at(store, plugins, env, revision)?]
        }
        None => site.texts(&preferences).map_err(refused)?.sources,
    };
    if sources.is_empty() {
        bail!("no configuration: name files with --config, or a revision of the store with --revision");
    }
    let loaded = site.load(&preferences.settings, &sources).map_err(refused)?;
    // Filters that use the network run on it; their calls fail without a connection.
    let runtime = Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    let mut screen = out::Screen::new(loaded.hidden.clone());
    runtime.block_on(async {
        let source_map = SourceMap::of(&loaded.snapshot);
        let planned = Explainer::new(loaded.configuration.clone(), site.plugins);
        let (explainer, mut diagnostics) = planned.map_err(|error| match error {
            EngineError::Refused(all) => {
                let mut all = all.into_vec();
                source_map.fill(&mut all);
                anyhow!("no entity can be served\n{}", screen.hide(&render_diagnostics(&all, &sources)))
            }
            error => error.into(),
        })?;
        source_map.fill(&mut diagnostics);
        let left_out: Vec<Diagnostic> = loaded.diagnostics.iter().chain(&diagnostics).cloned().collect();
        let settings = &preferences.settings;
        let asking =
            Asking { explainer, loaded: &loaded, settings, sources: &sources, left_out: LeftOut::of(&left_out) };
        match &args.requests {
            Some(path) => {
                let read =
                    if is_stream(path) { read_stream(path) } else { read_text(path).map_err(|why| why.to_string()) };
                let text = read.map_err(|why| anyhow!("cannot read {}: {why}", path.display()))?;
                asking.answer_lines(&text, args.output, &mut screen).await
            }
            None => {
                screen.complain(&render_diagnostics(&left_out, &sources));
                asking.answer(&typed(&args)?, args.output, &mut screen).await
            }
        }
        .and_then(|code| screen.finish().map(|()| code))
    })
}

/// The request that was typed.
fn typed(args: &ExplainArgs) -> Result<Question> {
    let (method, url) = match (&args.method, &args.url) {
        (Some(method), Some(url)) => (method.clone(), url.clone()),
        (Some(method), None) if !method.contains('/') => {
            bail!("the URL of the request is missing: give METHOD and URL, such as {method} http://a.example/")
        }
        (Some(url), None) | (None, Some(url)) => {
            bail!("the method of the request is missing: give METHOD and URL, such as GET {url}")
        }
        (None, None) => bail!("no request: give METHOD and URL, such as GET http://a.example/, or --requests FILE"),
    };
    Ok(Question {
        method,
        url,
        headers: args.headers.clone(),
        client_ip: args.client_ip,
        sni: args.sni.clone(),
        http2: args.http2,
        body: args.data.clone().map(Bytes::from).unwrap_or_default(),
        group: None,
    })
}

/// A loaded configuration to explain requests with.
struct Asking<'a> {
    explainer: Explainer,
    loaded: &'a Loaded,
    settings: &'a Settings,
    sources: &'a [Source],
    left_out: LeftOut,
}

/// Why plugins were left out, by their ids.
pub(super) struct LeftOut(HashMap<Id, String>);

impl LeftOut {
    fn of(diagnostics: &[Diagnostic]) -> Self {
        let errors = diagnostics.iter().filter(|d| d.severity == Severity::Error && d.origin.kind() == "plugins");
        Self(errors.map(|error| (error.origin.id, error.message.clone())).collect())
    }

    fn reason(&self, plugin: &Applied) -> Option<&str> {
        self.0.get(&plugin.id).map(String::as_str)
    }
}

impl Asking<'_> {
    async fn answer(&self, question: &Question, output: Output, screen: &mut Screen) -> Result<ExitCode> {
        let decision = self.explainer.decide(question, LOSERS_MAX).await?;
        self.show(question, &decision, output, screen)?;
        Ok(ExitCode::SUCCESS)
    }

    fn show(&self, question: &Question, decision: &Decision, output: Output, screen: &mut Screen) -> Result<()> {
        match output {
            Output::Human => screen.print(&tree::tree(question, decision, self)),
            Output::Json => screen.print_json(requests::json(question, decision, &self.left_out)),
        }
    }

    /// An answer for each line; lines that are no requests are answered with an error.
    async fn answer_lines(&self, text: &str, output: Output, screen: &mut Screen) -> Result<ExitCode> {
        let mut bad = false;
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let answer = match requests::question(line) {
                Ok(question) => match self.explainer.decide(&question, LOSERS_MAX).await {
                    Ok(decision) => Ok((question, decision)),
                    Err(error) => Err(error.to_string()),
                },
                Err(error) => Err(error),
            };
            match answer {
                Ok((question, decision)) => {
                    self.show(&question, &decision, output, screen)?;
                    if output == Output::Human {
                        screen.print("\n")?;
                    }
                }
                Err(error) => {
                    bad = true;
                    screen.print_json(serde_json::json!({ "error": error }))?;
                }
            }
        }
        Ok(if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}
