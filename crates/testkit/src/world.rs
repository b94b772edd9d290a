//! [`World`]: a Kong file served by a real engine on loopback ports.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context, Result, anyhow, bail};
use cardinal_engine::{Configuration, Engine, Options};
use cardinal_ir::{Diagnostic, ListenerKind, Severity};
use cardinal_kong::settings::Inputs;
use cardinal_kong::{KongStatus, Registry, Settings, Source, load, lower};
use cardinal_sdk::PluginDef;

/// A Kong file served by a real engine: plain HTTP, and HTTPS with HTTP/2, each on a port that the system chose.
pub struct World {
    engine: Engine,
    plugins: &'static [&'static PluginDef],
    settings: Settings,
    /// What was said about the generation that is served.
    pub diagnostics: Vec<Diagnostic>,
}

impl World {
    /// Serves `yaml` with these settings, over the defaults of the test world.
    ///
    /// # Errors
    /// When the file or the settings are refused, or anything in them had to be left out.
    pub fn start(plugins: &'static [&'static PluginDef], yaml: &str, settings: &[(&str, &str)]) -> Result<Self> {
        let world = Self::start_lenient(plugins, yaml, settings)?;
        let errors: Vec<String> =
            world.diagnostics.iter().filter(|d| d.severity == Severity::Error).map(ToString::to_string).collect();
        if errors.is_empty() { Ok(world) } else { bail!("left out: {}", errors.join("; ")) }
    }

    /// The same, for files with entities that are left out.
    ///
    /// # Errors
    /// When the file as a whole or the settings are refused.
    pub fn start_lenient(
        plugins: &'static [&'static PluginDef],
        yaml: &str,
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        Self::start_with(plugins, yaml, settings, Options::default())
    }

    /// The same with options of the engine, say a clock; the plugins are the world's.
    ///
    /// # Errors
    /// When the file as a whole or the settings are refused.
    pub fn start_with(
        plugins: &'static [&'static PluginDef],
        yaml: &str,
        settings: &[(&str, &str)],
        options: Options,
    ) -> Result<Self> {
        let settings = read_settings(settings)?;
        let (configuration, diagnostics) = compile(plugins, yaml, &settings)?;
        Self::serve(plugins, (configuration, diagnostics), settings, options)
    }

    /// The IR that a world would serve, to be changed before [`World::of`] serves it.
    ///
    /// # Errors
    /// When the file or the settings are refused.
    pub fn compiled(
        plugins: &'static [&'static PluginDef],
        yaml: &str,
        settings: &[(&str, &str)],
    ) -> Result<Configuration> {
        compile(plugins, yaml, &read_settings(settings)?).map(|(configuration, _)| configuration)
    }

    /// Serves a configuration.
    ///
    /// # Errors
    /// When it cannot be served.
    pub fn of(plugins: &'static [&'static PluginDef], configuration: Configuration) -> Result<Self> {
        Self::serve(plugins, (configuration, Vec::new()), read_settings(&[])?, Options::default())
    }

    fn serve(
        plugins: &'static [&'static PluginDef],
        (configuration, mut diagnostics): (Configuration, Vec<Diagnostic>),
        settings: Settings,
        options: Options,
    ) -> Result<Self> {
        let workers = if options.workers == 0 { 2 } else { options.workers };
        let options = Options { workers, plugins: plugins.to_vec(), status_form: Some(&KongStatus), ..options };
        let (engine, applied) = Engine::start(configuration, options)?;
        diagnostics.extend(applied.diagnostics);
        Ok(Self { engine, plugins, settings, diagnostics })
    }

    /// Serves another file.
    ///
    /// # Errors
    /// When it is refused; then the old one is still served.
    pub fn apply(&self, yaml: &str) -> Result<u64> {
        let (configuration, _) = compile(self.plugins, yaml, &self.settings)?;
        self.serve_other(configuration)
    }

    /// Serves another file with other settings, as a reload of both does. Listeners stay as they are.
    ///
    /// # Errors
    /// When it is refused; then the old one is still served.
    pub fn apply_with(&self, yaml: &str, settings: &[(&str, &str)]) -> Result<u64> {
        let (configuration, _) = compile(self.plugins, yaml, &read_settings(settings)?)?;
        self.serve_other(configuration)
    }

    /// Serves another configuration, as an update from the one that is served.
    ///
    /// # Errors
    /// When it is refused; then the old one is still served.
    pub fn serve_other(&self, configuration: Configuration) -> Result<u64> {
        let applied = self.engine.apply(self.engine.update(configuration));
        applied.map(|applied| applied.generation).map_err(Into::into)
    }

    /// The configuration that a file is on this node.
    ///
    /// # Errors
    /// When the file is refused.
    pub fn compile(&self, yaml: &str) -> Result<Configuration> {
        compile(self.plugins, yaml, &self.settings).map(|(configuration, _)| configuration)
    }

    /// Where plain HTTP is served.
    pub fn http(&self) -> SocketAddr {
        self.address("plain HTTP", |kind, tls| kind == ListenerKind::Http && !tls)
    }

    /// Where HTTPS is served.
    pub fn https(&self) -> SocketAddr {
        self.address("HTTPS", |kind, tls| kind == ListenerKind::Http && tls)
    }

    /// Where streams are served, with or without TLS.
    pub fn stream(&self, tls: bool) -> SocketAddr {
        self.address("streams", |kind, with| kind == ListenerKind::Stream && with == tls)
    }

    /// Where datagrams are served.
    pub fn udp(&self) -> SocketAddr {
        self.address("datagrams", |kind, _| kind == ListenerKind::Udp)
    }

    /// Where the node's state is told.
    pub fn status(&self) -> SocketAddr {
        self.address("status", |kind, _| kind == ListenerKind::Status)
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Ends the world, and gives the engine to be drained.
    pub fn into_engine(self) -> Engine {
        self.engine
    }

    fn address(&self, what: &str, is: impl Fn(ListenerKind, bool) -> bool) -> SocketAddr {
        let found = self.engine.addresses().into_iter().find(|(listener, _)| is(listener.kind, listener.tls.is_some()));
        found.map(|(_, address)| address).unwrap_or_else(|| panic!("no listener for {what} in this world"))
    }
}

fn read_settings(given: &[(&str, &str)]) -> Result<Settings> {
    let overrides: BTreeMap<String, String> =
        [("proxy_listen", "127.0.0.1:0, 127.0.0.1:0 ssl http2"), ("status_listen", "off")]
            .into_iter()
            .chain(given.iter().copied())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
    let inputs = Inputs { overrides, ..Inputs::default() };
    let read = |path: &str| std::fs::read_to_string(path);
    Settings::load(&inputs, &read).map(|(settings, _)| settings).map_err(|notes| anyhow!("settings: {notes:?}"))
}

fn compile(
    plugins: &[&'static PluginDef],
    yaml: &str,
    settings: &Settings,
) -> Result<(Configuration, Vec<Diagnostic>)> {
    let registry = Registry::for_settings(plugins, settings).map_err(|names| anyhow!("plugins: {names:?}"))?;
    let files = [Source::new("kong.yaml", yaml)];
    let snapshot =
        load(&files, &registry, settings).map_err(|errors| anyhow!("{}", errors.render())).context("the file")?;
    let (ir, secrets, diagnostics) = lower(&snapshot, &registry, settings);
    Ok((Configuration::new(ir, settings.node.clone()).with_secrets(secrets), diagnostics))
}
