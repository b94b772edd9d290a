//! What is particular to SQLite: the file, damage, tampering, encryption.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use cardinal_store::{
    Broken, CommitError, KeyEncryptionKey, KeySource, Log as _, SqlStore, SqliteOptions, Store, StoreError, StoreKey,
    verify,
};
use cardinal_testkit::TempDir;
use serde_json::json;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _};

use crate::world::{Subject, With as _, batch, clock, delete, document, key, thing};

async fn open_with(folder: &TempDir, key: Option<KeyEncryptionKey>) -> Result<SqlStore, StoreError> {
    SqlStore::sqlite(SqliteOptions { path: folder.path().join("store.db"), pages_max: None }, key, clock()).await
}

async fn open(folder: &TempDir) -> Result<SqlStore, StoreError> {
    open_with(folder, None).await
}

pub(crate) async fn subject(folder: &TempDir, key: Option<KeyEncryptionKey>) -> (Arc<SqlStore>, Subject) {
    let store = Arc::new(open_with(folder, key).await.unwrap());
    (store.clone(), Subject::new(store, clock(), ()))
}

/// Executes statements beside the store.
async fn execute(folder: &TempDir, sql: &str) {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(folder.path().join("store.db"));
    let mut connection = options.connect().await.unwrap();
    connection.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await.unwrap();
    connection.close().await.unwrap();
}

fn file_key(folder: &TempDir, name: &str) -> KeySource {
    KeySource::File { path: folder.path().join(name), create: true }
}

#[tokio::test]
async fn documents_outlive_the_store() {
    let folder = TempDir::new("store");
    let (store, s) = subject(&folder, None).await;
    s.ok(vec![thing("a").named("n").put(), thing("b").below("a").put()]).await;
    drop((store, s));
    let (_store, s) = subject(&folder, None).await;
    assert_eq!(*s.store.watch().borrow(), 1);
    assert_eq!(s.find("things", "name", "n").await.as_deref(), Some("a"));
    assert_eq!(s.ok(vec![delete("a")]).await, 2);
    assert_eq!(s.get("b").await, None);
}

#[tokio::test]
async fn only_the_owner_can_read_the_files() {
    let folder = TempDir::new("store");
    folder.write("store.db", "");
    std::fs::set_permissions(folder.path().join("store.db"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let (_store, s) = subject(&folder, Some(file_key(&folder, "key").load().await.unwrap())).await;
    s.ok(vec![thing("a").put()]).await;
    let mut names = Vec::new();
    for entry in folder.path().read_dir().unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.file_name());
        names.push(entry.file_name().into_string().unwrap());
    }
    names.sort();
    assert_eq!(names, ["key", "store.db", "store.db-shm", "store.db-wal"]);
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let folder = TempDir::new("store");
    drop(open(&folder).await.unwrap());
    execute(&folder, "UPDATE store_schema SET version = 99").await;
    assert!(matches!(open(&folder).await, Err(StoreError::TooNew { found: 99, known: 2 })));
}

#[tokio::test]
async fn several_processes_open_a_new_store() {
    let folder = TempDir::new("store");
    let opened = futures_util::future::join_all((0..6).map(|_| open(&folder))).await;
    for store in opened {
        store.unwrap().commit(batch(vec![thing("a").put()])).await.unwrap();
    }
}

