//! A bench for policies.

use std::sync::Arc;

use cardinal_ir::{Id, Ir, PolicySpec, Scope};
use cardinal_sdk::testing::{self, Bench};
use cardinal_sdk::{BuildError, Directory, Filter, PluginDef, Services};
use serde_json::Value;

use super::*;

/// The policy with this number.
pub(super) fn built(spec: &PolicySpec, number: u128, services: &Services) -> Result<Arc<dyn Filter>, BuildError> {
    let scope = Scope::default();
    let cx = PolicyCx {
        services,
        label: format!("policy {number}"),
        id: Id::from_u128(number),
        scope: &scope,
        order: 0,
        of_plugin: false,
    };
    build(spec, &cx)
}

/// The policy to which a plugin's configuration is lowered.
pub(super) fn lowered(plugin: &'static PluginDef, config: &Value) -> PolicySpec {
    testing::lower(plugin, config).unwrap().unwrap_or_else(|| panic!("{config} is not lowered"))
}

/// A bench for the policy to which a plugin's configuration is lowered.
pub(super) fn bench(plugin: &'static PluginDef, config: Value) -> Bench {
    bench_with(plugin, config, &Ir::default())
}

/// The same, with principals and credentials.
pub(super) fn bench_with(plugin: &'static PluginDef, config: Value, ir: &Ir) -> Bench {
    let mut bench = Bench::new(plugin, config.clone());
    let (directory, refused) = Directory::build(ir, &[plugin]);
    assert!(refused.is_empty(), "{refused:?}");
    bench.directory = directory;
    bench.filter = built(&lowered(plugin, &config), 1, &bench.services).unwrap();
    bench
}

/// A bench for a policy.
pub(super) fn bench_of(spec: PolicySpec) -> Bench {
    let config = serde_json::json!({"status_code": 503});
    let mut bench = Bench::new(&cardinal_plugins_security::request_termination::PLUGIN, config);
    bench.filter = built(&spec, 1, &bench.services).unwrap();
    bench
}
