//! Settings of roles: control planes and data planes.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use cardinal_ir::PemPair;

use super::build::Builder;
use super::listen;

/// The port of a control plane where none is named.
const PORT: u16 = 8_005;

/// What a node does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Everything: it keeps entities and serves traffic.
    #[default]
    Traditional,
    /// It keeps entities for data planes.
    ControlPlane,
    /// It serves traffic as its control planes say.
    DataPlane,
}

impl Role {
    /// Kong's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Traditional => "traditional",
            Self::ControlPlane => "control_plane",
            Self::DataPlane => "data_plane",
        }
    }
}

/// How control planes and data planes know each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClusterMtls {
    /// All have one certificate.
    #[default]
    Shared,
    /// Each has its own, of one authority.
    Pki,
}

/// How control planes and data planes are connected.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ClusterSettings {
    /// Addresses that a control plane listens on.
    pub listeners: Vec<SocketAddr>,
    /// Whether they were given; they are the default otherwise.
    pub is_listen_given: bool,
    /// The control planes of a data plane, as host and port.
    pub control_planes: Vec<(String, u16)>,
    /// How they know each other, if there is a certificate.
    pub mtls: ClusterMtls,
    /// The certificate of this node. Without it, control planes have an authority of their own.
    pub certificate: Option<PemPair>,
    /// Certificates of the authority, in PEM.
    pub authorities: Option<String>,
    /// The name in the certificate of control planes.
    pub server_name: Option<String>,
    /// Lets a data plane without a certificate join.
    pub join_token: Option<String>,
    /// Labels of a data plane.
    pub labels: BTreeMap<String, String>,
}

/// Without the token.
impl std::fmt::Debug for ClusterSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { listeners, control_planes, mtls, .. } = self;
        let mut out = f.debug_struct("ClusterSettings");
        out.field("listeners", listeners).field("control_planes", control_planes).field("mtls", mtls);
        out.finish_non_exhaustive()
    }
}

impl Builder<'_> {
    pub(super) fn role(&mut self) -> Role {
        match self.text("role").as_deref() {
            Some("control_plane") => Role::ControlPlane,
            Some("data_plane") => Role::DataPlane,
            _ => Role::Traditional,
        }
    }

    pub(super) fn cluster(&mut self, role: Role) -> ClusterSettings {
        let control_planes = self.control_planes();
        if role == Role::DataPlane && control_planes.is_empty() {
            self.fail::<()>(
                "cluster_control_plane",
                "needed when role is data_plane: the address of a control plane, as host:port",
            );
        }
        let mtls = match self.text("cluster_mtls").as_deref() {
            Some("pki") => ClusterMtls::Pki,
            _ => ClusterMtls::Shared,
        };
        let certificate = self.cluster_certificate();
        let authorities = self.text("cluster_ca_cert").and_then(|value| self.pem("cluster_ca_cert", &value));
        if certificate.is_some() && mtls == ClusterMtls::Pki && authorities.is_none() {
            self.fail::<()>("cluster_ca_cert", "needed when cluster_mtls is pki");
        }
        ClusterSettings {
            listeners: self.parsed("cluster_listen", listen::plain_addresses).unwrap_or_default(),
            is_listen_given: !self.place("cluster_listen").is_empty(),
            control_planes,
            mtls,
            certificate,
            authorities,
            server_name: self.text("cluster_server_name"),
            join_token: self.text("cluster_join_token"),
            labels: self.labels(),
        }
    }

    fn cluster_certificate(&mut self) -> Option<PemPair> {
        match (self.text("cluster_cert"), self.text("cluster_cert_key")) {
            (None, None) => None,
            (Some(_), None) => self.fail("cluster_cert_key", "needed with cluster_cert"),
            (None, Some(_)) => self.fail("cluster_cert", "needed with cluster_cert_key"),
            (Some(chain), Some(key)) => {
                let (chain, key) = (self.pem("cluster_cert", &chain)?, self.pem("cluster_cert_key", &key)?);
                Some(PemPair { chain: chain.into(), key: key.into() })
            }
        }
    }

    fn control_planes(&mut self) -> Vec<(String, u16)> {
        let mut found = Vec::new();
        for text in self.list("cluster_control_plane") {
            match address(&text) {
                Some(address) => found.push(address),
                None => {
                    self.fail::<()>("cluster_control_plane", &format!("expected host:port, not '{text}'"));
                }
            }
        }
        found
    }

    fn labels(&mut self) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::new();
        for text in self.list("cluster_dp_labels") {
            match text.split_once(':') {
                Some((name, value)) if !name.is_empty() && !value.is_empty() => {
                    labels.insert(name.trim().to_owned(), value.trim().to_owned());
                }
                _ => {
                    self.fail::<()>("cluster_dp_labels", &format!("expected name:value, not '{text}'"));
                }
            }
        }
        labels
    }
}

/// `host`, `host:port`, `[address]:port`.
fn address(text: &str) -> Option<(String, u16)> {
    if let Some((address, port)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let port = if port.is_empty() { PORT } else { port.strip_prefix(':')?.parse().ok()? };
        return Some((address.to_owned(), port));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, port.parse().ok()?),
        None => (text, PORT),
    };
    let is_name =
        !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    is_name.then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_planes_have_addresses() {
        let of = |host: &str, port| Some((host.to_owned(), port));
        assert_eq!(address("cp.example:9005"), of("cp.example", 9_005));
        assert_eq!(address("10.0.0.1"), of("10.0.0.1", 8_005));
        assert_eq!(address("[::1]:1"), of("::1", 1));
        assert_eq!(address("[::1]"), of("::1", 8_005));
        for wrong in ["", ":1", "a:b", "a:70000", "[::1", "[::1]1", "https://a:1", "a b:1"] {
            assert_eq!(address(wrong), None, "{wrong}");
        }
    }
}
