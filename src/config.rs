//! What the process is told: flags in [`args`], and here what is measured, from a file or the environment.
//!
//! No setting exists in both, so there is no precedence to explain. A file is read strictly, and every mistake in it is
//! told at once with its line and what to do. What this module does not do: read a secret. Secrets stay in their files
//! until they are used, so that they can be rotated; here it is only made sure that the files are there.

use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use secrecy::SecretString;
use url::Url;

use crate::graph::address::Cloud;
use crate::graph::credential::SecretSource;
use crate::period::CycleDay;
use crate::report::ReportKind;
use crate::secret_file;

pub mod args;
mod environment;
mod node;
mod read;
mod readable;
mod resolve;
mod scalar;
mod sections;
pub mod shard;
mod written;

pub(crate) use readable::pseudonym_key;

/// What is measured, and how often.
#[derive(Clone, Debug)]
pub struct Config {
    /// The section `poll`.
    pub poll: Poll,
    /// The section `billing`.
    pub billing: Billing,
    /// The section `labels`.
    pub labels: Labels,
    /// Which reports, each once, never none.
    pub reports: Vec<ReportKind>,
    /// Whose reports, none only in a shard of few; all have different names where there are several.
    pub tenants: Vec<Tenant>,
    /// What may be spent, each with a name of its own.
    pub budgets: Vec<Budget>,
    /// The folder in which reports are kept over a restart, if they are.
    pub storage: Option<PathBuf>,
}

/// When Graph is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Poll {
    /// From one poll to the next.
    pub interval: Duration,
    /// One report of one tenant, all pages and retries.
    pub timeout: Duration,
    /// How old a report may be that is served, longer than the interval; any age where there is none.
    pub max_age: Option<Duration>,
}

/// What a billing period is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Billing {
    /// On which day of the month it starts.
    pub cycle_day: CycleDay,
}

/// How much of whom is exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels {
    /// What the label `user` holds.
    pub user: UserLabel,
    /// The HMAC key of [`UserLabel::Pseudonym`]; there exactly in that mode.
    pub pseudonym_key_file: Option<PathBuf>,
    /// Series per report and tenant; what is beyond is folded.
    pub max_series: NonZeroUsize,
}

/// What the label `user` holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserLabel {
    /// The user principal name.
    Upn,
    /// The user id.
    Id,
    /// The display name.
    DisplayName,
    /// A keyed hash.
    Pseudonym,
    /// Nothing: sums over all users.
    None,
}

impl UserLabel {
    /// Every user label.
    pub const ALL: [Self; 5] = [
        Self::Upn,
        Self::Id,
        Self::DisplayName,
        Self::Pseudonym,
        Self::None,
    ];

    /// Its name in the configuration and in state files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Upn => "upn",
            Self::Id => "id",
            Self::DisplayName => "display_name",
            Self::Pseudonym => "pseudonym",
            Self::None => "none",
        }
    }
}

/// A Microsoft 365 tenant.
#[derive(Clone, Debug)]
pub struct Tenant {
    /// The value of the label `tenant`; none only where one tenant is configured.
    pub name: Option<Arc<str>>,
    /// GUID or domain, lower case.
    pub tenant_id: String,
    /// The app registration's GUID, lower case; none only with [`Credential::ManagedIdentity`], and then the identity
    /// that the system assigned.
    pub client_id: Option<String>,
    /// How the exporter proves who it is.
    pub credential: Credential,
    /// When a client secret ends, as the configuration states it.
    pub credential_expiry: Option<DateTime<Utc>>,
    /// Which cloud, and so which authority, root and scope.
    pub cloud: Cloud,
    /// Instead of the cloud's root of Graph.
    pub graph_url: Option<Url>,
    /// Instead of the cloud's authority.
    pub authority_url: Option<Url>,
}

/// What may be spent in a billing period, by whom and where to; a selector that is none matches everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// The value of the label `budget`.
    pub name: String,
    /// ISO 4217, upper case.
    pub currency: String,
    /// Exactly as written, above zero.
    pub amount: Decimal,
    /// The report that it is spent in: one that knows money, and that is polled.
    pub report: ReportKind,
    /// The name of a configured tenant.
    pub tenant: Option<String>,
    /// A user principal name or user id.
    pub user: Option<String>,
    /// As the label has it: upper case, or `unknown`.
    pub usage_location: Option<String>,
    /// As the label has it.
    pub destination_context: Option<String>,
}

/// How the exporter proves to the authority who it is, as far as the configuration says: where a managed identity is
/// asked for is in the environment.
#[derive(Clone, Debug)]
pub enum Credential {
    /// A client secret.
    Secret(SecretSource),
    /// A certificate and its private key, in one PEM file or two.
    Certificate {
        /// The certificate, and the key too where `key` is none.
        certificate: PathBuf,
        /// The key.
        key: Option<PathBuf>,
    },
    /// A token of another issuer (workload identity).
    FederatedTokenFile(PathBuf),
    /// The identity of the machine that this runs on.
    ManagedIdentity,
}

/// Everything that is wrong with a configuration; prints one mistake a line.
#[derive(Debug)]
pub struct Mistakes {
    origin: String,
    list: Vec<Mistake>,
}

/// One mistake: where, what and what to do about it.
#[derive(Debug)]
struct Mistake {
    line: Option<usize>,
    what: String,
}

impl Config {
    /// Reads a configuration file.
    pub fn load(path: &Path) -> Result<Self, Mistakes> {
        Self::load_over(path, None)
    }

