//! The own certificate, looked up in the store at each handshake.

use std::sync::Arc;

use cardinal_base::Id;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::IdentityStore;

/// The certificate of one identity. Without a certificate in the store, a server refuses the handshake; a client would
/// continue without a certificate, which the verifier prevents.
#[derive(Debug)]
pub(super) struct OwnIdentity {
    pub(super) store: Arc<IdentityStore>,
    pub(super) key: Id,
}

impl ResolvesServerCert for OwnIdentity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.store.certified(self.key)
    }
}

impl ResolvesClientCert for OwnIdentity {
    fn resolve(&self, _authorities: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.store.certified(self.key)
    }

    fn has_certs(&self) -> bool {
        true
    }
}
