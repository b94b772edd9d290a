//! File descriptors: every connection takes one, and a process may have only so many.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// For listening sockets, files and what else is not a connection.
const OTHERS: u64 = 256;

/// Allows the process as many as the system lets it have, and warns when these do not suffice.
pub(super) fn raise(connections_max: u32) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let limit = match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(error) => {
            tracing::warn!("the limit of file descriptors cannot be raised: {error}");
            current
        }
    };
    if let Some(warning) = shortage(connections_max, limit) {
        tracing::warn!("{warning}");
    }
}

/// What to say when there are too few; no `limit` is no limit. A client's connection may need another one to an
/// upstream.
fn shortage(connections_max: u32, limit: Option<u64>) -> Option<String> {
    let limit = limit?;
    let needed = 2 * u64::from(connections_max) + OTHERS;
    let fitting = limit.saturating_sub(OTHERS) / 2;
    (needed > limit).then(|| {
        format!(
            "client_max_connections is {connections_max}, which with connections to upstreams may take {needed} file \
             descriptors, but the process may have {limit}: raise the hard limit (ulimit -Hn, LimitNOFILE= of systemd), \
             or set client_max_connections to {fitting} or less"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_descriptors_are_told() {
        assert_eq!(shortage(1_000, Some(2_256)), None);
        assert_eq!(shortage(u32::MAX, None), None);
        let told = shortage(1_000, Some(1_024)).unwrap();
        assert!(told.contains("may take 2256") && told.contains("may have 1024"), "{told}");
        assert!(told.ends_with("to 384 or less"), "{told}");
    }

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        raise(1);
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current, maximum);
    }
}
