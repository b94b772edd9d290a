//! Watches the places that configuration is read from.
//!
//! Directories are watched, not files: editors replace the file, and Kubernetes swaps a link
//! next to it.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use cardinal_kong::Settings;
use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc::Sender;

use crate::config::{Site, is_config_name, is_stream};

use super::file_source::Request;

/// Links that are followed from one to the next.
const LINKS_MAX: usize = 16;

/// Signals that the configuration may have changed.
#[derive(Debug)]
pub(super) struct Watch {
    watcher: Option<RecommendedWatcher>,
    places: Arc<Mutex<Places>>,
    watched: HashSet<PathBuf>,
}

/// What is looked for in the directories.
#[derive(Debug, Default, PartialEq, Eq)]
struct Places {
    files: HashSet<PathBuf>,
    folders: HashSet<PathBuf>,
}

impl Watch {
    /// A watcher without directories. If the system cannot watch, that is logged, and only SIGHUP reloads.
    pub(super) fn start(requests: Sender<Request>) -> Self {
        let places = Arc::<Mutex<Places>>::default();
        let known = Arc::clone(&places);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let matters = match &event {
                Ok(event) => changes(&event.kind) && lock(&known).concerns(&event.paths),
                // Events were lost: have a look.
                Err(_) => true,
            };
            if matters {
                // A full queue holds the same request already.
                requests.try_send(Request::Changed).ok();
            }
        });
        let watcher = watcher.inspect_err(unwatched).ok();
        Self { watcher, places, watched: HashSet::new() }
    }

    /// Watches where configuration comes from now.
    pub(super) fn follow(&mut self, site: &Site, settings: &Settings) {
        let Some(watcher) = &mut self.watcher else { return };
        let mut paths = site.paths(settings);
        // Streams do not change.
        paths.retain(|path| !is_stream(path));
        paths.extend(site.conf().map(Path::to_owned));
        let places = Places::of(&paths);
        let folders = places.to_watch();
        for gone in self.watched.difference(&folders) {
            // It may have been removed from the file system, and its watch with it.
            watcher.unwatch(gone).ok();
        }
        *lock(&self.places) = places;
        for folder in &folders {
            // Again for one that is watched already: it may be another directory by the same name.
            if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive)
                && !self.watched.contains(folder)
            {
                unwatched(&error);
            }
        }
        self.watched = folders;
    }
}

fn unwatched(error: &notify::Error) {
    tracing::warn!("cannot watch files for changes; send SIGHUP to reload: {error}");
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reading a file changes nothing.
fn changes(kind: &EventKind) -> bool {
    !matches!(kind, EventKind::Access(access) if *access != AccessKind::Close(AccessMode::Write))
}

impl Places {
    /// Of these files and directories, and of all that links lead to.
    fn of(paths: &[PathBuf]) -> Self {
        let mut places = Self::default();
        for path in paths {
            let Ok(mut path) = std::path::absolute(path) else { continue };
            if path.is_dir() {
                places.folders.insert(path.clone());
                places.folders.extend(fs::canonicalize(&path));
            }
            for _ in 0..LINKS_MAX {
                places.files.insert(path.clone());
                let Ok(target) = fs::read_link(&path) else { break };
                path = path.parent().map_or(target.clone(), |parent| parent.join(target));
            }
            places.files.extend(fs::canonicalize(&path));
        }
        places
    }

    /// Directories of all of it.
    fn to_watch(&self) -> HashSet<PathBuf> {
        let parents = self.files.iter().filter_map(|file| file.parent()).map(Path::to_owned);
        parents.chain(self.folders.iter().cloned()).filter(|folder| folder.is_dir()).collect()
    }

    /// Whether a change there may be one of the configuration. A file that is none of it, such as a log in the same
    /// directory, is not.
    fn concerns(&self, paths: &[PathBuf]) -> bool {
        paths.is_empty() || paths.iter().any(|path| self.concerns_one(path))
    }

    fn concerns_one(&self, path: &Path) -> bool {
        let in_folder = || path.parent().is_some_and(|parent| self.folders.contains(parent)) && is_config_name(path);
        if self.files.contains(path) || in_folder() {
            return true;
        }
        // A link or directory on the way may have been swapped.
        fs::symlink_metadata(path).is_ok_and(|data| !data.is_file())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use cardinal_testkit::TempDir;

    use super::*;

    #[test]
    fn a_log_beside_a_file_does_not_matter() {
        let folder = TempDir::new("watch");
        let (file, log) = (folder.write("kong.yaml", ""), folder.write("access.log", ""));
        let places = Places::of(std::slice::from_ref(&file));
        assert!(places.concerns(&[file]));
        assert!(!places.concerns(&[log]));
        assert!(places.to_watch().contains(folder.path()));
    }

    #[test]
    fn links_as_kubernetes_makes_them_are_followed() {
        let folder = TempDir::new("watch");
        folder.write("..1/kong.yaml", "");
        symlink("..1", folder.path().join("..data")).unwrap();
        symlink("..data/kong.yaml", folder.path().join("kong.yaml")).unwrap();
        let places = Places::of(&[folder.path().join("kong.yaml")]);
        assert!(places.concerns(&[folder.path().join("..data")]));
        assert!(places.concerns(&[folder.path().join("..data/kong.yaml")]));
        assert!(places.to_watch().contains(folder.path()));
    }

    #[test]
    fn new_files_of_a_directory_matter() {
        let folder = TempDir::new("watch");
        let places = Places::of(&[folder.path().to_owned()]);
        assert!(places.concerns(&[folder.path().join("new.yaml")]));
        let other = folder.write("new.txt", "");
        assert!(!places.concerns(&[other]));
    }
}
