//! [`Publisher`]: sends the generations of a control plane to data planes.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use cardinal_base::{Clock, task};
use cardinal_control::Cluster;
use cardinal_ir::{Ir, Secrets};
use cardinal_kong::settings::ClusterSettings;
use cardinal_stream::{JoinAuthority, StreamServer, StreamServerOptions, StreamTls};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::identity;
use crate::run::control::listeners::{Purpose, bind, bind_later};

/// Sends the generations of a control plane to data planes.
pub(in crate::run) struct Publisher {
    server: StreamServer,
    tls: Arc<StreamTls>,
    joining: Option<Arc<JoinAuthority>>,
    settings: ClusterSettings,
    clock: Arc<dyn Clock>,
}

impl Publisher {
    /// With the certificates of the settings, or those of the store.
    pub(in crate::run) fn new(
        settings: &ClusterSettings,
        cluster: Option<Cluster>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let history = cluster.as_ref().map_or_else(cardinal_base::random_id, Cluster::id);
        let (tls, joining) = match (identity::given(settings)?, cluster) {
            (Some(tls), _) => (tls, None),
            (None, Some(cluster)) => {
                let tls = cluster.control_plane(&*clock).context("the certificate for data planes")?;
                (tls, Some(Arc::new(cluster.joining(Arc::clone(&clock)))))
            }
            (None, None) => {
                anyhow::bail!("a control plane without a store needs cluster_cert: 'cardinal cluster cert' makes one")
            }
        };
        // Before anything is served.
        tls.server(joining.is_some()).context("cluster_cert")?;
        let server = StreamServer::new(StreamServerOptions::new(history), Arc::clone(&clock));
        Ok(Self { server, tls: Arc::new(tls), joining, settings: settings.clone(), clock })
    }

    /// What data planes are known.
    pub(in crate::run) fn server(&self) -> &StreamServer {
        &self.server
    }

    /// Listens for data planes. If this process takes over from one that has the address, that is waited for in the
    /// background.
    pub(in crate::run) fn listen(&self, runtime: &Runtime, stop: &watch::Sender<bool>, takes_over: bool) -> Result<()> {
        let _inside = runtime.enter();
        for &address in &self.settings.listeners {
            let bound = runtime.block_on(bind(Purpose::Cluster, address, takes_over))?;
            let (server, tls, joining) = (self.server.clone(), Arc::clone(&self.tls), self.joining.clone());
            let (stop, clock) = (stop.subscribe(), Arc::clone(&self.clock));
            task::spawn("configuration stream", async move {
                let socket = match bound {
                    Some(socket) => socket,
                    None => match bind_later(Purpose::Cluster, address, &*clock).await {
                        Ok(socket) => socket,
                        Err(error) => return tracing::error!("{error:#}; data planes are not served"),
                    },
                };
                let bound = socket.local_addr().unwrap_or(address);
                tracing::info!(address = %bound, "listening on {bound} (data planes, mutual TLS)");
                if let Err(error) = server.serve(socket, &tls, joining, stop).await {
                    tracing::error!("data planes are not served: {error}");
                }
            });
        }
        Ok(())
    }

    /// Sends a generation.
    pub(in crate::run) fn publish(&self, generation: &Arc<Ir>, secrets: Secrets, number: u64) {
        match self.server.publish(generation, secrets, number) {
            Ok(id) => {
                let planes = self.server.connected();
                tracing::debug!(number, records = %id.records, "generation {number} is sent to {planes} data planes");
            }
            // What changed concerns no record.
            Err(outdated) => tracing::debug!("{outdated}"),
        }
    }
}
