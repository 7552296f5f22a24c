//! The signals of the process.
//!
//! SIGTERM and SIGINT end it in a limited time, whatever hangs: a disk, a client, a pipe that nothing reads.

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

/// The first SIGTERM or SIGINT, and every SIGHUP. A second SIGTERM or SIGINT ends the process at once, and so does
/// [`STOP_TIME_MAX`] after the first.
///
/// To be called in a runtime with several threads, of which one may block.
///
/// # Errors
/// If the system does not let the process listen.
pub fn listen() -> io::Result<(impl Future<Output = ()> + Send + 'static, Hangups)> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let hangups = Hangups(Some(signal(SignalKind::hangup())?));
    let (stop, stopped) = oneshot::channel();
    // A task of its own, because the receiver may be busy. The time has a thread, because the threads of the runtime may
    // all hang. It is started now, because later the system may have none.
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

/// Turns the signal for a file that exceeds the limit of its size (`ulimit -f`) into an error of the write, which has a
/// message. Unlike SIGPIPE, Rust leaves it as it is, and it ends the process.
///
/// # Errors
/// If the system does not let the process listen.
pub fn survive_file_size_limit() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let _context = runtime.enter();
    // The first call of `signal` panics if there are no descriptors for a pair like this.
    UnixStream::pair()?;
    // Nothing waits for it. It stays caught when the runtime ends.
    signal(SignalKind::from_raw(Number::XFSZ.as_raw())).map(drop)
}

/// Ends the process if nothing else does. The time begins with a message; without a sender there is no shutdown to limit.
fn end_in_time(begun: &Receiver<()>) {
    if begun.recv().is_err() {
        return;
    }
    thread::sleep(STOP_TIME_MAX);
    tracing::error!(
        seconds = STOP_TIME_MAX.as_secs(),
        "the shutdown hangs: a disk or a network mount may not answer; the process ends without it"
    );
    crate::logging::flush();
    std::process::exit(1);
}

/// SIGHUPs as they come.
#[derive(Debug)]
pub struct Hangups(Option<Signal>);

impl Hangups {
    /// None ever comes: for a daemon inside another process, and the signals are the other's.
    pub const fn never() -> Self {
        Self(None)
    }

    /// Waits for the next one.
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

/// From SIGTERM to the end of the process: more than the five seconds in which responses may end, less than the ten
/// after which container runtimes kill.
const STOP_TIME_MAX: Duration = Duration::from_secs(8);
