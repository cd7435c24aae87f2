//! Structured logs on standard error: a line for people, or a JSON object for collectors.
//!
//! The level comes from the configuration; the environment variable RUST_LOG goes before it, so that a running
//! installation can be looked into without touching its file. Colours only where a person sees them.

use std::io::{self, IsTerminal};

use tracing::Subscriber;
use tracing_subscriber::fmt::{MakeWriter, time};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Layer};

use crate::config::{Log, LogFormat};
use crate::traces::Traces;

/// Why there are no logs.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// RUST_LOG does not say what is to be logged.
    #[error("RUST_LOG={value:?} is not accepted; it looks like `info` or `info,cri_wasm::network=debug`")]
    Filter {
        /// The variable.
        value: String,
        /// What is wrong with it.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// Somebody set up logging before.
    #[error("logging is set up already")]
    Twice(#[from] TryInitError),
}

/// Sets up logging for the whole process, once.
///
/// `traces`: who else is told of spans, each with a filter of its own.
pub fn init(log: &Log, traces: Option<&Traces>) -> Result<(), LoggingError> {
    let filter = filter(log, std::env::var("RUST_LOG").ok().as_deref())?;
    let ansi = io::stderr().is_terminal();
    match traces {
        None => subscriber(log.format, filter, ansi, io::stderr).try_init()?,
        Some(traces) => {
            let lines = lines(log.format, ansi, io::stderr).with_filter(filter);
            tracing_subscriber::registry().with(lines).with(traces.layer()).try_init()?;
        }
    }
    Ok(())
}

/// What is logged: RUST_LOG if it is there and says something, else the level of the configuration.
fn filter(log: &Log, rust_log: Option<&str>) -> Result<EnvFilter, LoggingError> {
    match rust_log.map(str::trim).filter(|value| !value.is_empty()) {
        Some(value) => EnvFilter::try_new(value).map_err(|source| LoggingError::Filter { value: value.to_owned(), source }),
        None => Ok(EnvFilter::new(log.level.as_str())),
    }
}

fn subscriber<W>(format: LogFormat, filter: EnvFilter, ansi: bool, writer: W) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    Box::new(tracing_subscriber::registry().with(filter).with(lines(format, ansi, writer)))
}

/// Writes a line for each event.
fn lines<S, W>(format: LogFormat, ansi: bool, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer().with_timer(time::SystemTime).with_ansi(ansi).with_writer(writer);
    match format {
        LogFormat::Text => layer.boxed(),
        // The event's own fields stand beside time and level, where collectors look for them.
        LogFormat::Json => layer.json().flatten_event(true).with_ansi(false).boxed(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::config::LogLevel;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, level: LogLevel, rust_log: Option<&str>) -> String {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let filter = filter(&Log { level, format }, rust_log).unwrap();
        let subscriber = subscriber(format, filter, false, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!("a detail");
            tracing::info!(pod = "web", "a pod runs");
        });
        let bytes = buffer.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn text_is_a_plain_line_without_colours() {
        let text = logged(LogFormat::Text, LogLevel::Info, None);
        assert_eq!(text.lines().count(), 1);
        assert!(text.contains("INFO") && text.contains("a pod runs pod=\"web\"") && !text.contains('\x1b'), "{text}");
    }

    #[test]
    fn json_is_an_object_a_line_with_the_fields_of_the_event() {
        let text = logged(LogFormat::Json, LogLevel::Debug, None);
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!((&lines[1]["message"], &lines[1]["pod"]), (&"a pod runs".into(), &"web".into()));
        assert_eq!(lines[1]["level"], "INFO");
        assert!(lines[1]["timestamp"].is_string());
    }

    #[test]
    fn rust_log_goes_before_the_configuration_unless_it_is_empty() {
        assert_eq!(logged(LogFormat::Text, LogLevel::Info, Some("debug")).lines().count(), 2);
        assert_eq!(logged(LogFormat::Text, LogLevel::Debug, Some("warn")), "");
        assert_eq!(logged(LogFormat::Text, LogLevel::Info, Some(" ")).lines().count(), 1);
    }

    #[test]
    fn a_rust_log_that_says_nothing_is_an_error_that_shows_it() {
        let error = filter(&Log::default(), Some("cri_wasm=loud")).unwrap_err();
        assert!(error.to_string().contains("cri_wasm=loud"), "{error}");
    }
}
