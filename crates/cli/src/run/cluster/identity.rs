//! Certificates of control planes and data planes, from the settings.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use cardinal_base::Clock;
use cardinal_control::CONTROL_PLANE_NAME;
use cardinal_ir::Id;
use cardinal_kong::settings::{ClusterMtls, ClusterSettings};
use cardinal_stream::{Credentials, JoinToken, NodeIdentity, StreamTls};

/// How a node with a certificate of its operator knows the others; `None` without one.
pub(super) fn given(cluster: &ClusterSettings) -> Result<Option<StreamTls>> {
    let Some(pair) = &cluster.certificate else { return Ok(None) };
    let identity = NodeIdentity::from_pem(&pair.chain, &pair.key).context("cluster_cert")?;
    Ok(Some(match cluster.mtls {
        ClusterMtls::Shared => StreamTls::Shared(identity),
        ClusterMtls::Pki => {
            let authorities = cluster.authorities.as_deref().unwrap_or_default();
            StreamTls::pki(Some(identity), authorities).context("cluster_ca_cert")?
        }
    }))
}

/// How a data plane proves who it is, and the name that it looks for in the certificates of control planes.
pub(super) fn credentials(
    cluster: &ClusterSettings,
    data_dir: &Path,
    node: Id,
    clock: &dyn Clock,
) -> Result<(Credentials, Option<String>)> {
    if let Some(tls) = given(cluster)? {
        if cluster.join_token.is_some() {
            bail!(
                "cluster_join_token and cluster_cert exclude each other: the token is for data planes without a certificate"
            );
        }
        return Ok((Credentials::given(&tls).context("cluster_cert")?, cluster.server_name.clone()));
    }
    let token = cluster.join_token.as_deref().map(JoinToken::of_text);
    let credentials = Credentials::joining(data_dir, token, node, clock).context("cluster_join_token")?;
    Ok((credentials, Some(cluster.server_name.clone().unwrap_or_else(|| CONTROL_PLANE_NAME.to_owned()))))
}
