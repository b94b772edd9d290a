//! key-auth, basic-auth and acl, alone and together, for HTTP and gRPC clients.

use anyhow::Result;
use cardinal_testkit::{H2Client, World, frame};
use serde_json::{Value, json};

use super::{Stage, told};

const BOB: &str = "Basic Ym9iOmhvcnNl"; // bob:horse
const WRONG: &str = "Basic Ym9iOndyb25n"; // bob:wrong

fn consumers() -> Value {
    json!({"consumers": [
        {"username": "alice", "custom_id": "c-alice", "keyauth_credentials": [{"key": "ka"}], "acls": [{"group": "staff"}, {"group": "admins"}]},
        {"username": "bob", "keyauth_credentials": [{"key": "kb"}], "basicauth_credentials": [{"username": "bob", "password": "horse"}]},
        {"username": "guest"}
    ]})
}

#[tokio::test]
async fn keys_are_found_and_told() -> Result<()> {
    let config = json!({"key_names": ["apikey", "x-key"], "key_in_body": true});
    let mut stage = Stage::start(json!([{"name": "key-auth", "config": config}]), consumers()).await?;
    assert_eq!(stage.said("/", &[]).await?, "401 No API key found in request");
    assert_eq!(stage.said("/", &[("apikey", "nobody's")]).await?, "401 Unauthorized");
    assert_eq!(stage.said("/", &[("apikey", "ka"), ("apikey", "ka")]).await?, "401 Duplicate API key found");
    assert_eq!(stage.said("/?apikey=ka", &[]).await?, "200");
    assert_eq!(stage.said("/", &[("X-Key", "ka")]).await?, "200");
    for (kind, body) in
        [("application/json", "{\"apikey\":\"ka\"}"), ("application/x-www-form-urlencoded", "x=1&apikey=ka")]
    {
        let response = stage.client.request("POST", "/", "a", &[("Content-Type", kind)], body.as_bytes()).await?;
        assert_eq!(response.status, 200, "{kind}");
        assert_eq!(response.json()["body"]["text"], body, "the body passes unchanged");
    }
    let forged = [
        ("apikey", "ka"),
        ("X-Consumer-Username", "root"),
        ("X-Consumer-ID", "0"),
        ("X-Consumer-Custom-ID", "0"),
        ("X-Credential-Identifier", "0"),
        ("X-Anonymous-Consumer", "true"),
    ];
    let report = stage.get("/", &forged).await?.json();
    assert_eq!(told(&report, "x-consumer-username"), ["alice"]);
    assert_eq!(told(&report, "x-consumer-custom-id"), ["c-alice"]);
    assert_eq!(told(&report, "x-consumer-id").len(), 1);
    assert_ne!(told(&report, "x-consumer-id"), ["0"]);
    assert_ne!(told(&report, "x-credential-identifier"), ["0"]);
    assert!(told(&report, "x-anonymous-consumer").is_empty());
    assert_eq!(told(&report, "apikey"), ["ka"], "credentials are passed unless hidden");
    Ok(())
}

#[tokio::test]
async fn hidden_credentials_do_not_reach_the_backend() -> Result<()> {
    let hide = json!({"hide_credentials": true, "key_in_body": true});
    let mut stage = Stage::start(
        json!([{"name": "key-auth", "config": hide}, {"name": "basic-auth", "config": {"hide_credentials": true}}]),
        consumers(),
    )
    .await?;
    let fields = [("apikey", "kb"), ("Authorization", BOB)];
    let report = stage.get("/x?apikey=kb&a=1", &fields).await?.json();
    assert!(!report.to_string().contains("kb") && told(&report, "authorization").is_empty(), "{report}");
    assert_eq!(report["target"], "/x?a=1");
    let fields = [("Content-Type", "application/json"), ("Authorization", BOB)];
    let body = b"{\"apikey\":\"kb\",\"other\":1}";
    for _ in 0..2 {
        let report = stage.client.request("POST", "/", "a", &fields, body).await?.json();
        let text = report["body"]["text"].as_str().expect("a short text");
        assert_eq!(serde_json::from_str::<Value>(text)?, json!({"other": 1}));
        assert_eq!(told(&report, "content-length"), [text.len().to_string()]);
    }
    let report = stage.h2().await?.request("POST", "a", "/?apikey=kb", &[("authorization", BOB)], b"x").await?.json();
    assert_eq!((report["target"].as_str(), report["body"]["text"].as_str()), (Some("/"), Some("x")));
    Ok(())
}

