//! [`Roots`]: the CA certificates by which peers are verified.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cardinal_base::descriptors;
use rustls::RootCertStore;
use rustls_native_certs::{CertificateResult, ErrorKind, load_native_certs};

use super::trusted::Trusted;
use super::words::text;
use super::{TlsError, certificates};

/// Trusted CA certificates: roots of chains, and directly trusted certificates.
#[derive(Debug)]
pub(super) struct Roots {
    pub(super) store: Arc<RootCertStore>,
    pub(super) trusted: Trusted,
}

impl Roots {
    /// Reads the certificates of a PEM text.
    pub(super) fn read(pem: &str) -> Result<Self, TlsError> {
        let certificates = certificates(pem)?;
        let trusted = Trusted::new(&certificates);
        let mut store = RootCertStore::empty();
        for certificate in certificates {
            store.add(certificate).map_err(|e| TlsError::Authorities(text(&e).into()))?;
        }
        Ok(Self { store: Arc::new(store), trusted })
    }

    /// The certificates of the system.
    ///
    /// # Errors
    /// If they cannot be read now, and were never read before.
    pub(super) fn of_system() -> Result<Arc<Self>, TlsError> {
        Self::loaded(load_native_certs(), &mut Self::last())
    }

    fn last() -> MutexGuard<'static, Option<Arc<Self>>> {
        static LAST: Mutex<Option<Arc<Roots>>> = Mutex::new(None);
        LAST.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The loaded certificates, or those loaded before if the node could not read all of them. Equal roots are stored
    /// once.
    pub(super) fn loaded(found: CertificateResult, last: &mut Option<Arc<Self>>) -> Result<Arc<Self>, TlsError> {
        let CertificateResult { certs, errors, .. } = found;
        if let Some(error) = errors.into_iter().find_map(shortage) {
            return match last {
                Some(last) => {
                    tracing::warn!(%error, "the system's CA certificates cannot be read now; those read before are used");
                    Ok(Arc::clone(last))
                }
                None => Err(TlsError::SystemAuthorities(error)),
            };
        }
        let trusted = Trusted::new(&certs);
        if let Some(last) = last.as_ref().filter(|last| last.trusted == trusted) {
            return Ok(Arc::clone(last));
        }
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(certs);
        Ok(Arc::clone(last.insert(Arc::new(Self { store: Arc::new(store), trusted }))))
    }
}

/// Whether the system's CA certificates have been read.
pub fn has_system_authorities() -> bool {
    Roots::last().is_some()
}

/// Reads the system's CA certificates. If they cannot be read again later, these are used.
///
/// # Errors
/// If they cannot be read now, and were never read before.
pub fn read_system_authorities() -> Result<(), TlsError> {
    Roots::of_system().map(drop)
}

/// The error of the system, if a later attempt may succeed.
fn shortage(error: rustls_native_certs::Error) -> Option<io::Error> {
    use rustls::pki_types::pem;
    let error = match error.kind {
        ErrorKind::Io { inner, .. } | ErrorKind::Pem(pem::Error::Io(inner)) => inner,
        _ => return None,
    };
    descriptors::is_transient(&error).then_some(error)
}
