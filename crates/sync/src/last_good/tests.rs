use std::os::unix::fs::PermissionsExt as _;

use cardinal_base::Tick;
use cardinal_ir::policy::{AccessRule, Authorization, ClientMatch};
use cardinal_ir::{
    Action, Backend, Cluster, Filter, FilterSet, Host, HttpVersion, Labels, Matches, Origin, Policy, PolicySpec,
    Principal, Rank, Route, Scope, SecretKey, SecretRef, Target, binary,
};
use cardinal_testkit::TempDir;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use cardinal_ir::Id;

fn id(number: u128) -> Id {
    Id::from_u128(number)
}

fn origin(kind: &str, number: u128) -> Origin {
    Origin::new("test", kind, id(number)).named(&format!("n{number}"))
}

/// A route to the backend of a cluster, and a separate route.
fn ir() -> Ir {
    let mut ir = Ir::default();
    ir.clusters.insert(id(1), Cluster { origin: origin("upstreams", 1), ..Cluster::default() });
    let target = Target::Cluster { id: id(1), port: 80, subset: Labels::default() };
    ir.backends.insert(id(2), Backend { origin: origin("services", 2), target, ..Backend::default() });
    let target = Target::Host(Host { host: "127.0.0.1".into(), port: 80 });
    let http = Some(HttpVersion::H1);
    ir.backends.insert(id(3), Backend { origin: origin("services", 3), target, http, ..Backend::default() });
    for (number, backend) in [(4, 2), (5, 3)] {
        let (rank, action) = (Rank { weight: 1, tie: number }, Action::Forward(id(backend)));
        let (origin, matches) = (origin("routes", number), Matches::from(cardinal_ir::Criteria::default()));
        ir.routes.insert(id(number), Route { origin, rank, matches, action, ..Route::default() });
    }
    let params = json!({"a": [1, 2.5], "password": reference().to_string()}).into();
    let filters = vec![Filter { kind: "x".into(), params, ..Filter::default() }];
    ir.filter_sets.insert(id(6), FilterSet { origin: origin("plugins", 6), filters, ..FilterSet::default() });
    ir
}

fn saved(ir: Ir) -> Saved {
    Saved { ir: Arc::new(ir), secrets: secrets(), about: json!({"summary": "2 routes"}) }
}

/// The secrets to which the records refer, and an unused one.
fn secrets() -> Secrets {
    let mut secrets = Secrets::default();
    secrets.add(&SecretKey::default(), "hush");
    secrets.add(&SecretKey::default(), "unused");
    secrets
}

fn reference() -> SecretRef {
    SecretKey::default().reference("hush")
}

/// A file with these records in place of their encodings.
fn file_with(replaced: &[(&str, u128, &[u8])]) -> Vec<u8> {
    let about = b"null".as_slice();
    let mut content = [b"CARDINAL".as_slice(), &2_u32.to_be_bytes(), &4_u32.to_be_bytes(), about].concat();
    let result = ir().for_each_encoded(&mut |kind, id, bytes| {
        let found = replaced.iter().find(|(_, number, _)| Id::from_u128(*number) == id);
        let (table, bytes) = found.map_or((kind.as_str(), bytes), |(table, _, bytes)| (*table, *bytes));
        format::write_record(&mut content, table, id, bytes).unwrap();
        Ok::<_, Box<dyn std::error::Error>>(())
    });
    result.unwrap();
    content.extend([0, 0]);
    format::sealed(&content)
}

struct Kept {
    folder: TempDir,
    file: LastGood,
}

impl Kept {
    fn new() -> Self {
        let folder = TempDir::new("last-good");
        let file = LastGood::open(&folder.path().join("data")).unwrap();
        Self { folder, file }
    }

    fn load_bytes(&self, bytes: &[u8]) -> Result<Loaded, LoadError> {
        self.folder.write("data/last-good.bin", bytes);
        self.file.load()
    }

