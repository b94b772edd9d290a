//! `cardinal cluster`: certificates and join tokens of control planes and data planes.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use cardinal_base::{Clock as _, SystemClock};
use cardinal_control::Cluster;
use cardinal_sdk::PluginDef;
use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};

use crate::args::{CertArgs, ClusterCommand, TokenArgs};
use crate::out;
use crate::store::{Missing, Opened};

type Plugins = &'static [&'static PluginDef];
type Env = BTreeMap<String, String>;

/// The name in a certificate that is shared, as Kong has it.
const SHARED_NAME: &str = "kong_clustering";

pub(crate) fn run(command: ClusterCommand, plugins: Plugins, env: Env) -> Result<ExitCode> {
    match command {
        ClusterCommand::Token(args) => token(args, plugins, env),
        ClusterCommand::Cert(args) => certificate(&args),
    }
}

fn token(args: TokenArgs, plugins: Plugins, env: Env) -> Result<ExitCode> {
    let opened = Opened::new(args.store, plugins, env, Missing::Refuse)?;
    let clock = &*opened.place.clock;
    let cluster = opened.wait(Cluster::open(&*opened.store, clock))?;
    let token = cluster.token(args.ttl, clock).context("the authority for data planes has no certificate")?;
    out::print(&format!("{}\n", token.expose()))?;
    Ok(ExitCode::SUCCESS)
}

fn certificate(args: &CertArgs) -> Result<ExitCode> {
    let key = KeyPair::generate().context("a private key")?;
    let mut params = CertificateParams::new(vec![SHARED_NAME.to_owned()]).context("a certificate")?;
    params.distinguished_name.push(DnType::CommonName, SHARED_NAME);
    let now = SystemClock::new().unix().seconds();
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(now.saturating_sub(300));
    params.not_after = epoch + Duration::from_secs(now + u64::from(args.days) * 86_400);
    let certificate = params.self_signed(&key).context("a certificate")?;
    let (cert_path, key_path) = (args.dir.join("cluster.crt"), args.dir.join("cluster.key"));
    // The key first: a certificate without its key is of no use.
    write_new(&key_path, &key.serialize_pem(), 0o600)?;
    write_new(&cert_path, &certificate.pem(), 0o644)?;
    let (cert, key) = (cert_path.display(), key_path.display());
    out::print(&format!("cluster_cert = {cert}\ncluster_cert_key = {key}\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// Writes a file that is not there yet.
fn write_new(path: &Path, text: &str, mode: u32) -> Result<()> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
