//! Setup of the pollers from a configuration, and the fingerprint that decides if a tenant is polled as before.

use chrono::TimeDelta;

use super::{Plan, Storage};
use crate::config::{self, Config, UserLabel};
use crate::graph::address::{AuthorityUrl, GraphRoot, UrlError};
use crate::graph::credential::{Credential, CredentialError};
use crate::graph::http::{HttpClient, HttpError, HttpOptions};
use crate::graph::managed_identity::ManagedIdentityEndpoint;
use crate::graph::retry::RetryPolicy;
use crate::graph::token::{TokenCache, TokenError, TokenOptions};
use crate::graph::{Graph, Limits};
use crate::period::Clock;
use crate::report::ReportKind;
use crate::report::budget::Budget;
use crate::report::labels::{Naming, Pseudonyms};
use crate::report_metrics::family;
use crate::storage::{Identity, SavedState, StorageError};

/// Errors of the setup, reported before anything is changed.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// A URL of the configuration is invalid.
    #[error("tenant {tenant} has an unusable URL")]
    Url {
        /// Name or id.
        tenant: String,
        /// The cause.
        source: UrlError,
    },
    /// The HTTP client cannot be set up.
    #[error("cannot set up the HTTP client")]
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

/// Everything that, when changed by a reload, restarts the poll task of a tenant.
#[derive(PartialEq)]
pub(super) struct TenantFingerprint {
    /// The tenant's section of the configuration.
    pub(super) section: String,
    /// The tenant's id and cloud.
    pub(super) tenant: String,
    /// The tenant and any URL that replaces Microsoft's: figures of another source are not shown again.
    pub(super) source: String,
    /// Form of the user labels.
    pub(super) labels: String,
    /// User labels and billing period: figures of another value are not shown again.
    pub(super) figures: String,
    pub(super) schedule: String,
}

/// The client that a configuration needs.
///
/// # Errors
/// If no CA certificate is found and one is needed.
pub(crate) fn http(config: &Config) -> Result<HttpClient, HttpError> {
    HttpClient::new(&HttpOptions {
        plain_only: is_plain(config),
        ..HttpOptions::default()
    })
}

/// Returns true if all URLs are plain HTTP, which is allowed for loopback only: no CA certificates are needed then.
pub(super) fn is_plain(config: &Config) -> bool {
    let plain = |url: &Option<url::Url>| url.as_ref().is_some_and(|url| url.scheme() == "http");
    config
        .tenants
        .iter()
        .all(|tenant| plain(&tenant.graph_url) && plain(&tenant.authority_url))
}

/// Sets up every tenant as for polling, and drops it again.
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
        .try_for_each(|tenant| graph(&http, &clock, config, tenant).map(drop))
}

/// The Graph client of a tenant.
pub(crate) fn graph(
    http: &HttpClient,
    clock: &Clock,
    config: &Config,
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
    let (limits, retry) = (Limits::default(), RetryPolicy::default());
    let names_people = matches!(config.labels.user, UserLabel::Upn | UserLabel::DisplayName);
    Ok(Graph::new(http.clone(), root, tokens, limits, retry).hiding_people(!names_people))
}

/// The root URL of Graph for a tenant.
pub(crate) fn root(tenant: &config::Tenant) -> Result<GraphRoot, FleetError> {
    match &tenant.graph_url {
        Some(given) => given.as_str().parse().map_err(|source| FleetError::Url {
            tenant: name_or_id(tenant),
            source,
        }),
        None => Ok(tenant.cloud.graph_root()),
    }
}

/// The authority that issues the tokens of a tenant, unless it uses a managed identity.
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

impl TenantFingerprint {
    pub(super) fn of(config: &Config, tenant: &config::Tenant, naming: &Naming) -> Self {
        let Config {
            poll,
            labels,
            reports,
            budgets,
            storage,
            ..
        } = config;
        Self {
            section: format!("{tenant:?}"),
            tenant: tenant_identity(tenant),
            source: source(tenant),
            labels: user_labels(config, naming),
            figures: figures(config, naming),
            schedule: format!(
                "{poll:?} {reports:?} {budgets:?} {storage:?} {} {}",
                labels.max_series,
                config.tenants.len() > 1
            ),
        }
    }
}

fn tenant_identity(tenant: &config::Tenant) -> String {
    format!("{} {}", tenant.tenant_id, tenant.cloud.as_str())
}

/// User labels and billing settings of the figures.
fn figures(config: &Config, naming: &Naming) -> String {
    format!("{} {:?}", user_labels(config, naming), config.billing)
}

/// Form of the user labels. A rotated pseudonym key keeps its path, so a pseudonym made with the key is part of it.
fn user_labels(config: &Config, naming: &Naming) -> String {
    let key = match naming {
        Naming::Pseudonym(pseudonyms) => pseudonyms.of(""),
        _ => String::new(),
    };
    format!("{} {key}", config.labels.user.as_str())
}

