//! The file of `--web.config.file`, in the format of Prometheus' exporter-toolkit: TLS, client certificates, basic
//! authentication, response headers, rate limit.
//!
//! The exporter re-reads the file, the certificates and the key when they change, without a restart. Requests and
//! connections trigger a check for changes, at most once a second. If a new file is invalid, the last valid file stays
//! in use, and the error is logged once and shown on the page. The toolkit rejects every request in this case.
//!
//! Switching TLS on or off, or removing the last user, needs a restart. Otherwise a file that is only partly written,
//! and has no users yet, would switch authentication off.
//!
//! The exporter is stricter than the toolkit: it rejects an option that is given both inline and as a file, and TLS
//! options without a certificate. `tls` lists the options that rustls does not support.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{
    CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, STRICT_TRANSPORT_SECURITY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS, X_XSS_PROTECTION,
};
use parking_lot::Mutex;
use secrecy::SecretString;
use serde::Deserialize;
use tokio::time::Instant;
use tracing::{info, warn};

use super::auth::{UserError, Users};
use super::tls::{self, Tls, TlsError};
use crate::chain::Chain;
use crate::secret_file::{self, Stamp};
use crate::yaml::{self, ReadError};

/// A web configuration file and its last valid settings.
#[derive(Clone, Debug)]
pub struct WebConfig(Arc<Watched>);

