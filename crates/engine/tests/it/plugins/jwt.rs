//! jwt: tokens of every algorithm family, with keys of consumers and with a published key set.

use anyhow::Result;
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use cardinal_testkit::{ScriptedPeer, Step, free_port};
use serde_json::{Value, json};

use super::{Stage, told};

const LATER: u64 = 4_000_000_000;

struct Keys {
    rsa: RsaKeyPair,
    ec: EcdsaKeyPair,
}

impl Keys {
    fn new() -> Self {
        Self {
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).expect("a key"),
            ec: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key"),
        }
    }

    fn sign(&self, algorithm: &str, text: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match algorithm {
            "RS256" => {
                let mut signature = vec![0; self.rsa.public_modulus_len()];
                self.rsa.sign(&RSA_PKCS1_SHA256, &random, text, &mut signature).expect("a signature");
                signature
            }
            "ES256" => self.ec.sign(&random, text).expect("a signature").as_ref().to_vec(),
            _ => hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"hush"), text).as_ref().to_vec(),
        }
    }

    fn token(&self, algorithm: &str, kid: &str, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&json!({"alg": algorithm, "typ": "JWT", "kid": kid})), part(claims));
        let signature = URL_SAFE_NO_PAD.encode(self.sign(algorithm, signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    fn pem(der: &[u8]) -> String {
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der))
    }

    fn consumers(&self) -> Value {
        let rsa = self.rsa.public_key().as_der().expect("a public key");
        let ec = self.ec.public_key().as_der().expect("a public key");
        json!({"consumers": [
            {"username": "alice", "custom_id": "sub-alice", "jwt_secrets": [
                {"key": "hs", "algorithm": "HS256", "secret": "hush"},
                {"key": "rs", "algorithm": "RS256", "rsa_public_key": Self::pem(rsa.as_ref())},
                {"key": "es", "algorithm": "ES256", "rsa_public_key": Self::pem(ec.as_ref())}
            ]}
        ]})
    }

    /// The key set of an identity provider.
    fn published(&self) -> String {
        let point = self.ec.public_key().as_ref();
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        // PKCS#1 of 2048 bits: two headers and a zero before the modulus, a header before the exponent.
        let (modulus, exponent) = (&self.rsa.public_key().as_ref()[9..265], &self.rsa.public_key().as_ref()[267..]);
        json!({"keys": [
            {"kty": "EC", "crv": "P-256", "kid": "ec", "x": encode(&point[1..33]), "y": encode(&point[33..65])},
            {"kty": "RSA", "kid": "rsa", "use": "sig", "alg": "RS256", "n": encode(modulus), "e": encode(exponent)}
        ]})
        .to_string()
    }
}

#[tokio::test]
async fn tokens_of_every_family_are_verified() -> Result<()> {
    let keys = Keys::new();
    let config = json!({"claims_to_verify": ["exp"]});
    let mut stage = Stage::start(json!([{"name": "jwt", "config": config}]), keys.consumers()).await?;
    assert_eq!(stage.said("/", &[]).await?, "401 Unauthorized");
    for (algorithm, issuer) in [("HS256", "hs"), ("RS256", "rs"), ("ES256", "es")] {
        let good = format!("Bearer {}", keys.token(algorithm, "", &json!({"iss": issuer, "exp": LATER})));
        let report = stage.get("/", &[("Authorization", &good)]).await?.json();
        assert_eq!(told(&report, "x-consumer-username"), ["alice"], "{algorithm}");
        assert_eq!(told(&report, "x-credential-identifier"), [issuer], "{algorithm}");
        let old = format!("Bearer {}", keys.token(algorithm, "", &json!({"iss": issuer, "exp": 1})));
        let refused = stage.get("/", &[("Authorization", &old)]).await?;
        assert_eq!((refused.status, refused.json()["exp"].as_str()), (401, Some("token expired")), "{algorithm}");
        let mut forged = keys.token(algorithm, "", &json!({"iss": issuer, "exp": LATER}));
        let cut = forged.len() - 10;
        let other = if forged[cut..].starts_with('A') { "Q" } else { "A" };
        forged.replace_range(cut..=cut, other);
        let refused = stage.get("/", &[("Authorization", &format!("Bearer {forged}"))]).await?;
        assert_eq!(refused.status, 401, "{algorithm}");
        assert_eq!(refused.header("www-authenticate"), Some("Bearer error=\"invalid_token\""));
        // A token names its own algorithm, which must not determine the algorithm of verification.
        let other = if algorithm == "HS256" { "RS256" } else { "HS256" };
        let crossed = format!("Bearer {}", keys.token(other, "", &json!({"iss": issuer, "exp": LATER})));
        assert_eq!(stage.said("/", &[("Authorization", &crossed)]).await?, "401 Invalid algorithm", "{algorithm}");
        let target = format!("/?jwt={}", keys.token(algorithm, "", &json!({"iss": issuer, "exp": LATER})));
        assert_eq!(stage.said(&target, &[]).await?, "200", "{algorithm}");
    }
    let mut client = stage.h2().await?;
    let good = format!("Bearer {}", keys.token("ES256", "", &json!({"iss": "es", "exp": LATER})));
    assert_eq!(client.request("GET", "a", "/", &[("authorization", &good)], b"").await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn keys_are_fetched_from_the_provider() -> Result<()> {
    let keys = Keys::new();
    let set = keys.published();
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{set}",
        set.len()
    );
    let provider = ScriptedPeer::start(vec![vec![Step::until("\r\n\r\n"), Step::send(&answer)]]).await;
    let config = json!({"jwks_uri": format!("http://{}/keys", provider.address()), "key_claim_name": "sub"});
    let mut stage = Stage::start(json!([{"name": "jwt", "config": config}]), keys.consumers()).await?;
    for (algorithm, kid) in [("RS256", "rsa"), ("ES256", "ec"), ("ES256", "ec")] {
        let good = format!("Bearer {}", keys.token(algorithm, kid, &json!({"sub": "sub-alice", "exp": LATER})));
        let report = stage.get("/", &[("Authorization", &good)]).await?.json();
        assert_eq!(told(&report, "x-consumer-username"), ["alice"], "{algorithm}");
        assert_eq!(told(&report, "x-credential-identifier"), ["sub-alice"]);
    }
    assert_eq!(provider.connections(), 1, "the set is kept");
    assert!(provider.received()[0].starts_with(b"GET /keys HTTP/1.1\r\n"));
    for (algorithm, kid, subject, said) in [
        ("HS256", "rsa", "sub-alice", "401 Invalid algorithm"),
        ("RS256", "ec", "sub-alice", "401 Invalid algorithm"),
        ("RS256", "lost", "sub-alice", "401 No key found for given 'kid'"),
        ("RS256", "rsa", "nobody", "401 Could not find consumer for 'sub=nobody'"),
    ] {
        let token = format!("Bearer {}", keys.token(algorithm, kid, &json!({"sub": subject, "exp": LATER})));
        assert_eq!(stage.said("/", &[("Authorization", &token)]).await?, said, "{algorithm} {kid}");
    }
    let lost = json!({"jwks_uri": format!("http://127.0.0.1:{}/", free_port()), "key_claim_name": "sub"});
    let mut stage = Stage::start(json!([{"name": "jwt", "config": lost}]), keys.consumers()).await?;
    let token = format!("Bearer {}", keys.token("RS256", "rsa", &json!({"sub": "sub-alice", "exp": LATER})));
    let said = stage.said("/", &[("Authorization", &token)]).await?;
    assert_eq!(said, "503 The keys to verify tokens with are unavailable");
    Ok(())
}
