//! What a poller keeps for the next process, and takes over from the one before.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::previous::Previous;
use super::state::{ReportState, SharedState, lock};
use super::{Plan, Poller, Storage};
use crate::graph::Chain;
use crate::report::ReportKind;
use crate::report_metrics::{ReportMetrics, family};
use crate::secret_file::in_time;
use crate::storage::{self, Identity, SavedState, StateFile, StorageError, TenantFiles};
use crate::telemetry::{StorageOutcome, Telemetry};

impl Poller {
    /// What was kept of a report, where anything was and it is to be believed; else nothing.
    ///
    /// It is waited for: at the start because the first scrape must see it, and at a reload on the thread that waits for
    /// signals and reloads, which is none of those that serve and poll, so that only the next reload waits. No more than
    /// 256 MiB are read of a file, and no more than 2 GiB come of that when its lines are looked through.
    pub(super) fn restore_or_new(&self, report: ReportKind) -> SharedState {
        let state = ReportState::new(report, self.shared.clock.now());
        let Some(file) = self.plan.file(report) else {
            return state;
        };
        let budgets = self.plan.budgets_of(report);
        let path = file.path().to_owned();
        let read = in_time(&path.clone(), move || {
            Ok(file.read(|name| family(report, name), &budgets))
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
                lock(&state).restore(saved);
            }
            Err(error) => self.log(report).warn(&error),
        }
        state
    }

    /// Keeps what is remembered of a report, where there is anything new. Where that fails it is said and counted, and
    /// tried again after the next poll, whatever becomes of that; nothing else changes.
    ///
    /// Waits until it is kept, but not for ever. A write that hangs is not followed by another one, and when it ends all
    /// the same, or when a reload has broken off who waits for it, it is said and counted where it is made.
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

    /// Writes what is remembered, if it is not written and wanted; tells whether it was.
    async fn write(&self, file: &StateFile, state: &SharedState) -> Result<bool, StorageError> {
        match lock(state) {
            state if !state.file.unsaved || state.is_from_old_source => return Ok(false),
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
        // To wait for a disk must not hold up a scrape on the same thread.
        tokio::task::spawn_blocking(move || {
            let placing = Arc::clone(&lock(&state).file.placing);
            // This may be the only part of a poller that is left, and its names or numbers not be wanted any more.
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

/// Where it is said and counted what became of the state files of a report.
struct StorageLog {
    telemetry: Arc<Telemetry>,
    tenant: Option<Arc<str>>,
    report: ReportKind,
}

impl StorageLog {
    /// What became of a write.
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
                "let the exporter write there, and see whether the disk is full; the next poll tries again, and until then a restart begins with what was written before",
            ),
            StorageError::Read { .. } => (
                StorageOutcome::Rejected,
                "cannot read the state file",
                "let the exporter read there; the report is fetched again",
            ),
            StorageError::Remove { .. } => (
                StorageOutcome::Rejected,
                "cannot remove old state files",
                "let the exporter write there, or remove them; names that are no longer wanted are in them",
            ),
            StorageError::Rejected { .. } => (
                StorageOutcome::Rejected,
                "the state file is rejected",
                "nothing, the report is fetched again",
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
    /// Removes all that is kept of the tenant, for it names people otherwise than is wanted now.
    pub(super) fn forget(&self, tenant: Option<&str>) {
        let (folder, name) = (self.folder.clone(), self.name.clone());
        let forgotten = in_time(&self.folder.join(&self.name), move || {
            Ok(storage::forget(&folder, &name))
        });
        if let Err(error) = removed(&self.folder, forgotten) {
            tracing::warn!(
                tenant,
                error = %Chain(&error),
                remedy = "remove the tenant's files by hand; people are named in them as labels.user said before",
                "state files of other names of people cannot be removed"
            );
        }
    }

    /// Removes what the processes before did not write to its end, and what names people otherwise than is wanted now.
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
                    remedy = "let the exporter write there, or remove files that end in .new or .rejected by hand; people may be named in them as labels.user said before",
                    "old state files cannot be removed"
                );
            }
        }
    }
}

/// The outcome of a removal that may not have been waited for to its end.
fn removed(
    folder: &Path,
    outcome: io::Result<Result<(), StorageError>>,
) -> Result<(), StorageError> {
    outcome.unwrap_or_else(|source| {
        let path = folder.to_owned();
        Err(StorageError::Remove { path, source })
    })
}

impl Plan {
    /// Where a report is kept, where any is.
    pub(super) fn file(&self, report: ReportKind) -> Option<StateFile> {
        let storage = self.storage.as_ref()?;
        let name = format!("{}.{report}", storage.name);
        let identity = Identity {
            columns: report.columns(),
            ..storage.identity.clone()
        };
        Some(StateFile::new(&storage.folder, &name, identity))
    }
}

impl ReportState {
    /// What is to be written now.
    fn begin_writing(&mut self) -> Option<SavedState> {
        if !self.file.unsaved || self.is_from_old_source || self.retired {
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

    /// Whether what was written is to have its place; until what it returns is dropped, who waits for files waits for this
    /// one.
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

    fn restore(&mut self, saved: SavedState) {
        let SavedState {
            last_success,
            pages,
            folded,
            unplaced,
            summary,
            current,
            budgets,
            closing,
            closed,
            ledgers,
        } = saved;
        self.health = ReportMetrics {
            started: self.health.started,
            last_success,
            rows: summary.as_ref().map_or(0, |summary| summary.rows),
            pages,
            folded,
            unplaced,
            settled_windows: summary
                .as_ref()
                .and_then(|summary| ledgers.settled(summary.period)),
            ..ReportMetrics::default()
        };
        self.summary = summary.map(Arc::new);
        self.current = current;
        self.budgets = budgets;
        self.previous = Previous::restored(closing, closed);
        self.ledgers = ledgers;
    }
}

/// For one file to be written: the largest takes a slow disk some seconds, and a poll waits for no more than its figures.
const WRITE_TIME: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
