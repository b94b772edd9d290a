//! The configuration that a process starts with.

use anyhow::{Result, anyhow};
use cardinal_base::{Clock as _, SystemClock};
use cardinal_kong::Settings;
use cardinal_sync::{ConfigProblem, Keeper, LastGood, LoadError};

use super::super::incomplete::{duration_text, of_rejected, report_rejected};
use super::super::last_good_text;
use super::super::node::log_refusal;
use super::About;
use crate::config::{Digest, LoweredConfig, Preferences, Reading, Refusal, Site, Texts};
use crate::out;
/// A configuration to start with.
pub(super) struct First {
    pub(super) loaded: LoweredConfig,
    pub(super) texts: Texts,
    pub(super) about: About,
    pub(super) refused: Option<Vec<ConfigProblem>>,
    pub(super) is_new: bool,
}

/// The configuration of the files or, if it cannot be served, the last known good one.
pub(super) fn first_configuration(
    site: &Site,
    preferences: &Preferences,
    keeper: Option<&Keeper>,
    reading: Reading,
) -> Result<First> {
    let settings = &preferences.settings;
    let paths = site.paths(settings);
    if paths.is_empty() && settings.declarative_config_string.is_none() {
        if let Some(first) = posted_before(site, settings, keeper, reading) {
            return Ok(first);
        }
        tracing::warn!("no configuration: every request is answered with 404 (see --config)");
    }
    cardinal_base::log::progress(&format!("reading {}...", out::count(paths.len(), "file")));
    let read = || -> Result<_, Refusal> {
        let texts = site.texts(preferences)?;
        Ok((site.lowered(settings, &texts.sources, reading)?, texts))
    };
    let refusal = match read() {
        Ok((loaded, texts)) => {
            let about = About::of(&loaded, &texts);
            return Ok(First { loaded, texts, about, refused: None, is_new: true });
        }
        Err(refusal) => refusal,
    };
    let Some(keeper) = keeper.filter(|_| !reading.strict) else { return Err(anyhow!(refusal)) };
    let mut first = match last_good(site, settings, keeper.file(), reading) {
        Ok(Some(first)) => first,
        Ok(None) => return Err(anyhow!(refusal)),
        Err(worse) => {
            let worse = format!("the last known good configuration cannot be served either: {}", worse.summary());
            return Err(anyhow!(refusal).context(worse));
        }
    };
    log_refusal("the configuration is refused", &refusal);
    let streams = site.streams(settings);
    let fix = match streams.len() {
        0 => "fix the files (they are reloaded automatically)".to_owned(),
        n if n == paths.len() => format!("fix {} and restart the process", streams.join(", ")),
        _ => format!("fix the files (they are reloaded automatically, {} is not)", streams.join(", ")),
    };
    let count = out::count(first.about.files, "saved file");
    let now = SystemClock::new().unix().seconds();
    let age_seconds = first.about.saved_at.map(|at| now.saturating_sub(at));
    let saved = age_seconds.map(|seconds| format!(", saved {} ago", duration_text(seconds))).unwrap_or_default();
    tracing::warn!(age_seconds, "serving the last known good configuration, from {count}{saved}; {fix}");
    first.refused = Some(refusal.problems());
    Ok(first)
}

/// The configuration that a client posted to a process before this one, where there are no files. Its entities are not
/// saved: the Admin API shows none, and the hash of an empty configuration, so that the client posts it again.
fn posted_before(site: &Site, settings: &Settings, keeper: Option<&Keeper>, reading: Reading) -> Option<First> {
    let file = keeper?.file();
    let about: About = serde_json::from_value(file.load().ok()?.about).ok()?;
    if !about.posted {
        return None;
    }
    let first = last_good(site, settings, file, reading).ok()??;
    tracing::info!("there are no files: serving the configuration that was posted to the process before");
    Some(first)
}

/// The last known good configuration. Why there is none is logged.
fn last_good(site: &Site, settings: &Settings, file: &LastGood, reading: Reading) -> Result<Option<First>, Refusal> {
    let none = |error: &anyhow::Error| {
        tracing::warn!("there is no last known good configuration: {error:#}");
        Ok(None)
    };
    match file.load() {
        Ok(saved) => {
            let mut about: About = serde_json::from_value(saved.about).unwrap_or_default();
            about.entities_left_out.extend(saved.rejected.iter().map(of_rejected).collect());
            report_rejected(&saved.rejected);
            let configuration = cardinal_engine::Configuration::new(saved.ir, settings.node.clone());
            let configuration = configuration.with_secrets(saved.secrets);
            let loaded = LoweredConfig {
                configuration,
                diagnostics: Vec::new(),
                summary: about.summary.clone(),
                hidden: about.hidden.clone(),
                source_map: cardinal_kong::SourceMap::default(),
                entities: None,
            };
            let texts = Texts { sources: Vec::new(), digest: Digest::default() };
            Ok(Some(First { loaded, texts, about, refused: None, is_new: false }))
        }
        Err(missing @ LoadError::Missing(_)) => match last_good_text::load(file.folder()) {
            Ok(None) => none(&missing.into()),
            Err(error) => none(&error),
            Ok(Some(sources)) => {
                let texts = Texts { sources, digest: Digest::default() };
                let loaded = site.lowered(settings, &texts.sources, Reading { strict: false, ..reading })?;
                let about = About::of(&loaded, &texts);
                Ok(Some(First { loaded, texts, about, refused: None, is_new: true }))
            }
        },
        // What an earlier version saved is older still, and is not served instead.
        Err(error) => none(&error.into()),
    }
}
