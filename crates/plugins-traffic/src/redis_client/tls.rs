//! TLS to Redis servers.

use std::sync::{Arc, OnceLock};

use cardinal_net::tls::{ClientSettings, client_config};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Shakes hands. With `verify`, the certificate must be valid for the name and come from an authority that the
/// system trusts.
pub(super) async fn handshake(socket: TcpStream, name: &str, verify: bool) -> Result<TlsStream<TcpStream>, String> {
    let config = config(verify)?;
    let name = ServerName::try_from(name.to_owned()).map_err(|error| format!("server name {name:?}: {error}"))?;
    TlsConnector::from(config).connect(name, socket).await.map_err(|error| format!("TLS: {error}"))
}

/// One configuration for servers that are verified, one for those that are not: sessions of one are not resumed with the
/// other.
fn config(verify: bool) -> Result<Arc<ClientConfig>, String> {
    static VERIFYING: OnceLock<Result<Arc<ClientConfig>, String>> = OnceLock::new();
    static TRUSTING: OnceLock<Result<Arc<ClientConfig>, String>> = OnceLock::new();
    let made = if verify { &VERIFYING } else { &TRUSTING };
    let make = || client_config(&ClientSettings { verify, ..ClientSettings::default() }).map_err(|e| e.to_string());
    made.get_or_init(make).clone()
}