/// Location of a tenant's state files. Two applications of one tenant have separate files.
fn storage(config: &Config, tenant: &config::Tenant, naming: &Naming) -> Option<Storage> {
    let folder = config.storage.clone()?;
    let client = tenant.client_id.as_deref().unwrap_or("managed");
    Some(Storage {
        folder,
        name: format!("{}.{client}", tenant.tenant_id),
        identity: Identity {
            naming: user_labels(config, naming),
            shows_names: matches!(config.labels.user, UserLabel::Upn | UserLabel::DisplayName),
            numbers: source_identity(config, tenant),
            columns: Vec::new(),
        },
    })
}

/// Identity of the figures in state files, so nothing in it is formatted by `Debug`. The name comes last, because it
/// can be any text.
fn source_identity(config: &Config, tenant: &config::Tenant) -> String {
    let mut identity = source(tenant);
    let cycle_day = config.billing.cycle_day.day().to_string();
    identity.extend([" cycle_day ", &cycle_day]);
    if let Some(name) = &tenant.name {
        identity.extend([" name ", name]);
    }
    identity
}

/// Identity of the data source: tenant, cloud and any URL that replaces Microsoft's, because a simulator with a
/// tenant's ids is not the tenant.
fn source(tenant: &config::Tenant) -> String {
    let mut identity = tenant_identity(tenant);
    for (what, url) in [
        ("graph", &tenant.graph_url),
        ("authority", &tenant.authority_url),
    ] {
        if let Some(url) = url {
            identity.extend([" ", what, " ", url.as_str()]);
        }
    }
    identity
}

pub(super) fn plan(config: &Config, tenant: &config::Tenant, naming: &Naming) -> Plan {
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
            // A longer age than a `TimeDelta` can hold is no limit in practice.
            TimeDelta::from_std(age).unwrap_or(TimeDelta::MAX)
        }),
        storage: storage(config, tenant, naming),
    }
}

/// The contents of a tenant's state files, as a start would restore them. No file is moved or removed.
pub(crate) fn stored(
    config: &Config,
    tenant: &config::Tenant,
    naming: &Naming,
) -> Vec<(ReportKind, Result<Option<SavedState>, StorageError>)> {
    let plan = plan(config, tenant, naming);
    let look = |&report: &ReportKind| {
        let file = plan.file(report)?;
        let saved = file.look(|name| family(report, name), &plan.budgets_of(report));
        Some((report, saved))
    };
    config.reports.iter().filter_map(look).collect()
}

/// The budgets of this tenant and those without a tenant.
pub(crate) fn budgets(config: &Config, tenant: &config::Tenant) -> Vec<(ReportKind, Budget)> {
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

/// Offset of a tenant's ticks within the interval. It is the same at every start and differs between tenants, so that
/// a thousand tenants do not poll in the same second. A single tenant needs none.
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

/// Scope of the tokens. A proxy in front of Graph changes the URL of requests, but not the name of the service in
/// Entra. Only a replaced authority, as in tests, or a managed identity uses the root as the name.
fn scope(tenant: &config::Tenant, root: &GraphRoot) -> String {
    let own = tenant.authority_url.is_some()
        || matches!(tenant.credential, config::Credential::ManagedIdentity);
    if own {
        root.scope()
    } else {
        tenant.cloud.graph_root().scope()
    }
}

/// Form of the user labels. Reads the pseudonym key.
pub(crate) fn naming(config: &Config) -> Result<Naming, FleetError> {
    Ok(match config.labels.user {
        UserLabel::Upn => Naming::Upn,
        UserLabel::Id => Naming::Id,
        UserLabel::DisplayName => Naming::DisplayName,
        UserLabel::None => Naming::NoUsers,
        UserLabel::Pseudonym => {
            let path = config
                .labels
                .pseudonym_key_file
                .clone()
                .expect("required with pseudonyms");
            let key = config::pseudonym_key(&path)
                .map_err(|source| FleetError::PseudonymKey { path, source })?;
            Naming::Pseudonym(Pseudonyms::new(&key))
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use secrecy::SecretString;

    use super::*;

    /// State files with another spelling are rejected, so the spelling must stay.
    #[test]
    fn identity_in_state_files_is_spelled_by_names() {
        let url: url::Url = "http://127.0.0.1:1/".parse().expect("a URL");
        let secret = SecretString::from("not-a-secret");
        let mut config = Config::single(url.clone(), url, secret, Duration::from_mins(1));
        config.storage = Some("/state".into());
        config.tenants[0].tenant_id = "contoso.com".to_owned();
        config.tenants[0].name = Some("Contoso EU".into());
        for (user, naming, spelled) in [
            (UserLabel::Upn, Naming::Upn, "upn "),
            (UserLabel::Id, Naming::Id, "id "),
            (UserLabel::DisplayName, Naming::DisplayName, "display_name "),
            (UserLabel::None, Naming::NoUsers, "none "),
        ] {
            config.labels.user = user;
            let storage = storage(&config, &config.tenants[0], &naming).expect("a folder");
            assert_eq!(storage.identity.naming, spelled);
            assert_eq!(
                storage.identity.numbers,
                "contoso.com global graph http://127.0.0.1:1/ authority http://127.0.0.1:1/ \
                 cycle_day 1 name Contoso EU"
            );
        }
    }
}
