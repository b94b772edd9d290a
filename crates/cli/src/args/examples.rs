//! Examples at the end of the help texts.

pub(super) const ALL: &str = "\
Examples:
  cardinal echo &                                       a backend to try things with
  cardinal check kong.yaml                              is the file sound, and what differs from Kong?
  cardinal run --config kong.yaml                       serve it on ports 8000 and 8443
  cardinal explain --config kong.yaml GET http://a.example/orders -H 'apikey: k'

'cardinal COMMAND --help' has more examples.";

pub(super) const RUN: &str = "\
Examples:
  cardinal run --config kong.yaml
  cardinal run --config /etc/cardinal/conf.d -C /etc/kong/kong.conf --data-dir /var/lib/cardinal
  cardinal run --config kong.yaml --set proxy_listen='0.0.0.0:80, 0.0.0.0:443 ssl http2'
  CARDINAL_LOG_LEVEL=info cardinal run --config kong.yaml --access-log off

Settings have Kong's names ('cardinal settings' lists them). They come from the file of -C, from the environment as
KONG_NAME or CARDINAL_NAME, and from the command line; later ones win.

While it runs:
  a changed file, SIGHUP   the new configuration is served if it is sound; otherwise the old one stays
  SIGUSR1                  log files are opened anew
  SIGTERM, SIGINT          no new connections; requests under way end (setting drain_timeout); a second one ends at once

Another 'cardinal run' with the same --data-dir takes the listening sockets over, so that no connection is refused while
a new version is put in place; the old process drains and ends.";

pub(super) const CHECK: &str = "\
Examples:
  cardinal check kong.yaml
  cardinal check conf.d/ --strict && systemctl reload cardinal
  cardinal check kong.yaml --output json | jq '.entities.routes'

Ends with 0 when the configuration is valid, with 1 when it is not. A valid one may still hold what cannot be served, such
as a certificate that is broken: that is said, and with --strict it makes the configuration invalid.";

pub(super) const EXPLAIN: &str = "\
Examples:
  cardinal explain --config kong.yaml GET http://a.example/orders
  cardinal explain --config kong.yaml POST https://a.example/orders -H 'apikey: k' --client-ip 203.0.113.9
  cardinal explain --config kong.yaml --requests requests.jsonl --output json

It is the code that serves which decides; nobody is connected to. A line of a file of requests is
  {\"method\":\"GET\",\"url\":\"http://a.example/\",\"headers\":{\"apikey\":\"k\"},\"client_ip\":\"203.0.113.9\",\"sni\":\"a.example\"}
of which only the URL must be there.";

pub(super) const ECHO: &str = "\
Examples:
  cardinal echo --listen 127.0.0.1:9000
  curl 127.0.0.1:9000/anything         what reached it, as JSON
  curl 127.0.0.1:9000/status/503       an answer with this status
  curl 127.0.0.1:9000/delay/250        an answer after so many milliseconds

It also speaks HTTP/2 in the clear, gRPC (each message comes back) and WebSocket (each frame comes back).";

pub(super) const COMPLETIONS: &str = "\
Examples:
  cardinal completions bash > /etc/bash_completion.d/cardinal
  cardinal completions zsh > ~/.zfunc/_cardinal
  cardinal completions fish > ~/.config/fish/completions/cardinal.fish";

pub(super) const PLUGINS: &str = "\
Examples:
  cardinal plugins
  cardinal plugins rate-limiting";
