//! The plugins of the product: their schemas are part of what files are checked by.

use std::sync::{Arc, LazyLock};

use cardinal_schema::{boolean, field, record};
use cardinal_sdk::{BuildCx, BuildError, Filter, HTTP_PROTOCOLS, PluginDef, Scopes};
use serde_json::Value;

/// All plugins, by name.
pub(crate) static ALL: LazyLock<Vec<&'static PluginDef>> = LazyLock::new(|| {
    let families = [
        cardinal_plugins_auth::PLUGINS,
        cardinal_plugins_security::PLUGINS,
        cardinal_plugins_traffic::PLUGINS,
        cardinal_plugins_transform::PLUGINS,
    ];
    let mut all: Vec<&'static PluginDef> = families.concat();
    if !all.iter().any(|def| def.name == PROMETHEUS.name) {
        all.push(&PROMETHEUS);
    }
    all.sort_by_key(|def| def.name);
    all
});

fn build(_: &Value, _: &BuildCx<'_>) -> Result<Arc<dyn Filter>, BuildError> {
    Err(BuildError::new("", "a description only"))
}

static PROMETHEUS: PluginDef = PluginDef {
    name: "prometheus",
    summary: "For tests.",
    priority: 13,
    schema: || record([field("per_consumer", boolean().required().default(false))]),
    entities: &[],
    scopes: Scopes::ALL,
    protocols: HTTP_PROTOCOLS,
    build,
};
