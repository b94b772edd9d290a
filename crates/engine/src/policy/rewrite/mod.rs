//! URL rewriting for upstream requests.

use cardinal_ir::PathRewrite;
use cardinal_ir::policy::UrlRewrite;
use cardinal_route::upstream_uri::{write_path, write_replaced};

use crate::exchange::Scratch;

#[cfg(test)]
mod tests;

/// Replaces host and path of the upstream request. `base` is the path of the backend.
pub(crate) fn apply(rewrite: &UrlRewrite, base: Option<&str>, s: &mut Scratch) {
    if let Some(host) = &rewrite.host {
        // An invalid host is left out.
        s.upstream.set_host(host.as_bytes());
    }
    let Some(path) = &rewrite.path else { return };
    let mut new = Vec::new();
    write_path(base.unwrap_or_default().trim_end_matches('/'), &mut new);
    match path {
        PathRewrite::Full(text) => {
            let (path, query) = text.split_once('?').map_or((&**text, None), |(path, query)| (path, Some(query)));
            write_path(if path.is_empty() { "/" } else { path }, &mut new);
            if let Some(query) = query {
                s.request.set_query(Some(query.as_bytes()));
            }
        }
        PathRewrite::Prefix(replacement) => write_replaced(&s.path, s.matched, replacement, &mut new),
    }
    s.upstream.path = new;
    // No prefix is stripped.
    s.prefix.clear();
}
