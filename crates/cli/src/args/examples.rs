//! Examples at the end of the help texts.

pub(super) const ALL: &str = "\
Examples:
  cardinal echo &                    a test backend
  cardinal check kong.yaml           validate the file, report differences
                                     from Kong
  cardinal run --config kong.yaml    serve it on ports 8000 and 8443
  cardinal run                       serve the entities of the Admin API
  cardinal history                   the revisions of these entities
  cardinal explain --config kong.yaml GET http://a.example/x -H 'apikey: k'

17 of the 45 plugins bundled with Kong Gateway 3.10 are available:
'cardinal plugins' lists them. 'cardinal check' names plugins that a file
uses and this version does not have.

'cardinal COMMAND --help' has more examples.";

pub(super) const RUN: &str = "\
Examples:
  cardinal run --config kong.yaml
  cardinal run                         entities in the store, written through
                                       the Admin API on port 8001
  cardinal run --config /etc/cardinal/conf.d -C /etc/kong/kong.conf \\
    --data-dir /var/lib/cardinal
  cardinal run --config kong.yaml --writable    the Admin API edits the file
  cardinal run --config kong.yaml \\
    --set proxy_listen='0.0.0.0:80, 0.0.0.0:443 ssl http2'
  CARDINAL_LOG_LEVEL=info cardinal run --config kong.yaml --access-log off

Settings have Kong's names ('cardinal settings' lists them). They come from
the file of -C, from the environment as KONG_NAME or CARDINAL_NAME, and from
the command line; later ones take precedence.

While it runs:
  a changed file, SIGHUP   hot reload; an invalid configuration is rejected,
                           and the current one stays in use
  SIGUSR1                  reopen log files
  SIGTERM, SIGINT          graceful shutdown: drain connections (setting
                           drain_timeout); a second signal stops immediately

Another 'cardinal run' with the same --data-dir and the same addresses takes
over the listening sockets, so that no connection is refused during an
upgrade; the old process drains and exits. With other addresses it does not
start, except with --takeover.";

pub(super) const CHECK: &str = "\
Examples:
  cardinal check kong.yaml
  cardinal check conf.d/ --strict && systemctl reload cardinal
  cardinal check kong.yaml --output json | jq '.entities.routes'

Exits with 0 when the configuration is valid, with 1 when it is not. A valid
configuration may contain entities that cannot be served, such as a broken
certificate: they are reported, and with --strict they make the configuration
invalid.";

pub(super) const EXPLAIN: &str = "\
Examples:
  cardinal explain --config kong.yaml GET http://a.example/orders
  cardinal explain --config kong.yaml POST https://a.example/orders \\
    -H 'apikey: k' --client-ip 203.0.113.9
  cardinal explain --config kong.yaml --requests requests.jsonl --output json
  cardinal explain --revision 12 GET http://a.example/orders

