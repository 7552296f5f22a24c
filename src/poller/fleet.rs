//! The poll tasks of all tenants, and what a changed configuration does to them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::sync::Arc;

use chrono::TimeDelta;
use tokio::task::{AbortHandle, JoinSet};
use zeroize::Zeroizing;

use super::memory::{Memory, SharedMemory};
use super::{Plan, Poller, Shared, Storage};
use crate::config::{self, Config, UserLabel};
use crate::graph::address::{AuthorityUrl, GraphRoot, UrlError};
use crate::graph::credential::{Credential, CredentialError, ManagedIdentityEndpoint};
use crate::graph::http::{HttpClient, HttpError, HttpOptions};
use crate::graph::retry::RetryPolicy;
use crate::graph::token::{TokenCache, TokenError, TokenOptions};
use crate::graph::{Graph, Limits};
use crate::period::Clock;
use crate::report::ReportKind;
use crate::report::budget::Budget;
use crate::report::labels::{Naming, Pseudonyms};
use crate::storage::Identity;

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

/// Why a tenant cannot be polled; told before anything is changed.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// A URL of the configuration will not do.
    #[error("tenant {tenant} has an unusable URL")]
    Url {
        /// Name or id.
        tenant: String,
        /// What is wrong with it.
        source: UrlError,
    },
    /// No client to ask with.
    #[error("cannot ask anyone")]
    Http(#[from] HttpError),
    /// The credential cannot be set up.
    #[error("tenant {tenant} has no usable credential")]
    Credential {
        /// Name or id.
        tenant: String,
        /// Why not.
        source: CredentialError,
    },
    /// The token cache cannot be set up.
    #[error("tenant {tenant} cannot ask for tokens")]
    Token {
        /// Name or id.
        tenant: String,
        /// Why not.
        source: TokenError,
    },
    /// The key of the pseudonyms cannot be read.
    #[error("cannot read the pseudonym key {}", .path.display())]
    PseudonymKey {
        /// The file.
        path: std::path::PathBuf,
        /// Why not.
        source: std::io::Error,
    },
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

/// All that decides how a tenant is polled; where it is the same, the task goes on.
#[derive(PartialEq)]
struct Settings {
    tenant: String,
    /// Of whom the reports are.
    whose: String,
    /// Who tells them.
    service: String,
    /// How people are named.
    names: String,
    /// What the numbers are of, and under which names.
    numbers: String,
    pace: String,
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
    /// what they know, new ones start, and those that are gone are forgotten.
    ///
    /// # Errors
    /// Where a tenant cannot be set up; nothing has changed then.
    pub fn apply(&mut self, config: &Config) -> Result<(), FleetError> {
        let naming = naming(config)?;
        let http = self.http_for(config)?;
        let mut changed = Vec::new();
        for tenant in &config.tenants {
            let settings = Settings::of(config, tenant, &naming);
            if self
                .running
                .get(&tenant.name)
                .is_none_or(|running| running.settings != settings)
            {
                changed.push(Change {
                    name: tenant.name.clone(),
                    settings,
                    plan: plan(config, tenant, &naming),
                    graph: graph(&http, &self.shared.clock, tenant)?,
                });
            }
        }
        let stays = |name: &Name| config.tenants.iter().any(|tenant| tenant.name == *name);
        let mut left = Left::default();
        for (_, running) in self.running.extract_if(.., |name, _| !stays(name)) {
            running.task.abort();
            left.retire(running.memories);
        }
        // Of tenants that are running, a file may be at it.
        let is_new = |change: &&Change| !self.running.contains_key(&change.name);
        let new: Vec<Plan> = changed
            .iter()
            .filter(is_new)
            .map(|new| new.plan.clone())
            .collect();
        let changed: Vec<(Change, Vec<SharedMemory>)> = changed
            .into_iter()
            .map(|change| {
                let memories = self.take_over(&change, &mut left);
                (change, memories)
            })
            .collect();
        left.clear_away();
        Storage::sweep(new.iter());
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
        let plain = is_plain(config);
        match &self.http {
            Some((http, at_hand)) if *at_hand == plain => Ok(http.clone()),
            _ => {
                let new = http(config)?;
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
            self.shared.publisher.retain(|key| key.tenant != *name);
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

/// The client that a configuration needs.
///
/// # Errors
/// Where no CA certificate is found and one is needed.
pub(crate) fn http(config: &Config) -> Result<HttpClient, HttpError> {
    HttpClient::new(&HttpOptions {
        plain_only: is_plain(config),
        ..HttpOptions::default()
    })
}

/// Whether only loopback is spoken to, in plain http: then no CA certificates are needed.
fn is_plain(config: &Config) -> bool {
    let plain = |url: &Option<url::Url>| url.as_ref().is_some_and(|url| url.scheme() == "http");
    config
        .tenants
        .iter()
        .all(|tenant| plain(&tenant.graph_url) && plain(&tenant.authority_url))
}

/// Sets every tenant up as if to poll it, and drops it again.
///
/// # Errors
/// The first that cannot be set up.
pub(crate) fn validate(config: &Config) -> Result<(), FleetError> {
    naming(config)?;
    let http = http(config)?;
    let clock = Clock::system();
    config
        .tenants
        .iter()
        .try_for_each(|tenant| graph(&http, &clock, tenant).map(drop))
}

/// Graph, as it is asked for a tenant.
pub(crate) fn graph(
    http: &HttpClient,
    clock: &Clock,
    tenant: &config::Tenant,
) -> Result<Graph, FleetError> {
    let root = root(tenant)?;
    let credential = credential(&tenant.credential).map_err(|source| FleetError::Credential {
        tenant: name_or_id(tenant),
        source,
    })?;
    let options = TokenOptions {
        authority: authority(tenant)?,
        tenant_id: tenant.tenant_id.clone(),
        client_id: tenant.client_id.clone(),
        scope: scope(tenant, &root),
        credential,
    };
    let clock = clock.clone();
    let now = move || clock.now();
    let tokens = TokenCache::new(http.clone(), options, RetryPolicy::default(), now);
    let tokens = tokens.map_err(|source| FleetError::Token {
        tenant: name_or_id(tenant),
        source,
    })?;
    Ok(Graph::new(
        http.clone(),
        root,
        tokens,
        Limits::default(),
        RetryPolicy::default(),
    ))
}

/// Where a tenant's Graph is.
pub(crate) fn root(tenant: &config::Tenant) -> Result<GraphRoot, FleetError> {
    match &tenant.graph_url {
        Some(given) => given.as_str().parse().map_err(|source| FleetError::Url {
            tenant: name_or_id(tenant),
            source,
        }),
        None => Ok(tenant.cloud.graph_root()),
    }
}

/// Where a tenant's tokens come from, unless the machine has an identity.
pub(crate) fn authority(tenant: &config::Tenant) -> Result<AuthorityUrl, FleetError> {
    match &tenant.authority_url {
        Some(given) => given.as_str().parse().map_err(|source| FleetError::Url {
            tenant: name_or_id(tenant),
            source,
        }),
        None => Ok(tenant.cloud.authority()),
    }
}

fn name_or_id(tenant: &config::Tenant) -> String {
    let name = tenant.name.as_deref();
    name.unwrap_or(&tenant.tenant_id).to_owned()
}

impl Settings {
    fn of(config: &Config, tenant: &config::Tenant, naming: &Naming) -> Self {
        let Config {
            poll,
            labels,
            reports,
            budgets,
            storage,
            ..
        } = config;
        Self {
            tenant: format!("{tenant:?}"),
            whose: whose(tenant),
            service: service(tenant),
            names: names(config, naming),
            numbers: numbers(config, naming),
            pace: format!(
                "{poll:?} {reports:?} {budgets:?} {storage:?} {} {}",
                labels.max_series,
                config.tenants.len() > 1
            ),
        }
    }
}

fn whose(tenant: &config::Tenant) -> String {
    format!("{} {:?}", tenant.tenant_id, tenant.cloud)
}

/// What the numbers are of, and under which names.
fn numbers(config: &Config, naming: &Naming) -> String {
    format!("{} {:?}", names(config, naming), config.billing)
}

/// How people are named. The path of a key stays the same where the key is rotated, so the key itself has its part in it.
fn names(config: &Config, naming: &Naming) -> String {
    let key = match naming {
        Naming::Pseudonym(pseudonyms) => pseudonyms.of(""),
        _ => String::new(),
    };
    format!("{:?} {key}", config.labels.user)
}

/// Where a tenant's reports are kept. Two applications of one tenant have files of their own.
fn storage(config: &Config, tenant: &config::Tenant, naming: &Naming) -> Option<Storage> {
    let folder = config.storage.clone()?;
    let client = tenant.client_id.as_deref().unwrap_or("managed");
    Some(Storage {
        folder,
        name: format!("{}.{client}", tenant.tenant_id),
        identity: Identity {
            naming: names(config, naming),
            outright: matches!(config.labels.user, UserLabel::Upn | UserLabel::DisplayName),
            numbers: format!("{} {:?} {:?}", service(tenant), tenant.name, config.billing),
        },
    })
}

/// Whose numbers they are, and who tells them, where that is not Microsoft: a simulator with a tenant's ids is not the
/// tenant.
fn service(tenant: &config::Tenant) -> String {
    let mut service = whose(tenant);
    for (what, url) in [
        ("graph", &tenant.graph_url),
        ("authority", &tenant.authority_url),
    ] {
        if let Some(url) = url {
            service.extend([" ", what, " ", url.as_str()]);
        }
    }
    service
}

fn plan(config: &Config, tenant: &config::Tenant, naming: &Naming) -> Plan {
    Plan {
        tenant: tenant.name.clone(),
        interval: config.poll.interval,
        phase: phase(config, tenant),
        timeout: config.poll.timeout,
        cycle_day: config.billing.cycle_day,
        reports: config.reports.clone(),
        naming: naming.clone(),
        series_max: config.labels.max_series.get(),
        budgets: budgets(config, tenant),
        credential_expiry: tenant.credential_expiry,
        max_age: config.poll.max_age.map(|age| {
            // What a TimeDelta cannot hold is longer than any report lives.
            TimeDelta::from_std(age).unwrap_or(TimeDelta::MAX)
        }),
        storage: storage(config, tenant, naming),
    }
}

/// The budgets that select the tenant, or no tenant in particular.
fn budgets(config: &Config, tenant: &config::Tenant) -> Vec<(ReportKind, Budget)> {
    let selects = |budget: &&config::Budget| {
        budget.tenant.is_none() || budget.tenant.as_deref() == tenant.name.as_deref()
    };
    let budget = |budget: &config::Budget| {
        let spent = Budget {
            name: budget.name.clone(),
            currency: budget.currency.clone(),
            amount: budget.amount.into(),
            user: budget.user.clone(),
            usage_location: budget.usage_location.clone(),
            destination_context: budget.destination_context.clone(),
        };
        (budget.report, spent)
    };
    config.budgets.iter().filter(selects).map(budget).collect()
}

/// Where in the interval a tenant's ticks lie: the same at every start, and different for different tenants, so that a
/// thousand of them do not poll in the same second. A tenant alone needs none.
fn phase(config: &Config, tenant: &config::Tenant) -> std::time::Duration {
    if config.tenants.len() == 1 {
        return config.poll.interval;
    }
    let hash = crc32fast::hash(tenant.tenant_id.as_bytes());
    config
        .poll
        .interval
        .mul_f64(f64::from(hash) / f64::from(u32::MAX))
}

/// What tokens are for. A proxy in front of Graph changes where requests go, not what Entra calls the service; only an
/// authority of its own, as in tests, knows the root by its own name.
fn scope(tenant: &config::Tenant, root: &GraphRoot) -> String {
    let own = tenant.authority_url.is_some()
        || matches!(tenant.credential, config::Credential::ManagedIdentity);
    if own {
        root.scope()
    } else {
        tenant.cloud.graph_root().scope()
    }
}

/// How people are named, the key of the pseudonyms read.
pub(crate) fn naming(config: &Config) -> Result<Naming, FleetError> {
    Ok(match config.labels.user {
        UserLabel::Upn => Naming::Upn,
        UserLabel::Id => Naming::Id,
        UserLabel::DisplayName => Naming::DisplayName,
        UserLabel::None => Naming::Nobody,
        UserLabel::Pseudonym => {
            let path = config
                .labels
                .pseudonym_key_file
                .clone()
                .expect("required with pseudonyms");
            let read = File::open(&path).and_then(|file| {
                // Room for all of it from the start, so that growing leaves no copies behind.
                let mut key = Zeroizing::new(Vec::with_capacity(KEY_MAX + 1));
                file.take(KEY_MAX as u64).read_to_end(&mut key)?;
                Ok(key)
            });
            let key = read.map_err(|source| FleetError::PseudonymKey { path, source })?;
            // As with secrets, a newline at the end is not part of it: a file made by an editor holds the same key as one
            // made by Kubernetes.
            let end = key.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n'));
            Naming::Pseudonym(Pseudonyms::new(&key[..end.map_or(0, |end| end + 1)]))
        }
    })
}

fn credential(credential: &config::Credential) -> Result<Credential, CredentialError> {
    Ok(match credential {
        config::Credential::Secret(source) => Credential::Secret(source.clone()),
        config::Credential::Certificate { certificate, key } => Credential::Certificate {
            certificate: certificate.clone(),
            key: key.clone(),
        },
        config::Credential::FederatedTokenFile(path) => {
            Credential::FederatedTokenFile(path.clone())
        }
        config::Credential::ManagedIdentity => {
            Credential::ManagedIdentity(ManagedIdentityEndpoint::from_environment(|name| {
                std::env::var(name).ok().filter(|value| !value.is_empty())
            })?)
        }
    })
}

/// Bytes of the pseudonyms' key: more than any key has, and not all that a device gives.
const KEY_MAX: usize = 64 * 1024;
