//! The Graph client and the plan with which a tenant is polled. Both are derived from the configuration.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::config::{self, Config};
use crate::graph::credential::Credential;
use crate::graph::http::{HttpClient, HttpError, HttpOptions};
use crate::graph::retry::RetryPolicy;
use crate::graph::token::{TokenCache, TokenError, TokenOptions};
use crate::graph::{Graph, Limits};
use crate::period::{BillingPeriod, Clock, CycleDay, Span};
use crate::report::ReportKind;
use crate::report::allocation::Allocation;
use crate::report::budget::Budget;
use crate::report::department::Departments;
use crate::report::labels::UserLabel;
use crate::report::pool::Pool;
use crate::report_metrics::family;
use crate::storage::{Identity, SavedState, StateFile, Storage, StorageError};

/// Errors of the setup of a tenant. They are returned before anything is changed.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The HTTP client cannot be set up.
    #[error("cannot set up the HTTP client")]
    Http(#[from] HttpError),
    /// The token cache cannot be set up.
    #[error("tenant {0} cannot request tokens")]
    Token(String, #[source] TokenError),
}

/// Settings with which one tenant is polled. If a reload changes a setting, the tenant's poll task restarts.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) tenant: Option<Arc<str>>,
    /// Time before the second poll, as a fraction (0 to 1) of the poll interval. It spreads the polls of the tenants
    /// over time and is the same at every start.
    pub(crate) phase: f64,
    /// Time limit for one report, including all pages and retries.
    pub(crate) timeout: Duration,
    pub(crate) cycle_day: CycleDay,
    pub(crate) reports: Vec<ReportPlan>,
    pub(crate) budgets: Vec<Budget>,
    pub(crate) pools: Vec<Pool>,
    /// The departments of users, if the configuration names a departments file.
    pub(crate) departments: Option<Arc<Departments>>,
    /// Expiry of the credential, if the configuration states it.
    pub(crate) credential_expiry: Option<DateTime<Utc>>,
    /// Maximum age of a report that is served. `None` means no limit.
    pub(crate) max_age: Option<TimeDelta>,
    /// Location of the state files, if any are written.
    pub(crate) storage: Option<Storage>,
}

/// Settings with which one report of a tenant is polled.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ReportPlan {
    pub(crate) report: ReportKind,
    /// Time between the starts of two polls.
    pub(crate) interval: Duration,
    /// Time between the start of a failed poll and the start of the next poll. It is not longer than the interval.
    pub(crate) retry_interval: Duration,
    pub(crate) user_label: UserLabel,
    /// Maximum number of series. If a report has more, its smallest series are aggregated into `__other__`.
    pub(crate) series_max: usize,
}

impl Plan {
    /// The settings of a report, if it is polled.
    pub(crate) fn find(&self, report: ReportKind) -> Option<&ReportPlan> {
        self.reports.iter().find(|plan| plan.report == report)
    }

    /// The settings of a report that is polled.
    ///
    /// # Panics
    /// If the report is not polled.
    pub(crate) fn report(&self, report: ReportKind) -> &ReportPlan {
        self.find(report)
            .expect("a plan for each report that is polled")
    }

    /// The state file of a report that is polled, if any are written.
    pub(crate) fn file(&self, report: ReportKind) -> Option<StateFile> {
        let storage = self.storage.as_ref()?;
        Some(storage.file(report, &self.report(report).user_label))
    }

    /// Returns the budgets and pools of a report, and the departments.
    pub(crate) fn allocation_of(&self, report: ReportKind) -> Allocation {
        let of_report = |budget: &&Budget| budget.report == report;
        Allocation {
            budgets: self.budgets.iter().filter(of_report).cloned().collect(),
            pools: self.pools_of(report).to_vec(),
            departments: self.departments.clone(),
        }
    }

    pub(crate) fn pools_of(&self, report: ReportKind) -> &[Pool] {
        match report {
            ReportKind::CallLog => &self.pools,
            _ => &[],
        }
    }

