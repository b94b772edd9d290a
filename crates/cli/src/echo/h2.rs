//! HTTP/2 in the clear, and gRPC over it.

use anyhow::{Context as _, Result};
use bytes::Bytes;
use cardinal_base::task;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::net::TcpStream;

use super::{BODY_MAX, Directions, Seen, joined};

pub(super) async fn serve(tcp: TcpStream) -> Result<()> {
    let mut connection = h2::server::Builder::new().max_concurrent_streams(256).handshake(tcp).await?;
    while let Some(accepted) = connection.accept().await {
        let (request, respond) = accepted?;
        drop(task::spawn("echo stream", async move {
            if let Err(error) = exchange(request, respond).await {
                tracing::debug!(error = %format!("{error:#}"), "an echo stream ended");
            }
        }));
    }
    Ok(())
}

async fn exchange(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) -> Result<()> {
    let (head, mut body) = request.into_parts();
    if head.headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
        return grpc(&mut body, &mut respond).await;
    }
    let mut bytes = Vec::new();
    while let Some(part) = body.data().await {
        let part = part?;
        body.flow_control().release_capacity(part.len())?;
        bytes.extend_from_slice(&part);
        if bytes.len() > BODY_MAX {
            respond.send_response(Response::builder().status(413).body(())?, true)?;
            return Ok(());
        }
    }
    let directions = Directions::of(head.uri.path());
    let seen = Seen {
        version: "HTTP/2",
        method: head.method.as_str(),
        host: head.uri.authority().map_or("", http::uri::Authority::as_str),
        path: head.uri.path(),
        query: head.uri.query(),
        headers: joined(head.headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))),
        body: &bytes,
    };
    directions.wait().await;
    let response = Response::builder()
        .status(directions.status.unwrap_or(200))
        .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
        .body(())?;
    let mut send = respond.send_response(response, false)?;
    send_all(&mut send, seen.to_json().into()).await?;
    Ok(send.send_data(Bytes::new(), true)?)
}

/// Sends the messages back as they come, whatever kind of streaming it is.
async fn grpc(body: &mut RecvStream, respond: &mut SendResponse<Bytes>) -> Result<()> {
    let response = Response::builder().header(CONTENT_TYPE, HeaderValue::from_static("application/grpc")).body(())?;
    let mut send = respond.send_response(response, false)?;
    while let Some(part) = body.data().await {
        let part = part?;
        let length = part.len();
        send_all(&mut send, part).await?;
        body.flow_control().release_capacity(length)?;
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    Ok(send.send_trailers(trailers)?)
}

async fn send_all(send: &mut SendStream<Bytes>, mut data: Bytes) -> Result<()> {
    while !data.is_empty() {
        send.reserve_capacity(data.len());
        let room = std::future::poll_fn(|cx| send.poll_capacity(cx)).await.context("the stream was closed")??;
        send.send_data(data.split_to(room.min(data.len())), false)?;
    }
    Ok(())
}
