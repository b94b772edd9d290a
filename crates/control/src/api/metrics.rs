//! [`AdminMetrics`]: requests and connections of the Admin API.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use cardinal_base::metrics::{Histogram, MetricSource, MetricText};

use super::browser::Refusal;

/// The label of paths that the API does not have.
const OTHER: &str = "other";
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// Counts requests by method, pattern of the path, and status. There is a series for each pattern and method that was used:
/// paths and names of clients make no series.
#[derive(Debug)]
pub struct AdminMetrics {
    patterns: Vec<String>,
    requests: Mutex<BTreeMap<(Route, &'static str), Requests>>,
    connections: AtomicU64,
    refused: [AtomicU64; Refusal::ALL.len()],
}

/// The index of a pattern, or [`OTHER`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Route {
    Known(usize),
    Other,
}

#[derive(Debug)]
struct Requests {
    by_status: BTreeMap<u16, u64>,
    durations: Histogram,
}

/// A connection of the API, as long as it lives.
pub(super) struct OpenConnection<'m>(&'m AdminMetrics);

impl Drop for OpenConnection<'_> {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AdminMetrics {
    /// For an API with these [`route_patterns`](super::route_patterns).
    pub fn new(patterns: Vec<String>) -> Self {
        Self {
            patterns,
            requests: Mutex::default(),
            connections: AtomicU64::new(0),
            refused: Refusal::ALL.map(|_| AtomicU64::new(0)),
        }
    }

    pub(super) fn connected(&self) -> OpenConnection<'_> {
        self.connections.fetch_add(1, Ordering::Relaxed);
        OpenConnection(self)
    }

    pub(super) fn refused(&self, refusal: Refusal) {
        if let Some(count) = self.refused.get(refusal as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The route of a path, with or without a workspace in front.
    pub(super) fn route(&self, path: &str) -> Route {
        let path = path.strip_suffix('/').unwrap_or(path);
        let below = path.get(1..).and_then(|rest| rest.find('/').and_then(|at| rest.get(at..)));
        let find = |path: &str| {
            let covering = self.patterns.iter().enumerate().filter(|(_, pattern)| covers(pattern, path));
            // The one with the most words: `/upstreams/{upstreams}/targets/all` before `.../{targets}`.
            let best = covering.min_by_key(|(_, pattern)| pattern.matches('{').count());
            best.map(|(at, _)| Route::Known(at))
        };
        find(path).or_else(|| find(below?)).unwrap_or(Route::Other)
    }

    /// The pattern of a route: `/services/{services}`.
    pub(super) fn pattern(&self, route: Route) -> &str {
        match route {
            Route::Known(at) => self.patterns.get(at).map_or(OTHER, String::as_str),
            Route::Other => OTHER,
        }
    }

    /// Counts a request that was answered.
    pub(super) fn answered(&self, method: &str, route: Route, status: u16, micros: u64) {
        let method = METHODS.into_iter().find(|known| *known == method).unwrap_or(OTHER);
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Requests { by_status: BTreeMap::new(), durations: Histogram::of_durations() };
        let own = requests.entry((route, method)).or_insert_with(new);
        *own.by_status.entry(status).or_default() += 1;
        own.durations.observe(micros);
    }
}

/// Whether a path is one of a pattern. The path `/` is the empty text here.
fn covers(pattern: &str, path: &str) -> bool {
    let mut own = pattern.strip_suffix('/').unwrap_or(pattern).split('/');
    let mut given = path.split('/');
    loop {
        match (own.next(), given.next()) {
            (None, None) => return true,
            (Some(own), Some(given)) if own == given || (own.starts_with('{') && !given.is_empty()) => {}
            _ => return false,
        }
    }
}

impl MetricSource for AdminMetrics {
    fn write(&self, text: &mut MetricText) {
        let connections = self.connections.load(Ordering::Relaxed);
        text.one("admin_connections_active", "gauge", "Open connections of the Admin API.", connections);
        let help = "Requests to the Admin API that may come from foreign web pages, by the header that shows it.";
        text.head("admin_requests_refused_total", "counter", help);
        for (refusal, count) in Refusal::ALL.iter().zip(&self.refused) {
            text.line("admin_requests_refused_total", &[("header", refusal.label())], count.load(Ordering::Relaxed));
        }
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        text.head("admin_requests_total", "counter", "Requests to the Admin API, by method, route and status.");
        for ((route, method), own) in &*requests {
            for (status, count) in &own.by_status {
                let status = status.to_string();
                let labels = [("method", *method), ("route", self.pattern(*route)), ("code", &status)];
                text.line("admin_requests_total", &labels, count);
            }
        }
        let name = "admin_request_duration_seconds";
        text.head(name, "histogram", "Duration of requests to the Admin API, by method and route.");
        for ((route, method), own) in &*requests {
            text.histogram(name, &[("method", *method), ("route", self.pattern(*route))], &own.durations);
        }
    }
}

#[cfg(test)]
mod tests {
    use cardinal_kong::Registry;

    use super::super::route_patterns;
    use super::*;

    #[test]
    fn paths_have_bounded_routes() {
        let metrics = AdminMetrics::new(route_patterns(&Registry::new(cardinal_plugins_auth::PLUGINS)));
        for (path, expected) in [
            ("/", "/"),
            ("/services", "/services"),
            ("/services/", "/services"),
            ("/services/orders", "/services/{services}"),
            ("/default/services/orders", "/services/{services}"),
            ("/team-a/services", "/services"),
            ("/routes/r/service", "/routes/{routes}/service"),
            ("/consumers/anna/key-auth/secret", "/consumers/{consumers}/key-auth/{keyauth_credentials}"),
            ("/upstreams/u/targets/all", "/upstreams/{upstreams}/targets/all"),
            ("/upstreams/u/health", "/upstreams/{upstreams}/health"),
            ("/cardinal/v1/revisions/3/diff/4", "/cardinal/v1/revisions/{revision}/diff/{other}"),
            ("/debug/node/log-level/debug", "/debug/node/log-level/{log_level}"),
            ("/nothing/at/all/here", "other"),
            ("//", "other"),
            ("", "/"),
        ] {
            assert_eq!(metrics.pattern(metrics.route(path)), expected, "{path}");
        }
    }

    #[test]
    fn names_of_clients_make_no_series() {
        let metrics = AdminMetrics::new(route_patterns(&Registry::new(&[])));
        for name in 0..1_000 {
            let path = format!("/services/{name}");
            metrics.answered("GET", metrics.route(&path), 404, 1_000);
            metrics.answered(&format!("M{name}"), metrics.route(&format!("/x{name}/y/z")), 404, 1_000);
        }
        let mut text = MetricText::default();
        metrics.write(&mut text);
        let line = "cardinal_admin_requests_total{method=\"GET\",route=\"/services/{services}\",code=\"404\"} 1000\n";
        assert!(text.0.contains(line), "{}", text.0);
        assert!(text.0.contains("admin_requests_total{method=\"other\",route=\"other\",code=\"404\"} 1000\n"));
        assert_eq!(text.0.matches("_count{").count(), 2);
    }
}
