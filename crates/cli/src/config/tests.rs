use cardinal_testkit::TempDir;

use super::*;

fn site(files: Vec<PathBuf>, set: &[(&str, &str)]) -> Site {
    let set = set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Site::new(&[], files, SettingArgs { conf: None, set, fill_env: false }, BTreeMap::new())
}

fn loaded(site: &Site) -> Result<Loaded, Refusal> {
    let preferences = site.settings()?;
    let texts = site.texts(&preferences)?;
    site.load(&preferences.settings, &texts.sources)
}

fn summary(site: &Site) -> String {
    let preferences = site.settings().unwrap();
    let texts = site.texts(&preferences).unwrap();
    site.lowered(&preferences.settings, &texts.sources, Reading::default()).unwrap().summary
}

#[test]
fn a_directory_is_read_in_the_order_of_names() {
    let folder = TempDir::new("config");
    folder.write("b.yaml", "_format_version: '3.0'\nservices: [{name: b, host: b.example}]\n");
    folder.write("a.json", r#"{"_format_version": "3.0", "services": [{"name": "a", "host": "a.example"}]}"#);
    folder.write(".hidden.yaml", "not: read");
    folder.write("notes.txt", "not: read");
    let site = site(vec![folder.path().to_owned()], &[]);
    let names: Vec<_> = site.texts(&site.settings().unwrap()).unwrap().sources.into_iter().map(|s| s.name).collect();
    assert_eq!(names.len(), 2);
    assert!(names[0].ends_with("a.json") && names[1].ends_with("b.yaml"), "{names:?}");
    assert_eq!(summary(&site), "2 services");
}

#[test]
fn texts_that_did_not_change_have_one_digest() {
    let folder = TempDir::new("config");
    let file = folder.write("a.yaml", "_format_version: '3.0'\n");
    let site = site(vec![file], &[]);
    let digest = || site.texts(&site.settings().unwrap()).unwrap().digest;
    let before = digest();
    folder.write("a.yaml", "_format_version: '3.0'\n");
    assert_eq!(before, digest());
    folder.write("a.yaml", "_format_version: '3.0' #\n");
    assert_ne!(before, digest());
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let folder = TempDir::new("config");
    let file = folder.write("a.yaml", "_format_version: '3.0'\nservices:\n- name: a\n  hots: b\n");
    let text = loaded(&site(vec![file], &[])).unwrap_err().render();
    assert!(text.contains("a.yaml:4:3") && text.contains("4 |   hots: b") && text.contains("'host'"), "{text}");
    let text = loaded(&site(vec![folder.path().join("none.yaml")], &[])).unwrap_err().render();
    assert!(text.contains("none.yaml: No such file"), "{text}");
    let file = folder.write("bytes.yaml", b"a: b\nc: \xff\n");
    let text = loaded(&site(vec![file], &[])).unwrap_err().render();
    assert!(text.contains("bytes.yaml: line 2: not UTF-8"), "{text}");
}

#[test]
fn settings_that_are_wrong_are_told() {
    let notes = site(Vec::new(), &[("plugins", "kye-auth")]).settings().unwrap().notes;
    let told = "command line: plugins: there is no plugin 'kye-auth'";
    assert!(notes.iter().any(|note| !note.is_error && note.to_string().starts_with(told)), "{notes:?}");
    let text = loaded(&site(Vec::new(), &[("vaults", "evn")])).unwrap_err().render();
    assert!(text.contains("command line: vaults: there is no vault 'evn', did you mean 'env'?"), "{text}");
    let text = loaded(&site(Vec::new(), &[("proxy_listen", "nowhere")])).unwrap_err().render();
    assert!(text.contains("command line: proxy_listen: 'nowhere' is not"), "{text}");
}

#[test]
fn entities_may_come_from_settings() {
    let text = "_format_version: '3.0'\nservices: [{name: a, host: a.example}]";
    assert_eq!(summary(&site(Vec::new(), &[("declarative_config_string", text)])), "1 service");
    assert_eq!(summary(&site(Vec::new(), &[])), "no entities");
}

#[test]
fn what_is_not_a_file_is_not_read() {
    let folder = TempDir::new("config");
    let socket = folder.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    assert_eq!(read_text(&socket).unwrap_err().to_string(), "it is a socket, not a file");
    assert_eq!(read_text(Path::new("/dev/zero")).unwrap_err().to_string(), "it is a device, not a file");
    assert_eq!(read_text(folder.path()).unwrap_err().to_string(), "it is a directory, not a file");
    let file = folder.write("kong.yaml", "a: b");
    std::os::unix::fs::symlink(&file, folder.path().join("link.yaml")).unwrap();
    assert_eq!(read_text(&folder.path().join("link.yaml")).unwrap(), "a: b");
    let link = folder.path().join("zero.yaml");
    std::os::unix::fs::symlink("/dev/zero", &link).unwrap();
    let refused = loaded(&site(vec![link], &[])).unwrap_err();
    assert!(refused.summary().ends_with("it is a device, not a file"), "{refused}");
    // Neither is what settings name.
    let refused = site(vec![file], &[("ssl_cert", "/dev/zero"), ("ssl_cert_key", "/dev/zero")]).settings().unwrap_err();
    assert!(refused.render().contains("it is a device, not a file"), "{}", refused.render());
}

#[test]
fn a_file_that_is_too_large_is_not_read() {
    let folder = TempDir::new("config");
    let path = folder.path().join("large.yaml");
    std::fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    let told = read_text(&path).unwrap_err().to_string();
    assert!(told.contains("at most 256 MiB are read"), "{told}");
}

#[test]
fn keys_that_stand_twice_are_a_warning_unless_strict() {
    let folder = TempDir::new("config");
    let file = folder.write("a.yaml", "_format_version: '3.0'\nservices: [{name: a, host: x, host: y}]\n");
    let site = site(vec![file], &[]);
    let found = loaded(&site).unwrap();
    assert_eq!(found.diagnostics.iter().map(|d| d.severity).collect::<Vec<_>>(), [Severity::Warning]);
    let preferences = site.settings().unwrap();
    let texts = site.texts(&preferences).unwrap();
    let refused = site
        .lowered(&preferences.settings, &texts.sources, Reading { strict: true, ..Reading::default() })
        .unwrap_err();
    assert!(refused.render().contains("error: key \"host\": duplicate key in a map"), "{}", refused.render());
}

#[test]
fn diagnostics_show_no_secrets() {
    let folder = TempDir::new("config");
    let text = "_format_version: '3.0'\ncertificates: [{key: \"{vault://env/none}\", cert: '{vault://env/none}', tags: ['token: s3cret']}]\n";
    let file = folder.write("a.yaml", text);
    let site = site(vec![file], &[]);
    let found = loaded(&site).unwrap();
    let texts = site.texts(&site.settings().unwrap()).unwrap();
    let shown = render_diagnostics(&found.diagnostics, &texts.sources);
    assert!(shown.contains("2 | certificates: [{key: ") && !shown.contains("s3cret"), "{shown}");
}
