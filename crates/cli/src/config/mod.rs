//! From files and settings to a configuration: shared by `run`, `check` and `explain`.

mod files;
mod refusal;
mod streams;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use aws_lc_rs::digest::{Context as Hash, SHA256};
use cardinal_base::{Clock as _, SystemClock, random_id};
use cardinal_engine::{Configuration, EngineError};
use cardinal_ir::{Code, Diagnostic, Diagnostics, Id, SecretKey, Severity};
use cardinal_kong::check::{OrderReport, Report, order_report};
use cardinal_kong::declarative::{Hidden, fill, redact_map};
use cardinal_kong::entities::{Kind, choices};
use cardinal_kong::settings::{Database, Inputs, Note, Role};
use cardinal_kong::{LoadErrors, Registry, Settings, Snapshot, Source, SourceMap, load, lower, lower_owned};
use cardinal_sdk::PluginDef;

use crate::args::SettingArgs;
use crate::out;

use files::Unreadable;
pub(crate) use files::{is_config_name, read_text};
pub(crate) use refusal::{Refusal, render_diagnostics};
use streams::Streams;
pub(crate) use streams::{is_stdin, is_stream, read_stream};

/// Where the configuration comes from; the same for the whole life of the process.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) plugins: &'static [&'static PluginDef],
    conf: Option<PathBuf>,
    env: BTreeMap<String, String>,
    overrides: BTreeMap<String, String>,
    /// Variables of decK in files are filled in from the environment.
    fill_env: bool,
    /// Named on the command line; they win over those that settings name.
    files: Vec<PathBuf>,
    /// What was read from standard input and pipes.
    streams: Streams,
    /// Id of the node where settings give none.
    pub(crate) node_id: Option<Id>,
    /// What references to secrets are derived with where settings give nothing. At random, if it is not set.
    pub(crate) secret_key: SecretKey,
    /// Seconds since the epoch that entities get as their times. Stays, so that a reload does not change them.
    loaded_at: f64,
}

/// Settings, and errors and warnings about them.
#[derive(Debug)]
pub(crate) struct Preferences {
    pub(crate) settings: Settings,
    pub(crate) notes: Vec<Note>,
    /// Text of the file of settings, to see whether it changed.
    conf: String,
}

/// Files as they were read, before anything is made of them.
#[derive(Debug)]
pub(crate) struct Texts {
    pub(crate) sources: Vec<Source>,
    /// Over all that was read: equal when nothing changed.
    pub(crate) digest: Digest,
}

pub(crate) type Digest = [u8; 32];

/// A configuration as a node serves it. The entities are not part of it, so that their memory is free again before the
/// engine needs its own.
#[derive(Debug)]
pub(crate) struct LoweredConfig {
    pub(crate) configuration: Configuration,
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// `2 services, 3 routes`.
    pub(crate) summary: String,
    /// Values that were filled in, for messages of the engine.
    pub(crate) hidden: Hidden,
    /// Where the entities were written.
    pub(crate) source_map: SourceMap,
    /// The entities, if they are kept.
    pub(crate) entities: Option<Arc<Snapshot>>,
}

/// How a node reads a configuration.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reading {
    /// All of it is served, or nothing.
    pub(crate) strict: bool,
    /// The entities are kept. They are freed as they are lowered otherwise.
    pub(crate) keep_entities: bool,
    /// A client sent it, whom the environment of the process does not concern: no variable is filled in.
    pub(crate) is_posted: bool,
}

/// A configuration that can be served, for a report.
#[derive(Debug)]
pub(crate) struct Examined {
    pub(crate) configuration: Configuration,
    /// What was left out while lowering, and warnings.
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// Warnings about the files.
    pub(crate) warnings: Vec<Diagnostic>,
    pub(crate) report: Report,
    pub(crate) order: OrderReport,
    pub(crate) counts: Counts,
    pub(crate) entities: Option<Entities>,
    /// What output must not show.
    pub(crate) hidden: Hidden,
    /// Where the entities were written.
    pub(crate) source_map: SourceMap,
}