    fn error_of(&self, bytes: &[u8]) -> String {
        self.load_bytes(bytes).unwrap_err().to_string()
    }
}

#[test]
fn a_saved_configuration_is_read_again() {
    let kept = Kept::new();
    assert!(matches!(kept.file.load(), Err(LoadError::Missing(_))));
    for ir in [Ir::default(), ir()] {
        kept.file.save(&saved(ir.clone())).unwrap();
        let loaded = kept.file.load().unwrap();
        assert_eq!((&loaded.ir, loaded.about["summary"].as_str()), (&ir, Some("2 routes")));
        assert!(loaded.rejected.is_empty());
        let kept: Vec<_> = loaded.secrets.iter().map(|(reference, secret)| (reference, secret.expose())).collect();
        assert_eq!(kept, if loaded.ir.is_empty() { vec![] } else { vec![(reference(), "hush")] });
    }
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let folder = kept.folder.path().join("data");
    assert_eq!((mode(&folder), mode(&kept.file.path())), (0o700, 0o600));
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 1, "no draft is left");
}

#[test]
fn a_damaged_file_is_refused() {
    let kept = Kept::new();
    kept.file.save(&saved(ir())).unwrap();
    let good = std::fs::read(kept.file.path()).unwrap();
    for length in 0..good.len() {
        let error = kept.error_of(&good[..length]);
        assert!(error.contains("last-good.bin is damaged: it"), "{length}: {error}");
    }
    for at in (12..good.len()).step_by(7) {
        let mut bad = good.clone();
        bad[at] ^= 0x20;
        let error = kept.error_of(&bad);
        assert!(error.contains("its checksum is wrong"), "{at}: {error}");
    }
    assert!(kept.error_of(b"services: []\n").contains("does not begin as such a file does"));
}

#[test]
fn a_signed_file_is_read_with_its_key_only() {
    let mut kept = Kept::new();
    let file = |key: u8| kept.file.clone().signed(SecretKey::new([key; 32]));
    let (own, other) = (file(1), file(2));
    own.save(&saved(ir())).unwrap();
    assert_eq!(own.load().unwrap().ir, ir());
    let why = |file: &LastGood| file.load().unwrap_err().to_string();
    assert!(why(&other).contains("its signature is wrong"));
    assert!(why(&kept.file).contains("there is no key to verify it"));
    // One who changes the file can compute a checksum, but no signature.
    let mut changed = std::fs::read(own.path()).unwrap();
    changed.truncate(changed.len() - 32);
    changed[20] ^= 1;
    kept.folder.write("data/last-good.bin", format::sealed(&changed));
    assert!(why(&own).contains("its signature is wrong"));
    kept.file.save(&saved(ir())).unwrap();
    assert!(why(&own).contains("it is not signed"));
    kept.file = own;
    kept.file.save(&saved(ir())).unwrap();
    assert_eq!(kept.file.load().unwrap().ir, ir());
}

#[test]
fn a_file_of_another_version_is_refused() {
    let kept = Kept::new();
    let mut file = file_with(&[]);
    assert_eq!(kept.load_bytes(&file).unwrap().ir, ir());
    file[11] = 9;
    assert!(kept.error_of(&file).contains("has format version 9, which this version of the program cannot read"));
}

#[test]
fn a_record_of_another_version_is_rejected_with_what_refers_to_it() {
    let kept = Kept::new();
    let strange = binary::encode(&json!({"algorithm": "by-mood"})).unwrap();
    let loaded = kept.load_bytes(&file_with(&[("clusters", 1, &strange)])).unwrap();
    let rejected: Vec<_> = loaded.rejected.iter().map(|r| (r.kind.as_str(), r.id.clone())).collect();
    let expected = [("clusters", 1), ("backends", 2), ("routes", 4)].map(|(table, n)| (table, id(n).to_string()));
    assert_eq!(rejected, expected);
    assert!(loaded.rejected[0].reason.contains("by-mood"), "{:?}", loaded.rejected);
    let routes: Vec<_> = loaded.ir.routes.iter().map(|(id, _)| *id).collect();
    assert_eq!(routes, [id(5)]);
    assert!(loaded.ir.verify().is_empty());
}