/// Reason why a web configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WebConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// The file is not YAML, or has an unknown key.
    #[error("cannot read the web configuration")]
    Yaml(#[from] ReadError),
    /// The section `tls_server_config` cannot be used.
    #[error("cannot use tls_server_config")]
    Tls(#[from] TlsError),
    /// A configured user could never log in.
    #[error("cannot use basic_auth_users")]
    User(#[from] UserError),
    /// An invalid response header.
    #[error("http_server_config: {0}")]
    Header(String),
    /// An invalid rate limit.
    #[error("rate_limit: {0}")]
    RateLimit(String),
    /// The new file changes a setting that only a restart can change.
    #[error("{0} by a reload; restart the exporter")]
    Fixed(&'static str),
}

/// The settings of a web configuration file.
pub(super) struct WebSettings {
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) users: Users,
    pub(super) rate: Option<Rate>,
    /// The files that the web configuration file names.
    files: Vec<PathBuf>,
}

/// A rate limit: one request per interval, and bursts after quiet times.
#[derive(Debug)]
pub(super) struct Rate {
    interval: Duration,
    /// A request is allowed at most this long before `next`, which limits the length of a burst. `None` if no request
    /// is allowed at any time.
    ahead_max: Option<Duration>,
    /// Time from which the next request is not part of a burst. Each allowed request sets it to one interval after the
    /// old value or after now, whichever is later. `None` before the first request.
    next: Mutex<Option<Instant>>,
}

impl WebConfig {
    /// Reads the file and all files that it names. Blocks the thread.
    pub fn load(path: &Path) -> Result<Self, WebConfigError> {
        let settings = WebSettings::read(path)?;
        Ok(Self(Arc::new(Watched {
            path: path.to_owned(),
            loaded: Mutex::new(Loaded {
                stamps: settings.stamps(path)?,
                settings: Arc::new(settings),
                checked: Instant::now(),
                checking: false,
                reload_error: None,
            }),
        })))
    }

    /// Checks the text of a web configuration file. Relative paths in the text start at `directory`.
    #[cfg(feature = "internals")]
    pub(crate) fn check_text(text: &str, directory: &Path) -> Result<(), WebConfigError> {
        WebSettings::parse(text, directory).map(drop)
    }

    /// Returns true if the server uses TLS. This does not change while the server runs.
    pub fn has_tls(&self) -> bool {
        self.0.loaded.lock().settings.tls.is_some()
    }

    /// Returns true if every client must have a password or a verified certificate.
    pub fn identifies_clients(&self) -> bool {
        let settings = &self.0.loaded.lock().settings;
        let tls = settings.tls.as_ref();
        !settings.users.is_empty() || tls.is_some_and(|tls| tls.identifies_clients)
    }

    /// Returns the reason why the newest file is not in use; `None` if it is in use.
    pub fn reload_error(&self) -> Option<String> {
        self.0.loaded.lock().reload_error.clone()
    }

    /// Returns the current settings. If the last check is older than `age_max`, checks the files first. During a check,
    /// other requests get the previous settings. If the check takes longer than [`CHECK_WAIT_MAX`], the request that
    /// started it gets the previous settings too.
    pub(super) async fn current(&self, age_max: Duration) -> Arc<WebSettings> {
        {
            let mut loaded = self.0.loaded.lock();
            if loaded.checking || loaded.checked.elapsed() < age_max {
                return loaded.settings.clone();
            }
            loaded.checking = true;
        }
        let watched = self.0.clone();
        let check = tokio::task::spawn_blocking(move || watched.check());
        match tokio::time::timeout(CHECK_WAIT_MAX, check).await {
            Ok(settings) => settings.expect("reading a file does not panic"),
            Err(_) => self.0.loaded.lock().settings.clone(),
        }
    }
}

/// A web configuration file that is checked for changes.
struct Watched {
    path: PathBuf,
    loaded: Mutex<Loaded>,
}

struct Loaded {
    settings: Arc<WebSettings>,
    /// The stamps that the files had when `settings` was read.
    stamps: Stamps,
    checked: Instant,
    /// True while a request checks the files.
    checking: bool,
    reload_error: Option<String>,
}

/// The stamps of the web configuration file and the files that it names; `None` for a missing file.
type Stamps = Vec<Option<Stamp>>;

impl Watched {
    fn check(&self) -> Arc<WebSettings> {
        let newer = self.newer();
        let mut loaded = self.loaded.lock();
        match newer {
            Ok(None) => {}
            Ok(Some((settings, stamps))) => {
                loaded.stamps = stamps;
                loaded.settings = Arc::new(settings);
                loaded.reload_error = None;
                info!(path = %self.path.display(), "web configuration re-read");
            }
            Err(error) => {
                let reload_error = Chain(&error).to_string();
                if loaded.reload_error.as_ref() != Some(&reload_error) {
                    warn!(
                        path = %self.path.display(),
                        error = reload_error,
                        "the new web configuration cannot be used, so the previous one stays in use"
                    );
                }
                loaded.reload_error = Some(reload_error);
            }
        }
        loaded.checked = Instant::now();
        loaded.checking = false;
        loaded.settings.clone()
    }

    /// Returns the settings and stamps of changed files; `None` if no file has changed.
    fn newer(&self) -> Result<Option<(WebSettings, Stamps)>, WebConfigError> {
        let old = self.loaded.lock().settings.clone();
        let stamps = old.stamps(&self.path)?;
        {
            let loaded = self.loaded.lock();
            // An invalid file may name files that are not watched, so it is read again at each check.
            if loaded.reload_error.is_none() && loaded.stamps == stamps {
                return Ok(None);
            }
        }
        let new = WebSettings::read(&self.path)?;
        if new.tls.is_some() != old.tls.is_some() {
            return Err(WebConfigError::Fixed("TLS cannot be switched on or off"));
        }
        if new.users.is_empty() && !old.users.is_empty() {
            return Err(WebConfigError::Fixed(
                "basic_auth_users has no users any more, but authentication cannot be switched off",
            ));
        }
        // `stamps` is from before the read, so the next check sees a change during the read. If the file now names
        // other files, `stamps` does not cover them.
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

impl WebSettings {
    fn read(path: &Path) -> Result<Self, WebConfigError> {
        let failed = |source| WebConfigError::Read(path.to_owned(), source);
        let bytes = secret_file::read(path, tls::FILE_BYTES_MAX).map_err(failed)?;
        let text = std::str::from_utf8(&bytes)
            .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidData, error)))?;
        Self::parse(text, path.parent().unwrap_or(Path::new("")))
    }

    /// Parses the text of a web configuration file. Relative paths in the text start at `directory`.
    fn parse(text: &str, directory: &Path) -> Result<Self, WebConfigError> {
        let file: File = yaml::read(text)?.unwrap_or_default();
        let http = file.http_server_config.unwrap_or_default();
        let section = file.tls_server_config.unwrap_or_default();
        Ok(Self {
            tls: section.server_config(directory, http.http2.unwrap_or(true))?,
            headers: http
                .headers
                .unwrap_or_default()
                .into_iter()
                .filter_map(|(name, value)| header(&name, &value.unwrap_or_default()).transpose())
                .collect::<Result<_, _>>()
                .map_err(WebConfigError::Header)?,
            users: Users::new(file.basic_auth_users.unwrap_or_default())?,
            rate: Rate::new(&file.rate_limit.unwrap_or_default())
                .map_err(WebConfigError::RateLimit)?,
            files: section.files(directory),
        })
    }

    fn stamps(&self, path: &Path) -> Result<Stamps, WebConfigError> {
        let mut files = vec![path.to_owned()];
        files.extend_from_slice(&self.files);
        let stamps = move || Ok(files.iter().map(|file| Stamp::read(file)).collect());
        secret_file::in_time(path, stamps)
            .map_err(|source| WebConfigError::Read(path.to_owned(), source))
    }
}

impl Rate {
    fn new(section: &RateLimit) -> Result<Option<Self>, String> {
        let interval = match section.interval.as_deref() {
            None | Some("0") => Duration::ZERO,
            Some(text) => humantime::parse_duration(text)
                .map_err(|error| format!("interval {text:?}: {error}"))?,
        };
        if interval.is_zero() {
            return Ok(None);
        }
        // As in the toolkit, a burst of 0 allows no request.
        let ahead_max = section.burst.unwrap_or(0).checked_sub(1).map(|ahead| {
            interval
                .checked_mul(ahead)
                .filter(|ahead| *ahead < RATE_AHEAD_MAX)
                .ok_or("interval times burst is above a year")
        });
        Ok(Some(Self {
            interval,
            ahead_max: ahead_max.transpose()?,
            next: Mutex::new(None),
        }))
    }

    pub(super) fn allows(&self, now: Instant) -> bool {
        let mut next = self.next.lock();
        let expected = next.unwrap_or(now).max(now);
        let allowed = self.ahead_max.is_some_and(|max| expected - now <= max);
        if allowed {
            *next = Some(expected + self.interval);
        }
        allowed
    }
}

/// The sections of the file, all of them optional.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a mapping")]
struct File {
    tls_server_config: Option<tls::Section>,
    http_server_config: Option<Http>,
    basic_auth_users: Option<BTreeMap<String, SecretString>>,
    rate_limit: Option<RateLimit>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a mapping")]
struct Http {
    http2: Option<bool>,
    headers: Option<BTreeMap<String, Option<String>>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a mapping")]
struct RateLimit {
    interval: Option<String>,
    burst: Option<u32>,
}

/// Parses a response header. Returns `None` if the value is empty, because such a header is not set.
fn header(name: &str, value: &str) -> Result<Option<(HeaderName, HeaderValue)>, String> {
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
        _ => {
            return Err(format!(
                "{name:?} cannot be set; use one of Content-Security-Policy, Strict-Transport-Security, X-Content-Type-Options, X-Frame-Options, X-XSS-Protection"
            ));
        }
    };
    if value.is_empty() {
        return Ok(None);
    }
    let valid = allowed.is_empty() || allowed.contains(&value);
    match HeaderValue::from_str(value) {
        Ok(valid_value) if valid => Ok(Some((header, valid_value))),
        _ => Err(format!("{name} cannot be {value:?}{expected}")),
    }
}

/// Upper limit of `Rate::ahead_max`. A higher value is a typing error, and could make sums of times overflow.
const RATE_AHEAD_MAX: Duration = Duration::from_hours(365 * 24);

/// The longest time that a request waits for a check of the files. A check of local files takes milliseconds, and by
/// default Prometheus waits ten seconds for a scrape.
const CHECK_WAIT_MAX: Duration = Duration::from_secs(1);
