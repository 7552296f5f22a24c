//! The poll tasks of all tenants, and the changes that a new configuration makes to them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};

use super::persist::Writer;
use super::state::{ReportState, SharedState};
use super::{Poller, Shared};
use crate::chain::Chain;
use crate::config::{Config, Tenant};
use crate::graph::Graph;
use crate::graph::http::HttpClient;
use crate::memory::MemoryPool;
use crate::period::Clock;
use crate::report::ReportKind;
use crate::snapshot::Publisher;
use crate::storage::Storage;
use crate::telemetry::Telemetry;
use crate::tenant::{self, Plan, ReportPlan, SetupError};

/// One poll task per tenant of the configuration in force.
///
/// Dropping the fleet stops all tasks.
pub(crate) struct Fleet {
    shared: Shared,
    /// The HTTP client, and true if the client supports only plain HTTP.
    http: Option<(HttpClient, bool)>,
    tasks: JoinSet<()>,
    running: BTreeMap<Name, Running>,
}

type Name = Option<Arc<str>>;

/// The poll task of a tenant, and its inputs.
struct Running {
    tenant: Tenant,
    plan: Arc<Plan>,
    states: Vec<SharedState>,
    task: AbortHandle,
}

/// A tenant that is new or has changed.
struct TenantChange {
    tenant: Tenant,
    plan: Arc<Plan>,
    graph: Graph,
}

/// Work that a reload must do after it aborted tasks.
#[derive(Default)]
struct Leftovers {
    /// True if a report state was retired. A write of this state may be in progress.
    has_retired: bool,
    /// For each tenant and storage, the reports that have a new user label or pseudonym key. Their state files must be
    /// deleted.
    storages: Vec<(Name, Storage, Vec<ReportKind>)>,
}

impl Fleet {
    /// Creates a fleet without poll tasks. If `previous` is true, tasks fetch the previous billing period too.
    /// `memory_limit` is the number of bytes that the process may use, if there is a limit.
    pub(crate) fn new(
        publisher: Arc<Publisher>,
        telemetry: Arc<Telemetry>,
        clock: Clock,
        runtime: Handle,
        previous: bool,
        memory_limit: Option<u64>,
    ) -> Self {
        let mut tasks = JoinSet::new();
        let writer = Writer::start(&mut tasks, &runtime);
        let shared = Shared {
            publisher,
            telemetry,
            clock,
            runtime,
            permits: Arc::new(Semaphore::new(POLLS_MAX)),
            under_way: Arc::new(Semaphore::new(POLLS_UNDER_WAY_MAX)),
            memory: MemoryPool::for_process(memory_limit),
            writer,
            previous,
        };
        Self {
            shared,
            http: None,
            tasks,
            running: BTreeMap::new(),
        }
    }

    /// Applies `config`. Starts new tenants, stops removed ones, and restarts changed ones with the state that stays
    /// valid. Unchanged tenants go on, but retry failed reports at once, so an administrator who has fixed the cause
    /// need not wait for the next poll.
    ///
    /// # Errors
    /// If a tenant cannot be set up. Then nothing has changed.
    pub(crate) fn apply(&mut self, config: &Config) -> Result<(), SetupError> {
        let http = self.http_for(config)?;
        let mut changed = Vec::new();
        for tenant in &config.tenants {
            let plan = tenant::plan(config, tenant);
            let is_same = |running: &Running| running.tenant == *tenant && *running.plan == plan;
            if !self.running.get(&tenant.name).is_some_and(is_same) {
                changed.push(TenantChange {
                    tenant: tenant.clone(),
                    plan: Arc::new(plan),
                    graph: tenant::graph(&http, &self.shared.clock, config, tenant)?,
                });
            }
        }
        let stays = |name: &Name| config.tenants.iter().any(|tenant| tenant.name == *name);
        let mut leftovers = Leftovers::default();
        for (_, running) in self.running.extract_if(.., |name, _| !stays(name)) {
            running.task.abort();
            leftovers.retire(&running.states);
        }
        // An unchanged storage is not swept, because a sweep would remove the temporary file of a write in progress.
        let is_moved = |change: &&TenantChange| {
            let running = self.running.get(&change.tenant.name);
            running.is_none_or(|running| running.plan.storage != change.plan.storage)
        };
        let moved: Vec<Arc<Plan>> = changed
            .iter()
            .filter(is_moved)
            .map(|change| Arc::clone(&change.plan))
            .collect();
        let states: Vec<Vec<SharedState>> = changed
            .iter()
            .map(|change| self.take_over(change, &mut leftovers))
            .collect();
        for running in self.running.values() {
            running.states.iter().for_each(ReportState::try_again);
        }
        leftovers.clear_away(&self.shared.writer);
        sweep(&moved);
        for (change, states) in changed.into_iter().zip(states) {
            self.start(change, &states);
        }
        self.shared.publisher.retain(|key| {
            stays(&key.tenant)
                && key
                    .report
                    .is_none_or(|kind| config.reports.iter().any(|report| report.kind == kind))
        });
        Ok(())
    }