The decision is made by the code that serves traffic; no connection is opened.
A line of a file of requests is a JSON object; only 'url' is required:
  {\"method\":\"GET\",\"url\":\"https://a.example/\",\"headers\":{\"apikey\":\"k\"},
   \"client_ip\":\"203.0.113.9\",\"sni\":\"a.example\",\"http2\":true,\"body\":\"text\"}
(in the file on one line).";

pub(super) const ECHO: &str = "\
Examples:
  cardinal echo --listen 127.0.0.1:9000
  curl 127.0.0.1:9000/anything         the request as JSON
  curl 127.0.0.1:9000/status/503       a response with this status
  curl 127.0.0.1:9000/delay/250        a response after this many milliseconds

It also speaks HTTP/2 in the clear, gRPC (each message comes back) and
WebSocket (each frame comes back).";

pub(super) const COMPLETIONS: &str = "\
Examples:
  cardinal completions bash > /etc/bash_completion.d/cardinal
  cardinal completions zsh > ~/.zfunc/_cardinal
  cardinal completions fish > ~/.config/fish/completions/cardinal.fish";

pub(super) const PLUGINS: &str = "\
Examples:
  cardinal plugins                 the available plugins: 17 of the 45 bundled
                                   with Kong Gateway 3.10
  cardinal plugins rate-limiting   the fields of one";

pub(super) const STORE: &str = "\
Examples:
  cardinal store status
  cardinal store quarantine          entities that cannot be served
  cardinal store export --out kong.yaml
  cardinal store import kong.yaml --dry-run
  cardinal store backup /backup/store.db

The store is that of 'cardinal run' without files: SQLite in the data
directory, or PostgreSQL (settings database, pg_host, ...). All commands but
'restore' work while nodes use it.";

pub(super) const QUARANTINE: &str = "\
Examples:
  cardinal store quarantine
  cardinal store quarantine --output json | jq -r '.[].id'

The entities are examined as this machine would serve them. What a running
node does not serve, and since when, is at /cardinal/v1/quarantine of its
Admin API.";

pub(super) const EXPORT: &str = "\
Examples:
  cardinal store export --out kong.yaml
  cardinal store export | cardinal check -
  cardinal store export --format json-lines | jq -r .kind | sort | uniq -c

The file holds secrets in the clear. Defaults are part of it, times are not.
With basic-auth credentials, whose passwords are hashed, the file says
'_transform: false'; decK does not read such files.";

pub(super) const IMPORT: &str = "\
Examples:
  cardinal store import kong.yaml --dry-run
  cardinal store import kong.yaml
  cardinal store import --merge team-a.yaml

All changes are one revision: either all of them are made, or none. An entity
with the name of one in the store takes its id. 'cardinal rollback' undoes an
import.";

pub(super) const HISTORY: &str = "\
Examples:
  cardinal history
  cardinal history --before 120 --limit 50
  cardinal history --output json | jq '.[0].revision'";

pub(super) const SHOW: &str = "\
Examples:
  cardinal show 12                 the fields that revision 12 changed
  cardinal show 12 --reveal        with secrets
  cardinal show 12 --output json | jq '.entities[].name'";

pub(super) const DIFF: &str = "\
Examples:
  cardinal diff 10 12
  cardinal diff 10                 with the newest revision
  cardinal diff 10 --output json | jq '.routes'

The effect on routes is computed by the code that serves: a route is listed if
it matches, forwards or filters requests differently.";

pub(super) const ROLLBACK: &str = "\
Examples:
  cardinal rollback 10 --dry-run
  cardinal rollback 10

The store gets exactly the entities of the revision, in one new revision, so
that a rollback can be undone like any other change. Nodes that run follow at
once; no restart is needed.";

pub(super) const AUDIT: &str = "\
Examples:
  cardinal audit verify
  cardinal audit verify --output json | jq -r .hash

Each entry of the change log has a hash that covers the entry before it.
'verify' finds entries that were changed, removed or added, and exits with 1.
Keep the printed hash elsewhere: it shows later whether the whole log was
rewritten.";

pub(super) const CLUSTER: &str = "\
Examples:
  cardinal run --role control-plane
  cardinal cluster token --ttl 24h
  cardinal run --role data-plane --set cluster_control_plane=cp.example:8005 \\
    --set cluster_join_token=\"$TOKEN\"

A data plane that has joined keeps its certificate in its data directory, and
needs no token any more. With certificates of your own, set cluster_cert,
cluster_cert_key and cluster_mtls on all of them, as for Kong's hybrid mode:
  cardinal cluster cert /etc/cardinal";

pub(super) const RBAC: &str = "\
Examples:
  cardinal rbac bootstrap
  export KONG_ADMIN_TOKEN=$(cardinal rbac bootstrap --name anna)
  cardinal rbac bootstrap --reset

The command needs the store and its key, not a token, so that an operator who
has lost all tokens gets in again. It works while nodes use the store. With
the setting password (KONG_PASSWORD) the token is that one.";
