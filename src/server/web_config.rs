//! The file of `--web.config.file`, in the format of Prometheus' exporter-toolkit: TLS, client certificates, basic
//! authentication, response headers, rate limit.
//!
//! The file, the certificates and the key are re-read when they change, without a restart: requests and connections
//! look, at most once a second, whether they did. Unlike the toolkit, which refuses every request then, a new file that
//! cannot be used changes nothing: the last good one stays in force, and the error is logged once and shown on the page.
//! What protects cannot be switched off that way, for a file that is just being written looks like one without users:
//! TLS is neither switched on nor off, and the last user is not removed, without a restart.
//!
//! Stricter than the toolkit: an option given inline and as a file, and TLS options without a certificate, are refused;
//! `tls` says what rustls does not offer.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hyper::header::{
    CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, STRICT_TRANSPORT_SECURITY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS, X_XSS_PROTECTION,
};
use serde::Deserialize;
use tokio::time::Instant;
use tracing::{info, warn};
use zeroize::Zeroize as _;

use super::auth::{UserError, Users};
use super::tls::{self, Tls, TlsError};
use crate::secret_file;

/// A web configuration file, and what it said when it was last good.
#[derive(Clone, Debug)]
pub struct WebConfig(Arc<Watched>);

/// Why a web configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WebConfigError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Of the file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is no YAML, or has a key that there is not.
    #[error("cannot understand the web configuration file")]
    Yaml(#[source] Box<serde_saphyr::Error>),
    /// Its section `tls_server_config` cannot be used.
    #[error("cannot use tls_server_config")]
    Tls(#[from] TlsError),
    /// A response header that cannot be set.
    #[error(
        "http_server_config: {0:?} is none of the headers that can be set: Content-Security-Policy, Strict-Transport-Security, X-Content-Type-Options, X-Frame-Options, X-XSS-Protection"
    )]
    Header(String),
    /// A value that a response header cannot have.
    #[error("http_server_config: {name} cannot be {value:?}{expected}")]
    HeaderValue {
        /// Of the header.
        name: String,
        /// As it was written.
        value: String,
        /// The values that it can have.
        expected: &'static str,
    },
    /// A user who cannot be let in.
    #[error("cannot use basic_auth_users")]
    User(#[from] UserError),
    /// A rate limit that makes no sense.
    #[error("rate_limit: {0}")]
    RateLimit(String),
    /// The new file has TLS where the old one had none, or the other way round.
    #[error("TLS is switched on or off by a restart only")]
    TlsSwitched,
    /// The new file has no users.
    #[error(
        "basic_auth_users had users and has none now; authentication is switched off by a restart only"
    )]
    UsersGone,
}

/// What a web configuration file says.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) users: Users,
    pub(super) rate: Option<Rate>,
    /// The files that it names.
    files: Vec<PathBuf>,
}

/// A limit of requests: one in every interval, and some at once where it was quiet before.
#[derive(Debug)]
pub(super) struct Rate {
    interval: Duration,
    /// How far the requests may be ahead of their intervals; none if there may be no request.
    ahead_max: Option<Duration>,
    /// When the next request would come if all came at the intervals.
    next: Mutex<Option<Instant>>,
}

impl WebConfig {
    /// Reads the file and everything that it names. Blocks.
    pub fn load(path: &Path) -> Result<Self, WebConfigError> {
        let settings = Settings::read(path)?;
        Ok(Self(Arc::new(Watched {
            path: path.to_owned(),
            known: Mutex::new(Known {
                seen: settings.stamps(path)?,
                settings: Arc::new(settings),
                checked: Instant::now(),
                checking: false,
                complaint: None,
            }),
        })))
    }

    /// Whether the text of a file would do, whose relative paths start at a directory.
    pub(crate) fn understand(text: &str, directory: &Path) -> Result<(), WebConfigError> {
        Settings::parse(text, directory).map(drop)
    }

    /// Whether the server speaks TLS; that does not change while it runs.
    pub fn has_tls(&self) -> bool {
        self.0.lock().settings.tls.is_some()
    }

    /// Why the newest file is not in force, where it is not.
    pub fn complaint(&self) -> Option<String> {
        self.0.lock().complaint.clone()
    }

