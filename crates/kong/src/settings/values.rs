//! Settings as text: from a file, the environment and overrides, with where each came from.

use std::collections::{BTreeMap, BTreeSet};

use crate::secrets::Secrets;

use super::directives::{self, Level, Meaning};
use super::table::{FAMILIES, Row, Status, TABLE, row};

/// Where settings come from; later ones win: file, `KONG_*`, `CARDINAL_*`, overrides.
#[derive(Clone, Debug, Default)]
pub struct Inputs<'i> {
    /// Name and contents of a `kong.conf`.
    pub file: Option<(&'i str, &'i str)>,
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// From the command line, by setting name.
    pub overrides: BTreeMap<String, String>,
}

/// An error or a warning about a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The setting cannot be used; otherwise the note is a warning.
    pub is_error: bool,
    /// The setting.
    pub name: String,
    /// Where it was set: `kong.conf:12`, `KONG_X`, `command line`.
    pub at: String,
    /// What is wrong.
    pub message: String,
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.at.is_empty() {
            write!(f, "{}: ", self.at)?;
        }
        write!(f, "{}: {}", self.name, self.message)
    }
}

/// A value with its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) text: String,
    /// The name that was written: another name of the setting, or a directive of nginx.
    pub(super) name: String,
    pub(super) at: String,
    level: Level,
}

/// Which input a setting was read from; decides how an unknown name is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    /// A `kong.conf` may hold settings of other Kong versions: a warning.
    File,
    /// The environment also holds variables that are no settings at all: a warning, except for those.
    Env,
    /// A name on the command line is typed for this run alone: an error.
    CommandLine,
}

/// Variables of Kong's container images, and of clients of the Admin API, that are no settings.
const OTHER_VARIABLES: [&str; 6] = ["version", "sha256", "image", "build", "admin_token", "admin_url"];

/// Settings that are checked against one another.
const TOGETHER: [&[&str]; 3] = [
    &["ssl_cert", "ssl_cert_key"],
    &["ssl_cipher_suite", "ssl_ciphers"],
    &["nginx_proxy_ssl_verify_client", "nginx_proxy_ssl_client_certificate"],
];

/// The settings that were given, by name.
#[derive(Debug, Default)]
pub(super) struct Values {
    given: BTreeMap<&'static str, Given>,
    /// Settings whose references cannot be resolved.
    unresolved: BTreeSet<&'static str>,
    pub(super) notes: Vec<Note>,
}

impl Values {
    pub(super) fn read(inputs: &Inputs<'_>) -> Self {
        let mut values = Self::default();
        if let Some((name, text)) = inputs.file {
            for (i, line) in text.lines().enumerate() {
                values.line(line, &format!("{name}:{}", i + 1));
            }
        }
        for prefix in ["KONG_", "CARDINAL_"] {
            for (var, text) in &inputs.env {
                if let Some(name) = var.strip_prefix(prefix) {
                    values.set(&name.to_ascii_lowercase(), text, var, Input::Env);
                }
            }
        }
        for (name, text) in &inputs.overrides {
            values.set(name, text, "command line", Input::CommandLine);
        }
        values.resolve(&inputs.env);
        values
    }

    /// A value may be a reference to a secret in the environment.
    fn resolve(&mut self, env: &BTreeMap<String, String>) {
        let is_reference = |given: &Given| given.text.starts_with("{vault://");
        if !self.given.values().any(is_reference) {
            return;
        }
        let env_prefix = self.get("vault_env_prefix").map(|given| given.text).unwrap_or_default();
        let secrets = Secrets { env: env.clone(), env_prefix, ..Secrets::default() };
        let mut failed = Vec::new();
        for (name, given) in self.given.iter_mut().filter(|(_, g)| is_reference(g)) {
            match secrets.resolve(&given.text, &BTreeMap::new()) {
                Ok(secret) => given.text = secret,
                Err(why) => failed.push((*name, given.clone(), format!("{} cannot be resolved: {why}", given.text))),
            }
        }
        for (setting, given, message) in failed {
            self.note(true, &given.name, &given.at, &message);
            self.unresolved.insert(setting);
        }
    }

    /// One line of a file: `name = value  # comment`; `\#` is a `#`.
    fn line(&mut self, line: &str, at: &str) {
        let text = without_comment(line);
        let text = text.trim();
        if text.is_empty() {
            return;
        }
        match text.split_once('=') {
            Some((name, value)) => self.set(name.trim(), value.trim(), at, Input::File),
            None => self.note(true, text, at, "expected name = value"),
        }
    }

    fn set(&mut self, name: &str, text: &str, at: &str, input: Input) {
        let text = text.trim();
        match (row(name), directives::find(name)) {
            (Some(row), _) => {
                let (text, name, at) = (text.to_owned(), name.to_owned(), at.to_owned());
                self.give(row, Given { text, name, at, level: Level::Setting });
            }
            (None, Some((level, directive))) => self.directive(name, directive, level, text, at),
            (None, None) => self.unknown(name, at, input),
        }
    }

