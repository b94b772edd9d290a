//! A decision for people.

use cardinal_engine::explain::{Applied, Decision, Loser, Mirrored, Named, Question, Share, Tracing};
use cardinal_ir::Id;
use cardinal_kong::check::why_first;
use cardinal_kong::{Settings, scope_text};
use serde_json::Value;

use crate::config::Loaded;

use super::origins::{Leaf, leaves};
use super::{Asking, discreet};

/// A line with what belongs to it.
#[derive(Debug, Default)]
struct Branch {
    text: String,
    below: Vec<Branch>,
}

impl Branch {
    fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), below: Vec::new() }
    }

    fn with(mut self, below: impl IntoIterator<Item = Self>) -> Self {
        self.below.extend(below);
        self
    }

    fn render(&self, indent: &str, out: &mut String) {
        for (i, branch) in self.below.iter().enumerate() {
            let (knee, stem) = if i + 1 == self.below.len() { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            out.push_str(&format!("{indent}{knee}{}\n", branch.text.replace('\n', "\\n")));
            branch.render(&format!("{indent}{stem}"), out);
        }
    }
}

/// The decision as a tree, ending with a line end.
pub(super) fn tree(question: &Question, decision: &Decision, asking: &Asking<'_>) -> String {
    let Asking { loaded, settings, .. } = *asking;
    let root = Branch::new(format!("{} {}", question.method, question.url)).with(
        [
            Some(route(decision, loaded, settings)),
            plugins(decision, asking),
            decision.principal.as_ref().map(|c| Branch::new(format!("consumer: {}", label(c, "consumers", loaded)))),
            decision.backend.as_ref().map(|s| Branch::new(format!("service: {}", label(s, "services", loaded)))),
            shares(decision, loaded),
            mirrors(decision, loaded),
            decision.tracing.as_ref().map(|tracing| Branch::new(tracing_text(tracing))),
            upstream(question, decision),
            decision.reply.as_ref().map(|reply| Branch::new(reply_text(reply))),
        ]
        .into_iter()
        .flatten(),
    );
    let mut out = format!("{}\n", root.text);
    root.render("", &mut out);
    out
}

fn route(decision: &Decision, loaded: &Loaded, settings: &Settings) -> Branch {
    let text = match &decision.route {
        Some(route) => format!("route: {}", label(route, "routes", loaded)),
        None => "route: none matches".to_owned(),
    };
    let losers = decision.losers.iter().map(|loser| {
        let why = why_below(decision, loser, loaded, settings)
            .map(|why| format!(": the chosen route {why}"))
            .unwrap_or_default();
        Branch::new(format!("not {}: {}{why}", label(&loser.route, "routes", loaded), loser.reason))
    });
    let more = (decision.losers_more > 0).then(|| Branch::new(format!("and {} more", decision.losers_more)));
    Branch::new(text).with(losers).with(more)
}

/// Why the route that was chosen goes before another one that matches as well.
fn why_below(decision: &Decision, loser: &Loser, loaded: &Loaded, settings: &Settings) -> Option<String> {
    let (winner, record) = (decision.route.as_ref()?, decision.record.as_ref()?);
    let loser = loser.matches.then_some((&loser.route.id, &loser.record))?;
    why_first(&loaded.snapshot, settings, (&winner.id, record), loser)
}

fn plugins(decision: &Decision, asking: &Asking<'_>) -> Option<Branch> {
    decision.route.as_ref()?;
    if decision.plugins.is_empty() {
        return Some(Branch::new("plugins: none"));
    }
    let all = decision.plugins.iter().enumerate().map(|(i, plugin)| plugin_branch(i + 1, plugin, asking));
    Some(Branch::new("plugins, in the order they run").with(all))
}

fn plugin_branch(number: usize, plugin: &Applied, asking: &Asking<'_>) -> Branch {
    let (loaded, sources) = (asking.loaded, asking.sources);
    let instance = plugin.instance_name.as_deref().map(|name| format!(" {name:?}")).unwrap_or_default();
    let location = loaded.snapshot.get("plugins", &plugin.id).and_then(|entity| entity.location);
    let at = location.as_ref().map(|at| format!("  {}:{}", at.file, at.line)).unwrap_or_default();
    let branch = Branch::new(format!("{number}. {}{instance} ({}){at}", plugin.name, scope_text(&plugin.scope)))
        .with(asking.left_out.reason(plugin).map(|reason| Branch::new(format!("left out: {reason}"))));
    let Some(kind) = loaded.registry.plugin(plugin.name) else { return branch };
    let config = with_vault_references(&plugin.config, loaded);
    let leaves = leaves(&config, &kind.config, location.as_ref(), sources);
    let width = |of: fn(&Leaf) -> usize| leaves.iter().map(of).filter(|n| *n <= 40).max().unwrap_or_default();
    let (paths, values) = (width(|leaf| leaf.path.len()), width(|leaf| leaf.value.chars().count()));
    branch.with(
        leaves
            .iter()
            .map(|leaf| Branch::new(format!("{:paths$} = {:values$}  {}", leaf.path, leaf.value, leaf.origin))),
    )
}