/// How many entities of each kind there are: kind, noun, number.
#[derive(Debug)]
pub(crate) struct Counts(Vec<(&'static str, String, usize)>);

/// The entities of a configuration, to be shown.
#[derive(Debug)]
pub(crate) struct Entities {
    snapshot: Snapshot,
    registry: Registry,
}

/// A configuration that can be served.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) snapshot: Snapshot,
    pub(crate) registry: Registry,
    pub(crate) configuration: Configuration,
    /// What was left out while lowering, and warnings.
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// What output must not show.
    pub(crate) hidden: Hidden,
}

impl Site {
    /// The sources given by the command line and the environment.
    pub(crate) fn new(
        plugins: &'static [&'static PluginDef],
        files: Vec<PathBuf>,
        args: SettingArgs,
        env: BTreeMap<String, String>,
    ) -> Self {
        let now = SystemClock::new().unix().0;
        #[allow(clippy::cast_precision_loss, reason = "seconds since the epoch are far below 2^53")]
        let loaded_at = (now / 1000) as f64;
        Self {
            plugins,
            conf: args.conf,
            env,
            fill_env: args.fill_env,
            overrides: args.set.into_iter().collect(),
            files,
            streams: Streams::default(),
            node_id: None,
            secret_key: SecretKey::of_text(&format!("{}{}", random_id(), random_id())),
            loaded_at,
        }
    }

    /// Sets a setting, unless `--set` already did.
    pub(crate) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.overrides.entry(name.to_owned()).or_insert_with(|| value.into());
    }

    /// Reads the settings.
    pub(crate) fn settings(&self) -> Result<Preferences, Refusal> {
        let conf = match &self.conf {
            Some(path) => read_text(path).map_err(|why| why.of(path))?,
            None => String::new(),
        };
        let name = self.conf.as_deref().map(|path| path.display().to_string());
        let file = name.as_deref().map(|name| (name, conf.as_str()));
        let inputs = Inputs { file, env: self.env.clone(), overrides: self.overrides.clone() };
        let transient = Cell::new(false);
        let read = |path: &str| {
            read_text(Path::new(path)).map_err(|why| {
                transient.set(transient.get() || why.transient);
                std::io::Error::other(why.to_string())
            })
        };
        let refused = |notes| Refusal::Settings { notes, transient: transient.get() };
        let (mut settings, mut notes) = Settings::load(&inputs, &read).map_err(refused)?;
        let (errors, warnings) =
            choices(self.plugins, &settings).into_iter().partition::<Vec<_>, _>(|note| note.is_error);
        if !errors.is_empty() {
            return Err(Refusal::Settings { notes: errors, transient: false });
        }
        notes.extend(warnings);
        notes.extend(self.role_notes(&settings)?);
        settings.loaded_at = self.loaded_at;
        self.identify(&mut settings);
        settings
            .secrets
            .read_files()
            .map_err(|why| Unreadable::from(why).of(Path::new(settings.secrets.dir.as_deref().unwrap_or_default())))?;
        Ok(Preferences { settings, notes, conf })
    }

    /// What files of entities mean where the node has a role.
    fn role_notes(&self, settings: &Settings) -> Result<Option<Note>, Refusal> {
        let has_files = !self.paths(settings).is_empty() || settings.declarative_config_string.is_some();
        if !has_files || settings.role == Role::Traditional {
            return Ok(None);
        }
        let is_error = settings.role == Role::DataPlane;
        let message = match is_error {
            true => "a data plane gets its entities from control planes: give it no files, or set role = traditional",
            false => "a control plane of Kong needs a database; here the entities of the files are sent to data planes",
        };
        let note = Note { is_error, name: "role".to_owned(), at: String::new(), message: message.to_owned() };
        if is_error { Err(Refusal::Settings { notes: vec![note], transient: false }) } else { Ok(Some(note)) }
    }

    /// Gives the node its id and its key where the settings give none.
    pub(crate) fn identify(&self, settings: &mut Settings) {
        if let Some(id) = self.node_id.filter(|_| !settings.node_id_given) {
            settings.node.id = id;
        }
        if !settings.secret_key_given {
            settings.secret_key = self.secret_key.clone();
        }
    }

    /// The file of settings.
    pub(crate) fn conf(&self) -> Option<&Path> {
        self.conf.as_deref()
    }

    /// The files and directories that entities are read from.
    pub(crate) fn paths(&self, settings: &Settings) -> Vec<PathBuf> {
        match self.files.as_slice() {
            [] => settings.declarative_config.iter().map(PathBuf::from).collect(),
            files => files.to_vec(),
        }
    }

    /// Names of those that can be read only once.
    pub(crate) fn streams(&self, settings: &Settings) -> Vec<String> {
        self.paths(settings).iter().filter(|path| is_stream(path)).map(|path| streams::name_of(path)).collect()
    }

    /// Reads what entities are written in.
    pub(crate) fn texts(&self, preferences: &Preferences) -> Result<Texts, Refusal> {
        let paths = self.paths(&preferences.settings);
        let mut sources = files::read_sources(&paths, &self.streams)?;
        if let (true, Some(text)) = (paths.is_empty(), &preferences.settings.declarative_config_string) {
            sources.push(Source::new("declarative_config_string", text.as_str()));
        }
        let digest = digest(&preferences.conf, &sources);
        Ok(Texts { sources, digest })
    }

    /// Makes of texts what can be served.
    pub(crate) fn load(&self, settings: &Settings, sources: &[Source]) -> Result<Loaded, Refusal> {
        let registry = self.registry(settings)?;
        let sources = self.filled(sources)?;
        let snapshot = load(&sources, &registry, settings).map_err(Refusal::Load)?;
        let (ir, secrets, diagnostics) = lower(&snapshot, &registry, settings);
        let configuration = Configuration::new(ir, settings.node.clone()).with_secrets(secrets);
        let hidden = Hidden::of_files(&sources, &registry).with_references(&snapshot, &registry, settings);
        Ok(Loaded { snapshot, registry, configuration, diagnostics, hidden })
    }

    /// The same for a report. The entities are freed as they are lowered unless they are `kept`.
    pub(crate) fn examine(&self, settings: &Settings, sources: &[Source], kept: bool) -> Result<Examined, Refusal> {
        let registry = self.registry(settings)?;
        let sources = self.filled(sources)?;
        let snapshot = load(&sources, &registry, settings).map_err(Refusal::Load)?;
        let hidden = Hidden::of_files(&sources, &registry).with_references(&snapshot, &registry, settings);
        let (report, order) = (Report::new(&snapshot, &registry, settings), order_report(&snapshot, settings));
        let (counts, warnings) = (Counts::of(&snapshot, &registry), snapshot.warnings().to_vec());
        let source_map = SourceMap::of(&snapshot);
        let (entities, (ir, secrets, diagnostics)) = if kept {
            let lowered = lower(&snapshot, &registry, settings);
            (Some(Entities { snapshot, registry }), lowered)
        } else {
            (None, lower_owned(snapshot, &registry, settings))
        };
        cardinal_base::memory::release_free();
        let configuration = Configuration::new(ir, settings.node.clone()).with_secrets(secrets);
        Ok(Examined { configuration, diagnostics, warnings, report, order, counts, entities, hidden, source_map })
    }

    /// The same for a node, which needs no more than what it serves.
    pub(crate) fn lowered(
        &self,
        settings: &Settings,
        sources: &[Source],
        reading: Reading,
    ) -> Result<LoweredConfig, Refusal> {
        let Reading { strict, keep_entities, is_posted } = reading;
        let registry = self.registry(settings)?;
        let sources = if is_posted { Cow::Borrowed(sources) } else { self.filled(sources)? };
        let snapshot = load(&sources, &registry, settings).map_err(Refusal::Load)?;
        let summary = Counts::of(&snapshot, &registry).summary(|_, all| all);
        let (hidden, source_map) = (Hidden::of_files(&sources, &registry), SourceMap::of(&snapshot));
        let (entities, (ir, secrets, mut diagnostics)) = if keep_entities {
            let lowered = lower(&snapshot, &registry, settings);
            (Some(Arc::new(snapshot)), lowered)
        } else {
            (None, lower_owned(snapshot, &registry, settings))
        };
        hidden.hide_in(&mut diagnostics);
        let configuration = Configuration::new(ir, settings.node.clone()).with_secrets(secrets);
        let lowered = LoweredConfig { configuration, diagnostics, summary, hidden, source_map, entities };
        if strict {
            self.refuse_incomplete(&lowered, &sources)?;
        }
        cardinal_base::memory::release_free();
        Ok(lowered)
    }

    /// The files, with variables filled in if `--fill-env` is given.
    fn filled<'s>(&self, sources: &'s [Source]) -> Result<Cow<'s, [Source]>, Refusal> {
        let sources = match sources {
            [] => Cow::Owned(vec![Source::new("empty", "_format_version: '3.0'")]),
            sources => Cow::Borrowed(sources),
        };
        if self.fill_env { fill(&sources, &self.env).map(Cow::Owned).map_err(Refusal::Load) } else { Ok(sources) }
    }

    /// Files with variables filled in, if that is done.
    pub(crate) fn fill_sources(&self, sources: &[Source]) -> Result<Vec<Source>, Box<LoadErrors>> {
        if self.fill_env { fill(sources, &self.env) } else { Ok(sources.to_vec()) }
    }

    fn refuse_incomplete(&self, lowered: &LoweredConfig, sources: &[Source]) -> Result<(), Refusal> {
        let mut all = lowered.diagnostics.clone();
        all.extend(self.plan(&lowered.configuration, &lowered.source_map).map_err(Refusal::Internal)?);
        lowered.hidden.hide_in(&mut all);
        sharpen(&mut all);
        let is_incomplete = all.iter().any(|d| d.severity == Severity::Error);
        if is_incomplete { Err(Refusal::Incomplete(all, sources.to_vec())) } else { Ok(()) }
    }

    /// Plans the configuration, and returns diagnostics of what would be left out.
    pub(crate) fn plan(&self, configuration: &Configuration, source_map: &SourceMap) -> Result<Vec<Diagnostic>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("a runtime")?;
        let validated = {
            let _entered = runtime.enter();
            configuration.validate(self.plugins)
        };
        // The caller may be within a runtime of its own, where waiting for this one to end is not allowed.
        runtime.shutdown_background();
        let mut diagnostics = match validated {
            Ok(diagnostics) => diagnostics,
            Err(EngineError::Refused(diagnostics)) => diagnostics.into_vec(),
            Err(error) => return Err(error.into()),
        };
        source_map.fill(&mut diagnostics);
        Ok(diagnostics)
    }

    /// Whether entities are in a store, and not in files.
    pub(crate) fn uses_store(&self, settings: &Settings) -> bool {
        match settings.database {
            // Files of the command line win over settings.
            _ if !self.files.is_empty() || settings.role == Role::DataPlane => false,
            Some(database) => database != Database::Off,
            None => self.paths(settings).is_empty() && settings.declarative_config_string.is_none(),
        }
    }

    /// Whether settings name a database, and the files of the command line are used instead.
    pub(crate) fn ignores_database(&self, settings: &Settings) -> bool {
        !self.files.is_empty() && settings.database.is_some_and(|database| database != Database::Off)
    }

    /// The environment.
    pub(crate) fn env(&self) -> &BTreeMap<String, String> {
        &self.env
    }

    /// The kinds of entities and plugins of the node.
    pub(crate) fn registry(&self, settings: &Settings) -> Result<Registry, Refusal> {
        let refused = |notes| Refusal::Settings { notes, transient: false };
        Registry::for_settings(self.plugins, settings).map_err(refused)
    }
}

