//! Configuration: [`args`] has the command-line flags, and this module reads the YAML file or the environment.
//!
//! No setting is both a flag and a key of the file, so there is no precedence to explain. A file is read strictly. All
//! errors in it are reported together, each with its line number and a remedy.
//!
//! The result consists of the types that the other modules use, so nothing is converted or checked twice.
//!
//! Out of scope: reading secrets. Secrets stay in their files until they are used, so that they can be rotated. This
//! module only checks that the files exist and can be read. The exception is the key of the pseudonyms. It is read
//! once, because all labels must be computed with the same key.

use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use secrecy::SecretString;

use crate::graph::address::{Cloud, RootUrl};
use crate::graph::credential::{Credential, SecretSource};
use crate::period::CycleDay;
use crate::report::ReportKind;
use crate::report::budget::Budget;
use crate::report::department;
use crate::report::labels::UserLabel;
use crate::report::pool::Pool;
use crate::secret_file::{self, Stamp};
use crate::yaml;

pub mod args;
mod environment;
mod files;
mod pools;
mod read;
mod references;
mod reports;
mod resolve;
mod scalar;
mod sections;
pub mod shard;
mod thresholds;
pub(crate) mod watch;
mod written;

/// Validated configuration of the exporter.
#[derive(Clone, Debug)]
pub struct Config {
    /// The section `poll`.
    pub poll: Poll,
    /// The section `billing`.
    pub billing: Billing,
    /// The section `labels`.
    pub labels: Labels,
    /// Reports to poll: at least one, each once.
    pub reports: Vec<Report>,
    /// Tenants to poll. The list is empty only in a shard without tenants. If there are several, their names differ.
    pub tenants: Vec<Tenant>,
    /// Budgets with unique names.
    pub budgets: Vec<Budget>,
    /// Pools with unique names. Their included minutes are counted by calendar month, whatever the billing period is.
    pub pools: Vec<Pool>,
    /// The section `departments`.
    pub departments: Option<Departments>,
    /// Folder of the state files; `None` if reports are not kept over a restart.
    pub storage: Option<PathBuf>,
}

/// Schedule and time limits of the requests to Graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Poll {
    /// Time between two polls of an aggregated report that has no interval of its own. A failed poll of any report,
    /// also of a log, is repeated after this time, or after the report's interval if that is shorter.
    pub interval: Duration,
    /// Time between two polls of a log that has no interval of its own.
    pub log_interval: Duration,
    /// Time limit for one report of one tenant, including all pages and retries.
    pub timeout: Duration,
    /// Maximum age of a report that the exporter serves; longer than every interval. `None` allows any age.
    pub max_age: Option<Duration>,
}

/// Settings of the billing period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Billing {
    /// Day of the month on which the period starts.
    pub cycle_day: CycleDay,
}

/// Settings of labels and of the number of series.
#[derive(Clone, Debug, PartialEq)]
pub struct Labels {
    /// Content of the label `user`.
    pub user: UserLabel,
    /// Maximum number of label combinations per report and tenant; the smallest are aggregated into `__other__`.
    pub max_series: NonZeroUsize,
}

/// A report to poll. If a setting is `None`, the setting for all reports applies.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The report.
    pub kind: ReportKind,
    /// Time from one poll to the next.
    pub interval: Option<Duration>,
    /// Content of the label `user`.
    pub user: Option<UserLabel>,
    /// Maximum number of label combinations per tenant.
    pub max_series: Option<NonZeroUsize>,
}

/// The departments of users.
#[derive(Clone, Debug)]
pub struct Departments {
    /// The path of the departments file and the file's metadata. The metadata is from before the read, so that a change
    /// during the read is detected. `None` in the demo.
    file: Option<(PathBuf, Option<Stamp>)>,
    /// The content of the file.
    pub(crate) of: Arc<department::Departments>,
}

/// A Microsoft 365 tenant.
#[derive(Clone, Debug, PartialEq)]
pub struct Tenant {
    /// Value of the label `tenant`; `None` only if one tenant is configured.
    pub name: Option<Arc<str>>,
    /// GUID or domain of the tenant, in lower case.
    pub tenant_id: String,
    /// GUID of the app registration, in lower case. `None` selects the system-assigned identity, and is only valid with
    /// [`Credential::ManagedIdentity`].
    pub client_id: Option<String>,
    /// Credential of the application.
    pub credential: Credential,
    /// Configured expiry of the client secret.
    pub credential_expiry: Option<DateTime<Utc>>,
    /// Cloud, which determines authority, Graph root and scope.
    pub cloud: Cloud,
    /// Replaces the cloud's Graph root.
    pub graph_url: Option<RootUrl>,
    /// Replaces the cloud's authority.
    pub authority_url: Option<RootUrl>,
}

