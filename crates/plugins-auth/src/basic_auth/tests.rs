use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cardinal_sdk::testing::Bench;
use serde_json::{Value, json};

use super::PLUGIN;
use super::entities::ACCOUNTS;
use crate::fixture::{World, consumer_id, said, sent, told};

const REFUSED: &str = "401 error Unauthorized [Basic realm=\"service\"]";

fn world() -> World {
    let account = |consumer: u128, name: &str, password: &str| {
        let mut data = json!({"username": name, "password": password});
        (ACCOUNTS.seal.unwrap().run)(&mut data, consumer_id(consumer));
        data
    };
    World::default()
        .consumer(1, "bob-consumer")
        .consumer(2, "guest")
        .credential("basic-auth", 1, "bob", account(1, "bob", "kong"))
        .credential("basic-auth", 1, "user321", account(1, "user321", "pass:123:"))
        .credential("basic-auth", 2, "jürgen", account(2, "jürgen", "ß"))
}

fn basic(login: &str) -> String {
    format!("Basic {}", STANDARD.encode(login))
}

async fn check(config: Value, headers: &[(&str, &str)], expect: &str) -> Bench {
    let mut bench = Bench::with_ir(&PLUGIN, config.clone(), &world().0);
    for (name, value) in headers {
        bench.header(name, value);
    }
    let reply = bench.request().await;
    assert_eq!(said(reply.as_ref()), expect, "{config} {headers:?}");
    bench
}

#[test]
fn passwords_are_hashed_as_kong_does() {
    let mut record = json!({"username": "bob", "password": "kong"});
    let id = "5d9b5b4b-4b0c-4b0e-9b5b-4b0c4b0e9b5b".parse().unwrap();
    (ACCOUNTS.seal.unwrap().run)(&mut record, id);
    // printf 'kong5d9b5b4b-4b0c-4b0e-9b5b-4b0c4b0e9b5b' | sha1sum
    assert_eq!(record, json!({"username": "bob", "password": "0af6214524b26ef55773f71d8f8f8adb49fdd19c"}));
}

#[tokio::test]
async fn logins() {
    let authorization = |login: &str, expect: &'static str| {
        let value = basic(login);
        async move {
            check(json!({}), &[("authorization", &value)], expect).await;
        }
    };
    authorization("bob:kong", "pass").await;
    authorization("user321:pass:123:", "pass").await;
    authorization("jürgen:ß", "pass").await;
    authorization("bob:wrong", REFUSED).await;
    authorization("bob:", REFUSED).await;
    authorization("bob", REFUSED).await;
    authorization(":kong", REFUSED).await;
    authorization("", REFUSED).await;
    authorization("nobody:kong", REFUSED).await;
    check(json!({}), &[], REFUSED).await;
    let unauthorized = "401 error Unauthorized [Basic realm=\"r\"]";
    check(json!({"realm": "r"}), &[], unauthorized).await;
}

#[tokio::test]
async fn spellings() {
    let login = STANDARD.encode("bob:kong");
    for header in [
        format!("basic {login}"),
        format!("BASIC   {login}"),
        format!("Basic{login}"),
        format!("Basic {}", login.trim_end_matches('=')),
    ] {
        check(json!({}), &[("authorization", &header)], "pass").await;
    }
    for header in [
        "foobar",
        "",
        "Bas",
        "Basic",
        "Basic ",
        "Basic adXNlcjEyMzpwYXNzd29yZDEyMw==",
        "Basic !!!!",
        "Basic /////w==",
        "Bearer Ym9iOmtvbmc=",
        "Basic Ym9iOmtvbmc=, Basic Ym9iOmtvbmc=",
    ] {
        check(json!({}), &[("authorization", header)], REFUSED).await;
    }
}

#[tokio::test]
async fn proxy_authorization_comes_first() {
    let (good, other, wrong, unknown) =
        (basic("bob:kong"), basic("jürgen:ß"), basic("bob:wrong"), basic("nobody:kong"));
    let proxy = "proxy-authorization";
    let bench = check(json!({}), &[(proxy, &good), ("authorization", &other)], "pass").await;
    assert_eq!(told(&bench).1, "bob");
    check(json!({}), &[(proxy, &wrong), ("authorization", &good)], REFUSED).await;
    let bench = check(json!({}), &[(proxy, &unknown), ("authorization", &other)], "pass").await;
    assert_eq!(told(&bench).1, "jürgen");
    check(json!({}), &[(proxy, "junk"), ("authorization", &good)], "pass").await;
    check(json!({}), &[(proxy, &unknown)], REFUSED).await;
}

#[tokio::test]
async fn identity_hiding_and_anonymous() {
    let good = basic("bob:kong");
    let bench = check(json!({}), &[("authorization", &good), ("x-consumer-username", "root")], "pass").await;
    assert_eq!(told(&bench), ("bob-consumer", "bob", ""));
    assert_eq!(sent(&bench, "authorization"), good);
    let bench = check(json!({"hide_credentials": true}), &[("authorization", &good)], "pass").await;
    assert_eq!(sent(&bench, "authorization"), "");
    let bench = check(json!({"anonymous": "guest"}), &[("authorization", "Basic x")], "pass").await;
    assert_eq!(told(&bench), ("guest", "", "true"));
    let missing = "500 error anonymous consumer nobody is configured but doesn't exist";
    check(json!({"anonymous": "nobody"}), &[], missing).await;
}

#[test]
fn a_password_that_is_no_hash_is_refused() {
    for password in ["kong", "", &"z".repeat(40), &"0".repeat(39), &"ä".repeat(20)] {
        let data = json!({"username": "a", "password": password});
        let ir = World::default().consumer(1, "a").credential("basic-auth", 1, "a", data).0;
        assert_eq!(cardinal_sdk::Directory::build(&ir, &[&PLUGIN]).1.len(), 1, "{password}");
    }
}