#[tokio::test]
async fn all_must_be_satisfied_without_anonymous_and_one_with_it() -> Result<()> {
    let both = json!([{"name": "key-auth"}, {"name": "basic-auth"}]);
    let mut stage = Stage::start(both, consumers()).await?;
    assert_eq!(stage.said("/", &[("apikey", "ka")]).await?, "401 Unauthorized");
    assert_eq!(stage.said("/", &[("Authorization", BOB)]).await?, "401 No API key found in request");
    assert_eq!(stage.said("/", &[("apikey", "kb"), ("Authorization", WRONG)]).await?, "401 Unauthorized");
    assert_eq!(stage.said("/", &[("apikey", "kb"), ("Authorization", BOB)]).await?, "200");

    let either = json!([
        {"name": "key-auth", "config": {"anonymous": "guest"}},
        {"name": "basic-auth", "config": {"anonymous": "guest"}}
    ]);
    let mut stage = Stage::start(either, consumers()).await?;
    for (fields, user, anonymous) in [
        (vec![("apikey", "ka")], "alice", false),
        (vec![("Authorization", BOB)], "bob", false),
        (vec![("apikey", "ka"), ("Authorization", BOB)], "alice", false),
        (vec![("apikey", "wrong"), ("Authorization", BOB)], "bob", false),
        (vec![("apikey", "wrong")], "guest", true),
        (vec![], "guest", true),
    ] {
        let report = stage.get("/", &fields).await?.json();
        assert_eq!(told(&report, "x-consumer-username"), [user], "{fields:?}");
        let marked = told(&report, "x-anonymous-consumer");
        assert_eq!(marked.first().map(String::as_str), anonymous.then_some("true"), "{fields:?}");
        assert_eq!(told(&report, "x-credential-identifier").is_empty(), anonymous, "{fields:?}");
    }
    let lost = json!([{"name": "key-auth", "config": {"anonymous": "no-such"}}]);
    let mut stage = Stage::start(lost, consumers()).await?;
    assert_eq!(stage.said("/", &[]).await?, "500 anonymous consumer no-such is configured but doesn't exist");
    assert_eq!(stage.said("/", &[("apikey", "ka")]).await?, "200");
    Ok(())
}

#[tokio::test]
async fn anonymous_clients_are_turned_away_by_a_termination() -> Result<()> {
    let mut more = consumers();
    more["consumers"][2]["plugins"] =
        json!([{"name": "request-termination", "config": {"status_code": 401, "message": "Please log in"}}]);
    let either = json!([{"name": "key-auth", "config": {"anonymous": "guest"}}]);
    let mut stage = Stage::start(either, more).await?;
    assert_eq!(stage.said("/", &[]).await?, "401 Please log in");
    assert_eq!(stage.said("/", &[("apikey", "ka")]).await?, "200");
    Ok(())
}

#[tokio::test]
async fn groups_decide_after_authentication() -> Result<()> {
    let allow = json!([{"name": "acl", "config": {"allow": ["staff"]}}, {"name": "key-auth"}]);
    let mut stage = Stage::start(allow, consumers()).await?;
    assert_eq!(stage.said("/", &[]).await?, "401 No API key found in request");
    assert_eq!(stage.said("/", &[("apikey", "kb")]).await?, "403 You cannot consume this service");
    let report = stage.get("/", &[("apikey", "ka"), ("X-Consumer-Groups", "root")]).await?.json();
    let mut groups: Vec<_> = told(&report, "x-consumer-groups")[0].split(", ").map(str::to_owned).collect();
    groups.sort();
    assert_eq!(groups, ["admins", "staff"]);
    let deny =
        json!([{"name": "acl", "config": {"deny": ["staff"], "hide_groups_header": true}}, {"name": "key-auth"}]);
    let mut stage = Stage::start(deny, consumers()).await?;
    assert_eq!(stage.said("/", &[("apikey", "ka")]).await?, "403 You cannot consume this service");
    let report = stage.get("/", &[("apikey", "kb"), ("X-Consumer-Groups", "root")]).await?.json();
    assert!(told(&report, "x-consumer-groups").is_empty());
    let alone = json!([{"name": "acl", "config": {"allow": ["staff"]}}]);
    let mut stage = Stage::start(alone, consumers()).await?;
    let response = stage.get("/", &[]).await?;
    assert_eq!((response.status, response.header("www-authenticate")), (401, None));
    Ok(())
}

#[tokio::test]
async fn grpc_clients_get_a_grpc_status() -> Result<()> {
    let echo = cardinal_testkit::EchoServer::start("g").await;
    let mut file = consumers();
    file["_format_version"] = json!("3.0");
    file["services"] = json!([{"name": "g", "url": echo.url().replace("http:", "grpc:"),
        "routes": [{"name": "g", "protocols": ["grpc", "grpcs"], "paths": ["/"]}],
        "plugins": [{"name": "key-auth"}, {"name": "acl", "config": {"allow": ["staff"]}},
            {"name": "rate-limiting", "config": {"hour": 1}}]}]);
    let world = World::start(crate::plugins(), &file.to_string(), &[])?;
    let mut client = H2Client::connect(world.http()).await?;
    for (key, status, grpc) in
        [("", 401, "16"), ("wrong", 401, "16"), ("kb", 403, "7"), ("ka", 200, "0"), ("ka", 429, "8")]
    {
        let fields = [("content-type", "application/grpc"), ("te", "trailers"), ("apikey", key)];
        let response = client.request("POST", "a", "/pkg.S/Unary", &fields, &frame(b"hello")).await?;
        assert_eq!(response.status, status, "{key}");
        let told = response.trailers.get("grpc-status").or_else(|| response.header("grpc-status"));
        assert_eq!(told, Some(grpc), "{key}");
        if status == 200 {
            assert_eq!(response.body, frame(b"hello"));
        } else {
            assert_eq!((response.header("content-type"), response.body.len()), (Some("application/grpc"), 0));
        }
    }
    let reply = client.request("POST", "a", "/pkg.S/Unary", &[("apikey", "ka")], b"x").await?;
    assert_eq!(reply.status, 415, "what is not gRPC does not pass a route for gRPC");
    Ok(())
}
