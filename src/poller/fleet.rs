//! The poll tasks of all tenants, and what a changed configuration does to them.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::task::{AbortHandle, JoinSet};

use super::setup::{self, FleetError, TenantFingerprint};
use super::state::{ReportState, SharedState};
use super::{Plan, Poller, Shared, Storage};
use crate::config::Config;
use crate::graph::Graph;
use crate::graph::http::HttpClient;
use crate::report::labels::Naming;

/// One poll task per tenant of the configuration in force.
///
/// Dropping it stops them all.
pub struct Fleet {
    shared: Shared,
    /// The client, and whether it speaks plain http only.
    http: Option<(HttpClient, bool)>,
    tasks: JoinSet<()>,
    running: BTreeMap<Name, Running>,
}

type Name = Option<Arc<str>>;

/// A tenant's task, and what it was started with.
struct Running {
    fingerprint: TenantFingerprint,
    storage: Option<Storage>,
    states: Vec<SharedState>,
    task: AbortHandle,
}

/// A tenant that is new, or to be polled otherwise.
struct TenantChange {
    name: Name,
    fingerprint: TenantFingerprint,
    plan: Plan,
    graph: Graph,
}

/// What is left of tasks that were ended.
#[derive(Default)]
struct Retired {
    states: Vec<SharedState>,
    /// Whose files name people as they are not to be named any more.
    storages: Vec<(Name, Storage)>,
}

impl Fleet {
    /// No task yet.
    pub fn new(shared: Shared) -> Self {
        Self {
            shared,
            http: None,
            tasks: JoinSet::new(),
            running: BTreeMap::new(),
        }
    }

    /// Makes the tasks those of `config`: tenants that stay as they are go on undisturbed, changed ones start anew with
    /// what they know, new ones start, and those that are gone are forgotten. Of tenants that stay, the reports whose last
    /// poll failed are tried at once: whoever has mended what was wrong need not wait for the next one.
    ///
    /// # Errors
    /// Where a tenant cannot be set up; nothing has changed then.
    pub(crate) fn apply(&mut self, config: &Config, naming: &Naming) -> Result<(), FleetError> {
        let http = self.http_for(config)?;
        let mut changed = Vec::new();
        for tenant in &config.tenants {
            let fingerprint = TenantFingerprint::of(config, tenant, naming);
            if self
                .running
                .get(&tenant.name)
                .is_none_or(|running| running.fingerprint != fingerprint)
            {
                changed.push(TenantChange {
                    name: tenant.name.clone(),
                    fingerprint,
                    plan: setup::plan(config, tenant, naming),
                    graph: setup::graph(&http, &self.shared.clock, config, tenant)?,
                });
            }
        }
        let stays = |name: &Name| config.tenants.iter().any(|tenant| tenant.name == *name);
        let mut retired = Retired::default();
        for (_, running) in self.running.extract_if(.., |name, _| !stays(name)) {
            running.task.abort();
            retired.retire(running.states);
        }
        // Of tenants whose files stay where they are, one may be at its place.
        let is_moved = |change: &&TenantChange| {
            let running = self.running.get(&change.name);
            running.is_none_or(|running| running.storage != change.plan.storage)
        };
        let moved: Vec<Plan> = changed
            .iter()
            .filter(is_moved)
            .map(|change| change.plan.clone())
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
        Storage::sweep(moved.iter());
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

    /// Fetches the settled days of all logs, and the period before, again; what is served stays until that is complete.
    pub fn refetch(&self) {
        for running in self.running.values() {
            running.states.iter().for_each(ReportState::refetch);
        }
    }

    /// Waits for a task that ends, which none does by itself: whatever comes out is a defect. Pending for ever where
    /// there is no task.
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

    /// The client that the configuration needs: the one at hand, where it does.
    fn http_for(&mut self, config: &Config) -> Result<HttpClient, FleetError> {
        let plain = setup::is_plain(config);
        match &self.http {
            Some((http, at_hand)) if *at_hand == plain => Ok(http.clone()),
            _ => {
                let new = setup::http(config)?;
                self.http = Some((new.clone(), plain));
                Ok(new)
            }
        }
    }

    /// Ends the task of a tenant that has changed; returns what the next one may go on with.
    fn take_over(&mut self, change: &TenantChange, retired: &mut Retired) -> Vec<SharedState> {
        let TenantChange {
            name,
            fingerprint,
            plan,
            ..
        } = change;
        let Some(old) = self.running.remove(name) else {
            return Vec::new();
        };
        old.task.abort();
        if (&old.fingerprint.tenant, &old.fingerprint.figures)
            != (&fingerprint.tenant, &fingerprint.figures)
        {
            // Numbers of someone else, of another period, or under other names, are not shown again.
            let old_states = retired.retire(old.states);
            self.shared.publisher.forget(name.as_ref());
            let is_same = old.fingerprint.tenant == fingerprint.tenant;
            let states = old_states.iter().filter(|_| is_same);
            let states = states.map(ReportState::counters_only).collect();
            if old.fingerprint.labels != fingerprint.labels {
                let storages = old.storage.into_iter().chain(plan.storage.clone());
                retired
                    .storages
                    .extend(storages.map(|storage| (name.clone(), storage)));
            }
            return states;
        }
        let stays = |state: &SharedState| plan.reports.contains(&ReportState::report(state));
        let (states, gone) = old.states.into_iter().partition::<Vec<_>, _>(stays);
        retired.retire(gone);
        if old.fingerprint.source != fingerprint.source {
            let states = retired.retire(states);
            return states
                .iter()
                .map(ReportState::after_source_change)
                .collect();
        }
        if old.storage != plan.storage {
            states.iter().for_each(ReportState::mark_unsaved);
        }
        states
    }

    fn start(&mut self, change: TenantChange, states: &[SharedState]) {
        let TenantChange {
            name,
            fingerprint,
            plan,
            graph,
        } = change;
        let storage = plan.storage.clone();
        let poller = Poller::new(Arc::new(plan), graph, self.shared.clone(), states);
        let states = poller.states().to_vec();
        let task = self.tasks.spawn(poller.run());
        let running = Running {
            fingerprint,
            storage,
            states,
            task,
        };
        self.running.insert(name, running);
    }
}

impl Retired {
    /// From now on nothing of these is published, and no file of them gets a place that it has not got yet.
    fn retire(&mut self, states: Vec<SharedState>) -> &[SharedState] {
        ReportState::retire(&states);
        let first = self.states.len();
        self.states.extend(states);
        &self.states[first..]
    }

    /// What is on its way into a file gets there first, for the file may be read, swept or removed next.
    fn clear_away(self) {
        ReportState::wait_for_files(&self.states);
        for (name, storage) in self.storages {
            storage.forget(name.as_deref());
        }
    }
}
