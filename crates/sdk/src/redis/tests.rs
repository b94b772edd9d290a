use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use super::*;

/// The commands as text: words with spaces between them.
fn text(call: &RedisCall) -> Vec<String> {
    let words = |args: RedisArgs<'_>| args.map(|arg| String::from_utf8_lossy(arg).into_owned()).collect::<Vec<_>>();
    call.commands()
        .map(|command| match command.script {
            Some(script) => format!("<{}> {}", script.text(), words(command.args).join(" ")),
            None => words(command.args).join(" "),
        })
        .collect()
}

#[test]
fn a_call_has_its_commands_in_their_order() {
    let script = RedisScript::new("return 1");
    let mut call = RedisCall::new();
    assert_eq!(text(&call), [""; 0]);
    call.command("GET").arg("a");
    call.script(&script, &["k1", "k2"]).integer(-5);
    call.script(&script, &[""; 0]);
    call.command("PING");
    assert_eq!(text(&call), ["GET a", "<return 1> 2 k1 k2 -5", "<return 1> 0", "PING"]);
    let sizes: Vec<_> = call.commands().map(|command| (command.args.len(), command.args.bytes())).collect();
    assert_eq!(sizes, [(2, 4), (4, 7), (1, 1), (1, 4)]);
    assert!(!call.is_repeatable() && call.timeout().is_none());
    let call = call.repeatable().within(Duration::from_secs(1));
    assert!(call.is_repeatable() && call.timeout() == Some(Duration::from_secs(1)));
    assert!(!format!("{call:?}").contains("k1"));
}

#[test]
fn a_script_is_named_by_its_digest() {
    assert_eq!(RedisScript::new("").sha1(), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
    assert_eq!(RedisScript::new("return 1").sha1(), "e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
}

#[test]
fn replies_have_types() {
    let bytes = |text: &'static str| RedisReply::Bytes(Bytes::from_static(text.as_bytes()));
    let error = |code: &str| RedisReply::Error { code: code.into(), message: "m".into() };
    assert_eq!(RedisReply::Nil.integer(), Ok(None));
    assert_eq!(RedisReply::Integer(-3).integer(), Ok(Some(-3)));
    assert_eq!(bytes("12").integer(), Ok(Some(12)));
    assert_eq!(bytes("x").integer(), Err(RedisError::WrongType("a number")));
    assert_eq!(RedisReply::List(Vec::new()).integer(), Err(RedisError::WrongType("a number")));
    assert_eq!(bytes("x").bytes(), Ok(Some(Bytes::from_static(b"x"))));
    assert_eq!(RedisReply::Status("OK".into()).bytes(), Ok(Some(Bytes::from_static(b"OK"))));
    assert_eq!(RedisReply::Integer(1).bytes(), Err(RedisError::WrongType("a string")));
    assert_eq!(RedisReply::List(vec![RedisReply::Nil]).list(), Ok(Some(vec![RedisReply::Nil])));
    assert_eq!(bytes("x").list(), Err(RedisError::WrongType("a list")));
    let refused = RedisError::Server { code: "WRONGTYPE".into(), message: "m".into() };
    assert_eq!(error("WRONGTYPE").integer(), Err(refused.clone()));
    assert_eq!(error("WRONGTYPE").list(), Err(refused));
    assert_eq!(error("NOAUTH").bytes(), Err(RedisError::Auth("NOAUTH m".to_owned())));
}

#[test]
fn settings_come_from_the_record() {
    let record = json!({"host": "h", "port": 6379, "timeout": 250, "username": "", "password": "hush", "database": 3,
        "ssl": true, "ssl_verify": true, "server_name": "n"});
    let settings = RedisSettings::from_config(&record).unwrap();
    let mut expect = RedisSettings::new("h", 6379).with_tls(true, Some("n"));
    expect.connect_timeout = Duration::from_millis(250);
    expect.timeout = Duration::from_millis(250);
    expect.password = Some("hush".into());
    expect.database = 3;
    assert_eq!(settings, expect);
    assert!(!format!("{settings:?}").contains("hush"));
    let mut other = expect.clone();
    other.password = Some("changed".into());
    assert_ne!(settings, other);
    let plain = json!({"host": "h", "port": 1, "ssl": false, "ssl_verify": true});
    assert_eq!(RedisSettings::from_config(&plain), Ok(RedisSettings::new("h", 1)));
    assert_eq!(RedisSettings::from_config(&json!({"port": 1})), Err(("host", "required field missing")));
    assert_eq!(RedisSettings::from_config(&json!({"host": "h", "port": 65_536})), Err(("port", "must be a port")));
}
