//! `cardinal store backup` and `restore`: copies of a store of SQLite.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use cardinal_store::{StoreKey, verify};
use rustix::process::{Pid, test_kill_process};

use super::open::{KEY, key_source, open_file};
use super::{Env, Missing, Place, Plugins};
use crate::args::{BackupArgs, RestoreArgs};
use crate::out;

pub(super) fn backup(args: BackupArgs, plugins: Plugins, env: Env) -> Result<ExitCode> {
    let place = Place::find(args.store, plugins, env)?;
    refuse_postgres(&place, "pg_dump --format=custom --file=cardinal.dump")?;
    let file = args.file;
    if file.exists() {
        bail!("{} exists: choose another name, or remove it", file.display());
    }
    let opened = place.open(Missing::Refuse)?;
    opened.wait(opened.store.copy_to(&file)).with_context(|| format!("cannot copy the store to {}", file.display()))?;
    let mut text = format!("copied the store at revision {} to {}\n", opened.revision()?, file.display());
    let own_key = opened.place.data_dir.join(KEY);
    if own_key.exists() {
        text += &format!("keep {} elsewhere, too: secrets in the copy are encrypted with it\n", own_key.display());
    }
    out::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn restore(args: RestoreArgs, plugins: Plugins, env: Env) -> Result<ExitCode> {
    let place = Place::find(args.store, plugins, env)?;
    refuse_postgres(&place, "pg_restore --clean --dbname=cardinal cardinal.dump")?;
    let (file, target) = (args.file, place.file());
    if let (Some(pid), false) = (user_of(&place.data_dir), args.force) {
        let dir = place.data_dir.display();
        bail!("process {pid} uses {dir}: stop it first, or restore with --force");
    }
    let own_key = place.data_dir.join(KEY);
    if place.settings.store_key.is_none() && !own_key.exists() {
        bail!("{} does not exist: copy the key of the store that was backed up there first", own_key.display());
    }
    refuse_incomplete(&file, &target)?;
    let draft = place.data_dir.join(format!("store.db.{}", std::process::id()));
    let verified = copy(&file, &draft).and_then(|()| examine(&place, &draft));
    let revision = match verified {
        Ok(revision) => revision,
        Err(error) => {
            remove(&draft);
            return Err(error.context(format!("{} is not restored", file.display())));
        }
    };
    // The old store is kept. Commits that SQLite has not yet moved from its log into the file are in the log.
    let kept = with_ending(&target, ".replaced");
    for ending in ["-wal", "", "-shm"] {
        let (from, to) = (with_ending(&target, ending), with_ending(&kept, ending));
        if from.exists() {
            std::fs::rename(&from, &to).with_context(|| format!("cannot rename {}", from.display()))?;
        }
    }
    std::fs::rename(&draft, &target).with_context(|| format!("cannot replace {}", target.display()))?;
    let synced = std::fs::File::open(&place.data_dir).and_then(|folder| folder.sync_all());
    synced.with_context(|| format!("cannot write {}", place.data_dir.display()))?;
    out::print(&format!("restored {} at revision {revision}\n", target.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// Refuses a file that cannot have all commits of a store.
fn refuse_incomplete(file: &Path, target: &Path) -> Result<()> {
    let length = |path: &Path| std::fs::metadata(path).map_or(0, |found| found.len());
    let is_target =
        std::fs::canonicalize(file).ok().is_some_and(|file| std::fs::canonicalize(target).ok() == Some(file));
    if is_target {
        bail!("{} is the store itself: name a backup", file.display());
    }
    if length(&with_ending(file, "-wal")) > 0 {
        bail!(
            "{} was copied while it was in use: commits are in the file with the ending -wal beside it; make backups with \
             'cardinal store backup'",
            file.display()
        );
    }
    Ok(())
}

fn refuse_postgres(place: &Place, command: &str) -> Result<()> {
    if !place.is_file() {
        bail!("the store is in PostgreSQL, which has its own tools; for example: {command}");
    }
    Ok(())
}

/// The process that uses a data directory.
fn user_of(data_dir: &Path) -> Option<i32> {
    let text = std::fs::read_to_string(data_dir.join("cardinal.pid")).ok()?;
    let pid = text.trim().parse().ok()?;
    let is_alive = |error| error != rustix::io::Errno::SRCH;
    test_kill_process(Pid::from_raw(pid)?).map_or_else(is_alive, |()| true).then_some(pid)
}

/// Copies a file into one that only its owner can read.
fn copy(from: &Path, to: &Path) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut source = std::fs::File::open(from).with_context(|| format!("cannot read {}", from.display()))?;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)
        .with_context(|| format!("cannot write {}", to.display()))?;
    let copied = std::io::copy(&mut source, &mut file).and_then(|_| file.sync_all());
    copied.with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

/// Opens a copy and verifies its change log.
fn examine(place: &Place, file: &Path) -> Result<u64> {
    place.runtime.block_on(async {
        let key = StoreKey::From(key_source(&place.settings, &place.data_dir)?);
        let store = open_file(file, key, &place.clock).await?;
        let verified = verify(&*store).await;
        store.close().await;
        match verified?.revision {
            0 => bail!("it is not a backup of a store, or one of an empty store"),
            revision => Ok(revision),
        }
    })
}

fn remove(file: &Path) {
    for ending in ["", "-wal", "-shm"] {
        std::fs::remove_file(with_ending(file, ending)).ok();
    }
}

fn with_ending(file: &Path, ending: &str) -> std::path::PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(ending);
    name.into()
}
