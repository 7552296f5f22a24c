//! Unix signals: SIGTERM and SIGINT shut down, SIGHUP reloads.
//!
//! The shutdown ends within a limited time even if a disk, a client, or the reader of a pipe hangs.

use std::future::Future;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use rustix::process::Signal as Number;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::machine;

/// Returns a future that completes on the first SIGTERM or SIGINT, and a stream of all SIGHUPs. The process ends
/// immediately on a second SIGTERM or SIGINT, or eight seconds after the first one.
///
/// Call this function in a multi-threaded runtime. If the only thread blocked, no signal would have an effect, and the
/// time limit would not begin.
pub fn listen() -> io::Result<(impl Future<Output = ()> + Send + 'static, Hangups)> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let hangups = Hangups(Some(signal(SignalKind::hangup())?));
    let (stop, stopped) = oneshot::channel();
    // A separate task waits for the second signal, because the task that receives the first one may be busy. A separate
    // thread ends the process after the time limit, because all threads of the runtime may hang. The thread is started
    // now, because later the system may not be able to start one.
    let (begin, begun) = mpsc::channel::<()>();
    machine::spawn("stop-limit", move || end_in_time(&begun))?;
    tokio::spawn(async move {
        either(&mut terminate, &mut interrupt).await;
        let _ = stop.send(());
        let _ = begin.send(());
        either(&mut terminate, &mut interrupt).await;
        std::process::exit(0);
    });
    let stop = async move {
        if stopped.await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    Ok((stop, hangups))
}

/// Catches SIGXFSZ, so that a write beyond the file size limit (`ulimit -f`) returns an error with a message. By
/// default the signal ends the process. Rust ignores SIGPIPE, but not this signal.
pub fn survive_file_size_limit() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let _context = runtime.enter();
    // If no file descriptor is free, the first call of `signal` panics, because it creates a pair of sockets. Creating
    // a pair here first returns an error instead.
    UnixStream::pair()?;
    // The stream is dropped, because nothing waits for the signal. The handler stays installed after the runtime ends.
    signal(SignalKind::from_raw(Number::XFSZ.as_raw())).map(drop)
}

/// Ends the process if the shutdown takes too long. The time begins with a message on `begun`. If the sender is dropped
/// without a message, there is no shutdown.
fn end_in_time(begun: &Receiver<()>) {
    if begun.recv().is_err() {
        return;
    }
    thread::sleep(STOP_TIME_MAX);
    tracing::error!(
        seconds = STOP_TIME_MAX.as_secs(),
        "the shutdown hangs, perhaps because a disk or a network mount does not answer; the process ends now"
    );
    crate::logging::flush();
    std::process::exit(1);
}

/// Stream of SIGHUPs.
#[derive(Debug)]
pub struct Hangups(Option<Signal>);

impl Hangups {
    /// Returns a stream without any signal, for a daemon inside a process that handles signals itself.
    pub const fn never() -> Self {
        Self(None)
    }

    /// Waits for the next SIGHUP.
    pub async fn next(&mut self) {
        let next = match &mut self.0 {
            Some(signal) => signal.recv().await,
            None => None,
        };
        if next.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Maximum time from SIGTERM to the end of the process. It is longer than the five seconds for open responses, and
/// shorter than the ten seconds after which container runtimes kill a process.
const STOP_TIME_MAX: Duration = Duration::from_secs(8);
