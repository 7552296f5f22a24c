//! State files: read at the start of a poller, and written by one task for all pollers.
//!
//! A poll puts its state into a bounded queue and goes on. The writer task writes one file after the other on a
//! blocking thread. So a disk that hangs blocks one thread, but no poll, scrape or shutdown. If a write takes longer
//! than [`WRITE_TIME`] or the queue is full, the states of later polls are not queued. Each of these states counts as a
//! failed write.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Shared;
use super::state::SharedState;
use crate::chain::Chain;
use crate::report::ReportKind;
use crate::report_metrics::family;
use crate::secret_file::in_time;
use crate::storage::{SavedState, StateFile, StorageError};
use crate::telemetry::{StorageOutcome, Telemetry};
use crate::tenant::Plan;

/// The queue of the writer task, and the progress of that task.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    queue: mpsc::Sender<Write>,
    progress: Arc<Progress>,
}

/// A state to write into its file.
pub(super) struct Write {
    pub(super) file: StateFile,
    pub(super) saved: SavedState,
    /// The report state that `saved` was made from. If the write fails, this state is marked as unsaved. If this state
    /// is retired, nothing is written.
    pub(super) state: SharedState,
    pub(super) log: StorageLog,
}

/// Progress of the writer task.
#[derive(Debug, Default)]
struct Progress {
    current: Mutex<Current>,
    /// Notified at the end of each write.
    ended: Condvar,
    /// True if the current write has taken longer than [`WRITE_TIME`].
    is_late: AtomicBool,
}

/// The current write.
#[derive(Clone, Copy, Debug, Default)]
struct Current {
    /// Number of writes that have begun.
    begun: u64,
    is_writing: bool,
}

impl Writer {
    pub(super) fn start(tasks: &mut JoinSet<()>, runtime: &Handle) -> Self {
        let (queue, writes) = mpsc::channel(QUEUE_MAX);
        let progress = Arc::<Progress>::default();
        tasks.spawn_on(run(writes, Arc::clone(&progress)), runtime);
        Self { queue, progress }
    }

    /// Queues a write. If the disk does not keep up, the write fails at once.
    pub(super) fn push(&self, write: Write) {
        let refused = if self.progress.is_late.load(Ordering::Relaxed) {
            Err(write)
        } else {
            let sent = self.queue.try_send(write);
            sent.map_err(mpsc::error::TrySendError::into_inner)
        };
        if let Err(write) = refused {
            let error = write
                .file
                .timed_out("the disk has not completed earlier writes");
            write.end(&Err(error));
        }
    }

    /// Waits up to `patience` for the current write to end. Returns true if the write has ended. Call this after states
    /// are retired. It does not wait for queued writes, because a queued write of a retired state does nothing.
    pub(super) fn wait(&self, patience: Duration) -> bool {
        let mut current = self.progress.current.lock();
        let number = current.begun;
        let is_same = |current: &mut Current| current.is_writing && current.begun == number;
        let waited = self
            .progress
            .ended
            .wait_while_for(&mut current, is_same, patience);
        !waited.timed_out()
    }
}

/// Writes the queued states until the queue is closed.
async fn run(mut writes: mpsc::Receiver<Write>, progress: Arc<Progress>) {
    while let Some(write) = writes.recv().await {
        let write = Arc::new(write);
        progress.begin();
        let (work, thread) = (Arc::clone(&write), Arc::clone(&progress));
        // Runs on a blocking thread, because a wait for the disk must not delay a scrape on the same thread.
        let mut writing = tokio::task::spawn_blocking(move || {
            let written = work.write();
            thread.end();
            written
        });
        let waited = tokio::time::timeout(WRITE_TIME, &mut writing).await;
        let ended = if let Ok(ended) = waited {
            ended
        } else {
            progress.is_late.store(true, Ordering::Relaxed);
            let seconds = WRITE_TIME.as_secs();
            let what = format!("the disk has not completed the write within {seconds} s");
            write.log.record(&Err(write.file.timed_out(&what)));
            let ended = writing.await;
            progress.is_late.store(false, Ordering::Relaxed);
            ended
        };
        write.end(&ended.expect("writing does not panic"));
    }
}

