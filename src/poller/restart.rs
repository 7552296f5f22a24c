//! State files: saved after a poll, and restored at the start.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::Poller;
use super::previous::Previous;
use super::state::{ReportState, SharedState, lock};
use crate::chain::Chain;
use crate::report::ReportKind;
use crate::report::budget::{Budget, drop_others};
use crate::report_metrics::{ReportMetrics, family};
use crate::secret_file::in_time;
use crate::storage::{self, SavedState, StateFile, StorageError, TenantFiles};
use crate::telemetry::{StorageOutcome, Telemetry};
use crate::tenant::{Plan, Storage};

impl Poller {
    /// Restores a report from its state file. Returns a new state if there is no file or the file is rejected.
    ///
    /// The caller waits: at the start because the first scrape must see the report, and at a reload because only the
    /// next reload waits for this thread, which neither serves nor polls. At most 256 MiB of a file are read, and at
    /// most 2 GiB of inflated text are checked.
    pub(super) fn restore_or_new(&self, report: ReportKind) -> SharedState {
        let state = ReportState::new(report, self.shared.clock.now());
        let Some(file) = self.plan.file(report) else {
            return state;
        };
        let path = file.path().to_owned();
        let read = in_time(&path.clone(), move || {
            Ok(file.read(|name| family(report, name)))
        });
        match read.unwrap_or_else(|source| Err(StorageError::Read { path, source })) {
            Ok(None) => {}
            Ok(Some(saved)) => {
                self.shared
                    .telemetry
                    .count_storage(StorageOutcome::Restored);
                tracing::info!(
                    tenant = self.plan.tenant.as_deref(),
                    report = report.as_str(),
                    period = saved
                        .summary
                        .as_ref()
                        .map(|summary| summary.period.to_string()),
                    last_success = saved.last_success.map(|at| at.to_rfc3339()),
                    "restored from the state file"
                );
                lock(&state).restore(saved, &self.plan.budgets_of(report));
            }
            Err(error) => self.log(report).warn(&error),
        }
        state
    }

    /// Writes the state file if the state has changed. Failures are logged and counted, and retried after the next
    /// poll, even if that fails. Nothing else changes.
    ///
    /// Waits for the write, but not without limit. While a write hangs, no other write of this file begins. If a hung
    /// write ends later, or a reload cancels the wait, the write itself logs and counts its outcome.
    pub(super) async fn keep(&self, state: &SharedState) {
        let report = ReportState::report(state);
        let Some(file) = self.plan.file(report) else {
            return;
        };
        let writing = self.write(&file, state);
        let written = tokio::time::timeout(WRITE_TIME, writing).await;
        self.log(report)
            .record(&written.unwrap_or_else(|_| Err(file.timed_out(Some(WRITE_TIME)))));
    }

    /// Writes the state if it is unsaved and wanted. Returns true if it was written.
    async fn write(&self, file: &StateFile, state: &SharedState) -> Result<bool, StorageError> {
        match lock(state) {
            state if !state.file.unsaved => return Ok(false),
            state if state.file.writing => return Err(file.timed_out(None)),
            _ => {}
        }
        let writes = Arc::clone(&self.shared.writes);
        let permit = writes.acquire_owned().await.expect("never closed");
        let Some(saved) = lock(state).begin_writing() else {
            return Ok(false);
        };
        let (waiting, written) = oneshot::channel();
        let log = self.log(ReportState::report(state));
        let (file, state) = (file.clone(), Arc::clone(state));
        // On a blocking thread, because a wait for the disk must not delay a scrape on the same thread.
        tokio::task::spawn_blocking(move || {
            let placing = Arc::clone(&lock(&state).file.placing);
            // A reload can have ended the rest of this poller, and its user labels or figures may be unwanted now.
            let written = file.write(&saved, || ReportState::is_wanted(&state, &placing));
            lock(&state).end_writing(written.is_ok());
            if let Err(written) = waiting.send(written) {
                log.record(&written);
            }
            // Last, so that a write that has returned its permit has been counted.
            drop(permit);
        });
        written.await.expect("writing does not panic")
    }

    fn log(&self, report: ReportKind) -> StorageLog {
        StorageLog {
            telemetry: Arc::clone(&self.shared.telemetry),
            tenant: self.plan.tenant.clone(),
            report,
        }
    }
}

/// Logs and counts outcomes of state files.
struct StorageLog {
    telemetry: Arc<Telemetry>,
    tenant: Option<Arc<str>>,
    report: ReportKind,
}

