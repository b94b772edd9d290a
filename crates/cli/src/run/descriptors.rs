//! File descriptors: every connection takes one, and a process may have only so many.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit of the process to the maximum, and returns it; `None` is no limit.
pub(super) fn raise() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(error) => {
            tracing::warn!("the limit on file descriptors cannot be raised: {error}");
            current
        }
    }
}

/// The warning when there are too few for the configured number of client connections.
pub(super) fn shortage(configured: u32, served: u32, limit: Option<u64>) -> Option<String> {
    let limit = limit.filter(|_| served != configured)?;
    let wanted = if configured == 0 { "unlimited".to_owned() } else { configured.to_string() };
    Some(format!(
        "client connections are limited to {served} (client_max_connections: {wanted}): the process may open {limit} file \
         descriptors, and a client may need two; raise the hard limit for more (ulimit -Hn, LimitNOFILE= of systemd)"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_descriptors_are_reported() {
        assert_eq!(shortage(1_000, 1_000, Some(4_000)), None);
        assert_eq!(shortage(0, 0, None), None);
        let said = shortage(16_384, 384, Some(1_024)).unwrap();
        assert!(
            said.contains("limited to 384 (client_max_connections: 16384)") && said.contains("open 1024"),
            "{said}"
        );
        assert!(shortage(0, 384, Some(1_024)).unwrap().contains("unlimited"));
    }

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let limit = raise();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!((current, limit), (maximum, maximum));
    }
}