/// All errors of a configuration. Displays one error per line.
#[derive(Debug)]
pub struct ConfigErrors {
    origin: String,
    /// The line of each error, and its cause and remedy.
    list: yaml::Errors,
}

impl Config {
    /// Reads a configuration file.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        Self::load_over(path, None)
    }

    /// Reads a configuration file. If `base` is set, as in the demo, it provides the tenants and the defaults of poll,
    /// billing, reports, budgets, pools and departments.
    pub(crate) fn load_over(path: &Path, base: Option<&Self>) -> Result<Self, ConfigErrors> {
        let mut errors = ConfigErrors::new(path.display().to_string());
        let config = text_of(path, &mut errors).and_then(|text| {
            let folder = path.parent().unwrap_or(Path::new(""));
            Self::parse(&text, folder, base, &mut errors)
        });
        errors.into_result(config)
    }

    /// Configures one tenant from the environment variables of Microsoft's own SDKs. All other settings have their
    /// defaults. `variable` looks up a variable.
    pub fn from_environment(
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigErrors> {
        let mut errors = ConfigErrors::new("environment".to_owned());
        let tenant = environment::tenant(&variable, &mut errors);
        errors.into_result(tenant.map(Self::with_tenant))
    }

    /// Uses the folder of systemd's `StateDirectory=` for state files if the configuration has no folder. `variable`
    /// looks up an environment variable.
    pub fn or_state_directory(mut self, variable: impl Fn(&str) -> Option<String>) -> Self {
        self.storage = self
            .storage
            .or_else(|| environment::state_directory(&variable));
        self
    }

    /// Configures one unnamed tenant, for the demo and for tests. `url` is the root of both Graph and the authority,
    /// and `interval` applies to all reports.
    ///
    /// # Panics
    /// If `url` is neither https nor an address of this machine.
    pub fn single(url: &str, secret: SecretString, interval: Duration) -> Self {
        let mut config = Self::with_tenant(Tenant {
            name: None,
            tenant_id: "11111111-2222-3333-4444-555555555555".to_owned(),
            client_id: Some("66666666-7777-8888-9999-000000000000".to_owned()),
            credential: Credential::Secret(SecretSource::Inline(secret)),
            credential_expiry: None,
            cloud: Cloud::Global,
            graph_url: Some(url.parse().expect("a valid root")),
            authority_url: Some(url.parse().expect("a valid root")),
        });
        config.poll.interval = interval;
        config.poll.log_interval = interval;
        config
    }

    /// Returns the label settings of a report, even if the report is not polled.
    pub(crate) fn labels_of(&self, kind: ReportKind) -> Labels {
        let report = self.reports.iter().find(|report| report.kind == kind);
        report.map_or_else(|| self.labels.clone(), |report| self.labels.of(report))
    }

    /// Returns the user labels that reports set themselves, followed by the user label of all other reports.
    pub(crate) fn user_labels(&self) -> impl Iterator<Item = &UserLabel> {
        let of_reports = self
            .reports
            .iter()
            .filter_map(|report| report.user.as_ref());
        of_reports.chain([&self.labels.user])
    }

    /// Returns true if the label `user` of any polled report is a user principal name or a display name. Such a name
    /// alone identifies a person.
    pub(crate) fn shows_names(&self) -> bool {
        let reports = self.reports.iter();
        let mut labels = reports.map(|report| self.labels.of(report));
        labels.any(|labels| labels.user.shows_names())
    }

    /// JSON schema of the configuration file, derived from the types that read it.
    pub fn schema() -> String {
        let schema = schemars::schema_for!(sections::File);
        let text = serde_json::to_string_pretty(&schema).expect("a schema is JSON");
        text + "\n"
    }

    /// Default settings for one tenant.
    fn with_tenant(tenant: Tenant) -> Self {
        Self {
            poll: Poll::default(),
            billing: Billing::default(),
            labels: Labels::default(),
            reports: vec![ReportKind::Dialout.into()],
            tenants: vec![tenant],
            budgets: Vec::new(),
            pools: Vec::new(),
            departments: None,
            storage: None,
        }
    }

    /// Parses the text of a configuration file. Relative paths start at `folder`.
    #[cfg(feature = "internals")]
    pub(crate) fn understand(text: &str, folder: &Path) -> Result<Self, ConfigErrors> {
        let mut errors = ConfigErrors::new("text".to_owned());
        let config = Self::parse(text, folder, None, &mut errors);
        errors.into_result(config)
    }

    fn parse(
        text: &str,
        folder: &Path,
        base: Option<&Self>,
        errors: &mut ConfigErrors,
    ) -> Option<Self> {
        let Some(root) = yaml::parse(text, &mut errors.list) else {
            if errors.list.is_empty() {
                errors.push(
                    None,
                    "the file configures nothing; add at least the section tenants, as the annotated example shows",
                );
            }
            return None;
        };
        let file: sections::File = read::FromNode::from_node(root, "", errors)?;
        file.resolve(folder, base, errors)
    }
}

