use super::*;

#[test]
fn references_lead_to_secrets() {
    let secrets = Secrets {
        env_prefix: String::new(),
        env: [("MY_KEY", "one"), ("PRE_DB", r#"{"password":"two","port":5}"#)]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into(),
        files: [("a/b", "three\n"), ("all.json", r#"{"x":"four"}"#)].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        dir: Some("/secrets".to_owned()),
        enabled: Choice::Bundled,
    };
    let vault = |kind: &str, prefix: &str| Vault { kind: kind.to_owned(), prefix: prefix.to_owned() };
    let vaults = [("my-env", vault("env", "pre_")), ("my-files", vault("file", "a")), ("json", vault("file", "all"))];
    let vaults = vaults.map(|(name, vault)| (name.to_owned(), vault)).into();
    let resolve = |text: &str| secrets.resolve(text, &vaults);
    assert_eq!(resolve("{vault://env/my-key}").as_deref(), Ok("one"));
    assert_eq!(resolve("{vault://my-env/db/password}").as_deref(), Ok("two"));
    assert_eq!(resolve("{vault://env/db/port?prefix=PRE_}").as_deref(), Ok("5"));
    assert_eq!(resolve("{vault://my-files/b}").as_deref(), Ok("three"));
    assert_eq!(resolve("{vault://json/x#2}").as_deref(), Ok("four"));
    assert_eq!(resolve("{vault://env/none}").unwrap_err(), "the environment has no NONE");
    assert_eq!(
        resolve("{vault://aws/x}").unwrap_err(),
        "this version does not have the vault 'aws' of Kong Enterprise"
    );
    assert_eq!(resolve("{vault://env}").unwrap_err(), "not a reference of the form {vault://<vault>/<resource>}");
}