impl Preferences {
    /// Over the settings and these files: equal when nothing changed.
    pub(crate) fn digest(&self, sources: &[Source]) -> Digest {
        digest(&self.conf, sources)
    }
}

impl LoweredConfig {
    /// Why the engine does not serve it, with places and the files.
    pub(crate) fn refused(&self, diagnostics: Diagnostics, texts: &Texts) -> Refusal {
        Refusal::Incomplete(self.placed(diagnostics.into_vec()), texts.sources.clone())
    }

    /// Diagnostics of the engine with their places, and without values that were filled in.
    pub(crate) fn placed(&self, mut diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
        self.source_map.fill(&mut diagnostics);
        self.hidden.hide_in(&mut diagnostics);
        diagnostics
    }
}

impl Counts {
    fn of(snapshot: &Snapshot, registry: &Registry) -> Self {
        let of = |kind: &Kind| (kind.name, kind.singular().replace('_', " "), snapshot.count(kind.name));
        Self(registry.kinds().map(of).collect())
    }

    /// `2 services, 3 routes`: for each kind the number that `count` returns for the kind and its total.
    pub(crate) fn summary(&self, count: impl Fn(&str, usize) -> usize) -> String {
        let numbers = self.0.iter().map(|(kind, noun, all)| (count(kind, *all), noun));
        let counts: Vec<String> =
            numbers.filter(|(number, _)| *number > 0).map(|(number, noun)| out::count(number, noun)).collect();
        if counts.is_empty() { "no entities".to_owned() } else { counts.join(", ") }
    }
}

