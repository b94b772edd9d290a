//! One data plane on its stream: moves messages between the connection and [`Server`].

use std::pin::Pin;

use cardinal_base::task;
use cardinal_sync::stream::{Server, ServerError, ServerOptions, wire};
use futures_util::Stream;
use futures_util::stream::poll_fn;
use prost::Message as _;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use crate::proxies::Sighting;
use crate::shared::Peer;

/// Responses that wait for the connection; further ones are made when these are taken.
const WAITING_MAX: usize = 1;

/// What is sent.
pub(crate) type Responses = Pin<Box<dyn Stream<Item = Result<wire::Response, Status>> + Send>>;

/// Serves a data plane that has called the method.
pub(crate) fn start(peer: Peer, requests: Streaming<wire::Request>) -> Responses {
    // A connection may have several.
    let peer = Peer { session: peer.shared.next_session(), ..peer };
    let (sender, mut receiver) = mpsc::channel(WAITING_MAX);
    task::spawn("configuration stream: session", run(peer, requests, sender));
    Box::pin(poll_fn(move |context| receiver.poll_recv(context)))
}

async fn run(peer: Peer, mut requests: Streaming<wire::Request>, sender: mpsc::Sender<Result<wire::Response, Status>>) {
    let shared = &peer.shared;
    let (mut published, mut health) = (shared.published.subscribe(), shared.health.subscribe());
    let options = ServerOptions { protocol: shared.options.protocol, ..ServerOptions::new(true) };
    let mut server = Server::new(options, shared.clock.tick());
    let mut next = None;
    let error = loop {
        next = next.or_else(|| server.poll(&shared.history()));
        let deadline = shared.clock.sleep_until(server.deadline());
        tokio::select! {
            request = requests.message() => {
                let Ok(Some(request)) = request else { break None };
                let received = server.receive(request, &shared.history(), shared.clock.tick());
                if let Err(error) = received {
                    break Some(status_of(&error));
                }
                if let Some(status) = is_another(&peer, &server) {
                    break Some(status);
                }
                note(&peer, &server);
            }
            permit = sender.reserve(), if next.is_some() => {
                let Ok(permit) = permit else { break None };
                if let Some(response) = next.take() {
                    shared.sends(response.encoded_len());
                    permit.send(Ok(response));
                }
                note(&peer, &server);
            }
            said = health.recv() => match said {
                Ok(said) => server.set_health(said),
                Err(RecvError::Lagged(missed)) => tracing::warn!(missed, "a data plane misses what was said about targets"),
                Err(RecvError::Closed) => break None,
            },
            changed = published.changed() => {
                if changed.is_err() {
                    break None;
                }
            }
            () = sender.closed() => break None,
            () = deadline => {
                if let Err(error) = server.check(shared.clock.tick()) {
                    break Some(status_of(&error));
                }
            }
        }
    };
    if let Some(node) = server.node() {
        shared.proxies.left(node.id, peer.session);
    }
    if let Some(status) = error {
        shared.refuse();
        tracing::warn!(address = %peer.address, "the stream to a data plane is closed: {}", status.message());
        // A peer that does not read does not learn why.
        sender.try_send(Err(status)).ok();
    }
}

fn status_of(error: &ServerError) -> Status {
    match error {
        ServerError::Protocol { .. } => Status::failed_precondition(error.to_string()),
        ServerError::Insecure => Status::permission_denied(error.to_string()),
        ServerError::Silent(_) => Status::deadline_exceeded(error.to_string()),
        ServerError::Unexpected(_) => Status::invalid_argument(error.to_string()),
    }
}

/// Refuses a data plane that calls itself by the id of another one. Only certificates of those that joined have an id.
fn is_another(peer: &Peer, server: &Server) -> Option<Status> {
    let (joined, node) = (peer.joined?, server.node()?);
    let message = || format!("the node {} has the certificate of the node {joined}", node.id);
    (joined != node.id).then(|| Status::permission_denied(message()))
}

fn note(peer: &Peer, server: &Server) {
    let Some(node) = server.node() else { return };
    peer.shared.proxies.saw(&Sighting {
        session: peer.session,
        node,
        address: peer.address,
        protocol: server.protocol(),
        sent: server.sent(),
        report: server.report(),
        now: peer.shared.clock.unix(),
    });
}