    /// Makes all tasks fetch everything again, including the final days of logs and the previous period. The current
    /// figures are served until the new figures are complete.
    pub(crate) fn refetch(&self) {
        for running in self.running.values() {
            running.states.iter().for_each(ReportState::refetch);
        }
    }

    /// Waits until a task ends that was not aborted, and returns a message about this defect. Never returns if there is
    /// no task.
    pub(crate) async fn broken(&mut self) -> String {
        loop {
            match self.tasks.join_next().await {
                Some(Err(error)) if error.is_cancelled() => {}
                Some(Err(error)) => return error.to_string(),
                Some(Ok(())) => return "a poll task ended".to_owned(),
                None => std::future::pending().await,
            }
        }
    }

    /// Returns the HTTP client that the configuration needs: the current client if it fits, otherwise a new one.
    fn http_for(&mut self, config: &Config) -> Result<HttpClient, SetupError> {
        let plain = tenant::is_plain(config);
        match &self.http {
            Some((http, at_hand)) if *at_hand == plain => Ok(http.clone()),
            _ => {
                let new = tenant::http(config)?;
                self.http = Some((new.clone(), plain));
                Ok(new)
            }
        }
    }

    /// Ends the task of a changed tenant. Returns the state that the next task can continue with.
    fn take_over(&mut self, change: &TenantChange, leftovers: &mut Leftovers) -> Vec<SharedState> {
        let TenantChange { tenant, plan, .. } = change;
        let Some(old) = self.running.remove(&tenant.name) else {
            return Vec::new();
        };
        old.task.abort();
        let is_same_tenant =
            (&old.tenant.tenant_id, old.tenant.cloud) == (&tenant.tenant_id, tenant.cloud);
        let has_same_urls = (&old.tenant.graph_url, &old.tenant.authority_url)
            == (&tenant.graph_url, &tenant.authority_url);
        let has_same_periods = old.plan.cycle_day == plan.cycle_day;
        let has_same_source = is_same_tenant && has_same_urls && has_same_periods;
        let relabelled = relabelled(&old.plan, plan);
        let is_relabelled = |report| relabelled.contains(&report);
        let stays = |state: &SharedState| {
            let report = state.lock().report;
            let is_planned = plan.find(report).is_some();
            has_same_source && is_planned && !is_relabelled(report)
        };
        let (mut states, gone) = old.states.into_iter().partition::<Vec<_>, _>(stays);
        leftovers.retire(&gone);
        if old.plan.storage != plan.storage {
            states.iter().for_each(ReportState::mark_unsaved);
        }
        // If the source has changed, drops all published figures of the tenant. Otherwise, drops only those with
        // previous user labels.
        self.shared.publisher.forget(|key| {
            key.tenant == tenant.name && (!has_same_source || key.report.is_some_and(is_relabelled))
        });
        if is_same_tenant {
            states.extend(gone.iter().map(ReportState::counters_only));
        }
        if !relabelled.is_empty() {
            for storage in [&old.plan.storage, &plan.storage].into_iter().flatten() {
                let (name, storage) = (tenant.name.clone(), storage.clone());
                leftovers.storages.push((name, storage, relabelled.clone()));
            }
        }
        states
    }

