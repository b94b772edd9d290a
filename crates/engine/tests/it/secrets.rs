//! Secrets are separate from records: entities with secrets, and entities skipped without them.

use std::sync::{Mutex, PoisonError};

use anyhow::{Result, ensure};
use cardinal_engine::Configuration;
use cardinal_ir::{Code, Diagnostic, SecretKey, SecretRef, Secrets, Severity};
use cardinal_testkit::{Authority, EchoServer, H1Client, World};

use crate::plugins;

static KEPT: Mutex<Option<Secrets>> = Mutex::new(None);

/// Stores a secret for the records of any test.
pub(crate) fn keep(secret: &str) -> SecretRef {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    kept.get_or_insert_default().add(&SecretKey::default(), secret)
}

/// All stored secrets.
pub(crate) fn known() -> Secrets {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner).clone().unwrap_or_default()
}

const KEY: &str = "hush-key";

fn indented(pem: &str) -> String {
    pem.lines().map(|line| format!("    {line}\n")).collect()
}

/// A certificate, an API key, and an instance with a password in its parameters.
fn file(echo: &EchoServer, authority: &Authority) -> String {
    let issued = authority.issue(&["secure.test"]);
    format!(
        "_format_version: '3.0'\nservices:\n- url: {}\n  routes:\n  - paths: [/key]\n    plugins:\n    - name: key-auth\n  \
         - paths: [/limited]\n    plugins:\n    - name: rate-limiting\n      config: {{minute: 9, policy: redis, redis: \
         {{host: 127.0.0.1, port: 1, password: hush-password}}}}\n  - paths: [/plain]\nconsumers:\n- username: alice\n  \
         keyauth_credentials:\n  - key: {KEY}\ncertificates:\n- snis:\n  - name: secure.test\n  cert: |\n{}  key: |\n{}",
        echo.url(),
        indented(&issued.cert_pem),
        indented(&issued.key_pem),
    )
}

/// The statuses of the three routes.
async fn statuses(world: &World) -> Result<[u16; 3]> {
    let mut found = [0; 3];
    for (status, path) in found.iter_mut().zip(["/key", "/limited", "/plain"]) {
        let mut client = H1Client::connect(world.http()).await?;
        *status = client.get(path, "a.test", &[("apikey", KEY)]).await?.status;
    }
    Ok(found)
}

/// Kinds of the objects skipped because of a missing secret.
fn left_out(diagnostics: &[Diagnostic]) -> Vec<&str> {
    let missing = |found: &&Diagnostic| found.code == Code::Secret && found.severity == Severity::Error;
    let mut kinds: Vec<&str> = diagnostics.iter().filter(missing).map(|found| found.origin.kind()).collect();
    kinds.sort_unstable();
    kinds
}

#[tokio::test]
async fn what_lacks_its_secret_is_left_out_until_it_comes() -> Result<()> {
    let (echo, authority) = (EchoServer::start("echo").await, Authority::new("tests"));
    let whole = World::compiled(plugins(), &file(&echo, &authority), &[])?;
    let bare = Configuration { secrets: Secrets::default(), ..whole.clone() };
    let validated = bare.validate(plugins())?;
    assert_eq!(left_out(&validated), ["certificates", "keyauth_credentials", "plugins"]);
    let world = World::of(plugins(), bare.clone())?;
    let named = world.engine().plan().is_some_and(|plan| plan.tls.names.find(Some("secure.test")).is_empty());
    ensure!(named || !world.engine().plan().is_some_and(|plan| plan.ir.certificates.is_empty()));
    // No consumer has the key, and the instance that cannot be built rejects all requests.
    assert_eq!(statuses(&world).await?, [401, 500, 200]);
    for (configuration, expect) in [(&whole, [200; 3]), (&whole, [200; 3])] {
        let applied = world.engine().apply(world.engine().update(configuration.clone()))?;
        assert_eq!(left_out(&applied.diagnostics), [""; 0], "{:?}", applied.diagnostics);
        assert_eq!(statuses(&world).await?, expect);
    }
    Ok(())
}

#[tokio::test]
async fn nothing_of_a_running_node_shows_a_secret() -> Result<()> {
    let (echo, authority) = (EchoServer::start("echo").await, Authority::new("tests"));
    let configuration = World::compiled(plugins(), &file(&echo, &authority), &[])?;
    let shown = format!("{configuration:?} {:?}", configuration.validate(plugins())?);
    let world = World::of(plugins(), configuration.clone())?;
    let update = world.engine().update(configuration);
    let shown = format!("{shown} {update:?} {:?}", world.engine().plan().map(|plan| plan.ir.clone()));
    for secret in [KEY, "hush-password", "PRIVATE KEY"] {
        ensure!(!shown.contains(secret), "{secret}: {shown}");
    }
    Ok(())
}