    /// Returns the time span in which the figures of a poll at `now` stay current. This is the billing period. For a
    /// report with pools, it is only the part in the calendar month of `now`, because pools are monthly.
    pub(crate) fn current(
        &self,
        report: ReportKind,
        period: BillingPeriod,
        now: DateTime<Utc>,
    ) -> Span {
        if self.pools_of(report).is_empty() {
            period.into()
        } else {
            period.in_month(now)
        }
    }

    /// Reads the state files as a start would, but does not move or remove a file.
    pub(crate) fn stored(&self) -> Vec<(ReportKind, Result<Option<SavedState>, StorageError>)> {
        let look = |&ReportPlan { report, .. }: &ReportPlan| {
            let saved = self.file(report)?.look(|name| family(report, name));
            Some((report, saved))
        };
        self.reports.iter().filter_map(look).collect()
    }
}

/// Returns the HTTP client that a configuration needs.
pub(crate) fn http(config: &Config) -> Result<HttpClient, HttpError> {
    HttpClient::new(&HttpOptions {
        plain_only: is_plain(config),
        ..HttpOptions::default()
    })
}

/// Returns true if all URLs use plain HTTP, which is permitted for loopback only. The client then needs no CA
/// certificates.
pub(crate) fn is_plain(config: &Config) -> bool {
    config
        .tenants
        .iter()
        .all(|tenant| tenant.graph_root().is_plain() && tenant.authority().is_plain())
}

/// Checks that every tenant can be set up for polling.
pub(crate) fn validate(config: &Config) -> Result<(), SetupError> {
    let http = http(config)?;
    let clock = Clock::system();
    config
        .tenants
        .iter()
        .try_for_each(|tenant| graph(&http, &clock, config, tenant).map(drop))
}

pub(crate) fn graph(
    http: &HttpClient,
    clock: &Clock,
    config: &Config,
    tenant: &config::Tenant,
) -> Result<Graph, SetupError> {
    let options = TokenOptions {
        authority: tenant.authority(),
        tenant_id: tenant.tenant_id.clone(),
        client_id: tenant.client_id.clone(),
        scope: scope(tenant),
        credential: tenant.credential.clone(),
    };
    let clock = clock.clone();
    let now = move || clock.now();
    let tokens = TokenCache::new(http.clone(), options, RetryPolicy::default(), now);
    let tokens =
        tokens.map_err(|source| SetupError::Token(tenant.name_or_id().to_owned(), source))?;
    let (limits, retry) = (Limits::default(), RetryPolicy::default());
    let mut graph = Graph::new(http.clone(), tenant.graph_root(), tokens, limits, retry);
    // All reports share the client, so it hides names if any report hides names.
    graph.hides_people = !config.user_labels().all(UserLabel::shows_names);
    Ok(graph)
}

pub(crate) fn plan(config: &Config, tenant: &config::Tenant) -> Plan {
    // A budget or pool that names no tenant applies to every tenant.
    let applies = |name: Option<&str>| name.is_none() || name == tenant.name.as_deref();
    let budget_applies = |budget: &&Budget| applies(budget.tenant.as_deref());
    let pool_applies = |pool: &&Pool| applies(pool.tenant.as_deref());
    let (budgets, pools) = (config.budgets.iter(), config.pools.iter());
    Plan {
        tenant: tenant.name.clone(),
        phase: phase(config, tenant),
        timeout: config.poll.timeout,
        cycle_day: config.billing.cycle_day,
        reports: config
            .reports
            .iter()
            .map(|report| report_plan(config, report))
            .collect(),
        budgets: budgets.filter(budget_applies).cloned().collect(),
        pools: pools.filter(pool_applies).cloned().collect(),
        departments: config
            .departments
            .as_ref()
            .map(|departments| Arc::clone(&departments.of)),
        credential_expiry: tenant.credential_expiry,
        max_age: config.poll.max_age.map(|age| {
            // A longer age than a `TimeDelta` can hold is no limit in practice.
            TimeDelta::from_std(age).unwrap_or(TimeDelta::MAX)
        }),
        storage: storage(config, tenant),
    }
}