impl StorageLog {
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
                "let the exporter write there, and see whether the disk is full; the next poll tries again, and until then a restart begins with the last state that was written",
            ),
            StorageError::Read { .. } => (
                StorageOutcome::Rejected,
                "cannot read the state file",
                "let the exporter read there; the report is fetched again",
            ),
            StorageError::Remove { .. } => (
                StorageOutcome::Rejected,
                "cannot remove old state files",
                "let the exporter write there, or remove the files; they have user labels that are no longer wanted",
            ),
            StorageError::Rejected { .. } => (
                StorageOutcome::Rejected,
                "the state file is rejected",
                "nothing need be done; the report is fetched again",
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

impl Storage {
    /// Removes all state files of the tenant, because their user labels are no longer wanted.
    pub(super) fn forget(&self, tenant: Option<&str>) {
        let (folder, name) = (self.folder.clone(), self.name.clone());
        let forgotten = in_time(&self.folder.join(&self.name), move || {
            Ok(storage::forget(&folder, &name))
        });
        if let Err(error) = removed(&self.folder, forgotten) {
            tracing::warn!(
                tenant,
                error = %Chain(&error),
                remedy = "remove the tenant's files by hand; they have user labels of the previous labels.user",
                "state files with the previous user labels cannot be removed"
            );
        }
    }

    /// Removes unfinished files of earlier processes, and files with user labels that are no longer wanted.
    pub(super) fn sweep<'a>(plans: impl Iterator<Item = &'a Plan>) {
        let mut folders: BTreeMap<&Path, BTreeMap<String, TenantFiles>> = BTreeMap::new();
        for plan in plans {
            let Some(storage) = &plan.storage else {
                continue;
            };
            let owner = TenantFiles {
                identity: storage.identity.clone(),
                reports: plan.reports.clone(),
            };
            let owners = folders.entry(&storage.folder).or_default();
            owners.insert(storage.name.clone(), owner);
        }
        for (folder, owners) in folders {
            let path = folder.to_owned();
            let swept = in_time(&folder.join("state"), move || {
                Ok(storage::sweep(&path, &owners))
            });
            if let Err(error) = removed(folder, swept) {
                tracing::warn!(
                    error = %Chain(&error),
                    remedy = "let the exporter write there, or remove files that end in .new or .rejected by hand; they may have user labels of a previous labels.user",
                    "old state files cannot be removed"
                );
            }
        }
    }
}

/// The outcome of a removal, which is an error if it did not end in time.
fn removed(
    folder: &Path,
    outcome: io::Result<Result<(), StorageError>>,
) -> Result<(), StorageError> {
    outcome.unwrap_or_else(|source| {
        let path = folder.to_owned();
        Err(StorageError::Remove { path, source })
    })
}

impl ReportState {
    /// Starts a write: returns the state to write, if it is unsaved and wanted.
    fn begin_writing(&mut self) -> Option<SavedState> {
        if !self.file.unsaved || self.retired {
            return None;
        }
        self.file.unsaved = false;
        self.file.writing = true;
        Some(self.saved())
    }

    fn end_writing(&mut self, written: bool) {
        self.file.writing = false;
        self.file.unsaved |= !written;
    }

    /// Returns a guard if the written file may be put in place. `wait_for_files` waits until the guard is dropped.
    fn is_wanted<'p>(state: &SharedState, placing: &'p Mutex<()>) -> Option<MutexGuard<'p, ()>> {
        let placing = placing.lock().unwrap_or_else(PoisonError::into_inner);
        (!lock(state).retired).then_some(placing)
    }

    fn saved(&self) -> SavedState {
        let (closing, closed) = self.previous.saved();
        SavedState {
            last_success: self.health.last_success,
            pages: self.health.pages,
            folded: self.health.folded,
            unplaced: self.health.unplaced,
            summary: self.summary.as_deref().cloned(),
            current: self.current.clone(),
            budgets: self.budgets.clone(),
            closing,
            closed,
            ledgers: self.ledgers.clone(),
        }
    }

    /// Takes over a saved state, except for what belongs to other budgets.
    fn restore(&mut self, saved: SavedState, budgets: &[Budget]) {
        let SavedState {
            last_success,
            pages,
            folded,
            unplaced,
            mut summary,
            mut current,
            budgets: mut theirs,
            closing,
            closed,
            mut ledgers,
        } = saved;
        let shown = summary.as_mut().map(|summary| &mut summary.budgets);
        drop_others(&mut current, shown, &mut theirs, budgets);
        ledgers.keep_only(budgets);
        self.health = ReportMetrics {
            started: self.health.started,
            last_success,
            rows: summary.as_ref().map_or(0, |summary| summary.rows),
            pages,
            folded,
            unplaced,
            settled_windows: summary
                .as_ref()
                .and_then(|summary| ledgers.final_days(summary.period)),
            ..ReportMetrics::default()
        };
        self.summary = summary.map(Arc::new);
        self.current = current;
        self.budgets = theirs;
        self.previous = Previous::restored(closing, closed);
        self.ledgers = ledgers;
    }
}

/// Time limit for the wait for one file. The largest takes a slow disk some seconds, and a poll waits for no more
/// than its figures.
const WRITE_TIME: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
