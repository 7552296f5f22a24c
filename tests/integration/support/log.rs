//! The log of a test.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::subscriber::DefaultGuard;
use tracing_subscriber::Layer as _;
use tracing_subscriber::layer::SubscriberExt as _;

/// The log of this thread during the lifetime of this value.
pub(crate) struct Log {
    text: Arc<Mutex<Vec<u8>>>,
    _guard: DefaultGuard,
}

impl Log {
    /// At debug, in logfmt, the exporter's own events only: as the program does.
    pub(crate) fn capture() -> Self {
        // If there is only one subscriber, an event that a thread without one reaches first is cached as of interest to
        // no subscriber. So there is one for all threads, which takes everything and writes nothing.
        let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry());
        let text = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&text);
        let own = tracing_subscriber::filter::Targets::new()
            .with_target("teams_pstn_exporter", tracing::Level::DEBUG);
        let layer = tracing_logfmt::builder()
            .layer()
            .with_writer(move || Sink(Arc::clone(&sink)));
        let subscriber = tracing_subscriber::registry().with(layer.with_filter(own));
        Self {
            text,
            _guard: tracing::subscriber::set_default(subscriber),
        }
    }

    /// Returns the log since the last call.
    pub(crate) fn take(&self) -> String {
        let mut text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8(std::mem::take(&mut *text)).expect("UTF-8")
    }
}

struct Sink(Arc<Mutex<Vec<u8>>>);

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut text = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