fn report_plan(config: &Config, report: &config::Report) -> ReportPlan {
    let interval = config.poll.interval_of(report);
    let labels = config.labels.of(report);
    ReportPlan {
        report: report.kind,
        interval,
        retry_interval: interval.min(config.poll.interval),
        user_label: labels.user,
        series_max: labels.max_series.get(),
    }
}

/// Location of a tenant's state files. Two applications of one tenant have separate files.
fn storage(config: &Config, tenant: &config::Tenant) -> Option<Storage> {
    let folder = config.storage.clone()?;
    let client = tenant.client_id.as_deref().unwrap_or("managed");
    Some(Storage {
        folder,
        name: format!("{}.{client}", tenant.tenant_id),
        identity: Identity::new(&config.labels.user, source_identity(config, tenant)),
    })
}

/// Returns the identity of the figures in state files: tenant, cloud, cycle day and name. A URL that replaces
/// Microsoft's is included too, because a simulator with a tenant's ids is not the tenant. No part is formatted by
/// `Debug`, because the text must be the same in every version. The name comes last, because it can be any text.
fn source_identity(config: &Config, tenant: &config::Tenant) -> String {
    let mut identity = format!("{} {}", tenant.tenant_id, tenant.cloud.as_str());
    if let Some(root) = &tenant.graph_url {
        identity.extend([" graph ", root.as_str()]);
    }
    if let Some(authority) = &tenant.authority_url {
        identity.extend([" authority ", authority.as_str()]);
    }
    let cycle_day = config.billing.cycle_day.day().to_string();
    identity.extend([" cycle_day ", &cycle_day]);
    if let Some(name) = &tenant.name {
        identity.extend([" name ", name]);
    }
    identity
}

/// Returns [`Plan::phase`] of a tenant. It differs between tenants, so that a thousand tenants do not poll in the same
/// second. For a single tenant it is 1, the whole interval.
fn phase(config: &Config, tenant: &config::Tenant) -> f64 {
    if config.tenants.len() == 1 {
        return 1.0;
    }
    let hash = crc32fast::hash(tenant.tenant_id.as_bytes());
    f64::from(hash) / f64::from(u32::MAX)
}

/// Returns the scope of the tokens, which names Graph as the service. The scope contains the Graph root of the cloud.
/// `graph_url` does not change it, because a proxy in front of Graph does not change the service. Exception: if
/// `authority_url` is set, as in tests, or the credential is a managed identity, the scope contains `graph_url`, if
/// that is set.
fn scope(tenant: &config::Tenant) -> String {
    let is_managed = matches!(tenant.credential, Credential::ManagedIdentity(_));
    if is_managed || tenant.authority_url.is_some() {
        tenant.graph_root().scope()
    } else {
        tenant.cloud.graph_root().scope()
    }
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;

    /// State files with another spelling are rejected, so the spelling must stay.
    #[test]
    fn identity_in_state_files_is_spelled_by_names() {
        let url = "http://127.0.0.1:1/";
        let secret = SecretString::from("not-a-secret");
        let mut config = Config::single(url, secret, Duration::from_mins(1));
        config.storage = Some("/state".into());
        config.tenants[0].tenant_id = "contoso.com".to_owned();
        config.tenants[0].name = Some("Contoso EU".into());
        for (user, spelled) in [
            (UserLabel::Upn, "upn "),
            (UserLabel::Id, "id "),
            (UserLabel::DisplayName, "display_name "),
            (UserLabel::None, "none "),
        ] {
            config.labels.user = user;
            let storage = storage(&config, &config.tenants[0]).expect("a folder");
            assert_eq!(storage.identity.naming, spelled);
            assert_eq!(
                storage.identity.numbers,
                "contoso.com global graph http://127.0.0.1:1/ authority http://127.0.0.1:1/ \
                 cycle_day 1 name Contoso EU"
            );
        }
    }
}
