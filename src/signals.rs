//! What the process is told by signals.

use std::future::Future;
use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The first SIGTERM or SIGINT, and every SIGHUP. A second SIGTERM or SIGINT ends the process at once.
///
/// # Errors
/// Where the system does not let the process listen.
pub fn listen() -> io::Result<(impl Future<Output = ()> + Send + 'static, Hangups)> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let hangups = Hangups(Some(signal(SignalKind::hangup())?));
    let stop = async move {
        either(&mut terminate, &mut interrupt).await;
        tokio::spawn(async move {
            either(&mut terminate, &mut interrupt).await;
            std::process::exit(0);
        });
    };
    Ok((stop, hangups))
}

/// SIGHUPs as they come.
#[derive(Debug)]
pub struct Hangups(Option<Signal>);

impl Hangups {
    /// None ever comes: for a daemon inside another process, whose signals are not its own.
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
