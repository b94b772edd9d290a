//! What can be typed about control planes and data planes.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::StoreArgs;

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum NodeRole {
    /// Everything in one process (Kong: traditional)
    #[value(alias = "traditional")]
    All,
    /// Keep entities, and send the configuration to data planes
    #[value(alias = "control_plane")]
    ControlPlane,
    /// Serve traffic as control planes say
    #[value(alias = "data_plane")]
    DataPlane,
}

impl NodeRole {
    /// The value of the setting `role`.
    pub(crate) fn setting(self) -> &'static str {
        match self {
            Self::All => "traditional",
            Self::ControlPlane => "control_plane",
            Self::DataPlane => "data_plane",
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Print a token by which data planes can join the control planes of this store
    Token(TokenArgs),
    /// Make a certificate that control planes and data planes share (cluster_mtls=shared)
    Cert(CertArgs),
}

#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    /// How long the token can be used: a number with s, m, h or d
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = time)]
    pub(crate) ttl: Duration,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

#[derive(Debug, Args)]
pub(crate) struct CertArgs {
    /// Directory to write cluster.crt and cluster.key into; existing files are kept
    #[arg(value_name = "DIR", default_value = ".")]
    pub(crate) dir: PathBuf,
    /// Days that the certificate is valid
    #[arg(long, value_name = "N", default_value = "1095", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub(crate) days: u32,
}

fn time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("expected a time such as 30m, 12h or 7d, not '{text}'");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let seconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(seconds)).ok_or_else(wrong)?;
    if seconds == 0 { Err(wrong()) } else { Ok(Duration::from_secs(seconds)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(time("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(time("2d"), Ok(Duration::from_secs(172_800)));
        for wrong in ["", "5", "h", "0h", "-1h", "1w", "1\u{e9}", "99999999999999999999d", "9999999999999999999d"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }
}
