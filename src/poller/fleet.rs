//! The poll tasks of all tenants, and the changes that a new configuration makes to them.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::task::{AbortHandle, JoinSet};

use super::state::{ReportState, SharedState};
use super::{Poller, Shared};
use crate::config::{Config, Tenant};
use crate::graph::Graph;
use crate::graph::http::HttpClient;
use crate::tenant::{self, Plan, SetupError, Storage};

/// One poll task per tenant of the configuration in force.
///
/// Dropping it stops all tasks.
pub struct Fleet {
    shared: Shared,
    /// The client, and true if it speaks plain HTTP only.
    http: Option<(HttpClient, bool)>,
    tasks: JoinSet<()>,
    running: BTreeMap<Name, Running>,
}

type Name = Option<Arc<str>>;

/// The task of a tenant, and the inputs that it was started with.
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

/// State of aborted tasks that still has to be cleaned up.
#[derive(Default)]
struct Retired {
    states: Vec<SharedState>,
    /// State files to delete, because `labels.user` or the pseudonym key changed.
    storages: Vec<(Name, Storage)>,
}

impl Fleet {
    /// Creates a fleet without tasks.
    pub fn new(shared: Shared) -> Self {
        Self {
            shared,
            http: None,
            tasks: JoinSet::new(),
            running: BTreeMap::new(),
        }
    }

    /// Applies `config`. Unchanged tenants go on undisturbed. Changed tenants restart with the state that stays
    /// valid. New tenants start, and removed ones are forgotten. Unchanged tenants retry failed reports at once, so
    /// an administrator who has fixed the cause need not wait for the next poll.
    ///
    /// # Errors
    /// If a tenant cannot be set up. Nothing has changed then.
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
        let mut retired = Retired::default();
        for (_, running) in self.running.extract_if(.., |name, _| !stays(name)) {
            running.task.abort();
            retired.retire(running.states);
        }
        // A tenant with unchanged storage can have a write under way.
        let is_moved = |change: &&TenantChange| {
            let running = self.running.get(&change.tenant.name);
            running.is_none_or(|running| running.plan.storage != change.plan.storage)
        };
        let moved: Vec<Arc<Plan>> = changed
            .iter()
            .filter(is_moved)
            .map(|change| Arc::clone(&change.plan))
            .collect();
        let changed: Vec<(TenantChange, Vec<SharedState>)> = changed
            .into_iter()
            .map(|change| {
                let states = self.take_over(&change, &mut retired);
                (change, states)
            })
            .collect();
        for running in self.running.values() {
            running.states.iter().for_each(ReportState::try_again);
        }
        retired.clear_away();
        Storage::sweep(moved.iter().map(Arc::as_ref));
        for (change, states) in changed {
            self.start(change, &states);
        }
        self.shared.publisher.retain(|key| {
            stays(&key.tenant)
                && key
                    .report
                    .is_none_or(|report| config.reports.contains(&report))
        });
        Ok(())
    }

    /// Fetches the final days of all logs and the previous period again. The served figures stay until the new ones
    /// are complete.
    pub fn refetch(&self) {
        for running in self.running.values() {
            running.states.iter().for_each(ReportState::refetch);
        }
    }

    /// Waits for a task that ends. No task ends by itself, so the returned message is about a defect. Never returns
    /// if there is no task.
    pub async fn broken(&mut self) -> String {
        loop {
            match self.tasks.join_next().await {
                Some(Err(error)) if error.is_cancelled() => {}
                Some(Err(error)) => return error.to_string(),
                Some(Ok(())) => return "a poll task ended".to_owned(),
                None => std::future::pending().await,
            }
        }
    }

    /// The client that the configuration needs: the current one if it fits.
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
    fn take_over(&mut self, change: &TenantChange, retired: &mut Retired) -> Vec<SharedState> {
        let TenantChange { tenant, plan, .. } = change;
        let Some(old) = self.running.remove(&tenant.name) else {
            return Vec::new();
        };
        old.task.abort();
        let is_same_tenant =
            (&old.tenant.tenant_id, old.tenant.cloud) == (&tenant.tenant_id, tenant.cloud);
        let has_same_urls = (&old.tenant.graph_url, &old.tenant.authority_url)
            == (&tenant.graph_url, &tenant.authority_url);
        let has_same_labels = old.plan.user_label == plan.user_label;
        let has_same_periods = old.plan.cycle_day == plan.cycle_day;
        if !(is_same_tenant && has_same_urls && has_same_labels && has_same_periods) {
            // Figures of another tenant, address or period, or with other user labels are not shown again.
            let old_states = retired.retire(old.states);
            self.shared.publisher.forget(tenant.name.as_ref());
            let states = old_states.iter().filter(|_| is_same_tenant);
            let states = states.map(ReportState::counters_only).collect();
            if !has_same_labels {
                let storages = [&old.plan, plan].into_iter();
                let storages = storages.filter_map(|plan| plan.storage.clone());
                retired
                    .storages
                    .extend(storages.map(|storage| (tenant.name.clone(), storage)));
            }
            return states;
        }
        let stays = |state: &SharedState| plan.reports.contains(&ReportState::report(state));
        let (states, gone) = old.states.into_iter().partition::<Vec<_>, _>(stays);
        retired.retire(gone);
        if old.plan.storage != plan.storage {
            states.iter().for_each(ReportState::mark_unsaved);
        }
        states
    }

    fn start(&mut self, change: TenantChange, states: &[SharedState]) {
        let TenantChange {
            tenant,
            plan,
            graph,
        } = change;
        let poller = Poller::new(Arc::clone(&plan), graph, self.shared.clone(), states);
        let states = poller.states().to_vec();
        let task = self.tasks.spawn_on(poller.run(), &self.shared.runtime);
        let name = tenant.name.clone();
        let running = Running {
            tenant,
            plan,
            states,
            task,
        };
        self.running.insert(name, running);
    }
}

impl Retired {
    /// Marks reports as retired: they publish nothing more, and a file of theirs that is being written is not put in
    /// place.
    fn retire(&mut self, states: Vec<SharedState>) -> &[SharedState] {
        ReportState::retire(&states);
        let first = self.states.len();
        self.states.extend(states);
        &self.states[first..]
    }

    /// Waits for files that are being put in place, because they may be read, swept or removed next.
    fn clear_away(self) {
        ReportState::wait_for_files(&self.states);
        for (name, storage) in self.storages {
            storage.forget(name.as_deref());
        }
    }
}
