//! Examples at the end of the help texts.

pub(super) const ALL: &str = "\
Examples:
  cardinal echo &                                       a test backend
  cardinal check kong.yaml                              validate the file, report differences from Kong
  cardinal run --config kong.yaml                       serve it on ports 8000 and 8443
  cardinal explain --config kong.yaml GET http://a.example/orders -H 'apikey: k'

16 of the 45 plugins bundled with Kong Gateway 3.10 are available: 'cardinal plugins' lists them. 'cardinal check' names
plugins that a file uses and this version does not have.

'cardinal COMMAND --help' has more examples.";

pub(super) const RUN: &str = "\
Examples:
  cardinal run --config kong.yaml
  cardinal run --config /etc/cardinal/conf.d -C /etc/kong/kong.conf --data-dir /var/lib/cardinal
  cardinal run --config kong.yaml --set proxy_listen='0.0.0.0:80, 0.0.0.0:443 ssl http2'
  CARDINAL_LOG_LEVEL=info cardinal run --config kong.yaml --access-log off

Settings have Kong's names ('cardinal settings' lists them). They come from the file of -C, from the environment as
KONG_NAME or CARDINAL_NAME, and from the command line; later ones take
precedence.

While it runs:
  a changed file, SIGHUP   hot reload; an invalid configuration is rejected, and the current one stays in use
  SIGUSR1                  reopen log files
  SIGTERM, SIGINT          graceful shutdown: drain connections (setting drain_timeout); a second signal stops immediately

Another 'cardinal run' with the same --data-dir takes over the listening sockets, so that no connection is refused during
an upgrade; the old process drains and exits.";

pub(super) const CHECK: &str = "\
Examples:
  cardinal check kong.yaml
  cardinal check conf.d/ --strict && systemctl reload cardinal
  cardinal check kong.yaml --output json | jq '.entities.routes'

Exits with 0 when the configuration is valid, with 1 when it is not. A valid configuration may contain entities that cannot
be served, such as a broken certificate: they are reported, and with --strict they make the configuration invalid.";

pub(super) const EXPLAIN: &str = "\
Examples:
  cardinal explain --config kong.yaml GET http://a.example/orders
  cardinal explain --config kong.yaml POST https://a.example/orders -H 'apikey: k' --client-ip 203.0.113.9
  cardinal explain --config kong.yaml --requests requests.jsonl --output json

The decision is made by the code that serves traffic; no connection is opened. A line of a file of requests is
  {\"method\":\"GET\",\"url\":\"http://a.example/\",\"headers\":{\"apikey\":\"k\"},\"client_ip\":\"203.0.113.9\",\"sni\":\"a.example\"}
Only the URL is required.";

pub(super) const ECHO: &str = "\
Examples:
  cardinal echo --listen 127.0.0.1:9000
  curl 127.0.0.1:9000/anything         the request as JSON
  curl 127.0.0.1:9000/status/503       a response with this status
  curl 127.0.0.1:9000/delay/250        a response after this many milliseconds

It also speaks HTTP/2 in the clear, gRPC (each message comes back) and WebSocket (each frame comes back).";

pub(super) const COMPLETIONS: &str = "\
Examples:
  cardinal completions bash > /etc/bash_completion.d/cardinal
  cardinal completions zsh > ~/.zfunc/_cardinal
  cardinal completions fish > ~/.config/fish/completions/cardinal.fish";

pub(super) const PLUGINS: &str = "\
Examples:
  cardinal plugins                     the available plugins: 16 of the 45 bundled with Kong Gateway 3.10
  cardinal plugins rate-limiting       the fields of one";
