//! The backend's HTTP/2 side, gRPC included.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderValue, Request, Response, StatusCode};
use tokio::task::JoinSet;

use super::State;
use super::behaviour::{Behaviour, Body, Cut, TRAILER, pattern, pause};
use super::report::{BodyNote, Peer, Report};
use crate::h2_client::{header_map, send_all};
use crate::message::Fields;
use crate::socket::Socket;

pub(super) async fn serve(socket: Socket, peer: Peer, state: &Arc<State>) -> Result<()> {
    let mut connection = h2::server::Builder::new()
        .initial_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .handshake(socket)
        .await?;
    let counter = AtomicU64::new(0);
    let mut exchanges = JoinSet::new();
    while let Some(accepted) = connection.accept().await {
        while exchanges.try_join_next().is_some() {}
        let (request, respond) = accepted?;
        state.requests.fetch_add(1, Ordering::SeqCst);
        let number = counter.fetch_add(1, Ordering::SeqCst) + 1;
        let (state, peer) = (Arc::clone(state), peer.clone());
        exchanges.spawn(async move {
            let exchange =
                Exchange { report: report(&request, number, &peer, &state), state: Arc::clone(&state), respond };
            if let Err(error) = exchange.run(request).await {
                state.failed(peer.connection, &error);
            }
        });
    }
    Ok(())
}

fn report(request: &Request<RecvStream>, number: u64, peer: &Peer, state: &State) -> Report {
    let uri = request.uri();
    Report {
        server: state.name.clone(),
        connection: peer.connection,
        request: number,
        sni: peer.sni.clone(),
        client_certificate: peer.client_certificate,
        version: "2",
        method: request.method().to_string(),
        target: uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        authority: uri.authority().map(ToString::to_string).unwrap_or_default(),
        path: uri.path().to_owned(),
        query: uri.query().map(str::to_owned),
        headers: Fields::from(request.headers()),
        ..Report::default()
    }
}

struct Exchange {
    report: Report,
    state: Arc<State>,
    respond: SendResponse<Bytes>,
}

impl Exchange {
    async fn run(mut self, request: Request<RecvStream>) -> Result<()> {
        let mut body = request.into_body();
        let behaviour = match Behaviour::of(self.report.headers.get("x-echo"), self.report.query.as_deref()) {
            Ok(behaviour) => behaviour,
            Err(error) => {
                let response = Response::builder().status(StatusCode::BAD_REQUEST).body(())?;
                let mut send = self.respond.send_response(response, false)?;
                return send_all(&mut send, format!("{error:#}").as_bytes(), true).await;
            }
        };
        let is_grpc = self.report.headers.get("content-type").is_some_and(|t| t.starts_with("application/grpc"));
        let streamed = is_grpc || behaviour.body == Body::Echo;
        let mut note = BodyNote::new();
        if !streamed && !behaviour.early {
            self.read(&mut body, &mut note, None).await?;
        }
        pause(behaviour.delay).await;
        if matches!(behaviour.cut, Some(Cut::Start | Cut::Head)) {
            self.respond.send_reset(Reason::INTERNAL_ERROR);
            return Ok(());
        }
        if self.report.method == "HEAD" {
            self.respond.send_response(head(&behaviour, is_grpc)?, true)?;
            note.finish(&mut self.report);
            self.state.keep(self.report);
            return Ok(());
        }
        let mut send = self.respond.send_response(head(&behaviour, is_grpc)?, false)?;
        if streamed {
            self.read(&mut body, &mut note, Some(&mut send)).await?;
            note.finish(&mut self.report);
        } else {
            note.finish(&mut self.report);
            if self.send_body(&mut send, &behaviour).await? {
                send.send_reset(Reason::INTERNAL_ERROR);
                return Ok(());
            }
        }
        end(&mut send, &behaviour, is_grpc)?;
        self.state.keep(self.report);
        Ok(())
    }

    /// Reads the body to its end; sends each part back, if there is somebody to send it to.
    async fn read(
        &mut self,
        body: &mut RecvStream,
        note: &mut BodyNote,
        mut back: Option<&mut SendStream<Bytes>>,
    ) -> Result<()> {
        while let Some(part) = body.data().await {
            let part = part?;
            note.add(&part);
            if let Some(send) = back.as_deref_mut() {
                send_all(send, &part, false).await?;
            }
            body.flow_control().release_capacity(part.len())?;
        }
        if let Some(trailers) = body.trailers().await? {
            self.report.trailers = Fields::from(&trailers);
        }
        Ok(())
    }

    /// Sends a body of our own; `true` when it was cut off on purpose.
    async fn send_body(&self, send: &mut SendStream<Bytes>, behaviour: &Behaviour) -> Result<bool> {
        let cut = behaviour.cut == Some(Cut::Body);
        let report = self.report.to_json().to_string().into_bytes();
        let full = match behaviour.body {
            Body::Report => report,
            Body::Empty | Body::Echo => Vec::new(),
            Body::Bytes(_) => pattern(behaviour.part_bytes),
        };
        let total = if let Body::Bytes(count) = behaviour.body { count } else { full.len() as u64 };
        let mut left = if cut { total / 2 } else { total };
        let mut at = 0;
        while left > 0 {
            pause(behaviour.slow).await;
            let len = usize::try_from(left).unwrap_or(usize::MAX).min(behaviour.part_bytes);
            let len = len.min(full.len() - at);
            send_all(send, &full[at..at + len], false).await?;
            left -= len as u64;
            at = (at + len) % full.len();
        }
        Ok(cut)
    }
}

fn head(behaviour: &Behaviour, is_grpc: bool) -> Result<Response<()>> {
    let mut response = Response::builder().status(behaviour.status).body(())?;
    let content_type = match behaviour.body {
        _ if is_grpc => Some("application/grpc"),
        Body::Report => Some("application/json"),
        Body::Echo | Body::Empty | Body::Bytes(_) => None,
    };
    let headers = response.headers_mut();
    if let Some(content_type) = content_type {
        headers.insert("content-type", HeaderValue::from_static(content_type));
    }
    let fields: Vec<_> = behaviour.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    headers.extend(header_map(&fields)?);
    Ok(response)
}

fn end(send: &mut SendStream<Bytes>, behaviour: &Behaviour, is_grpc: bool) -> Result<()> {
    let mut fields = Vec::new();
    if is_grpc {
        fields.push(("grpc-status", "0"));
    }
    if behaviour.trailers {
        fields.push(TRAILER);
    }
    if fields.is_empty() {
        send.send_data(Bytes::new(), true)?;
    } else {
        send.send_trailers(header_map(&fields)?)?;
    }
    Ok(())
}
