//! The source of the configuration of a data plane.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use cardinal_base::{Clock, SystemClock};
use cardinal_engine::hostname;
use cardinal_kong::Settings;
use cardinal_sdk::PluginDef;
use cardinal_stream::{ControlPlane, StreamSource, StreamSourceOptions};
use cardinal_sync::stream::{ClientOptions, NodeInfo, TargetHealth};
use cardinal_sync::{ConfigStatus, Update};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::Sender;

use super::identity::credentials;

/// Follows the control planes of the settings, and reads what was served last. The source is to be polled on the runtime.
pub(in crate::run) fn data_plane(
    settings: &Settings,
    plugins: &[&'static PluginDef],
    data_dir: &Path,
    health: Sender<TargetHealth>,
) -> Result<(Runtime, StreamSource, Update)> {
    let runtime = crate::run::control::runtime("control planes")?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let (cluster, id) = (&settings.cluster, settings.node.id);
    let (credentials, server_name) = credentials(cluster, data_dir, id, &*clock)?;
    let node = NodeInfo {
        id,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        hostname: hostname(),
        plugins: plugins.iter().map(|plugin| plugin.name.to_owned()).collect(),
        labels: cluster.labels.clone(),
    };
    let control_plane = |(host, port): &(String, u16)| ControlPlane {
        host: host.clone(),
        port: *port,
        server_name: server_name.clone(),
    };
    let options = StreamSourceOptions {
        control_planes: cluster.control_planes.iter().map(control_plane).collect(),
        client: ClientOptions::new(node),
        node: Arc::new(settings.node.clone()),
        key: settings.secret_key.clone(),
        status: Arc::new(ConfigStatus::new(Arc::clone(&clock))),
        health: Some(health),
        clock,
    };
    let mut source = {
        let _inside = runtime.enter();
        StreamSource::start(data_dir, credentials, options)?
    };
    let first = source.first();
    if first.generation().is_empty() {
        tracing::warn!(
            "no configuration was received before: every request is answered with 404 until a control plane sends one"
        );
    } else {
        tracing::info!("serving the last known good configuration until a control plane sends a newer one");
    }
    Ok((runtime, source, first))
}