impl Entities {
    /// Writes all entities as Kong shows them, `{kind: {id: entity}}`, without secrets.
    pub(crate) fn write(&self, screen: &mut out::Screen) -> Result<()> {
        let Self { snapshot, registry } = self;
        let mut next_kind = "{";
        for kind in snapshot.kinds().filter(|kind| snapshot.count(kind) > 0) {
            screen.print(&format!("{next_kind}\"{kind}\":"))?;
            next_kind = ",";
            let mut next = "{";
            for entity in snapshot.of(kind) {
                let schema = registry.kind(kind).and_then(|kind| registry.schema_of(kind, &entity.value).ok());
                screen.print(&format!("{next}\"{}\":", entity.id))?;
                next = ",";
                screen.print_value(redact_map(&entity.value, schema).into())?;
            }
            screen.print("}")?;
        }
        let members = snapshot.memberships_json();
        if !members.is_empty() {
            screen.print(&format!("{next_kind}\"consumer_group_consumers\":"))?;
            next_kind = ",";
            screen.print_value(members.into())?;
        }
        screen.print(if next_kind == "{" { "{}" } else { "}" })
    }
}

/// Where nothing may be left out, a value that another one by the same key replaces may not be either.
pub(crate) fn sharpen(diagnostics: &mut [Diagnostic]) {
    for diagnostic in diagnostics.iter_mut().filter(|d| d.code == Code::Unique) {
        diagnostic.severity = Severity::Error;
    }
}

/// Over everything that was read, names included.
fn digest(conf: &str, sources: &[Source]) -> Digest {
    let mut hash = Hash::new(&SHA256);
    let texts = sources.iter().flat_map(|source| [source.name.as_str(), source.text.as_str()]);
    for text in [conf].into_iter().chain(texts) {
        hash.update(&text.len().to_be_bytes());
        hash.update(text.as_bytes());
    }
    let mut digest = Digest::default();
    digest.copy_from_slice(hash.finish().as_ref());
    digest
}
