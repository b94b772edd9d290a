//! [`client_pair`]: the client certificate and key for upstream TLS.

use cardinal_ir::{Id, Ir, Secrets};
use cardinal_net::tls::TlsError;

/// Chain and key of a client certificate. If they are missing, no connection is made without them.
pub(crate) fn client_pair(ir: &Ir, secrets: &Secrets, id: Id) -> Result<(Box<str>, Box<str>), TlsError> {
    let pair = ir.certificates.get(&id).and_then(|certificate| certificate.pairs.first());
    let pair = pair.ok_or_else(|| TlsError::Config("its client certificate is not in this generation".to_owned()))?;
    let unresolved = |error| TlsError::Config(format!("the key of its client certificate: {error}"));
    let key = secrets.resolve(pair.key).map_err(unresolved)?;
    Ok((pair.chain.clone(), key.expose().into()))
}