    /// The current settings. Looks for a newer file if the last look was `age_max` ago. A request that comes while that
    /// is under way gets the previous settings, and so does the one that looks if it takes longer than [`PATIENCE`].
    pub(super) async fn current(&self, age_max: Duration) -> Arc<Settings> {
        {
            let mut known = self.0.lock();
            if known.checking || known.checked.elapsed() < age_max {
                return known.settings.clone();
            }
            known.checking = true;
        }
        let watched = self.0.clone();
        let check = tokio::task::spawn_blocking(move || watched.check());
        match tokio::time::timeout(PATIENCE, check).await {
            Ok(settings) => settings.expect("reading a file does not panic"),
            Err(_) => self.0.lock().settings.clone(),
        }
    }
}

/// A file that is looked at again and again.
struct Watched {
    path: PathBuf,
    known: Mutex<Known>,
}

struct Known {
    settings: Arc<Settings>,
    /// What the files looked like when they were read.
    seen: Stamps,
    checked: Instant,
    /// Somebody is looking at the files.
    checking: bool,
    complaint: Option<String>,
}

/// The stamps of the web configuration file and the files that it names; none for one that is not there.
type Stamps = Vec<Option<Stamp>>;

/// What changes when a file does, without reading it.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    /// Another file by the same name, as after `rename` or a change of a symbolic link on the way to it.
    inode: u64,
}

impl Watched {
    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        // Only whole values are stored, so a panic elsewhere leaves nothing half done.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self) -> Arc<Settings> {
        let newer = self.newer();
        let mut known = self.lock();
        match newer {
            Ok(None) => {}
            Ok(Some((settings, seen))) => {
                known.seen = seen;
                known.settings = Arc::new(settings);
                known.complaint = None;
                info!(path = %self.path.display(), "web configuration re-read");
            }
            Err(error) => {
                let complaint = chain(&error);
                if known.complaint.as_ref() != Some(&complaint) {
                    warn!(
                        path = %self.path.display(),
                        error = complaint,
                        "the new web configuration cannot be used, the old one stays in force"
                    );
                }
                known.complaint = Some(complaint);
            }
        }
        known.checked = Instant::now();
        known.checking = false;
        known.settings.clone()
    }

    /// The settings of files that have changed, and the stamps of these files; none if they have not.
    fn newer(&self) -> Result<Option<(Settings, Stamps)>, WebConfigError> {
        let old = self.lock().settings.clone();
        let stamps = old.stamps(&self.path)?;
        {
            let known = self.lock();
            // One that could not be used may have named files that are not watched, so it is tried again each time.
            if known.complaint.is_none() && known.seen == stamps {
                return Ok(None);
            }
        }
        let new = Settings::read(&self.path)?;
        if new.tls.is_some() != old.tls.is_some() {
            return Err(WebConfigError::TlsSwitched);
        }
        if new.users.is_empty() && !old.users.is_empty() {
            return Err(WebConfigError::UsersGone);
        }
        // The stamps of the files that it names: those from before reading, if they were watched.
        let stamps = if new.files == old.files {
            stamps
        } else {
            new.stamps(&self.path)?
        };
        Ok(Some((new, stamps)))
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Watched({})", self.path.display())
    }
}

impl Settings {
    fn read(path: &Path) -> Result<Self, WebConfigError> {
        let failed = |source| WebConfigError::Read {
            path: path.to_owned(),
            source,
        };
        let bytes = secret_file::read(path, FILE_BYTES_MAX).map_err(failed)?;
        let text = std::str::from_utf8(&bytes)
            .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidData, error)))?;
        Self::parse(text, path.parent().unwrap_or(Path::new("")))
    }

    /// `directory`: what relative paths are relative to.
    fn parse(text: &str, directory: &Path) -> Result<Self, WebConfigError> {
        // Errors must not show the lines around them: hashes and keys are in them.
        let options = serde_saphyr::options! { with_snippet: false };
        let file: Option<File> = serde_saphyr::from_str_with_options(text, options)
            .map_err(|error| WebConfigError::Yaml(Box::new(error)))?;
        let file = file.unwrap_or_default();
        let http = file.http_server_config.unwrap_or_default();
        let section = file.tls_server_config.unwrap_or_default();
        Ok(Self {
            tls: section.server_config(directory, http.http2.unwrap_or(true))?,
            headers: http
                .headers
                .unwrap_or_default()
                .into_iter()
                .filter_map(|(name, value)| header(&name, value.unwrap_or_default()).transpose())
                .collect::<Result<_, _>>()?,
            users: Users::new(file.basic_auth_users.unwrap_or_default())?,
            rate: file.rate_limit.as_ref().map_or(Ok(None), Rate::new)?,
            files: section.files(directory),
        })
    }

    fn stamps(&self, path: &Path) -> Result<Stamps, WebConfigError> {
        let mut files = vec![path.to_owned()];
        files.extend_from_slice(&self.files);
        let stamps = move || Ok(files.iter().map(|file| Stamp::of(file)).collect());
        secret_file::in_time(path, stamps).map_err(|source| WebConfigError::Read {
            path: path.to_owned(),
            source,
        })
    }
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            modified: metadata.modified().ok(),
            length: metadata.len(),
            #[cfg(unix)]
            inode: std::os::unix::fs::MetadataExt::ino(&metadata),
            #[cfg(not(unix))]
            inode: 0,
        })
    }
}

