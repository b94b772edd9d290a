//! Events as JSON: `{"timestamp": …, "level": …, "message": …}`, with the event's fields beside them.
//!
//! A field whose name ends with `.json` holds JSON text, which becomes a value of the line under the name before that.

use std::fmt;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::visible;

pub(super) struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let mut line = Line(Map::new());
        line.0.insert("timestamp".to_owned(), time.into());
        line.0.insert("level".to_owned(), event.metadata().level().as_str().into());
        event.record(&mut line);
        writeln!(writer, "{}", visible(&Value::Object(line.0).to_string()))
    }
}

struct Line(Map<String, Value>);

impl Line {
    fn set(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name().strip_suffix(".json").zip(serde_json::from_str(value).ok()) {
            Some((name, value)) => {
                self.0.insert(name.to_owned(), value);
            }
            None => self.set(field, value),
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, value);
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_event_is_one_line_with_structured_fields() {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).event_format(Json).with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, || {
            let errors = r#"[{"file":"a.yaml","line":3}]"#;
            tracing::error!(errors.json = errors, count = 2, bad.json = "{", "two\nlines");
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&line["level"], &line["message"]), (&"ERROR".into(), &"two\nlines".into()));
        assert_eq!((&line["errors"][0]["line"], &line["count"]), (&3.into(), &2.into()));
        assert_eq!(line["bad.json"], "{");
        assert!(line["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')));
    }
}
