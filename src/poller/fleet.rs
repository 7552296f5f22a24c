//! The poll tasks of all tenants, and what a changed configuration does to them.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::task::{AbortHandle, JoinSet};

use super::memory::{Memory, SharedMemory};
use super::setup::{self, FleetError, Settings};
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
    settings: Settings,
    storage: Option<Storage>,
    memories: Vec<SharedMemory>,
    task: AbortHandle,
}

/// A tenant that is new, or to be polled otherwise.
struct Change {
    name: Name,
    settings: Settings,
    plan: Plan,
    graph: Graph,
}

/// What is left of tasks that were ended.
#[derive(Default)]
struct Left {
    memories: Vec<SharedMemory>,
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
            let settings = Settings::of(config, tenant, naming);
            if self
                .running
                .get(&tenant.name)
                .is_none_or(|running| running.settings != settings)
            {
                changed.push(Change {
                    name: tenant.name.clone(),
                    settings,
                    plan: setup::plan(config, tenant, naming),
                    graph: setup::graph(&http, &self.shared.clock, config, tenant)?,
                });
            }
        }
        let stays = |name: &Name| config.tenants.iter().any(|tenant| tenant.name == *name);
        let mut left = Left::default();
        for (_, running) in self.running.extract_if(.., |name, _| !stays(name)) {
            running.task.abort();
            left.retire(running.memories);
        }
        // Of tenants whose files stay where they are, one may be at its place.
        let is_elsewhere = |change: &&Change| {
            let running = self.running.get(&change.name);
            running.is_none_or(|running| running.storage != change.plan.storage)
        };
        let elsewhere: Vec<Plan> = changed
            .iter()
            .filter(is_elsewhere)
            .map(|change| change.plan.clone())
            .collect();
        let changed: Vec<(Change, Vec<SharedMemory>)> = changed
            .into_iter()
            .map(|change| {
                let memories = self.take_over(&change, &mut left);
                (change, memories)
            })
            .collect();
        for running in self.running.values() {
            running.memories.iter().for_each(Memory::try_again);
        }
        left.clear_away();
        Storage::sweep(elsewhere.iter());
        for (change, memories) in changed {
            self.start(change, &memories);
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
            running.memories.iter().for_each(Memory::refetch);
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
    fn take_over(&mut self, change: &Change, left: &mut Left) -> Vec<SharedMemory> {
        let Change {
            name,
            settings,
            plan,
            ..
        } = change;
        let Some(old) = self.running.remove(name) else {
            return Vec::new();
        };
        old.task.abort();
        if (&old.settings.whose, &old.settings.numbers) != (&settings.whose, &settings.numbers) {
            // Numbers of someone else, of another period, or under other names, are not shown again.
            let old_memories = left.retire(old.memories);
            self.shared.publisher.forget(name.as_ref());
            let is_same = old.settings.whose == settings.whose;
            let memories = old_memories.iter().filter(|_| is_same);
            let memories = memories.map(Memory::without_numbers).collect();
            if old.settings.names != settings.names {
                let storages = old.storage.into_iter().chain(plan.storage.clone());
                left.storages
                    .extend(storages.map(|storage| (name.clone(), storage)));
            }
            return memories;
        }
        let stays = |memory: &SharedMemory| plan.reports.contains(&Memory::report(memory));
        let (memories, gone) = old.memories.into_iter().partition::<Vec<_>, _>(stays);
        left.retire(gone);
        if old.settings.service != settings.service {
            let memories = left.retire(memories);
            return memories.iter().map(Memory::of_another_service).collect();
        }
        if old.storage != plan.storage {
            memories.iter().for_each(Memory::move_files);
        }
        memories
    }

    fn start(&mut self, change: Change, memories: &[SharedMemory]) {
        let Change {
            name,
            settings,
            plan,
            graph,
        } = change;
        let storage = plan.storage.clone();
        let poller = Poller::new(Arc::new(plan), graph, self.shared.clone(), memories);
        let memories = poller.memories().to_vec();
        let task = self.tasks.spawn(poller.run());
        let running = Running {
            settings,
            storage,
            memories,
            task,
        };
        self.running.insert(name, running);
    }
}

impl Left {
    /// From now on nothing of these is published, and no file of them gets a place that it has not got yet.
    fn retire(&mut self, memories: Vec<SharedMemory>) -> &[SharedMemory] {
        Memory::retire(&memories);
        let first = self.memories.len();
        self.memories.extend(memories);
        &self.memories[first..]
    }

    /// What is on its way into a file gets there first, for the file may be read, swept or removed next.
    fn clear_away(self) {
        Memory::wait_for_files(&self.memories);
        for (name, storage) in self.storages {
            storage.forget(name.as_deref());
        }
    }
}
