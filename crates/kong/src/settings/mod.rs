//! Settings of a node: Kong's `kong.conf`, `KONG_*` variables and overrides, to typed values and to the IR's node
//! record and listeners.
//!
//! Every setting is one row of [`table::TABLE`], which is also the manual. Nothing is read here but what the caller
//! hands in ([`Inputs`], and a function that reads files).

mod build;
mod cluster;
mod directives;
mod listen;
mod messages;
mod nginx;
mod shapes;
pub mod table;
#[cfg(test)]
mod tests;
mod tls;
mod values;

use std::net::SocketAddr;

use cardinal_ir::{NodeSettings, SecretKey};

pub use cluster::{ClusterMtls, ClusterSettings, Role};

pub use crate::rank::RouteOrder;
pub use values::{Inputs, Note};

use crate::secrets::Secrets;

/// Reads a file the settings name.
pub type ReadFile<'f> = &'f dyn Fn(&str) -> std::io::Result<String>;

/// How routes are ordered, and whether they may be expressions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RouterFlavor {
    /// The order of Kong 2.
    Traditional,
    /// The order of Kong 3.
    #[default]
    TraditionalCompatible,
    /// Conditions are expressions; plain fields are taken as well.
    Expressions,
}

/// Where entities are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Database {
    /// Nowhere: they come from files.
    Off,
    /// In a file in the data directory.
    Sqlite,
    /// In a PostgreSQL database.
    Postgres,
}

/// How the PostgreSQL database is reached.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Postgres {
    /// Name or address of the server, or the directory of its Unix socket.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The user.
    pub user: String,
    /// The user's password.
    pub password: Option<String>,
    /// The database.
    pub database: String,
    /// Over TLS.
    pub tls: bool,
    /// The certificate of the server is verified.
    pub verify: bool,
}

/// Without the password.
impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { host, port, user, database, .. } = self;
        write!(f, "Postgres({user}@{host}:{port}/{database})")
    }
}

impl Postgres {
    /// The URL of the database, as libpq takes it. It has the password.
    pub fn url(&self) -> String {
        let escaped =
            |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
        let password = self.password.as_deref().map_or_else(String::new, |password| format!(":{}", escaped(password)));
        let mode = match (self.tls, self.verify) {
            (false, _) => "disable",
            (true, false) => "require",
            (true, true) => "verify-full",
        };
        let (user, database, port) = (escaped(&self.user), escaped(&self.database), self.port);
        match &*self.host {
            // The directory of a Unix socket.
            path if path.starts_with('/') => {
                format!("postgres://{user}{password}@localhost:{port}/{database}?sslmode={mode}&host={}", escaped(path))
            }
            address if address.contains(':') => {
                format!("postgres://{user}{password}@[{address}]:{port}/{database}?sslmode={mode}")
            }
            name => format!("postgres://{user}{password}@{name}:{port}/{database}?sslmode={mode}"),
        }
    }
}

/// Which rules of roles the Admin API enforces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EnforceRbac {
    /// None: every client may do everything.
    #[default]
    Off,
    /// Those about endpoints.
    On,
    /// Those about entities.
    Entity,
    /// Those about endpoints and those about entities.
    Both,
}

impl EnforceRbac {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Off, Self::On, Self::Entity, Self::Both];

    /// Its name in the settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::On => "on",
            Self::Entity => "entity",
            Self::Both => "both",
        }
    }

    /// Whether rules about endpoints are enforced.
    pub fn endpoints(self) -> bool {
        matches!(self, Self::On | Self::Both)
    }

    /// Whether rules about entities are enforced.
    pub fn entities(self) -> bool {
        matches!(self, Self::Entity | Self::Both)
    }
}

/// The token of the first user.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminPassword(pub String);

/// Without the token.
impl std::fmt::Debug for AdminPassword {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AdminPassword(***)")
    }
}

/// Settings of the Admin API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdminSettings {
    /// Its addresses, and whether they have TLS.
    pub listeners: Vec<(SocketAddr, bool)>,
    /// Whether they were given; they are the default otherwise.
    pub is_given: bool,
    /// The version of Kong that it reports.
    pub version: String,
    /// Origins of web pages that may use it.
    pub origins: Vec<String>,
    /// Which rules of roles are enforced; `None` if the settings do not say.
    pub enforce_rbac: Option<EnforceRbac>,
    /// The token of the first user.
    pub password: Option<AdminPassword>,
    /// Seconds after the last request, and after the login, when sessions of browsers end.
    pub session_seconds: [u32; 2],
}