    fn start(&mut self, change: TenantChange, states: &[SharedState]) {
        let plan = Arc::clone(&change.plan);
        let poller = Poller::new(plan, change.graph, self.shared.clone(), states);
        let running = Running {
            tenant: change.tenant,
            plan: change.plan,
            states: poller.states.clone(),
            task: self.tasks.spawn_on(poller.run(), &self.shared.runtime),
        };
        self.running.insert(running.tenant.name.clone(), running);
    }
}

impl Leftovers {
    /// Marks reports as retired. They publish nothing more, and their state files are no longer written.
    fn retire(&mut self, states: &[SharedState]) {
        for state in states {
            state.lock().retired = true;
        }
        self.has_retired |= !states.is_empty();
    }

    /// If a state was retired, waits until the state file that is being written is complete, because this file may be
    /// read, swept or removed next. Then removes the state files in `storages`.
    fn clear_away(self, writer: &Writer) {
        if self.has_retired && !writer.wait(WRITE_PATIENCE) {
            tracing::warn!(
                remedy = "check whether the disk of storage.path answers, and restart",
                "a state file is still being written; it may still contain user labels made with the previous value of labels.user"
            );
        }
        for (name, storage, reports) in self.storages {
            if let Err(error) = storage.forget(&reports) {
                tracing::warn!(
                    tenant = name.as_deref(),
                    error = %Chain(&error),
                    remedy = "remove the tenant's files by hand; they contain user labels made with the previous value of labels.user",
                    "state files with the previous user labels cannot be removed"
                );
            }
        }
    }
}

/// Returns the reports with another user label or pseudonym key in the new plan. If the new plan does not contain a
/// report, the report's old user label is compared with the new default. State files of the returned reports may have
/// labels that no setting permits any more.
fn relabelled(old: &Plan, new: &Plan) -> Vec<ReportKind> {
    let has_changed = |old: &&ReportPlan| match (new.find(old.report), &new.storage) {
        (Some(new), _) => new.user_label != old.user_label,
        (None, Some(storage)) => storage.identity.naming != old.user_label.identity(),
        (None, None) => false,
    };
    let reports = old.reports.iter().filter(has_changed);
    reports.map(|plan| plan.report).collect()
}

/// Removes state files that may have unwanted user labels, except for the files that the tenants read next.
fn sweep(plans: &[Arc<Plan>]) {
    let storages = plans.iter().filter_map(|plan| {
        let reports = plan.reports.iter();
        let labels = reports.map(|plan| (plan.report, &plan.user_label));
        Some((plan.storage.as_ref()?, labels.collect()))
    });
    for error in Storage::sweep(storages) {
        tracing::warn!(
            error = %Chain(&error),
            remedy = "let the exporter write to the folder, or remove files that end in .new or .rejected by hand; they may contain user labels made with a previous value of labels.user",
            "old state files cannot be removed"
        );
    }
}

/// Maximum number of polls that run at the same time, over all tenants: enough to hide the latency of the network, and
/// few enough to leave processor time for scrapes. A slow poll returns its permit and is no longer counted.
const POLLS_MAX: usize = 8;

/// Maximum number of polls in progress, including slow ones. Each poll needs some 300 bytes per row of its report.
/// Without HTTP/2, a poll of a log needs up to four connections to Graph. So all polls need about 400 connections, and
/// stay below the 1,024 file descriptors of a service.
const POLLS_UNDER_WAY_MAX: usize = 100;

/// Time for which a reload waits for a write. It is short, so that a shutdown during the wait still ends in time.
const WRITE_PATIENCE: Duration = Duration::from_secs(3);
