//! The log: logfmt or JSON, a line per event, on standard error.
//!
//! A separate thread writes the lines. So polls, scrapes and the shutdown never wait for standard error, even if it is
//! a full pipe that no process reads. Lines that do not fit into the queue are counted. Their number is logged as soon
//! as lines can be written again.

use std::io::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

use crate::config::args::{LogFormat, LogLevel};
use crate::machine;

/// Starts logging for the rest of the process.
///
/// Logs only the exporter's own events, because events of the libraries can contain headers with tokens.
///
/// # Panics
/// If logging has already been started.
pub(crate) fn start(level: LogLevel, format: LogFormat) -> io::Result<()> {
    let (queue, lines) = Queue::new(LINES_MAX);
    let lost = Arc::clone(&queue.lost);
    machine::spawn("log", move || write_all(&lines, io::stderr(), &lost))?;
    let queue = QUEUE.get_or_init(|| queue);
    let level = match level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
    };
    let own = tracing_subscriber::filter::Targets::new().with_target("teams_pstn_exporter", level);
    let writer = move || queue;
    // The target is the name of a module, which helps only readers of the code. So only debug logs contain it.
    let has_target = level == LevelFilter::DEBUG;
    let layer = match format {
        LogFormat::Logfmt => tracing_logfmt::builder()
            .with_target(has_target)
            .layer()
            .with_writer(writer)
            .boxed(),
        LogFormat::Json => fmt::layer()
            .json()
            .flatten_event(true)
            .with_target(has_target)
            .with_writer(writer)
            .boxed(),
    };
    tracing_subscriber::registry()
        .with(layer.with_filter(own))
        .init();
    // The message of a panic is logged like any other, so that its thread does not wait for standard error either.
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!(%panic, "a part of the exporter has failed; please report this defect");
    }));
    Ok(())
}

/// Writes a text to standard error, after the lines that were logged before it.
pub(crate) fn write(text: &str) {
    let _ = match QUEUE.get() {
        Some(mut queue) => queue.write_all(text.as_bytes()),
        None => io::stderr().write_all(text.as_bytes()),
    };
}

/// Waits until all logged lines are written, for one second at most.
pub(crate) fn flush() {
    let Some(queue) = QUEUE.get() else { return };
    let (done, written) = mpsc::sync_channel(1);
    if queue.put(Entry::Flush(done)) {
        let _ = written.recv_timeout(FLUSH_TIME_MAX);
    }
}

/// Queue to the writing thread. It is static, because the subscriber of `tracing` is static.
static QUEUE: OnceLock<Queue> = OnceLock::new();

/// Lines that wait to be written.
#[derive(Debug)]
struct Queue {
    sender: SyncSender<Entry>,
    /// Number of lines that did not fit into the queue or could not be written, since lost lines were last logged.
    lost: Arc<AtomicU64>,
}

enum Entry {
    Line(Vec<u8>),
    /// A request to send a message through this channel when all earlier lines have been written.
    Flush(SyncSender<()>),
}

impl Queue {
    fn new(lines_max: usize) -> (Self, Receiver<Entry>) {
        let (sender, lines) = mpsc::sync_channel(lines_max);
        let lost = Arc::default();
        (Self { sender, lost }, lines)
    }

    /// Adds an entry without waiting. Returns true if the queue had room.
    fn put(&self, entry: Entry) -> bool {
        self.sender.try_send(entry).is_ok()
    }
}

/// Each call of `write` gets exactly one line, because the layers of `tracing` write whole lines.
impl io::Write for &Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if !self.put(Entry::Line(line.to_vec())) {
            self.lost.fetch_add(1, Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes the lines of the queue until the queue is closed.
fn write_all(lines: &Receiver<Entry>, mut out: impl io::Write, lost: &AtomicU64) {
    for entry in lines {
        match entry {
            Entry::Flush(done) => {
                let _ = done.send(());
            }
            Entry::Line(line) => {
                if out.write_all(&line).and_then(|()| out.flush()).is_err() {
                    lost.fetch_add(1, Relaxed);
                    continue;
                }
                let lines = lost.swap(0, Relaxed);
                if lines > 0 {
                    // This message is queued like all others. If the queue is full again, the message is lost and
                    // counted too.
                    tracing::error!(
                        lines,
                        "log lines were lost: standard error was full or closed; check whether the log collector reads it"
                    );
                }
            }
        }
    }
}

/// Maximum number of lines that wait to be written, about half a megabyte. Two polls of all reports of a hundred
/// tenants log as many lines.
const LINES_MAX: usize = 2_000;

/// Time limit for writing the last lines when the process ends. A terminal, a file or a pipe with a reader takes
/// milliseconds.
const FLUSH_TIME_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    /// A writer whose first writes fail.
    struct Sink<'a> {
        out: &'a mut Vec<u8>,
        /// Number of further writes that fail.
        failures: usize,
    }

    impl io::Write for Sink<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.failures > 0 {
                self.failures -= 1;
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            self.out.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn full_queue_loses_and_counts_the_newest_lines() {
        let (queue, lines) = Queue::new(2);
        let lost = Arc::clone(&queue.lost);
        for line in ["a\n", "b\n", "c\n", "d\n"] {
            (&queue).write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(lost.load(Relaxed), 2);
        let (done, _flushed) = mpsc::sync_channel(1);
        assert!(!queue.put(Entry::Flush(done)), "there is no place");
        drop(queue);
        let mut out = Vec::new();
        let sink = Sink {
            out: &mut out,
            failures: 0,
        };
        write_all(&lines, sink, &lost);
        assert_eq!(out, b"a\nb\n");
        assert_eq!(lost.load(Relaxed), 0, "the loss is reported");
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_until_one_can() {
        let (queue, lines) = Queue::new(10);
        let lost = Arc::clone(&queue.lost);
        (&queue).write_all(b"a\n").unwrap();
        (&queue).write_all(b"b\n").unwrap();
        let mut out = Vec::new();
        let (done, flushed) = mpsc::sync_channel(1);
        assert!(queue.put(Entry::Flush(done)));
        drop(queue);
        let sink = Sink {
            out: &mut out,
            failures: 2,
        };
        write_all(&lines, sink, &lost);
        flushed.try_recv().unwrap();
        assert_eq!(lost.load(Relaxed), 2);
        assert!(out.is_empty());
    }
}
