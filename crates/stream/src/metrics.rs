//! Metrics of a [`StreamServer`].

use cardinal_base::metrics::{MetricSource, MetricText};

use crate::proxies::Summary;
use crate::server::StreamServer;

impl MetricSource for StreamServer {
    fn write(&self, text: &mut MetricText) {
        let newest = self.newest();
        let Summary { connected, known, lag_max, shown, refused, rejecting } = self.summary();
        text.one("stream_generation", "gauge", "Number of the newest generation that data planes are sent.", newest);
        text.one("stream_data_planes_connected", "gauge", "Data planes that are connected.", connected);
        let help = "Data planes that are remembered, connected or not.";
        text.one("stream_data_planes_known", "gauge", help, known);
        let help = "Generations that the connected data plane which lags most is behind.";
        text.one("stream_lag_generations_max", "gauge", help, lag_max);
        let help = "Connected data planes that refuse the newest generation they have received, or records of it.";
        text.one("stream_data_planes_rejecting", "gauge", help, rejecting);
        let help = "Generations that data planes rejected, as a whole or in part.";
        text.head("stream_generations_rejected_total", "counter", help);
        for (extent, count) in [("whole", refused.whole), ("part", refused.part)] {
            text.line("stream_generations_rejected_total", &[("extent", extent)], count);
        }
        let name = "stream_data_plane_lag_generations";
        text.head(
            name,
            "gauge",
            "Generations that a connected data plane is behind; only those that lag or reject most.",
        );
        for proxy in &shown {
            text.line(name, &[("node_id", &proxy.id.to_string())], proxy.lag);
        }
        let name = "stream_data_plane_rejected_records";
        text.head(name, "gauge", "Records that a connected data plane does not serve; for the same data planes.");
        for proxy in &shown {
            text.line(name, &[("node_id", &proxy.id.to_string())], proxy.rejected);
        }
        let help = "Connections and streams of data planes that were refused.";
        text.one("stream_refused_total", "counter", help, self.refused());
        let help = "Bytes of messages that data planes were sent, before TLS.";
        text.one("stream_sent_bytes_total", "counter", help, self.sent_bytes());
    }
}
