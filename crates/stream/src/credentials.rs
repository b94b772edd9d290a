//! [`Credentials`]: how a data plane proves who it is, and gets what it proves it with.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cardinal_base::{Clock, SystemRng, UnixMillis};
use cardinal_ir::Id;
use cardinal_pki::{X509Svid, certificates_pem, renewal_time};
use rustls::ClientConfig;
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use crate::connect::ControlPlane;
use crate::join::{JoinError, Joined, join};
use crate::tls::{NodeIdentity, StreamTls, StreamTlsError};
use crate::token::JoinToken;

/// The file in the data directory with the certificate of a data plane that has joined.
pub const IDENTITY_FILE: &str = "cluster-identity.json";
/// How long a failed renewal is not tried again, in milliseconds.
const RENEWAL_PAUSE_MS: u64 = 3_600_000;

/// How a data plane proves who it is.
#[derive(Debug)]
pub struct Credentials(Kind);

#[derive(Debug)]
enum Kind {
    /// By what its operator gave it.
    Given(Arc<ClientConfig>),
    /// By a certificate that it gets from the control plane.
    Joining(Box<Joining>),
}

#[derive(Debug)]
struct Joining {
    file: PathBuf,
    node: Id,
    token: Option<JoinToken>,
    held: Option<Held>,
}

/// A certificate that was issued.
#[derive(Debug)]
struct Held {
    svid: X509Svid,
    authorities: Vec<CertificateDer<'static>>,
    renew_at: UnixMillis,
}

/// The file.
#[derive(Serialize, Deserialize)]
struct Saved {
    chain: String,
    key: String,
    authorities: String,
}

impl Credentials {
    /// Certificates of the operator.
    ///
    /// # Errors
    /// When they cannot be used.
    pub fn given(tls: &StreamTls) -> Result<Self, StreamTlsError> {
        Ok(Self(Kind::Given(tls.client()?)))
    }

    /// A certificate that was issued by the control plane before and is in this directory, or is issued for the token. It is
    /// renewed in time.
    ///
    /// # Errors
    /// When there is neither.
    pub fn joining(folder: &Path, token: Option<JoinToken>, node: Id, clock: &dyn Clock) -> Result<Self, JoinError> {
        let file = folder.join(IDENTITY_FILE);
        let held = match fs::read(&file) {
            Ok(bytes) => Held::read(&bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::error!("cannot read {}: {error}", file.display());
                None
            }
        };
        let held = held.filter(|held| held.svid.not_after() > clock.unix());
        match (&held, &token) {
            (None, None) => return Err(JoinError::NoToken("this data plane has no certificate that is valid")),
            (None, Some(token)) => drop(token.authority()?),
            (Some(_), _) => {}
        }
        Ok(Self(Kind::Joining(Box::new(Joining { file, node, token, held }))))
    }

    /// What to connect with. Joins before, or renews, if that is due.
    pub(crate) async fn client(
        &mut self,
        to: &ControlPlane,
        clock: &dyn Clock,
    ) -> Result<Arc<ClientConfig>, JoinError> {
        match &mut self.0 {
            Kind::Given(config) => Ok(Arc::clone(config)),
            Kind::Joining(joining) => joining.client(to, clock).await,
        }
    }

    /// Milliseconds until the certificate is to be renewed.
    pub(crate) fn renewal_ms(&self, clock: &dyn Clock) -> Option<u64> {
        let Kind::Joining(joining) = &self.0 else { return None };
        Some(joining.held.as_ref()?.renew_at.0.saturating_sub(clock.unix().0))
    }
}

impl Joining {
    async fn client(&mut self, to: &ControlPlane, clock: &dyn Clock) -> Result<Arc<ClientConfig>, JoinError> {
        let now = clock.unix();
        self.held.take_if(|held| held.svid.not_after() <= now);
        match &mut self.held {
            None => {
                let missing = JoinError::NoToken("the certificate of this data plane has expired");
                let token = self.token.as_ref().ok_or(missing)?;
                let tls = StreamTls::Joining { authority: token.authority()? };
                let joined = join(to, &tls, Some(token), self.node, clock).await?;
                self.held = Some(self.keep(joined, now)?);
                tracing::info!("joined by the control plane {}:{}", to.host, to.port);
            }
            Some(held) if held.renew_at <= now => {
                let tls = held.tls();
                match join(to, &tls, None, self.node, clock).await {
                    Ok(joined) => self.held = Some(self.keep(joined, now)?),
                    // The one that is there is still valid.
                    Err(error) => {
                        tracing::warn!("the certificate of this data plane cannot be renewed: {error}");
                        held.renew_at = UnixMillis(now.0.saturating_add(RENEWAL_PAUSE_MS));
                    }
                }
            }
            Some(_) => {}
        }
        let held = self.held.as_ref().ok_or(JoinError::NoToken("there is no certificate"))?;
        Ok(held.tls().client()?)
    }

    /// Takes a certificate, and saves it for the next start.
    fn keep(&self, joined: Joined, now: UnixMillis) -> Result<Held, JoinError> {
        let Joined { chain, key, authorities } = joined;
        let svid = X509Svid::new(chain, key).map_err(JoinError::Issued)?;
        let renew_at = renewal_time(now, svid.not_after(), &mut SystemRng);
        let held = Held { svid, authorities, renew_at };
        if let Err(error) = write(&self.file, &held.to_json()) {
            // It goes on being used until the process ends.
            tracing::error!("cannot write {}: {error}", self.file.display());
        }
        Ok(held)
    }
}

impl Held {
    fn read(bytes: &[u8]) -> Option<Self> {
        let read = || -> Result<Self, String> {
            let saved: Saved = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
            let svid = X509Svid::from_pem(&saved.chain, &saved.key).map_err(|error| error.to_string())?;
            let StreamTls::Pki { authorities, .. } =
                StreamTls::pki(None, &saved.authorities).map_err(|error| error.to_string())?
            else {
                return Err("it has no authority".to_owned());
            };
            let renew_at = renewal_time(svid.not_before(), svid.not_after(), &mut SystemRng);
            Ok(Self { svid, authorities, renew_at })
        };
        read().inspect_err(|error| tracing::error!("{IDENTITY_FILE} is damaged: {error}")).ok()
    }

    fn to_json(&self) -> Vec<u8> {
        let saved = Saved {
            chain: self.svid.chain_pem(),
            key: self.svid.key().to_pem().to_string(),
            authorities: certificates_pem(&self.authorities),
        };
        serde_json::to_vec(&saved).unwrap_or_default()
    }

    fn tls(&self) -> StreamTls {
        let identity = NodeIdentity::new(self.svid.chain().to_vec(), self.svid.key().clone());
        StreamTls::Pki { identity: Some(identity), authorities: self.authorities.clone() }
    }
}

/// Replaces the file in one step. Only the user of the process may read it.
fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let draft = path.with_extension(format!("{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(draft, path)
}
