//! Records that violate TLS after the handshake: the connection ends with a fatal alert (RFC 8446 sections 5.4 and
//! 6.2).

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};
use cardinal_net::tls::unverified;
use cardinal_testkit::{Authority, EchoServer, Socket, World};
use rustls::crypto::cipher::{
    AeadKey, Iv, MessageDecrypter, MessageEncrypter, OutboundChunks, OutboundOpaqueMessage, OutboundPlainMessage,
    Tls13AeadAlgorithm, UnsupportedOperationError,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{
    AlertDescription, CipherSuiteCommon, ClientConfig, ConnectionTrafficSecrets, ContentType, Error,
    SupportedCipherSuite, Tls13CipherSuite,
};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::plugins;
use crate::scene::{certificate, one};

/// A client that can encrypt a record of zeros alone.
struct Zeros {
    inner: &'static dyn Tls13AeadAlgorithm,
    wanted: &'static AtomicBool,
}

struct Encrypter {
    inner: Box<dyn MessageEncrypter>,
    wanted: &'static AtomicBool,
}

impl Tls13AeadAlgorithm for Zeros {
    fn encrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageEncrypter> {
        Box::new(Encrypter { inner: self.inner.encrypter(key, iv), wanted: self.wanted })
    }

    fn decrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageDecrypter> {
        self.inner.decrypter(key, iv)
    }

    fn key_len(&self) -> usize {
        self.inner.key_len()
    }

    fn extract_keys(&self, key: AeadKey, iv: Iv) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        self.inner.extract_keys(key, iv)
    }
}

impl MessageEncrypter for Encrypter {
    fn encrypt(&mut self, message: OutboundPlainMessage<'_>, seq: u64) -> Result<OutboundOpaqueMessage, Error> {
        if !self.wanted.load(Ordering::SeqCst) {
            return self.inner.encrypt(message, seq);
        }
        let zeros = OutboundChunks::Single(&[0; 4]);
        self.inner.encrypt(OutboundPlainMessage { typ: ContentType::Unknown(0), payload: zeros, ..message }, seq)
    }

    fn encrypted_payload_len(&self, payload_len: usize) -> usize {
        self.inner.encrypted_payload_len(payload_len)
    }
}

/// The configuration of such a client, and the flag that makes it send zeros instead of its data.
fn zeros(from: &Arc<ClientConfig>) -> (Arc<ClientConfig>, &'static AtomicBool) {
    let wanted: &'static AtomicBool = Box::leak(Box::default());
    let plain = aws_lc_rs::default_provider();
    let wrap = |suite: &SupportedCipherSuite| {
        let inner = suite.tls13()?;
        let aead_alg = Box::leak(Box::new(Zeros { inner: inner.aead_alg, wanted }));
        let common = CipherSuiteCommon { ..inner.common };
        let suite = Tls13CipherSuite { common, hkdf_provider: inner.hkdf_provider, aead_alg, quic: None };
        Some(SupportedCipherSuite::Tls13(Box::leak(Box::new(suite))))
    };
    let suites = plain.cipher_suites.iter().filter_map(wrap).collect();
    let provider = CryptoProvider { cipher_suites: suites, ..plain };
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(unverified(Arc::new(aws_lc_rs::default_provider())))
        .with_no_client_auth();
    config.alpn_protocols.clone_from(&from.alpn_protocols);
    (Arc::new(config), wanted)
}

/// How the connection ends: the alert, or `None` without one.
async fn alert(mut socket: Socket) -> Result<Option<AlertDescription>> {
    let mut rest = Vec::new();
    let end = tokio::time::timeout(Duration::from_secs(5), socket.read_to_end(&mut rest)).await?;
    match end {
        Ok(_) => Ok(None),
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
                Some(Error::AlertReceived(alert)) => Ok(Some(*alert)),
                other => bail!("{other:?}"),
            }
        }
        Err(error) => bail!("no alert: {error}"),
    }
}

/// The data sent before the bad record.
#[derive(Clone, Copy, Debug)]
enum Moment {
    Idle,
    InHead,
    WhileWaiting,
    AfterResponse,
    Http2,
    Http2Stream,
}

const MOMENTS: [Moment; 6] =
    [Moment::Idle, Moment::InHead, Moment::WhileWaiting, Moment::AfterResponse, Moment::Http2, Moment::Http2Stream];

async fn reach(world: &World, socket: &mut Socket, moment: Moment) -> Result<()> {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let request = |echo: &str| format!("GET / HTTP/1.1\r\nHost: a\r\nX-Echo: {echo}\r\n\r\n").into_bytes();
    let bytes = match moment {
        Moment::Idle => return Ok(()),
        Moment::InHead => b"GET / HTTP/1.1\r\nHo".to_vec(),
        Moment::WhileWaiting => request("delay:2000"),
        Moment::AfterResponse => request("status:204"),
        Moment::Http2 => PREFACE.to_vec(),
        Moment::Http2Stream => {
            let fields = [
                (":method", "GET"),
                (":scheme", "https"),
                (":path", "/"),
                (":authority", "a"),
                ("x-echo", "delay:2000"),
            ];
            let block = crate::smuggling::h2::block(&fields);
            [PREFACE, &[0, 0, u8::try_from(block.len())?, 1, 5, 0, 0, 0, 1], &block].concat()
        }
    };
    let requests = || world.engine().totals().requests;
    let before = requests();
    socket.write_all(&bytes).await?;
    socket.flush().await?;
    match moment {
        Moment::AfterResponse | Moment::Http2 | Moment::Http2Stream => {
            let mut some = [0; 9];
            socket.read_exact(&mut some).await?;
        }
        Moment::WhileWaiting => cardinal_testkit::until("the request to arrive", || requests() > before).await?,
        Moment::Idle | Moment::InHead => {}
    }
    Ok(())
}

#[tokio::test]
async fn a_bad_record_is_answered_with_a_fatal_alert() -> Result<()> {
    let echo = EchoServer::start("e").await;
    let authority = Authority::new("root");
    let issued = authority.issue(&["localhost"]);
    let mut file: serde_json::Value = serde_json::from_str(&one(&echo.url(), json!({}), json!({})))?;
    file["certificates"] = json!([certificate(&issued, &["localhost"])]);
    let world = World::start(plugins(), &file.to_string(), &[])?;
    for moment in MOMENTS {
        let alpn: &[&str] = if matches!(moment, Moment::Http2 | Moment::Http2Stream) { &["h2"] } else { &["http/1.1"] };
        let config = authority.client(None, alpn);
        // A record that cannot be decrypted; further data follows, which must not discard the alert.
        for more in [0, 3] {
            let mut socket = Socket::connect(world.https()).await?.start_tls("localhost", Arc::clone(&config)).await?;
            reach(&world, &mut socket, moment).await?;
            let Socket::Tls(tls) = &mut socket else { bail!("no TLS") };
            let record = [&[23, 3, 3, 0, 32], [7; 32].as_slice()].concat();
            tls.get_mut().0.write_all(&record.repeat(1 + more)).await?;
            assert_eq!(alert(socket).await?, Some(AlertDescription::BadRecordMac), "{moment:?}");
        }
        // A record without a content type.
        let (config, wanted) = zeros(&config);
        let mut socket = Socket::connect(world.https()).await?.start_tls("localhost", config).await?;
        reach(&world, &mut socket, moment).await?;
        wanted.store(true, Ordering::SeqCst);
        socket.write_all(b"zero").await?;
        socket.flush().await?;
        assert_eq!(alert(socket).await?, Some(AlertDescription::UnexpectedMessage), "{moment:?}");
    }
    Ok(())
}