impl Tenant {
    /// The root URL of Graph.
    pub fn graph_root(&self) -> RootUrl {
        let cloud = || self.cloud.graph_root();
        self.graph_url.clone().unwrap_or_else(cloud)
    }

    /// The authority that issues the tokens, unless the tenant uses a managed identity.
    pub fn authority(&self) -> RootUrl {
        let cloud = || self.cloud.authority();
        self.authority_url.clone().unwrap_or_else(cloud)
    }

    /// The name, or the tenant id if the tenant has none.
    pub(crate) fn name_or_id(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.tenant_id)
    }
}

impl Poll {
    /// Time from one poll of the report to the next.
    pub(crate) fn interval_of(&self, report: &Report) -> Duration {
        let default = if report.kind.is_log() {
            self.log_interval
        } else {
            self.interval
        };
        report.interval.unwrap_or(default)
    }
}

impl Labels {
    /// Returns the label settings of a report.
    pub(crate) fn of(&self, report: &Report) -> Self {
        Self {
            user: report.user.as_ref().unwrap_or(&self.user).clone(),
            max_series: report.max_series.unwrap_or(self.max_series),
        }
    }
}

impl From<ReportKind> for Report {
    fn from(kind: ReportKind) -> Self {
        Self {
            kind,
            interval: None,
            user: None,
            max_series: None,
        }
    }
}

impl From<department::Departments> for Departments {
    fn from(departments: department::Departments) -> Self {
        Self {
            file: None,
            of: Arc::new(departments),
        }
    }
}

impl Default for Poll {
    fn default() -> Self {
        Self {
            interval: Duration::from_hours(1),
            log_interval: Duration::from_hours(6),
            timeout: Duration::from_mins(5),
            max_age: None,
        }
    }
}

impl Default for Labels {
    fn default() -> Self {
        Self {
            user: UserLabel::Upn,
            max_series: NonZeroUsize::new(20_000).expect("20,000 is not zero"),
        }
    }
}

impl ConfigErrors {
    /// Number of errors. It is never zero, because a function returns `ConfigErrors` only if there is an error.
    #[expect(clippy::len_without_is_empty, reason = "they are never empty")]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    fn new(origin: String) -> Self {
        Self {
            origin,
            list: Vec::new(),
        }
    }

    fn push(&mut self, line: impl Into<Option<usize>>, what: impl Into<String>) {
        self.list.push((line.into(), what.into()));
    }

    /// Records an error about the value at `place`.
    fn at(&mut self, place: &read::Place, what: impl fmt::Display) {
        self.push(place.line, format!("{}: {what}", place.path));
    }

    /// Returns the value if there are no errors.
    fn into_result<T>(mut self, value: Option<T>) -> Result<T, Self> {
        match value {
            Some(value) if self.list.is_empty() => Ok(value),
            _ => {
                self.list.sort_by_key(|(line, _)| *line);
                Err(self)
            }
        }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (line, what)) in self.list.iter().enumerate() {
            let end = if index == 0 { "" } else { "\n" };
            match line {
                Some(line) => write!(f, "{end}{}:{line}: {what}", self.origin)?,
                None => write!(f, "{end}{}: {what}", self.origin)?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Reads the text of the configuration file.
fn text_of(path: &Path, errors: &mut ConfigErrors) -> Option<String> {
    let bytes = secret_file::read(path, FILE_BYTES_MAX)
        .map_err(|error| {
            let what = match error.kind() {
                io::ErrorKind::FileTooLarge => {
                    "larger than 1 MiB; split the tenants over several exporters".to_owned()
                }
                _ => format!(
                    "cannot be read: {error}; give the path of a file that the exporter may read"
                ),
            };
            errors.push(None, what);
        })
        .ok()?;
    String::from_utf8(bytes.to_vec())
        .map_err(|error| {
            let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = 1 + String::from_utf8_lossy(good).matches('\n').count();
            errors.push(line, "not UTF-8; save the file as UTF-8");
        })
        .ok()
}

/// Size limit of the configuration file, enough for some thousands of tenants.
const FILE_BYTES_MAX: usize = 1 << 20;