    /// Reads a configuration file for the demo: the tenants are those of `base`, and so is what the file leaves out of
    /// poll, billing, reports and budgets.
    pub fn load_simulated(path: &Path, base: &Self) -> Result<Self, Mistakes> {
        Self::load_over(path, Some(base))
    }

    fn load_over(path: &Path, base: Option<&Self>) -> Result<Self, Mistakes> {
        let mut told = Mistakes::new(path.display().to_string());
        let config = text_of(path, &mut told).and_then(|text| {
            let folder = path.parent().unwrap_or(Path::new(""));
            Self::parse(&text, folder, base, &mut told)
        });
        told.unless_none(config)
    }

    /// One tenant as the variables say that Microsoft's own SDKs read, all else default. `variable` looks one up.
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Self, Mistakes> {
        let mut told = Mistakes::new("environment".to_owned());
        let tenant = environment::tenant(&variable, &mut told);
        told.unless_none(tenant.map(Self::of))
    }

    /// Keeps reports over a restart where the service manager gives a folder for it and the configuration names none:
    /// systemd's `StateDirectory=`, told by a variable. `variable` looks one up.
    pub fn or_state_directory(mut self, variable: impl Fn(&str) -> Option<String>) -> Self {
        self.storage = self
            .storage
            .or_else(|| environment::state_directory(&variable));
        self
    }

    /// One tenant without a name at a Graph and an authority of one's own, for the demo and for tests.
    ///
    /// # Panics
    /// Never: the identifiers are constants.
    pub fn single(
        graph_url: Url,
        authority_url: Url,
        secret: SecretString,
        interval: Duration,
    ) -> Self {
        let mut config = Self::of(Tenant {
            name: None,
            tenant_id: "11111111-2222-3333-4444-555555555555".to_owned(),
            client_id: Some("66666666-7777-8888-9999-000000000000".to_owned()),
            credential: Credential::Secret(SecretSource::Inline(secret)),
            credential_expiry: None,
            cloud: Cloud::Global,
            graph_url: Some(graph_url),
            authority_url: Some(authority_url),
        });
        config.poll.interval = interval;
        config
    }

    /// The JSON schema of the configuration file, from the types that read it.
    ///
    /// # Panics
    /// Never: a schema is JSON.
    pub fn schema() -> String {
        let schema = schemars::schema_for!(sections::File);
        let text = serde_json::to_string_pretty(&schema).expect("a schema is JSON");
        text + "\n"
    }

    /// Everything default for this tenant.
    fn of(tenant: Tenant) -> Self {
        Self {
            poll: Poll::default(),
            billing: Billing::default(),
            labels: Labels::default(),
            reports: vec![ReportKind::Dialout],
            tenants: vec![tenant],
            budgets: Vec::new(),
            storage: None,
        }
    }

    /// Reads the text of a configuration file whose relative paths start at a folder.
    pub(crate) fn understand(text: &str, folder: &Path) -> Result<Self, Mistakes> {
        let mut told = Mistakes::new("text".to_owned());
        let config = Self::parse(text, folder, None, &mut told);
        told.unless_none(config)
    }

    fn parse(text: &str, folder: &Path, base: Option<&Self>, told: &mut Mistakes) -> Option<Self> {
        let Some(root) = node::parse(text, told) else {
            if told.list.is_empty() {
                told.tell(
                    None,
                    "nothing is configured in it; give at least tenants, as the annotated example shows",
                );
            }
            return None;
        };
        let file: sections::File = read::Read::read(root, "", told)?;
        file.resolve(folder, base, told)
    }
}

impl Default for Poll {
    fn default() -> Self {
        Self {
            interval: Duration::from_hours(1),
            timeout: Duration::from_mins(5),
            max_age: None,
        }
    }
}

impl Default for Labels {
    fn default() -> Self {
        Self {
            user: UserLabel::Upn,
            pseudonym_key_file: None,
            max_series: NonZeroUsize::new(20_000).expect("20,000 is not zero"),
        }
    }
}

impl Mistakes {
    /// How many; never none once a function has returned them.
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

    fn tell(&mut self, line: impl Into<Option<usize>>, what: impl Into<String>) {
        self.list.push(Mistake {
            line: line.into(),
            what: what.into(),
        });
    }

    /// The value where nothing has been told.
    fn unless_none<T>(mut self, value: Option<T>) -> Result<T, Self> {
        match value {
            Some(value) if self.list.is_empty() => Ok(value),
            _ => {
                self.list.sort_by_key(|mistake| mistake.line);
                Err(self)
            }
        }
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Mistake { line, what }) in self.list.iter().enumerate() {
            let end = if index == 0 { "" } else { "\n" };
            match line {
                Some(line) => write!(f, "{end}{}:{line}: {what}", self.origin)?,
                None => write!(f, "{end}{}: {what}", self.origin)?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

/// The text of the configuration file.
fn text_of(path: &Path, told: &mut Mistakes) -> Option<String> {
    let bytes = match secret_file::read(path, FILE_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            told.tell(
                None,
                "larger than 1 MiB; split the tenants over several exporters",
            );
            return None;
        }
        Err(error) => {
            told.tell(
                None,
                format!(
                    "cannot be read: {error}; give the path of a file that the exporter may read"
                ),
            );
            return None;
        }
    };
    String::from_utf8(bytes.to_vec())
        .map_err(|error| {
            let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = 1 + String::from_utf8_lossy(good).matches('\n').count();
            told.tell(line, "not UTF-8; save the file in this encoding");
        })
        .ok()
}

/// Room for some thousands of tenants; more than that is not a configuration file.
const FILE_BYTES_MAX: usize = 1 << 20;
