//! Upstream connections for many server names.

use anyhow::Result;
use cardinal_testkit::{Authority, EchoServer, H1Client, World};
use serde_json::json;

use crate::plugins;
use crate::scene::{eventually, one};

#[tokio::test]
async fn names_that_clients_choose_push_out_only_the_least_recently_used_one() -> Result<()> {
    let authority = Authority::new("root");
    for alpn in [&[][..], &["h2"]] {
        let echo = EchoServer::start_tls("e", authority.server(&authority.issue(&["a"]), alpn, false)).await;
        let tags = if alpn.is_empty() { json!([]) } else { json!(["upstream-http2"]) };
        let yaml = one(&echo.url(), json!({ "tags": tags }), json!({ "preserve_host": true }));
        let settings = [("upstream_keepalive_max_names", "4"), ("status_listen", "127.0.0.1:0")];
        let world = World::start(plugins(), &yaml, &settings)?;
        let mut client = H1Client::connect(world.http()).await?;
        let mut made = Vec::new();
        for names in ["abcd", "abcd", "e", "bcde", "a", "cdea", "fghi", "fghi"] {
            for name in names.chars() {
                let host = format!("{name}.test");
                let response = client.get("/", &host, &[]).await?;
                assert_eq!((response.status, response.json()["sni"].as_str()), (200, Some(&*host)));
            }
            made.push(echo.connections());
        }
        assert_eq!(made, [4, 4, 5, 5, 6, 6, 10, 10], "{alpn:?}");
        let metrics = H1Client::connect(world.status()).await?.get("/metrics", "a", &[]).await?.text();
        assert!(metrics.contains("\ncardinal_upstream_pool_evictions_total 6\n"), "{metrics}");
        // A changed limit applies to new names immediately, and to existing ones soon.
        world.apply_with(&yaml, &[("upstream_keepalive_max_names", "1")])?;
        assert!(eventually(|| world.engine().totals().pool_evictions == 9).await);
    }
    Ok(())
}
