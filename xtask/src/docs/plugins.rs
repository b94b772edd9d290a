//! Tables of plugins.

use cardinal_kong::Registry;
use cardinal_sdk::{PluginDef, Scopes};

use super::markdown::{code, fields, table};

/// The plugins bundled with Kong Gateway 3.10, open source (`kong/constants.lua`).
const OF_KONG: [&str; 45] = [
    "acl",
    "acme",
    "ai-prompt-decorator",
    "ai-prompt-guard",
    "ai-prompt-template",
    "ai-proxy",
    "ai-request-transformer",
    "ai-response-transformer",
    "aws-lambda",
    "azure-functions",
    "basic-auth",
    "bot-detection",
    "correlation-id",
    "cors",
    "datadog",
    "file-log",
    "grpc-gateway",
    "grpc-web",
    "hmac-auth",
    "http-log",
    "ip-restriction",
    "jwt",
    "key-auth",
    "ldap-auth",
    "loggly",
    "oauth2",
    "opentelemetry",
    "post-function",
    "pre-function",
    "prometheus",
    "proxy-cache",
    "rate-limiting",
    "redirect",
    "request-size-limiting",
    "request-termination",
    "request-transformer",
    "response-ratelimiting",
    "response-transformer",
    "session",
    "standard-webhooks",
    "statsd",
    "syslog",
    "tcp-log",
    "udp-log",
    "zipkin",
];

/// The README's statement of what is implemented.
pub(super) fn status(registry: &Registry) -> String {
    let here = OF_KONG.iter().filter(|name| registry.plugin(name).is_some()).count();
    format!(
        "**Status:** version {}, for Linux. {here} of the {} plugins bundled with Kong Gateway 3.10 are implemented, and \
         none of\nits Enterprise plugins. A file that uses another plugin is rejected; `cardinal check` names it.",
        env!("CARGO_PKG_VERSION"),
        OF_KONG.len(),
    )
}

/// Lists which of Kong's plugins are implemented, and which plugins are additional.
pub(super) fn comparison(registry: &Registry) -> String {
    let here = |name: &str| registry.plugin(name).is_some();
    let of_kong =
        OF_KONG.iter().map(|name| (*name, if here(name) { "yes" } else { "no: a file that names it is refused" }));
    let ours = registry.plugins().map(|plugin| plugin.def.name).filter(|name| !OF_KONG.contains(name));
    let mut rows: Vec<_> = of_kong.chain(ours.map(|name| (name, "yes; Kong has no plugin of this name"))).collect();
    rows.sort_unstable();
    table(["plugin", "here"], rows.into_iter().map(|(name, state)| [code(name), state.to_owned()]))
}

/// A section for each plugin with the fields of its `config`, and of its entities.
pub(super) fn tables(registry: &Registry) -> String {
    let mut plugins: Vec<_> = registry.plugins().collect();
    plugins.sort_by_key(|plugin| plugin.def.name);
    let mut out = String::new();
    for plugin in plugins {
        out.push_str(&format!("### {}\n\n{}\n\n{}\n", plugin.def.name, plugin.def.summary, fields(&plugin.config)));
    }
    out
}

/// The index of the manual: the plugins of each family with their summaries, highest priority first.
pub(super) fn index(families: &[(&str, &[&PluginDef])]) -> String {
    let mut all: Vec<_> =
        families.iter().flat_map(|(family, plugins)| plugins.iter().map(move |plugin| (*family, *plugin))).collect();
    all.sort_by_key(|(_, plugin)| std::cmp::Reverse(plugin.priority));
    let rows = all.into_iter().map(|(family, plugin)| {
        let folder = plugin.name.replace('-', "_");
        let manual = format!("[{}](../crates/plugins-{family}/src/{folder}/README.md)", plugin.name);
        let protocols = plugin.protocols.join(", ");
        let failure = plugin.failure.label().to_owned();
        [manual, plugin.summary.to_owned(), plugin.priority.to_string(), scopes(plugin.scopes), protocols, failure]
    });
    table(["plugin", "what it does", "priority", "scopes", "protocols", "fails"], rows)
}

fn scopes(scopes: Scopes) -> String {
    let all = [
        ("service", scopes.service),
        ("route", scopes.route),
        ("consumer", scopes.consumer),
        ("consumer group", scopes.consumer_group),
    ];
    let names: Vec<_> = all.into_iter().filter(|(_, may)| *may).map(|(name, _)| name).collect();
    if names.is_empty() { "global".to_owned() } else { format!("global, {}", names.join(", ")) }
}
