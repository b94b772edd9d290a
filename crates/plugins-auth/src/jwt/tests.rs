use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair,
    Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384,
    RSA_PSS_SHA512,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use cardinal_http::HeaderList;
use cardinal_sdk::testing::Bench;
use cardinal_sdk::{CallError, HttpCall, HttpCaller, HttpReply};
use serde_json::{Value, json};

use super::{Algorithm, PLUGIN, TOKEN_MAX, TokenError, parse};
use crate::fixture::{World, said, sent, told};

const NOW: u64 = 1_700_000_000;

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn token(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let signed = format!("{}.{}", part(header), part(claims));
    let signature = URL_SAFE_NO_PAD.encode(sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

fn hs256(secret: &[u8]) -> impl FnOnce(&[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    move |text| hmac::sign(&key, text).as_ref().to_vec()
}

/// A token of credential `k`.
fn good(claims: Value) -> String {
    token(&json!({"alg": "HS256", "typ": "JWT"}), &claims, hs256(b"secret"))
}

fn world() -> World {
    World::default()
        .consumer(1, "alice")
        .consumer(2, "guest")
        .credential("jwt", 1, "k", json!({"key": "k", "secret": "secret", "algorithm": "HS256"}))
        .credential("jwt", 1, "b64", json!({"key": "b64", "secret": "-_8+/w==", "algorithm": null}))
        .credential("jwt", 1, "empty", json!({"key": "empty", "secret": "====", "algorithm": "HS256"}))
        .credential("jwt", 1, "es", json!({"key": "es", "secret": "x", "algorithm": "ES256", "rsa_public_key": null}))
}

async fn check(config: Value, target: &str, headers: &[(&str, &str)], expect: &str) -> Bench {
    let mut bench = Bench::with_ir(&PLUGIN, config.clone(), &world().0);
    bench.get(target);
    for (name, value) in headers {
        bench.header(name, value);
    }
    let reply = bench.request().await;
    assert_eq!(said(reply.as_ref()), expect, "{config} {target} {headers:?}");
    bench
}

/// One request with a token as bearer.
async fn check_token(config: Value, token: &str, expect: &str) -> Bench {
    let expect = match expect {
        "pass" => expect.to_owned(),
        json if json.starts_with('{') => format!("401 {json} [Bearer error=\"invalid_token\"]"),
        message => format!("401 message {message} [Bearer error=\"invalid_token\"]"),
    };
    check(config, "/", &[("authorization", &format!("Bearer {token}"))], &expect).await
}

#[tokio::test]
async fn tokens_are_found() {
    let token = good(json!({"iss": "k"}));
    let bearer = format!("Bearer {token}");
    let (none, lower) = (json!({}), format!("bearer   {token}"));
    let nothing = "401 message Unauthorized [Bearer]";
    let invalid = |text: &str| format!("401 message {text} [Bearer error=\"invalid_token\"]");
    check(none.clone(), "/", &[], nothing).await;
    check(none.clone(), "/", &[("authorization", &token)], nothing).await;
    check(none.clone(), "/", &[("authorization", "Bearer")], nothing).await;
    check(none.clone(), "/", &[("authorization", "Basic Ym9iOmtvbmc=")], nothing).await;
    check(none.clone(), "/", &[("authorization", &bearer)], "pass").await;
    check(none.clone(), "/", &[("authorization", &lower)], "pass").await;
    check(none.clone(), &format!("/?jwt={token}"), &[], "pass").await;
    check(none.clone(), &format!("/?jwt={token}&jwt={token}"), &[("authorization", &bearer)], "pass").await;
    check(
        none.clone(),
        &format!("/?jwt={token}"),
        &[("authorization", "Bearer x")],
        &invalid("Multiple tokens provided"),
    )
    .await;
    check(none.clone(), &format!("/?jwt={token}&jwt=x"), &[], &invalid("Multiple tokens provided")).await;
    check(none.clone(), "/?jwt", &[], &invalid("Unrecognizable token")).await;
    check(none.clone(), "/?jwt=", &[], nothing).await;
    check(none.clone(), "/?token=x", &[], nothing).await;
    check(none.clone(), "/", &[("cookie", &format!("jwt={token}"))], nothing).await;
    let cookies = json!({"cookie_names": ["silly", "crumble"]});
    check(cookies.clone(), "/", &[("cookie", &format!("a=b; crumble={token} ;silly="))], "pass").await;
    check(cookies, "/", &[("cookie", ";;=;crumble;x=y")], nothing).await;
    let header = json!({"header_names": ["X-Token"]});
    check(header.clone(), "/", &[("authorization", &bearer)], nothing).await;
    check(header, "/", &[("x-token", &bearer), ("x-token", "Bearer x")], "pass").await;
    let places = json!({"uri_param_names": [], "header_names": [], "realm": "r"});
    check(places, "/?jwt=x", &[("authorization", "Bearer x")], "401 message Unauthorized [Bearer realm=\"r\"]").await;
    let realm = "401 message Bad token; invalid JSON [Bearer realm=\"r\", error=\"invalid_token\"]";
    check(json!({"realm": "r"}), "/?jwt=x", &[], realm).await;
}

#[test]
fn hostile_tokens_are_taken_apart_or_refused() {
    let object = part(&json!({}));
    let header = part(&json!({"alg": "HS256"}));
    let deep = URL_SAFE_NO_PAD.encode("[".repeat(10_000));
    for (text, error) in [
        (String::new(), TokenError::Json),
        (".".to_owned(), TokenError::Json),
        ("...".to_owned(), TokenError::Json),
        (header.clone(), TokenError::Json),
        (format!("{header}.{deep}.x"), TokenError::Json),
        (format!("{}.{object}.", part(&json!([]))), TokenError::Json),
        (format!("{header}=.{object}."), TokenError::Json),
        (format!("{object}.{object}."), TokenError::Algorithm),
        (format!("{}.{object}.", part(&json!({"alg": "none"}))), TokenError::Algorithm),
        (format!("{}.{object}.", part(&json!({"alg": "hs256"}))), TokenError::Algorithm),
        (format!("{}.{object}.", part(&json!({"alg": ["HS256"]}))), TokenError::Algorithm),
        (format!("{}.{object}.", part(&json!({"alg": "HS256", "crit": []}))), TokenError::Critical),
        (format!("{header}.{}.", part(&json!("x"))), TokenError::Claims),
        (format!("{header}.{object}"), TokenError::Signature),
        (format!("{header}.{object}.a.b"), TokenError::Signature),
        (format!("{header}.{object}.+/"), TokenError::Signature),
        ("x".repeat(TOKEN_MAX + 1), TokenError::TooLarge),
        ("x".repeat(TOKEN_MAX), TokenError::Json),
    ] {
        assert_eq!(parse(text.as_bytes()).map(|_| ()), Err(error), "{text:.200}");
    }
    let good = format!("{header}.{object}.");
    let token = parse(good.as_bytes()).unwrap();
    assert_eq!((token.algorithm, token.signed), (Algorithm::Hs256, good.trim_end_matches('.').as_bytes()));
    // Every prefix of a good token, and every token with one bit changed, is handled.
    let good = self::good(json!({"iss": "k"})).into_bytes();
    for at in 0..good.len() {
        let mut bent = good.clone();
        bent[at] ^= 1;
        drop((parse(&good[..at]), parse(&bent)));
    }
}

#[tokio::test]
async fn credentials_and_signatures() {
    let none = || json!({});
    let header = json!({"alg": "HS256"});
    let bench = check_token(none(), &good(json!({"iss": "k"})), "pass").await;
    assert_eq!(told(&bench), ("alice", "k", ""));
    assert_eq!(sent(&bench, "x-consumer-custom-id"), "custom-alice");
    check_token(none(), &good(json!({})), "No mandatory 'iss' in claims").await;
    check_token(none(), &good(json!({"iss": null})), "No mandatory 'iss' in claims").await;
    check_token(none(), &good(json!({"iss": ""})), "Invalid 'iss' in claims").await;
    check_token(none(), &good(json!({"iss": 5})), "Invalid 'iss' in claims").await;
    check_token(none(), &good(json!({"iss": "nobody"})), "No credentials found for given 'iss'").await;
    check_token(json!({"key_claim_name": "sub"}), &good(json!({"sub": "k"})), "pass").await;
    check_token(json!({"key_claim_name": "sub"}), &good(json!({"iss": "k"})), "No mandatory 'sub' in claims").await;
    let in_header = token(&json!({"alg": "HS256", "iss": "k"}), &json!({}), hs256(b"secret"));
    check_token(none(), &in_header, "pass").await;
    check_token(none(), &token(&header, &json!({"iss": "k"}), hs256(b"wrong")), "Invalid signature").await;
    check_token(none(), &token(&header, &json!({"iss": "k"}), |_| Vec::new()), "Invalid signature").await;
    let other = token(&json!({"alg": "HS384"}), &json!({"iss": "k"}), hs256(b"secret"));
    check_token(none(), &other, "Invalid algorithm").await;
    let keyless = token(&json!({"alg": "ES256"}), &json!({"iss": "es"}), |_| vec![0; 64]);
    check_token(none(), &keyless, "Invalid key/secret").await;
    let base64 = json!({"secret_is_base64": true});
    let decoded = token(&header, &json!({"iss": "b64"}), hs256(&[0xfb, 0xff, 0xbf, 0xf0 | 0xf]));
    check_token(none(), &decoded, "Invalid signature").await;
    check_token(
        base64.clone(),
        &token(&header, &json!({"iss": "b64"}), hs256(&STANDARD.decode("+/8+/w==").unwrap())),
        "pass",
    )
    .await;
    check_token(base64, &token(&header, &json!({"iss": "empty"}), hs256(b"")), "Invalid key/secret").await;
}

#[tokio::test]
async fn claims() {
    let exp = || json!({"claims_to_verify": ["exp"]});
    let both = || json!({"claims_to_verify": ["exp", "nbf"]});
    let limit = || json!({"claims_to_verify": ["exp"], "maximum_expiration": 60});
    let of = |claims: Value| {
        let mut all = json!({"iss": "k"});
        all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        good(all)
    };
    check_token(exp(), &of(json!({"exp": NOW + 1})), "pass").await;
    check_token(exp(), &of(json!({"exp": NOW})), r#"{"exp":"token expired"}"#).await;
    check_token(exp(), &of(json!({})), r#"{"exp":"must be a number"}"#).await;
    check_token(exp(), &of(json!({"exp": "soon"})), r#"{"exp":"must be a number"}"#).await;
    check_token(exp(), &of(json!({"exp": 1e300})), "pass").await;
    check_token(exp(), &of(json!({"exp": -1})), r#"{"exp":"token expired"}"#).await;
    check_token(both(), &of(json!({"exp": NOW + 1, "nbf": NOW})), "pass").await;
    let wrong = r#"{"exp":"token expired","nbf":"token not valid yet"}"#;
    check_token(both(), &of(json!({"exp": 1, "nbf": NOW + 1})), wrong).await;
    check_token(limit(), &of(json!({"exp": NOW + 60})), "pass").await;
    check_token(limit(), &of(json!({"exp": NOW + 61})), r#"{"exp":"exceeds maximum allowed expiration"}"#).await;
    check_token(json!({}), &of(json!({"exp": 1})), "pass").await;
}

#[tokio::test]
async fn anonymous_and_preflight() {
    let bench = check(json!({"anonymous": "guest"}), "/", &[("authorization", "Bearer x")], "pass").await;
    assert_eq!(told(&bench), ("guest", "", "true"));
    let missing = "500 error anonymous consumer nobody is configured but doesn't exist";
    check(json!({"anonymous": "nobody"}), "/", &[], missing).await;
    for (run, expect) in [(true, Some(401)), (false, None)] {
        let mut bench = Bench::with_ir(&PLUGIN, json!({"run_on_preflight": run}), &world().0);
        bench.request.method = cardinal_http::Method::Options;
        assert_eq!(bench.request().await.map(|reply| reply.status), expect);
    }
}

/// Key pairs for all public-key algorithms.
struct Keys {
    rsa: RsaKeyPair,
    p256: EcdsaKeyPair,
    p384: EcdsaKeyPair,
    p521: EcdsaKeyPair,
    ed25519: Ed25519KeyPair,
}

impl Keys {
    fn new() -> Self {
        Self {
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
            p256: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            p384: EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap(),
            p521: EcdsaKeyPair::generate(&ECDSA_P521_SHA512_FIXED_SIGNING).unwrap(),
            ed25519: Ed25519KeyPair::generate().unwrap(),
        }
    }

    fn sign(&self, algorithm: Algorithm, text: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let rsa = |padding| {
            let mut signature = vec![0; self.rsa.public_modulus_len()];
            self.rsa.sign(padding, &random, text, &mut signature).unwrap();
            signature
        };
        match algorithm {
            Algorithm::Rs256 => rsa(&RSA_PKCS1_SHA256),
            Algorithm::Rs384 => rsa(&RSA_PKCS1_SHA384),
            Algorithm::Rs512 => rsa(&RSA_PKCS1_SHA512),
            Algorithm::Ps256 => rsa(&RSA_PSS_SHA256),
            Algorithm::Ps384 => rsa(&RSA_PSS_SHA384),
            Algorithm::Ps512 => rsa(&RSA_PSS_SHA512),
            Algorithm::Es256 => self.p256.sign(&random, text).unwrap().as_ref().to_vec(),
            Algorithm::Es384 => self.p384.sign(&random, text).unwrap().as_ref().to_vec(),
            Algorithm::Es512 => self.p521.sign(&random, text).unwrap().as_ref().to_vec(),
            Algorithm::EdDsa => self.ed25519.sign(text).as_ref().to_vec(),
            other => unreachable!("{other:?} has no key pair"),
        }
    }

    fn pem(&self, algorithm: Algorithm) -> String {
        let der = match algorithm {
            Algorithm::Es256 => self.p256.public_key().as_der().unwrap(),
            Algorithm::Es384 => self.p384.public_key().as_der().unwrap(),
            Algorithm::Es512 => self.p521.public_key().as_der().unwrap(),
            Algorithm::EdDsa => self.ed25519.public_key().as_der().unwrap(),
            _ => self.rsa.public_key().as_der().unwrap(),
        };
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der.as_ref()))
    }

    fn jwks(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let point = |key: &EcdsaKeyPair, kid: &str, crv: &str| {
            let (x, y) = key.public_key().as_ref()[1..].split_at((key.public_key().as_ref().len() - 1) / 2);
            json!({"kty": "EC", "crv": crv, "kid": kid, "x": text(x), "y": text(y)})
        };
        // PKCS#1 of 2048 bits: two headers and a zero before the modulus, a header before the exponent.
        let rsa = self.rsa.public_key().as_ref();
        let (n, e) = (&rsa[9..265], &rsa[267..]);
        json!({"keys": [
            {"kty": "RSA", "kid": "rsa", "n": text(n), "e": text(e), "use": "sig"},
            {"kty": "RSA", "kid": "only-rs256", "alg": "RS256", "n": text(n), "e": text(e), "key_ops": ["verify"]},
            {"kty": "RSA", "kid": "encryption", "use": "enc", "n": text(n), "e": text(e)},
            {"kty": "RSA", "kid": "broken", "n": "AAAA", "e": text(e)},
            {"kty": "oct", "kid": "shared", "k": "c2VjcmV0"},
            {"kty": "EC", "crv": "P-256", "kid": "off-curve", "x": text(&[1; 32]), "y": text(&[1; 32])},
            point(&self.p256, "p256", "P-256"),
            point(&self.p384, "p384", "P-384"),
            point(&self.p521, "p521", "P-521"),
            {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": text(self.ed25519.public_key().as_ref())},
            null,
        ]})
    }
}

const PUBLIC: [(Algorithm, &str); 10] = [
    (Algorithm::Rs256, "rsa"),
    (Algorithm::Rs384, "rsa"),
    (Algorithm::Rs512, "rsa"),
    (Algorithm::Ps256, "rsa"),
    (Algorithm::Ps384, "rsa"),
    (Algorithm::Ps512, "rsa"),
    (Algorithm::Es256, "p256"),
    (Algorithm::Es384, "p384"),
    (Algorithm::Es512, "p521"),
    (Algorithm::EdDsa, "ed"),
];

#[tokio::test]
async fn every_algorithm_verifies_its_own_signatures_only() {
    let keys = Keys::new();
    for (algorithm, _) in PUBLIC {
        let data = json!({"key": "k", "algorithm": algorithm.name(), "rsa_public_key": keys.pem(algorithm)});
        let ir = World::default().consumer(1, "alice").credential("jwt", 1, "k", data).0;
        let mut bench = Bench::with_ir(&PLUGIN, json!({}), &ir);
        let signed = token(&json!({"alg": algorithm.name()}), &json!({"iss": "k"}), |text| keys.sign(algorithm, text));
        let mut bent = signed.clone().into_bytes();
        let at = bent.len() - 20;
        bent[at] = if bent[at] == b'A' { b'B' } else { b'A' };
        for (text, expect) in [
            (signed, "pass"),
            (String::from_utf8(bent).unwrap(), "401 message Invalid signature [Bearer error=\"invalid_token\"]"),
        ] {
            bench.get("/").header("authorization", &format!("Bearer {text}"));
            assert_eq!(said(bench.request().await.as_ref()), expect, "{algorithm:?}");
        }
    }
    for (algorithm, secret) in [(hmac::HMAC_SHA384, "HS384"), (hmac::HMAC_SHA512, "HS512")] {
        let data = json!({"key": "k", "algorithm": secret, "secret": secret});
        let ir = World::default().consumer(1, "alice").credential("jwt", 1, "k", data).0;
        let mut bench = Bench::with_ir(&PLUGIN, json!({}), &ir);
        let key = hmac::Key::new(algorithm, secret.as_bytes());
        let text =
            token(&json!({"alg": secret}), &json!({"iss": "k"}), |text| hmac::sign(&key, text).as_ref().to_vec());
        bench.header("authorization", &format!("Bearer {text}"));
        assert_eq!(said(bench.request().await.as_ref()), "pass");
    }
}

#[test]
fn keys_that_do_not_fit_are_said() {
    let keys = Keys::new();
    let pem = keys.pem(Algorithm::Es256);
    let prepared = |algorithm: &str, pem: &str| {
        let data = json!({"key": "k", "algorithm": algorithm, "rsa_public_key": pem});
        let ir = World::default().consumer(1, "a").credential("jwt", 1, "k", data).0;
        cardinal_sdk::Directory::build(&ir, &[&PLUGIN]).1.pop().map(|said| said.message)
    };
    assert_eq!(prepared("ES256", &pem), None);
    let kind =
        |name: &str| Some(format!("rsa_public_key cannot be used for {name}: it is not a key of the algorithm's kind"));
    for name in ["RS256", "PS512", "ES384", "ES512", "EdDSA"] {
        assert_eq!(prepared(name, &pem), kind(name));
    }
    assert!(prepared("RS256", "x").is_some_and(|text| text.contains("PEM")));
    let small = "-----BEGIN PUBLIC KEY-----\n\
        MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDdlatRjRjogo3WojgGHFHYLugdUWAY9iR3fy4arWNA1KoS8kVw33cJibXr8bvwUAUparCwlvdbH6dvEOfou0/gCFQsHUfQrSDv+MuSUMAe8jzKE4qW+jK+xQU9a03GUnKHkkle+Q0pX/g6jXZ7r1/xAK5Do2kQ+X5xK9cipRgEKwIDAQAB\n\
        -----END PUBLIC KEY-----";
    assert!(prepared("RS256", small).is_some_and(|text| text.contains("2048 to 8192 bits")));
    let schema = (PLUGIN.entities[0].schema)();
    let errors = |value: Value| schema.process(&value, &cardinal_schema::Options::default()).err().map(|e| e.to_json());
    assert_eq!(errors(json!({"key": "k", "algorithm": "RS256", "rsa_public_key": pem})), None);
    assert_eq!(errors(json!({"key": "k", "algorithm": "ES256"})), None);
    let missing = errors(json!({"key": "k", "algorithm": "RS256"})).unwrap();
    assert_eq!(missing["rsa_public_key"], "required field missing");
    let invalid = errors(json!({"key": "k", "algorithm": "EdDSA", "rsa_public_key": "x"})).unwrap();
    assert_eq!(invalid["rsa_public_key"], "invalid key");
}

/// Answers calls with the set it holds, and counts them.
#[derive(Default)]
struct Provider {
    set: Mutex<Option<Value>>,
    calls: AtomicU32,
    /// The node has no descriptors left.
    is_short: AtomicBool,
}

impl HttpCaller for Provider {
    fn call(&self, call: HttpCall) -> Pin<Box<dyn Future<Output = Result<HttpReply, CallError>> + Send>> {
        assert_eq!((&*call.method, &*call.url), ("GET", "https://idp.example/keys"));
        self.calls.fetch_add(1, Ordering::SeqCst);
        let set = self.set.lock().unwrap().clone();
        let is_short = self.is_short.load(Ordering::SeqCst);
        Box::pin(async move {
            tokio::task::yield_now().await;
            if is_short {
                return Err(CallError::Local("Too many open files".to_owned()));
            }
            let body = Bytes::from(set.ok_or(CallError::Timeout)?.to_string());
            Ok(HttpReply { status: 200, headers: HeaderList::new(), body })
        })
    }
}

/// A bench whose consumers are known to an identity provider.
struct Portal {
    bench: Bench,
    provider: Arc<Provider>,
    keys: Keys,
}

impl Portal {
    fn new(config: Value) -> Self {
        let mut all = json!({"jwks_uri": "https://idp.example/keys", "key_claim_name": "sub"});
        all.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
        let (mut bench, provider, keys) =
            (Bench::with_ir(&PLUGIN, all, &world().0), Arc::new(Provider::default()), Keys::new());
        bench.services.http = Arc::clone(&provider) as _;
        *provider.set.lock().unwrap() = Some(keys.jwks());
        Self { bench, provider, keys }
    }

    /// A token of `custom-alice`, signed with RS256.
    fn token(&self, kid: &str) -> String {
        self.token_of(&json!({"sub": "custom-alice"}), Algorithm::Rs256, Some(kid))
    }

    fn token_of(&self, claims: &Value, algorithm: Algorithm, kid: Option<&str>) -> String {
        token(&json!({"alg": algorithm.name(), "kid": kid}), claims, |text| self.keys.sign(algorithm, text))
    }

    async fn check(&mut self, token: &str, expect: &str) {
        self.bench.get("/").header("authorization", &format!("Bearer {token}"));
        let reply = self.bench.request().await;
        let said = said(reply.as_ref());
        let short = said.strip_prefix("401 message ").and_then(|s| s.strip_suffix(" [Bearer error=\"invalid_token\"]"));
        assert_eq!(short.unwrap_or(&said), expect);
    }

    async fn after(&mut self, seconds: u64, token: &str, expect: &str) {
        self.bench.clock.advance(Duration::from_secs(seconds));
        self.check(token, expect).await;
        // Lets fetches in the background end.
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
    }

    fn calls(&self) -> u32 {
        self.provider.calls.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn a_shortage_of_the_node_does_not_count_against_the_provider() {
    let mut portal = Portal::new(json!({}));
    let token = portal.token("rsa");
    portal.provider.is_short.store(true, Ordering::SeqCst);
    portal.after(60, &token, "503 message The keys to verify tokens with are unavailable").await;
    assert_eq!(portal.calls(), 1);
    portal.provider.is_short.store(false, Ordering::SeqCst);
    // A failure of the provider would not be tried again within a second.
    portal.bench.clock.advance(Duration::from_millis(150));
    portal.check(&token, "pass").await;
    assert_eq!(portal.calls(), 2);
}

#[tokio::test]
async fn published_keys_verify_tokens_of_consumers_they_name() {
    let mut portal = Portal::new(json!({}));
    for (algorithm, kid) in PUBLIC {
        let token = portal.token_of(&json!({"sub": "custom-alice"}), algorithm, Some(kid));
        portal.check(&token, "pass").await;
        assert_eq!(told(&portal.bench), ("alice", "custom-alice", ""), "{algorithm:?}");
    }
    let claims = |sub: &str| json!({"sub": sub});
    let by_name = portal.token_of(&claims("alice"), Algorithm::Es256, Some("p256"));
    portal.check(&by_name, "pass").await;
    let nobody = portal.token_of(&claims("nobody"), Algorithm::Es256, Some("p256"));
    portal.check(&nobody, "401 message Could not find consumer for 'sub=nobody'").await;
    let no_kid = portal.token_of(&claims("alice"), Algorithm::Es256, None);
    portal.check(&no_kid, "pass").await;
    let ambiguous = portal.token_of(&claims("alice"), Algorithm::Rs256, None);
    portal.check(&ambiguous, "No mandatory 'kid' in header").await;
    let other_algorithm = portal.token_of(&claims("alice"), Algorithm::Rs384, Some("only-rs256"));
    portal.check(&other_algorithm, "Invalid algorithm").await;
    let other_key = portal.token_of(&claims("alice"), Algorithm::Es256, Some("p384"));
    portal.check(&other_key, "Invalid algorithm").await;
    let expired = portal.token_of(&json!({"sub": "alice", "exp": 1}), Algorithm::EdDsa, Some("ed"));
    portal.check(&expired, "401 {\"exp\":\"token expired\"} [Bearer error=\"invalid_token\"]").await;
    // A public key is not a shared secret.
    let set = portal.keys.jwks().to_string();
    let confused = token(&json!({"alg": "HS256", "kid": "rsa"}), &claims("alice"), hs256(set.as_bytes()));
    portal.check(&confused, "Invalid algorithm").await;
    // Credentials come first.
    let own = good(json!({"sub": "k"}));
    portal.check(&own, "pass").await;
    assert_eq!(portal.calls(), 1);
}

#[tokio::test]
async fn unusable_keys_of_a_set_are_left_out() {
    let mut portal = Portal::new(json!({}));
    for kid in ["encryption", "broken", "shared", "off-curve", "missing"] {
        let token = portal.token(kid);
        portal.check(&token, "No key found for given 'kid'").await;
    }
}

#[tokio::test]
async fn a_set_is_fetched_once_kept_and_fetched_again() {
    let mut portal = Portal::new(json!({"jwks_cache_ttl": 60}));
    let (old, new) = (portal.token("rsa"), portal.token("new"));
    portal.check(&old, "pass").await;
    portal.after(60, &old, "pass").await;
    assert_eq!(portal.calls(), 1);
    portal.after(1, &old, "pass").await;
    assert_eq!(portal.calls(), 2, "it is old: fetched in the background");
    // A key id that the set lacks: fetched at most every ten seconds.
    for _ in 0..5 {
        portal.check(&new, "No key found for given 'kid'").await;
    }
    assert_eq!(portal.calls(), 2);
    let mut set = portal.keys.jwks();
    set["keys"][0]["kid"] = json!("new");
    *portal.provider.set.lock().unwrap() = Some(set);
    portal.after(10, &new, "pass").await;
    assert_eq!(portal.calls(), 3);
    portal.check(&old, "No key found for given 'kid'").await;
    // The provider is down: the old set is used for an hour after it expired.
    *portal.provider.set.lock().unwrap() = None;
    portal.after(3_600, &new, "pass").await;
    portal.after(60, &new, "pass").await;
    portal.after(1, &new, "503 message The keys to verify tokens with are unavailable").await;
}

#[tokio::test]
async fn without_a_set_nobody_is_let_in() {
    let unavailable = "503 message The keys to verify tokens with are unavailable";
    let mut portal = Portal::new(json!({}));
    let token = portal.token("rsa");
    let set = portal.keys.jwks();
    for broken in [None, Some(json!({})), Some(json!({"keys": []})), Some(json!("x"))] {
        *portal.provider.set.lock().unwrap() = broken;
        portal.after(1, &token, unavailable).await;
        portal.check(&token, unavailable).await;
    }
    assert_eq!(portal.calls(), 4, "one fetch a second at most");
    *portal.provider.set.lock().unwrap() = Some(set);
    portal.after(1, &token, "pass").await;
    let mut portal = Portal::new(json!({"anonymous": "guest"}));
    *portal.provider.set.lock().unwrap() = None;
    portal.check(&token, "pass").await;
    assert_eq!(told(&portal.bench).0, "guest");
}

#[test]
fn the_longest_life_needs_exp() {
    let schema = cardinal_schema::record([cardinal_schema::field("config", super::schema::config())]);
    let schema = super::schema::config().outer_checks.into_iter().fold(schema, |schema, check| schema.check(check));
    let errors = |config: Value| {
        let value = json!({"config": config});
        schema.process(&value, &cardinal_schema::Options::default()).err().map(|e| e.to_json().to_string())
    };
    assert_eq!(errors(json!({"maximum_expiration": 5, "claims_to_verify": ["exp"]})), None);
    assert!(errors(json!({"maximum_expiration": 5, "claims_to_verify": ["nbf"]})).is_some());
    assert!(errors(json!({"jwks_uri": "ftp://idp.example/"})).is_some_and(|e| e.contains("http")));
}
