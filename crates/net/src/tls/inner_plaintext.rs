//! TLS 1.3 records without a content type: answered with the alert that RFC 8446 section 5.4 requires.
//!
//! The content type of a TLS 1.3 record is its last non-zero byte after decryption. For a record of zeros alone, rustls
//! reports an error and queues no alert, so that the connection would end with `close_notify`, as after a regular end.
//! Here the error is mapped to the one for a disallowed content type, for which rustls queues the same alert:
//! `unexpected_message`.

use std::sync::LazyLock;

use rustls::crypto::CryptoProvider;
use rustls::crypto::cipher::{
    AeadKey, InboundOpaqueMessage, InboundPlainMessage, Iv, MessageDecrypter, MessageEncrypter, Tls13AeadAlgorithm,
    UnsupportedOperationError,
};
use rustls::{
    CipherSuiteCommon, ConnectionTrafficSecrets, Error, PeerMisbehaved, SupportedCipherSuite, Tls13CipherSuite,
};

/// The crypto provider of the process.
pub(super) fn provider() -> CryptoProvider {
    /// Suites must live as long as the process; there are three.
    static SUITES: LazyLock<Vec<SupportedCipherSuite>> =
        LazyLock::new(|| rustls::crypto::aws_lc_rs::default_provider().cipher_suites.iter().map(wrapped).collect());
    CryptoProvider { cipher_suites: SUITES.clone(), ..rustls::crypto::aws_lc_rs::default_provider() }
}

fn wrapped(suite: &SupportedCipherSuite) -> SupportedCipherSuite {
    match suite {
        SupportedCipherSuite::Tls13(suite) => {
            let aead_alg = Box::leak(Box::new(Algorithm(suite.aead_alg)));
            let common = CipherSuiteCommon { ..suite.common };
            let wrapped = Tls13CipherSuite { common, hkdf_provider: suite.hkdf_provider, aead_alg, quic: suite.quic };
            SupportedCipherSuite::Tls13(Box::leak(Box::new(wrapped)))
        }
        other @ SupportedCipherSuite::Tls12(_) => *other,
    }
}

struct Algorithm(&'static dyn Tls13AeadAlgorithm);

impl Tls13AeadAlgorithm for Algorithm {
    fn encrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageEncrypter> {
        self.0.encrypter(key, iv)
    }

    fn decrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageDecrypter> {
        Box::new(Decrypter(self.0.decrypter(key, iv)))
    }

    fn key_len(&self) -> usize {
        self.0.key_len()
    }

    fn extract_keys(&self, key: AeadKey, iv: Iv) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        self.0.extract_keys(key, iv)
    }

    fn fips(&self) -> bool {
        self.0.fips()
    }
}

struct Decrypter(Box<dyn MessageDecrypter>);

impl MessageDecrypter for Decrypter {
    fn decrypt<'a>(&mut self, record: InboundOpaqueMessage<'a>, seq: u64) -> Result<InboundPlainMessage<'a>, Error> {
        self.0.decrypt(record, seq).map_err(|error| match error {
            Error::PeerMisbehaved(PeerMisbehaved::IllegalTlsInnerPlaintext) => {
                PeerMisbehaved::IllegalMiddleboxChangeCipherSpec.into()
            }
            other => other,
        })
    }
}
