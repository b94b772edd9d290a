//! TLS of the Admin API: the certificate of the settings, or a self-signed one.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use cardinal_kong::Settings;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

pub(super) fn server_config(settings: &Settings) -> Result<Arc<ServerConfig>> {
    let (chain, key) = match settings.node.default_certificate.as_ref().and_then(|found| found.pairs.first()) {
        Some(pair) => {
            let chain = CertificateDer::pem_slice_iter(pair.chain.as_bytes()).collect::<Result<Vec<_>, _>>();
            let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).context("ssl_cert_key")?;
            (chain.context("ssl_cert")?, key)
        }
        None => {
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).context("a certificate")?;
            let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).map_err(anyhow::Error::msg)?;
            (vec![made.cert.der().clone()], key)
        }
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("TLS versions")?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .context("the certificate of the Admin API")?;
    Ok(Arc::new(config))
}