impl Rate {
    fn new(section: &RateLimit) -> Result<Option<Self>, WebConfigError> {
        let error = |message: String| WebConfigError::RateLimit(message);
        let interval = match section.interval.as_deref() {
            None | Some("0") => Duration::ZERO,
            Some(text) => humantime::parse_duration(text)
                .map_err(|source| error(format!("interval {text:?}: {source}")))?,
        };
        if interval.is_zero() {
            return Ok(None);
        }
        // As in the toolkit, a burst of 0 lets no request through.
        let ahead_max = section.burst.unwrap_or(0).checked_sub(1).map(|ahead| {
            interval
                .checked_mul(ahead)
                .filter(|ahead| *ahead < RATE_AHEAD_MAX)
                .ok_or_else(|| error("interval times burst is above a year".into()))
        });
        Ok(Some(Self {
            interval,
            ahead_max: ahead_max.transpose()?,
            next: Mutex::new(None),
        }))
    }

    pub(super) fn allows(&self, now: Instant) -> bool {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let expected = next.unwrap_or(now).max(now);
        let allowed = self.ahead_max.is_some_and(|max| expected - now <= max);
        if allowed {
            *next = Some(expected + self.interval);
        }
        allowed
    }
}

/// The file as it is written.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    tls_server_config: Option<tls::Section>,
    http_server_config: Option<Http>,
    basic_auth_users: Option<BTreeMap<String, Secret>>,
    rate_limit: Option<RateLimit>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Http {
    http2: Option<bool>,
    headers: Option<BTreeMap<String, Option<String>>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RateLimit {
    interval: Option<String>,
    burst: Option<u32>,
}

/// A string that is not shown, and wiped when it is not needed any more.
#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct Secret(String);

impl Secret {
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// A response header that may be set; `None` where it is blank.
fn header(name: &str, value: String) -> Result<Option<(HeaderName, HeaderValue)>, WebConfigError> {
    let (header, allowed, expected): (_, &[&str], _) = match name {
        "Content-Security-Policy" => (CONTENT_SECURITY_POLICY, &[], ""),
        "Strict-Transport-Security" => (STRICT_TRANSPORT_SECURITY, &[], ""),
        "X-XSS-Protection" => (X_XSS_PROTECTION, &[], ""),
        "X-Content-Type-Options" => (X_CONTENT_TYPE_OPTIONS, &["nosniff"], ", only nosniff"),
        "X-Frame-Options" => (
            X_FRAME_OPTIONS,
            &["deny", "sameorigin"],
            ", only deny or sameorigin",
        ),
        _ => return Err(WebConfigError::Header(name.to_owned())),
    };
    if value.is_empty() {
        return Ok(None);
    }
    let valid = allowed.is_empty() || allowed.contains(&value.as_str());
    match HeaderValue::from_str(&value) {
        Ok(valid_value) if valid => Ok(Some((header, valid_value))),
        _ => Err(WebConfigError::HeaderValue {
            name: name.to_owned(),
            value,
            expected,
        }),
    }
}

/// The error and what caused it, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(error.source(), |error| error.source())
        .fold(error.to_string(), |line, cause| format!("{line}: {cause}"))
}

/// Beyond this a rate limit is a slip of the pen, and sums of times could overflow.
const RATE_AHEAD_MAX: Duration = Duration::from_hours(365 * 24);

/// How long a request waits for newer settings: local files take milliseconds, and Prometheus waits ten seconds for a
/// scrape.
const PATIENCE: Duration = Duration::from_secs(1);

/// Bytes of the file, and of each that it names: more than any has, and not all that a device gives.
pub(super) const FILE_BYTES_MAX: usize = 1 << 20;
