//! The id of the node when no setting gives one.
//!
//! With a data directory it is generated once and kept there, so that it outlives the process and differs from that of
//! every other node. Without one it is derived from the host name.

use std::path::Path;

use anyhow::{Context as _, Result};
use cardinal_base::Id;

use super::kept;

const FILE: &str = "node-id";

/// The id of this node.
///
/// # Errors
/// When the data directory cannot be read or written.
pub(super) fn find(data_dir: Option<&Path>) -> Result<Id> {
    let Some(data_dir) = data_dir else { return Ok(of_host(&cardinal_engine::hostname())) };
    let generate = || cardinal_base::random_id().to_string();
    kept::find(&data_dir.join(FILE), |text| text.parse::<Id>().is_ok(), generate)?.parse().context("the id of the node")
}

fn of_host(name: &str) -> Id {
    Id::new_v5(&Id::NAMESPACE_DNS, name.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use cardinal_testkit::TempDir;

    use super::*;

    #[test]
    fn an_id_is_made_once_for_a_data_directory() {
        let (one, other) = (TempDir::new("node-id"), TempDir::new("node-id"));
        let id = find(Some(one.path())).unwrap();
        assert_eq!(find(Some(one.path())).unwrap(), id);
        assert_eq!(one.read(FILE), format!("{id}\n"));
        assert_ne!(find(Some(other.path())).unwrap(), id);
        assert_eq!(fs::read_dir(one.path()).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn processes_that_start_at_once_have_one_id() {
        let folder = TempDir::new("node-id");
        let path = folder.path();
        let ids: Vec<Id> = std::thread::scope(|scope| {
            let all: Vec<_> = (0..8).map(|_| scope.spawn(move || find(Some(path)).unwrap())).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        assert_eq!(fs::read_dir(path).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn a_damaged_file_is_replaced() {
        let folder = TempDir::new("node-id");
        folder.write(FILE, "");
        let id = find(Some(folder.path())).unwrap();
        assert_eq!(find(Some(folder.path())).unwrap(), id);
    }

    #[test]
    fn without_a_data_directory_it_comes_from_the_host_name() {
        assert_eq!(find(None).unwrap(), find(None).unwrap());
        assert_ne!(of_host("a"), of_host("b"));
    }
}