/// The configuration with references to vaults in the place of references to secrets that came from vaults.
fn with_vault_references(value: &Value, loaded: &Loaded) -> Value {
    match value {
        Value::String(text) => {
            let secret = text.parse().ok().and_then(|reference| loaded.configuration.secrets.get(reference));
            let shown = secret.map(|secret| (secret.expose(), loaded.hidden.hide(secret.expose())));
            match shown {
                Some((secret, shown)) if shown != secret => shown.into(),
                // A reference to another secret is masked.
                _ => value.clone(),
            }
        }
        Value::Array(list) => list.iter().map(|value| with_vault_references(value, loaded)).collect(),
        Value::Object(map) => {
            map.iter().map(|(name, value)| (name.clone(), with_vault_references(value, loaded))).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

/// The services that requests are split over.
fn shares(decision: &Decision, loaded: &Loaded) -> Option<Branch> {
    let one = |share: &Share| {
        let service = label(&share.backend, "services", loaded);
        Branch::new(format!("{:.1} % (weight {}): {service}", share.percent, share.weight))
    };
    (!decision.shares.is_empty())
        .then(|| Branch::new("requests are split by weight").with(decision.shares.iter().map(one)))
}

/// The services that get copies of requests.
fn mirrors(decision: &Decision, loaded: &Loaded) -> Option<Branch> {
    let one = |mirrored: &Mirrored| {
        let service = label(&mirrored.backend, "services", loaded);
        Branch::new(format!("{} % of requests: {service}", mirrored.percent))
    };
    (!decision.mirrors.is_empty()).then(|| Branch::new("copies go to").with(decision.mirrors.iter().map(one)))
}

fn upstream(question: &Question, decision: &Decision) -> Option<Branch> {
    let uri = discreet::uri(decision.upstream_uri.as_deref()?, question);
    let host = decision.upstream_host.as_deref().unwrap_or_default();
    let mut below = Vec::new();
    below.extend(decision.balancer.as_ref().map(|balancer| Branch::new(format!("balancer: {balancer}"))));
    let retries = decision.retry.as_deref().unwrap_or("none");
    below.push(Branch::new(format!("retries: {retries}")));
    below.extend(decision.timeouts.as_ref().map(|timeouts| Branch::new(format!("timeouts: {timeouts}"))));
    if let Some(head) = &decision.upstream_head {
        let lines = head.lines().filter(|line| !line.is_empty());
        let lines = lines.map(|line| Branch::new(discreet::line(line, question)));
        below.push(Branch::new("upstream request").with(lines));
    }
    Some(Branch::new(format!("upstream: {uri} at host {host}")).with(below))
}

pub(super) fn tracing_text(tracing: &Tracing) -> String {
    let policy = tracing.policy.name.clone().unwrap_or_else(|| tracing.policy.id.to_string());
    let sampled = if tracing.sampled { "sampled" } else { "not sampled" };
    match &tracing.exporter {
        Some(exporter) => format!("tracing: {policy}: {sampled}, spans go to {exporter}"),
        None => format!("tracing: {policy}: {sampled}, no spans are exported"),
    }
}

fn reply_text((status, text): &(u16, String)) -> String {
    match text.lines().next() {
        Some(line) if !line.is_empty() => format!("responded locally: {status}: {line}"),
        _ => format!("responded locally: {status}"),
    }
}

/// `"orders" (id)  kong.yaml:7`.
fn label(named: &Named, kind: &str, loaded: &Loaded) -> String {
    let name = named.name.as_deref().map(|name| format!("{name:?} ")).unwrap_or_default();
    format!("{name}({}){}", named.id, place(&named.id, kind, loaded))
}

fn place(id: &Id, kind: &str, loaded: &Loaded) -> String {
    let location = loaded.snapshot.get(kind, id).and_then(|entity| entity.location);
    location.map(|at| format!("  {}:{}", at.file, at.line)).unwrap_or_default()
}