impl Write {
    /// Writes the file, unless the state is retired before the file is in place. Returns true if the file was written.
    fn write(&self) -> Result<bool, StorageError> {
        let is_wanted = || !self.state.lock().retired;
        if is_wanted() {
            self.file.write(&self.saved, is_wanted)
        } else {
            Ok(false)
        }
    }

    /// Records the outcome. If the write failed, the state is written again after the next poll.
    fn end(&self, written: &Result<bool, StorageError>) {
        self.state.lock().is_unsaved |= written.is_err();
        self.log.record(written);
    }
}

impl Progress {
    fn begin(&self) {
        let mut current = self.current.lock();
        current.begun += 1;
        current.is_writing = true;
    }

    fn end(&self) {
        self.current.lock().is_writing = false;
        self.ended.notify_all();
    }
}

/// Reads the state file of a report. Returns `None` if there is no file or it is rejected.
///
/// Blocks the calling thread. At the start this is necessary, because the first scrape must see the report. At a reload
/// it is harmless: the calling thread neither serves nor polls, so only the next reload must wait. Reads at most 256
/// MiB of a file, and checks at most 2 GiB of inflated text.
pub(super) fn restore(plan: &Plan, shared: &Shared, report: ReportKind) -> Option<SavedState> {
    let file = plan.file(report)?;
    let path = file.path().to_owned();
    let read = in_time(&path.clone(), move || {
        Ok(file.read(|name| family(report, name)))
    });
    match read.unwrap_or_else(|source| Err(StorageError::Read { path, source })) {
        Ok(saved) => {
            let saved = saved?;
            shared.telemetry.count_storage(StorageOutcome::Restored);
            let summary = saved.summary.as_ref();
            tracing::info!(
                tenant = plan.tenant.as_deref(),
                report = report.as_str(),
                period = summary.map(|summary| summary.period.to_string()),
                last_success = saved.last_success.map(|at| at.to_rfc3339()),
                "restored from the state file"
            );
            Some(saved)
        }
        Err(error) => {
            StorageLog::new(plan, shared, report).warn(&error);
            None
        }
    }
}

/// Logs and counts the outcomes of reading and writing a state file.
#[derive(Clone, Debug)]
pub(super) struct StorageLog {
    telemetry: Arc<Telemetry>,
    tenant: Option<Arc<str>>,
    report: ReportKind,
}

impl StorageLog {
    pub(super) fn new(plan: &Plan, shared: &Shared, report: ReportKind) -> Self {
        Self {
            telemetry: Arc::clone(&shared.telemetry),
            tenant: plan.tenant.clone(),
            report,
        }
    }

    /// Records the outcome of a write.
    fn record(&self, written: &Result<bool, StorageError>) {
        match written {
            Ok(true) => self.telemetry.count_storage(StorageOutcome::Written),
            Ok(false) => {}
            Err(error) => self.warn(error),
        }
    }

    fn warn(&self, error: &StorageError) {
        let (outcome, what, remedy) = match error {
            StorageError::Write { .. } => (
                StorageOutcome::WriteFailed,
                "cannot write the state file",
                "let the exporter write to the folder, and check whether the disk is full; the next poll tries again, and until then a restart begins with the last state that was written",
            ),
            StorageError::Read { .. } => (
                StorageOutcome::Rejected,
                "cannot read the state file",
                "let the exporter read the file; the report is fetched again",
            ),
            StorageError::Rejected { .. } => (
                StorageOutcome::Rejected,
                "the state file is rejected",
                "nothing is needed; the report is fetched again",
            ),
        };
        self.telemetry.count_storage(outcome);
        tracing::warn!(
            tenant = self.tenant.as_deref(),
            report = self.report.as_str(),
            error = %Chain(error),
            remedy,
            "{what}"
        );
    }
}

/// Time after which a write is reported as failed. The largest file takes a slow disk some seconds.
const WRITE_TIME: Duration = Duration::from_secs(30);

/// Maximum number of queued writes: about as many as a slow disk completes in [`WRITE_TIME`]. Each queued write keeps
/// the text of its report in memory.
const QUEUE_MAX: usize = 1_000;

#[cfg(test)]
mod tests;