/// Which plugins or vaults to load.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// All that the program has.
    #[default]
    Bundled,
    /// All that the program has, and these by name.
    With(Vec<String>),
    /// These alone; empty for none.
    Only(Vec<String>),
}

impl Choice {
    /// Those that are named.
    pub fn names(&self) -> &[String] {
        match self {
            Self::Bundled => &[],
            Self::With(names) | Self::Only(names) => names,
        }
    }

    /// Whether this one is to be loaded.
    pub fn takes(&self, name: &str) -> bool {
        match self {
            Self::Bundled | Self::With(_) => true,
            Self::Only(names) => names.iter().any(|n| n == name),
        }
    }
}

/// Settings of a node.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Settings that the engine gets, listeners and the default certificate among them.
    pub node: NodeSettings,
    /// Whether the node's id was given; if not, the one in `node` is a placeholder that the program replaces.
    pub node_id_given: bool,
    /// What references to secrets are derived with.
    pub secret_key: SecretKey,
    /// Whether that key was given; if not, it is a placeholder that the program replaces.
    pub secret_key_given: bool,
    /// What the node does.
    pub role: Role,
    /// How control planes and data planes are connected.
    pub cluster: ClusterSettings,
    /// How routes are ordered.
    pub router_flavor: RouterFlavor,
    /// Which of two orders routes have in the flavors other than `traditional`.
    pub router_order: RouteOrder,
    /// Plugins to load.
    pub plugins: Choice,
    /// Where `plugins` and `vaults` were given; empty for a default.
    pub choice_places: [String; 2],
    /// Files to read entities from.
    pub declarative_config: Vec<String>,
    /// Entities as text.
    pub declarative_config_string: Option<String>,
    /// Minimum log level, as Kong names it.
    pub log_level: String,
    /// File for a line about each request, `None` for none.
    pub access_log: Option<String>,
    /// File for the log of the process.
    pub error_log: Option<String>,
    /// Number of worker threads; `None` for one per core.
    pub workers: Option<u32>,
    /// Directory that relative paths start from.
    pub prefix: Option<String>,
    /// Where `proxy_access_log` and `proxy_error_log` were given; empty for a default.
    pub log_places: [String; 2],
    /// The Admin API.
    pub admin: AdminSettings,
    /// Where entities are stored; `None` if the settings do not say.
    pub database: Option<Database>,
    /// The PostgreSQL database.
    pub postgres: Postgres,
    /// Where the key comes from that encrypts secrets in the database: `file:...`, `env:...` or `command:...`.
    pub store_key: Option<String>,
    /// Days that the change log of the database is kept; 0 is for ever.
    pub history_days: u32,
    /// Revisions that the change log keeps at most; 0 is without a limit.
    pub history_revisions_max: u64,
    /// Where references to vaults are looked up.
    pub secrets: Secrets,
    /// Seconds since the epoch that entities without times get. Kept over reloads, so that they do not change.
    pub loaded_at: f64,
}

impl Default for Settings {
    /// The default of every setting.
    fn default() -> Self {
        // No file is named by the defaults, so reading cannot fail and nothing can be wrong.
        let nothing = |_: &str| Err(std::io::ErrorKind::NotFound.into());
        build::build(&values::Values::read(&Inputs::default()), &nothing).0
    }
}

impl Settings {
    /// Settings from a file, the environment and overrides. The notes of the second kind are warnings.
    ///
    /// # Errors
    /// What cannot be used, with warnings among them.
    pub fn load(inputs: &Inputs<'_>, read: ReadFile<'_>) -> Result<(Self, Vec<Note>), Vec<Note>> {
        let mut values = values::Values::read(inputs);
        let (mut settings, notes) = build::build(&values, read);
        values.notes.extend(notes);
        settings.secrets.env = inputs.env.clone();
        if values.notes.iter().any(|n| n.is_error) { Err(values.notes) } else { Ok((settings, values.notes)) }
    }
}
