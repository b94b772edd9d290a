//! Whether the files of a configuration can be written by the Admin API (`--writable`).

use anyhow::{Result, bail};
use cardinal_kong::declarative::{Data, Scalar, parse};

use crate::config::{Preferences, Site};

/// The format that is written.
const FORMAT: &str = "3.0";

/// Checks that there are files, that they can be written, and that an API could do so.
pub(super) fn check(site: &Site, preferences: &Preferences) -> Result<()> {
    let settings = &preferences.settings;
    let paths = site.paths(settings);
    if site.uses_store(settings) || paths.is_empty() {
        bail!(
            "--writable needs files to write to: name them with --config (entities of a database can be written anyway)"
        );
    }
    if settings.admin.listeners.is_empty() {
        bail!("--writable needs the Admin API, which admin_listen=off turns off");
    }
    if let [stream, ..] = site.streams(settings).as_slice() {
        bail!("--writable: {stream} cannot be written back to, as it is not a file: save it as one");
    }
    // What cannot be read is told when it is loaded.
    let Ok(texts) = site.texts(preferences) else { return Ok(()) };
    for source in &texts.sources {
        let Ok(root) = parse(&source.text) else { continue };
        let format = root.get("_format_version").map(|node| &node.data);
        if let Some(Data::Scalar(Scalar::String(format))) = format
            && **format != *FORMAT
        {
            let file = &source.name;
            bail!(
                "--writable: {file} has the format {format}, and only {FORMAT} is written; to convert it, run without \
                 --writable once and save what it says: curl -s http://127.0.0.1:8001/config | jq -r .config > new.yaml"
            );
        }
    }
    Ok(())
}