/// Without them, requests would be served that the configuration rejects.
#[test]
fn records_that_restrict_access_are_not_left_out() {
    let kept = Kept::new();
    let strange = binary::encode(&json!({"filters": 5})).unwrap();
    let error = kept.error_of(&file_with(&[("filter_sets", 6, &strange)]));
    assert!(
        error.contains("has records of filter_sets that this version") && error.contains("expected a sequence"),
        "{error}"
    );
    let error = kept.error_of(&file_with(&[("borders", 6, b"")]));
    assert!(error.contains("has records of borders") && error.contains("there is no table \"borders\""), "{error}");
}

/// A policy whose rules name an unreadable principal must not be dropped, unless it only applies to that principal.
#[test]
fn policies_are_not_left_out_with_what_their_rules_name() {
    let kept = Kept::new();
    let strange = binary::encode(&json!({"username": 5, "origin": 5})).unwrap();
    let load = |scope: Scope| {
        let mut ir = Ir::default();
        ir.principals.insert(id(8), Principal { origin: origin("consumers", 8), ..Principal::default() });
        let rule = AccessRule { clients: vec![ClientMatch::Principal(id(8))], ..AccessRule::default() };
        let spec = PolicySpec::Authorization(Authorization {
            rules: vec![rule],
            allow_by_default: true,
            ..Authorization::default()
        });
        ir.policies.insert(id(9), Policy { origin: origin("policies", 9), scope, spec, ..Policy::default() });
        let mut content = [b"CARDINAL".as_slice(), &2_u32.to_be_bytes(), &4_u32.to_be_bytes(), b"null"].concat();
        let written = ir.for_each_encoded(&mut |kind, id, bytes| {
            let bytes = if kind.as_str() == "principals" { &*strange } else { bytes };
            format::write_record(&mut content, kind.as_str(), id, bytes).unwrap();
            Ok::<_, Box<dyn std::error::Error>>(())
        });
        written.unwrap();
        // The end of the records, and of the secrets.
        content.extend([0, 0]);
        kept.load_bytes(&format::sealed(&content))
    };
    let error = load(Scope::default()).unwrap_err().to_string();
    assert!(error.contains("has records of policies") && error.contains("spec.rules.clients refers to"), "{error}");
    let alone = load(Scope { principal: Some(id(8)), ..Scope::default() }).unwrap();
    assert_eq!((alone.rejected.len(), alone.ir), (2, Ir::default()));
}

proptest! {
    #[test]
    fn bytes_of_any_kind_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), sealed: bool) {
        let kept = Kept::new();
        let start = [b"CARDINAL".as_slice(), &2_u32.to_be_bytes(), &bytes].concat();
        let file = if sealed { format::sealed(&start) } else { bytes };
        drop(kept.load_bytes(&file));
    }
}

#[test]
fn a_configuration_that_cannot_be_saved_is_forgotten_unless_that_is_transient() {
    let kept = Kept::new();
    std::fs::remove_dir_all(kept.folder.path().join("data")).unwrap();
    let mut keeper = Keeper::new(kept.file.clone());
    keeper.keep(saved(ir()), Tick::from_millis(0));
    assert!(!keeper.has_unsaved() && keeper.wait_ms(Tick::from_millis(0)).is_none());
    std::fs::create_dir(kept.folder.path().join("data")).unwrap();
    keeper.keep(saved(ir()), Tick::from_millis(0));
    assert_eq!(kept.file.load().unwrap().ir, ir());
    let transient =
        |code| SaveError { path: PathBuf::new(), error: std::io::Error::from_raw_os_error(code) }.is_transient();
    assert!(transient(24) && !transient(28), "no descriptors are left; no space is left");
}
