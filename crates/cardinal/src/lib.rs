//! Cardinal: an API gateway, and to become a service mesh too. The binary picks a command and hands it the plugins.
//!
//! *Must not know*: how anything works.
//!
//! Start at [`PLUGINS`].

use std::cmp::Reverse;
use std::sync::LazyLock;

use cardinal_sdk::PluginDef;

/// All plugins of the program, in the order they run.
pub static PLUGINS: LazyLock<Vec<&'static PluginDef>> = LazyLock::new(|| {
    let families = [
        cardinal_plugins_auth::PLUGINS,
        cardinal_plugins_observe::PLUGINS,
        cardinal_plugins_security::PLUGINS,
        cardinal_plugins_traffic::PLUGINS,
        cardinal_plugins_transform::PLUGINS,
    ];
    let mut all = families.concat();
    all.sort_by_key(|def| (Reverse(def.priority), def.name));
    all
});