#[tokio::test]
async fn damage_is_an_error() {
    let folder = TempDir::new("store");
    folder.write("store.db", "this is no database, but it is long enough to have a header of its own".repeat(99));
    assert!(matches!(open(&folder).await, Err(StoreError::Corrupt(_))), "{:?}", open(&folder).await);
    // A last frame of the WAL that was written in part is as if its commit had never been.
    let folder = TempDir::new("store");
    let (store, s) = subject(&folder, None).await;
    s.ok(vec![thing("a").put()]).await;
    let whole = std::fs::metadata(folder.path().join("store.db-wal")).unwrap().len();
    s.ok(vec![thing("b").put()]).await;
    let copy = TempDir::new("store");
    for name in ["store.db", "store.db-wal"] {
        std::fs::copy(folder.path().join(name), copy.path().join(name)).unwrap();
    }
    drop((store, s));
    let wal = std::fs::OpenOptions::new().write(true).open(copy.path().join("store.db-wal")).unwrap();
    wal.set_len(wal.metadata().unwrap().len() - 100).unwrap();
    assert!(wal.metadata().unwrap().len() > whole);
    let (store, s) = subject(&copy, None).await;
    assert_eq!(s.revision().await, 1);
    assert_eq!(verify(&*store).await.unwrap().entries, 1);
}

