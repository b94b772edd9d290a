//! The data plane with real sockets: a Kong file, an engine, backends and clients, all on loopback.

mod actions;
mod backpressure;
mod balancing;
mod basics;
mod body_budget;
mod body_release;
mod clusters;
mod deltas;
mod explained;
mod faults;
mod headers;
mod health;
mod kong_routes;
mod leaks;
mod listeners;
mod memory_source;
mod message_heads;
mod mirrors;
mod mutual_tls;
mod names;
mod odd_certificates;
mod panics;
mod phases;
mod plugins;
mod policies;
mod pool_classes;
mod proxy_protocol;
mod real_clients;
mod records;
mod reload;
mod resumption;
mod retries;
mod routing;
mod scene;
mod secrets;
mod smuggling;
mod splicing;
mod stream;
mod strictness;
mod time;
mod tracing;
mod trusted_certificates;
mod upstream_http2;

use std::sync::LazyLock;

use cardinal_sdk::PluginDef;

/// All plugins of the product.
pub(crate) fn plugins() -> &'static [&'static PluginDef] {
    static ALL: LazyLock<Vec<&'static PluginDef>> = LazyLock::new(|| {
        [
            cardinal_plugins_auth::PLUGINS,
            cardinal_plugins_security::PLUGINS,
            cardinal_plugins_traffic::PLUGINS,
            cardinal_plugins_transform::PLUGINS,
            cardinal_plugins_observe::PLUGINS,
        ]
        .concat()
    });
    &ALL
}
