//! The plugins of the product: their schemas are part of what files are checked by.

use std::sync::LazyLock;

use cardinal_sdk::PluginDef;

/// All plugins, by name.
pub(crate) static ALL: LazyLock<Vec<&'static PluginDef>> = LazyLock::new(|| {
    let families = [
        cardinal_plugins_auth::PLUGINS,
        cardinal_plugins_observe::PLUGINS,
        cardinal_plugins_security::PLUGINS,
        cardinal_plugins_traffic::PLUGINS,
        cardinal_plugins_transform::PLUGINS,
    ];
    let mut all = families.concat();
    all.sort_by_key(|def| def.name);
    all
});
