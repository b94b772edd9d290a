//! TLS to Redis servers.

use std::sync::{Arc, OnceLock};

use cardinal_net::tls::{ClientSettings, TlsError, client_config, io_text};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Failed;

/// Shakes hands. With `verify`, the certificate must be valid for the name and come from an authority that the
/// system trusts.
pub(super) async fn handshake(socket: TcpStream, name: &str, verify: bool) -> Result<TlsStream<TcpStream>, Failed> {
    let config = config(verify)
        .map_err(|error| Failed { is_local: error.is_transient(), reason: format!("cannot make TLS: {error}") })?;
    let name = ServerName::try_from(name.to_owned()).map_err(|error| format!("server name {name:?}: {error}"))?;
    let connected = TlsConnector::from(config).connect(name, socket).await;
    connected.map_err(|error| Failed::io(&format!("TLS: {}", io_text(&error)), &error))
}

/// One configuration for servers that are verified, one for those that are not: sessions of one are not resumed with the
/// other.
fn config(verify: bool) -> Result<Arc<ClientConfig>, TlsError> {
    static VERIFYING: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    static TRUSTING: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    let place = if verify { &VERIFYING } else { &TRUSTING };
    if let Some(made) = place.get() {
        return Ok(Arc::clone(made));
    }
    // A failure is not kept: it may be over when the next connection is made.
    let made = client_config(&ClientSettings { verify, ..ClientSettings::default() })?;
    Ok(Arc::clone(place.get_or_init(|| made)))
}
