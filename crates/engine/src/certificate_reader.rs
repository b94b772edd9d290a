//! [`CertificateReader`]: reads certificates that filters supply.

use cardinal_net::tls::SuppliedCertificate;
use cardinal_sdk::{CertificateError, Certificates, ServerCertificate};

pub(crate) struct CertificateReader;

impl Certificates for CertificateReader {
    fn parse(&self, chain: &str, key: &str) -> Result<ServerCertificate, CertificateError> {
        let parsed = SuppliedCertificate::parse(chain, key);
        parsed.map(ServerCertificate::new).map_err(|error| CertificateError(error.to_string()))
    }
}