    /// Takes a value. A directive of nginx's `http` block never replaces one of its `server` block, wherever it comes
    /// from; otherwise the later source wins.
    fn give(&mut self, row: &'static Row, given: Given) {
        self.status_note(row, &given);
        let outranked =
            given.level == Level::Http && self.given.get(row.name).is_some_and(|g| g.level == Level::Server);
        if !outranked {
            self.given.insert(row.name, given);
        }
    }

    fn directive(&mut self, name: &str, directive: &directives::Directive, level: Level, text: &str, at: &str) {
        match directive.meaning {
            Meaning::NoEffect(why) => self.note(false, name, at, &format!("has no effect: {why}")),
            Meaning::Unsupported(why) => self.note(false, name, at, &format!("not supported: {why}")),
            Meaning::Settings(convert) => match convert(text) {
                Ok(values) => {
                    for (setting, text) in values {
                        let Some(row) = row(setting) else { continue };
                        self.give(row, Given { text, name: name.to_owned(), at: at.to_owned(), level });
                    }
                }
                Err(why) => self.note(true, name, at, &why),
            },
        }
    }

    fn status_note(&mut self, row: &Row, given: &Given) {
        // If the default is `on`, `off` is a request that is not supported.
        let is_off = row.default != "on" && matches!(given.text.as_str(), "off" | "NONE");
        let off = given.text.is_empty() || given.text == row.default || is_off;
        if row.status == Status::NotServed && !off {
            let message = format!("not served by this version: {}", row.text);
            self.note(false, &given.name, &given.at, &message);
        }
        if row.status == Status::NoMeaning
            && !matches!(given.text.as_str(), "" | "NONE")
            && let Err(message) = row.shape.check(&given.text)
        {
            self.note(true, &given.name, &given.at, &message);
        }
    }

    fn unknown(&mut self, name: &str, at: &str, input: Input) {
        if let Some((_, why)) = FAMILIES.iter().find(|(prefix, _)| name.starts_with(prefix)) {
            self.note(false, name, at, &format!("has no effect: {why}"));
            return;
        }
        if input == Input::Env && is_no_setting(name) {
            return;
        }
        let is_error = input == Input::CommandLine;
        let near = match directives::unknown(name) {
            Some(Ok(why)) => return self.note(false, name, at, &format!("has no effect: {why}")),
            Some(Err(near)) => near,
            None => cardinal_schema::suggest(name, TABLE.iter().map(|row| row.name)).map(str::to_owned),
        };
        let message = match near {
            Some(near) => format!("unknown setting, did you mean '{near}'?"),
            None if is_error => "unknown setting (`cardinal settings` lists all)".to_owned(),
            None => "unknown setting; it has no effect".to_owned(),
        };
        self.note(is_error, name, at, &message);
    }

    /// Whether a value is missing because a reference cannot be resolved: its own, or that of a setting that it goes
    /// with.
    pub(super) fn is_unresolved(&self, name: &str) -> bool {
        let together = TOGETHER.iter().find(|names| names.contains(&name));
        self.unresolved.contains(name)
            || together.is_some_and(|names| names.iter().any(|name| self.unresolved.contains(name)))
    }

    pub(super) fn note(&mut self, is_error: bool, name: &str, at: &str, message: &str) {
        let (name, at, message) = (name.to_owned(), at.to_owned(), message.to_owned());
        self.notes.push(Note { is_error, name, at, message });
    }

    /// The given value, or the default; `None` when there is neither.
    pub(super) fn get(&self, name: &str) -> Option<Given> {
        let given = self.given.get(name).cloned().filter(|g| !g.text.is_empty() && g.text != "NONE");
        given.or_else(|| {
            let default = row(name)?.default;
            let (text, name, at) = (default.to_owned(), name.to_owned(), "default".to_owned());
            (!default.is_empty()).then_some(Given { text, name, at, level: Level::Setting })
        })
    }
}

fn without_comment(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if chars.peek() == Some(&'#') => {
                out.push('#');
                chars.next();
            }
            '#' => break,
            c => out.push(c),
        }
    }
    out
}

/// Whether a variable `KONG_<NAME>` is known to be no setting: one that Kubernetes adds for a service of that name
/// (`KONG_PROXY_SERVICE_HOST`, `KONG_PROXY_PORT_80_TCP_ADDR`), or one of a container image.
fn is_no_setting(name: &str) -> bool {
    let of_service = name.ends_with("service_host")
        || name.contains("service_port")
        || name == "port"
        || name.ends_with("_port")
        || name.contains("port_") && ["_tcp", "_udp", "_sctp"].iter().any(|protocol| name.contains(protocol));
    of_service || OTHER_VARIABLES.contains(&name)
}
