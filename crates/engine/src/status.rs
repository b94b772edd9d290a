use std::sync::Arc; use crate::node::Node;
pub(crate) async fn serve(_n: Arc<Node>, _l: tokio::net::TcpListener, _tls: bool) {}
