use cardinal_testkit::TempDir;

use super::*;

fn site(files: Vec<PathBuf>, set: &[(&str, &str)]) -> Site {
    let set = set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Site::new(&[], files, SettingArgs { conf: None, set }, BTreeMap::new())
}

fn loaded(site: &Site) -> Result<Loaded, Refusal> {
    let preferences = site.settings()?;
    let texts = site.texts(&preferences)?;
    site.load(&preferences.settings, &texts.sources, false)
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
    assert_eq!(loaded(&site).unwrap().summary(), "2 services");
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
    let text = loaded(&site(Vec::new(), &[("plugins", "kye-auth")])).unwrap_err().render();
    assert!(text.contains("there is no plugin 'kye-auth'"), "{text}");
    let text = loaded(&site(Vec::new(), &[("proxy_listen", "nowhere")])).unwrap_err().render();
    assert!(text.contains("command line: proxy_listen: 'nowhere' is not"), "{text}");
}

#[test]
fn entities_may_come_from_settings() {
    let text = "_format_version: '3.0'\nservices: [{name: a, host: a.example}]";
    assert_eq!(loaded(&site(Vec::new(), &[("declarative_config_string", text)])).unwrap().summary(), "1 service");
    assert_eq!(loaded(&site(Vec::new(), &[])).unwrap().summary(), "no entities");
}