#[tokio::test]
async fn a_full_disk_is_an_error() {
    let folder = TempDir::new("store");
    let (store, s) = subject(&folder, None).await;
    s.ok(vec![thing("a").put()]).await;
    // A file system of its own needs root; SQLite says the same when a database may not grow.
    drop((store, s));
    let store = SqlStore::sqlite(
        SqliteOptions { path: folder.path().join("store.db"), pages_max: Some(60) },
        StoreKey::None,
        clock(),
    );
    let s = Subject::new(Arc::new(store.await.unwrap()), clock(), ());
    let before = s.everything().await;
    match s.commit(vec![thing("b").put(), document("c", json!("x".repeat(1 << 20))).put()]).await {
        Err(CommitError::Store(StoreError::ReadOnly(text))) => assert!(text.contains("full"), "{text}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(s.everything().await, before);
    assert_eq!(s.ok(vec![thing("b").put()]).await, 2, "what fits is written");
}

#[tokio::test]
async fn a_tampered_log_does_not_verify() {
    for (sql, revision, position) in [
        ("UPDATE changes SET new_value = x'31' WHERE revision = 3 AND position = 1", 3, 1),
        ("UPDATE changes SET old_value = NULL WHERE revision = 3 AND position = 0", 3, 0),
        ("UPDATE changes SET position = position + 5 WHERE revision = 2", 2, 5),
        ("UPDATE generations SET at_ms = at_ms + 1 WHERE revision = 4", 4, 0),
        ("UPDATE generations SET author = replace(author, 'ann', 'bob') WHERE revision = 2", 2, 0),
        ("UPDATE generations SET author = CAST(replace(author, 'ann', 'bob') AS BLOB) WHERE revision = 2", 2, 0),
        ("DELETE FROM generations WHERE revision = 3", 3, 0),
        ("DELETE FROM changes WHERE revision = 3", 4, 0),
        ("DELETE FROM changes WHERE revision = 2 AND position = 0", 2, 1),
        ("DELETE FROM changes WHERE revision = 1", 2, 0),
        ("DELETE FROM changes WHERE revision = 5", 4, 1),
        ("DELETE FROM changes WHERE revision = 5 AND position = 1", 5, 0),
        (
            "INSERT INTO changes SELECT 6, position, kind, id, space, old_value, new_value, cascaded, hash FROM changes \
          WHERE revision = 5",
            6,
            0,
        ),
        (
            "INSERT INTO changes SELECT 5, 2, kind, id, space, old_value, new_value, cascaded, hash FROM changes WHERE \
          revision = 5 AND position = 1",
            5,
            2,
        ),
        ("UPDATE store_state SET revision = 4", 5, 1),
    ] {
        let folder = TempDir::new("store");
        let (store, s) = subject(&folder, None).await;
        for round in 0..5 {
            s.ok(vec![document("a", json!(round)).put(), document("b", json!(round)).put()]).await;
        }
        verify(&*store).await.unwrap();
        execute(&folder, sql).await;
        match verify(&*store).await {
            Err(Broken::At { revision: r, position: p, .. }) => assert_eq!((r, p), (revision, position), "{sql}"),
            // An author as text is no value that the store writes.
            Err(Broken::Store(StoreError::Corrupt(_))) if sql.contains("= replace") => {}
            other => panic!("{sql}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_tampered_document_is_found() {
    let sealed = "UPDATE documents SET value = CAST(replace(CAST(value AS TEXT), 'open', 'OPEN') AS BLOB) WHERE kind = \
                  x'73'";
    let cases = [
        ("UPDATE documents SET value = x'31' WHERE id = x'61'", vec!["things/a"], "not what was written"),
        ("UPDATE documents SET space = x'31' WHERE id = x'61'", vec!["things/a"], "another workspace"),
        ("UPDATE documents SET revision = 1 WHERE id = x'62'", vec!["things/b"], "its revision"),
        ("DELETE FROM documents WHERE id = x'63'", vec!["things/c"], "it is missing"),
        ("UPDATE documents SET id = x'7a' WHERE id = x'63'", vec!["things/c", "things/z"], "it is missing"),
        (
            "INSERT INTO documents SELECT kind, x'79', space, revision, value, meta, data_key FROM documents WHERE id = \
             x'61'",
            vec!["things/y"],
            "no entry",
        ),
        (sealed, vec!["s/secret"], "not what was written"),
    ];
    for (sql, expected, hint) in cases {
        for pruned in [0, 2, 4] {
            let folder = TempDir::new("store");
            let (store, s) = subject(&folder, Some(file_key(&folder, "key").load().await.unwrap())).await;
            let secret = document("s/secret", json!({ "open": 1, "key": "HIDDEN" })).secret("/key");
            s.ok(vec![document("a", json!("1")).put(), document("b", json!("1")).put(), secret.put()]).await;
            s.ok(vec![thing("c").put(), thing("d").put()]).await;
            s.ok(vec![delete("d"), document("b", json!("2")).put()]).await;
            for round in 0..2 {
                s.ok(vec![document("more", json!(round)).put()]).await;
            }
            // Documents are found whose entries are not in the log any more, and pruning makes no tampering good.
            if pruned < 4 {
                store.prune(pruned).await.unwrap();
            }
            assert_eq!(verify(&*store).await.unwrap().documents, 5);
            execute(&folder, sql).await;
            store.prune(pruned).await.unwrap();
            match verify(&*store).await {
                Err(Broken::Documents(found)) => {
                    let keys: Vec<String> = found.iter().map(|one| one.key.to_string()).collect();
                    assert_eq!(keys, expected, "{sql} {pruned}");
                    assert!(found[0].why.contains(hint), "{sql} {pruned}: {found:?}");
                }
                other => panic!("{sql} {pruned}: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn encrypting_again_is_no_tampering() {
    for pruned in [0, 2] {
        let folder = TempDir::new("store");
        let (store, s) = subject(&folder, None).await;
        s.ok(vec![document("a", json!({ "key": "1" })).secret("/key").put()]).await;
        drop((store, s));
        let (store, s) = subject(&folder, Some(file_key(&folder, "key").load().await.unwrap())).await;
        s.ok(vec![document("b", json!({ "key": "2" })).secret("/key").put(), thing("plain").put()]).await;
        s.ok(vec![thing("c").put()]).await;
        store.prune(pruned).await.unwrap();
        assert_eq!(store.reencrypt(10).await.unwrap(), 1, "what was stored in clear");
        verify(&*store).await.unwrap();
        store.rotate(file_key(&folder, "new").load().await.unwrap()).await.unwrap();
        assert_eq!(store.reencrypt(10).await.unwrap(), 2);
        verify(&*store).await.unwrap();
        store.prune(2).await.unwrap();
        // What the log has is encrypted with older keys.
        assert_eq!(verify(&*store).await.unwrap().documents, 4);
    }
}

/// Whether a file of the folder contains these bytes.
fn contains(folder: &Path, bytes: &[u8]) -> bool {
    folder.read_dir().unwrap().any(|entry| {
        let content = std::fs::read(entry.unwrap().path()).unwrap();
        content.windows(bytes.len()).any(|window| window == bytes)
    })
}

#[tokio::test]
async fn secrets_are_not_in_the_files() {
    let folder = TempDir::new("store");
    let (store, s) = subject(&folder, Some(file_key(&folder, "key").load().await.unwrap())).await;
    let value = json!({ "open": "VISIBLE", "key": "HIDDEN-1", "more": { "list": ["HIDDEN-2", "x"] }, "none": null });
    let write = |value| document("a", value).secret("/key").secret("/more/list/0").secret("/none").secret("/no").put();
    s.ok(vec![write(value.clone())]).await;
    assert_eq!(s.get("a").await.unwrap().value, value);
    assert!(!s.commit(vec![write(value.clone())]).await.unwrap().changed, "equal secrets are no change");
    let mut other = value.clone();
    other["key"] = json!("HIDDEN-3");
    s.ok(vec![write(other.clone())]).await;
    s.ok(vec![delete("a")]).await;
    let changes = s.store.changes(0, 10).await.unwrap();
    assert_eq!(changes[1].old, Some(value));
    assert_eq!(changes[1].new, Some(other));
    verify(&*store).await.unwrap();
    assert!(contains(folder.path(), b"VISIBLE"));
    assert!(!contains(folder.path(), b"HIDDEN"));
    drop((store, s));
    assert!(!contains(folder.path(), b"HIDDEN"));
}

#[tokio::test]
async fn a_wrong_key_is_named() {
    let folder = TempDir::new("store");
    let right = file_key(&folder, "key").load().await.unwrap();
    let id = right.id().to_owned();
    let (store, s) = subject(&folder, Some(right)).await;
    s.ok(vec![document("a", json!("HIDDEN")).secret("").put()]).await;
    drop((store, s));
    let wrong = file_key(&folder, "other").load().await.unwrap();
    let wrong_id = wrong.id().to_owned();
    for (key, hints) in
        [(Some(wrong), vec![id.as_str(), &wrong_id, "the file "]), (None, vec![id.as_str(), "configured"])]
    {
        match open_with(&folder, key).await {
            Err(StoreError::Corrupt(text)) => assert!(hints.iter().all(|hint| text.contains(hint)), "{text}"),
            other => panic!("{other:?}"),
        }
    }
    let (_store, s) = subject(&folder, Some(file_key(&folder, "key").load().await.unwrap())).await;
    assert_eq!(s.get("a").await.unwrap().value, json!("HIDDEN"));
}

#[tokio::test]
async fn the_key_is_rotated_while_others_use_the_store() {
    let folder = TempDir::new("store");
    let (first, s) = subject(&folder, Some(file_key(&folder, "key").load().await.unwrap())).await;
    let (second, t) = subject(&folder, Some(file_key(&folder, "key").load().await.unwrap())).await;
    let secret = |id: &str, text: &str| document(id, json!({ "key": text })).secret("/key").put();
    s.ok(vec![secret("a", "1"), secret("b", "2"), thing("plain").put()]).await;
    first.rotate(file_key(&folder, "new").load().await.unwrap()).await.unwrap();
    s.ok(vec![secret("c", "3")]).await;
    // The other one cannot read what is encrypted with the new data key until it has the new key.
    assert_eq!(t.get("a").await.unwrap().value, json!({ "key": "1" }));
    assert!(matches!(second.get(key("c")).await, Err(StoreError::Corrupt(text)) if text.contains("wrong key")));
    second.rotate(file_key(&folder, "new").load().await.unwrap()).await.unwrap();
    assert_eq!(t.get("c").await.unwrap().value, json!({ "key": "3" }));
    t.ok(vec![secret("a", "4")]).await;
    assert_eq!(s.get("a").await.unwrap().value, json!({ "key": "4" }));
    // Documents are encrypted again in steps, and nothing that readers see changes.
    let before = s.everything().await;
    assert_eq!(first.reencrypt(10).await.unwrap(), 1);
    assert_eq!(first.reencrypt(10).await.unwrap(), 0);
    assert_eq!(s.everything().await, before);
    execute(&folder, "DELETE FROM data_keys WHERE id = 1").await;
    drop((first, s, second, t));
    let (store, s) = subject(&folder, Some(file_key(&folder, "new").load().await.unwrap())).await;
    assert_eq!(s.store.snapshot().await.unwrap().1.len(), 4, "no document needs the old data key");
    assert!(open_with(&folder, Some(file_key(&folder, "key").load().await.unwrap())).await.is_err());
    // The log still does.
    assert!(s.store.changes(0, 10).await.is_err());
    verify(&*store).await.unwrap();
}

#[tokio::test]
async fn a_key_is_added_to_a_store_without_one() {
    let folder = TempDir::new("store");
    let (store, s) = subject(&folder, None).await;
    s.ok(vec![document("a", json!("HIDDEN-1")).secret("").put(), thing("b").put()]).await;
    assert!(contains(folder.path(), b"HIDDEN-1"));
    drop((store, s));
    let (store, s) = subject(&folder, Some(file_key(&folder, "key").load().await.unwrap())).await;
    assert_eq!(store.reencrypt(10).await.unwrap(), 1);
    assert_eq!(store.reencrypt(10).await.unwrap(), 0);
    assert_eq!(s.get("a").await.unwrap().value, json!("HIDDEN-1"));
    assert_eq!(store.head().await.unwrap().revision, 1);
}

/// A store of the first schema, whose digests have no key.
const FIRST_SCHEMA: &str = "ALTER TABLE document_uniques RENAME TO document_keys; DROP TABLE index_keys; DROP TABLE \
                            base_documents; UPDATE store_schema SET version = 1; UPDATE document_keys SET digest = \
                            kind || id; UPDATE documents SET meta = CAST('{\"tags\":[],\"uniques\":[{\"name\":\
                            \"name\",\"value\":\"of ' || CAST(id AS TEXT) || '\"}],\"references\":[],\
                            \"secrets\":[]}' AS BLOB)";

#[tokio::test]
async fn digests_of_unique_keys_are_keyed() {
    let folder = TempDir::new("store");
    let (store, s) = subject(&folder, None).await;
    let many = (0..2_100).map(|n| thing(&format!("{n:04}")).named(&format!("of {n:04}")).put());
    s.ok(many.collect()).await;
    s.ok(vec![thing("x/a").named("of a").put()]).await;
    drop((store, s));
    execute(&folder, FIRST_SCHEMA).await;
    assert!(contains(folder.path(), b"of 0007"));
    let check = async |s: &Subject| {
        for n in [0, 7, 999, 1_000, 1_001, 2_099] {
            let found = s.find("things", "name", &format!("of {n:04}")).await;
            assert_eq!(found, Some(format!("{n:04}")));
        }
        let (_, violation) = s.violation(vec![thing("other").named("of 0007").put()]).await;
        assert!(matches!(violation, cardinal_store::Violation::Unique { owner, .. } if &*owner.id == "0007"));
        assert_eq!(s.find("x", "name", "of a").await.as_deref(), Some("a"));
        let same = thing("0007").named("of 0007").put();
        assert!(!s.commit(vec![same]).await.unwrap().changed, "what is stored can be compared");
    };
    // Without a key of the operator, with one, and with another one; each is seen by processes that run.
    let (plain, s) = subject(&folder, None).await;
    check(&s).await;
    let (keyed, t) = subject(&folder, Some(file_key(&folder, "key").load().await.unwrap())).await;
    check(&t).await;
    assert_eq!(keyed.rotate(file_key(&folder, "new").load().await.unwrap()).await.ok(), Some(()));
    check(&t).await;
    let refused = s.commit(vec![thing("late").named("late").put()]).await;
    assert!(matches!(refused, Err(CommitError::Store(StoreError::Corrupt(_)))), "{refused:?}");
    drop((s, t));
    let (store, s) = subject(&folder, Some(file_key(&folder, "new").load().await.unwrap())).await;
    check(&s).await;
    for store in [plain, keyed, store] {
        store.close().await;
    }
    execute(&folder, "VACUUM").await;
    assert!(!contains(folder.path(), b"of 0007"));
}

#[tokio::test]
async fn no_key_is_made_for_a_store_that_has_one() {
    let folder = TempDir::new("store");
    let options = || SqliteOptions { path: folder.path().join("store.db"), pages_max: None };
    let open = async |name: &str| SqlStore::sqlite(options(), StoreKey::From(file_key(&folder, name)), clock()).await;
    let first = open("key").await.unwrap();
    first.commit(batch(vec![document("a", json!("HIDDEN")).secret("").put()])).await.unwrap();
    first.close().await;
    let error = open("other").await.unwrap_err().to_string();
    assert!(error.contains("other does not exist") && error.contains("copy it"), "{error}");
    assert!(!folder.path().join("other").exists());
    assert_eq!(open("key").await.unwrap().get(key("a")).await.unwrap().unwrap().value, json!("HIDDEN"));
}

#[tokio::test]
async fn a_ciphertext_is_bound_to_its_place() {
    let folder = TempDir::new("store");
    let (_store, s) = subject(&folder, Some(file_key(&folder, "key").load().await.unwrap())).await;
    s.ok(vec![document("a", json!("HIDDEN")).secret("").put(), document("b", json!("other")).secret("").put()]).await;
    execute(&folder, "UPDATE documents SET value = (SELECT value FROM documents WHERE id = x'61')").await;
    assert_eq!(s.get("a").await.unwrap().value, json!("HIDDEN"));
    assert!(matches!(s.store.get(key("b")).await, Err(StoreError::Corrupt(_))));
}

#[tokio::test]
async fn sources_of_keys() {
    let folder = TempDir::new("store");
    let hex = "00ff".repeat(16);
    let value = |value: &str| KeySource::Environment { name: "KEY".to_owned(), value: value.to_owned().into() };
    let id = value(&hex).load().await.unwrap().id().to_owned();
    let base64 = "AP8A/wD/AP8A/wD/AP8A/wD/AP8A/wD/AP8A/wD/AP8=";
    let command = |text: &str| KeySource::Command(["sh", "-c", text].map(str::to_owned).to_vec());
    for same in [value(base64), value(&format!(" {hex}\n")), command(&format!("echo {hex}"))] {
        assert_eq!(same.clone().load().await.unwrap().id(), id, "{same:?}");
    }
    let open_file = folder.write("open", &hex);
    std::fs::set_permissions(&open_file, std::fs::Permissions::from_mode(0o640)).unwrap();
    let file = |path, create| KeySource::File { path, create };
    for (wrong, hint) in [
        (value(""), "holds no key"),
        (value(&hex[1..]), "holds no key"),
        (value(&"zz".repeat(32)), "environment variable KEY"),
        (command("exit 3"), "exit status: 3"),
        (command("yes"), "it ended with"),
        (KeySource::Command(vec![]), "no command"),
        (file(folder.path().join("no"), false), "No such file"),
        (file(open_file, true), "chmod 600"),
    ] {
        let error = wrong.load().await.unwrap_err().to_string();
        assert!(error.contains(hint), "{error}");
        assert!(!error.contains(&hex), "{error}");
    }
    // A file is made once.
    let made = file(folder.path().join("made"), true);
    assert_eq!(made.clone().load().await.unwrap().id(), made.load().await.unwrap().id());
}
