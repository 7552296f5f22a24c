//! The command line: how the process runs. What it measures is in the configuration file; nothing is in both.

use std::ffi::OsString;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::LazyLock;

use clap::{Parser as _, Subcommand, ValueEnum};

/// Prometheus exporter for the telephony cost of Microsoft Teams
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "teams-pstn-exporter", version = VERSION.as_str(), after_help = AFTER_HELP, disable_help_subcommand = true)]
pub struct Args {
    /// Configuration file; without it, one tenant from the environment
    #[arg(long = "config.file", value_name = "PATH", global = true)]
    pub config_file: Option<PathBuf>,

    /// Validate the configuration, print every mistake and exit with 0 or 2
    #[arg(long = "config.check", global = true)]
    pub config_check: bool,

    /// Address to listen on, may be repeated; without a host, all interfaces
    #[arg(
        long = "web.listen-address",
        value_name = "ADDR",
        default_value = ":10053",
        global = true
    )]
    pub listen_addresses: Vec<ListenAddress>,

    /// Path of the metrics
    #[arg(
        long = "web.telemetry-path",
        value_name = "PATH",
        default_value = "/metrics",
        value_parser = telemetry_path,
        global = true
    )]
    pub telemetry_path: String,

    /// File with TLS and authentication, in the format of Prometheus' exporter-toolkit
    #[arg(long = "web.config.file", value_name = "PATH", global = true)]
    pub web_config_file: Option<PathBuf>,

    /// Listen on the sockets of systemd instead of the listen address
    #[arg(long = "web.systemd-socket", global = true)]
    pub systemd_socket: bool,

    /// Parallel scrapes, beyond which the answer is 503
    #[arg(
        long = "web.max-requests",
        value_name = "N",
        default_value = "40",
        global = true
    )]
    pub max_requests: NonZeroUsize,

    /// Least severe messages to log
    #[arg(
        long = "log.level",
        value_name = "LEVEL",
        value_enum,
        default_value_t = LogLevel::Info,
        global = true
    )]
    pub log_level: LogLevel,

    /// Format of the log
    #[arg(
        long = "log.format",
        value_name = "FORMAT",
        value_enum,
        default_value_t = LogFormat::Logfmt,
        global = true
    )]
    pub log_format: LogFormat,

    /// What to do instead of running the daemon.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do instead of running the daemon: one variant each, flags of its own as its fields.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Run against a built-in simulator of Microsoft Graph; needs no account
    Demo,
}

/// Where to listen: `:10053`, `127.0.0.1:0`, `[::1]:10053`, `localhost:10053`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddress {
    host: Option<String>,
    port: u16,
}

/// The least severe messages that are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// Every request.
    Debug,
    /// Every poll.
    Info,
    /// What may become a failure.
    Warn,
    /// Failures.
    Error,
}

/// How a line of the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// `key=value`, as Prometheus does.
    Logfmt,
    /// One JSON object a line.
    Json,
}

/// Not a [`ListenAddress`].
#[derive(Debug, thiserror::Error)]
pub enum ListenAddressError {
    /// No `:PORT` at the end.
    #[error("the port is missing; write HOST:PORT or :PORT")]
    NoPort,
    /// Not a number up to 65535.
    #[error("the port is not a number from 0 to 65535")]
    Port,
    /// Colons outside of brackets.
    #[error("an IPv6 address needs brackets, as in [::1]:10053")]
    Brackets,
    /// Brackets round something else.
    #[error("there is no IPv6 address in the brackets")]
    NotIpv6,
    /// Blanks, or a URL.
    #[error("the host is neither a name nor an address; write HOST:PORT without https:// and path")]
    Host,
}

impl Args {
    /// The process' own command line. Prints and exits where it asks for help (0) or is wrong (2).
    pub fn from_command_line() -> Self {
        Self::parse()
    }

    /// A command line of the caller's own making, the program's name first.
    pub fn from_words(
        words: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    ) -> Result<Self, clap::Error> {
        Self::try_parse_from(words)
    }
}

impl LogLevel {
    /// As on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

impl ListenAddress {
    /// Name or address without brackets; none for all interfaces, IPv4 and IPv6.
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// The port; 0 lets the system choose.
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for ListenAddress {
    type Err = ListenAddressError;

    fn from_str(text: &str) -> Result<Self, ListenAddressError> {
        let (host, port) = text.rsplit_once(':').ok_or(ListenAddressError::NoPort)?;
        let host = match host.strip_prefix('[') {
            Some(rest) => {
                let inner = rest.strip_suffix(']').ok_or(ListenAddressError::NoPort)?;
                let address: std::net::Ipv6Addr =
                    inner.parse().map_err(|_| ListenAddressError::NotIpv6)?;
                Some(address.to_string())
            }
            None if host.is_empty() => None,
            None if host.contains("//") => return Err(ListenAddressError::Host),
            None if host.contains(':') => return Err(ListenAddressError::Brackets),
            None if host.contains(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c))) => {
                return Err(ListenAddressError::Host);
            }
            None => Some(host.to_owned()),
        };
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|_| digits);
        Ok(Self {
            host,
            port: port.ok_or(ListenAddressError::Port)?,
        })
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        match host.as_deref() {
            None => write!(f, ":{port}"),
            Some(host) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Some(host) => write!(f, "{host}:{port}"),
        }
    }
}

/// `/` is the page for people and `/-/` are the paths of the process itself, so neither can hold the metrics.
fn telemetry_path(text: &str) -> Result<String, &'static str> {
    let word = |c: char| c.is_ascii_graphic() && !"?#%\"<>\\^`{|}".contains(c);
    if !text.starts_with('/') {
        Err("a path begins with a slash")
    } else if text == "/" || text.starts_with("/-/") || text == "/-" {
        Err("this path is taken; choose another one")
    } else if !text.chars().all(word) {
        Err("a path has no blanks, question marks or percent signs")
    } else {
        Ok(text.to_owned())
    }
}

/// What `--version` prints; the build sets the revision where it knows it.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let revision = option_env!("TEAMS_PSTN_REVISION").unwrap_or("unknown");
    let rustc = option_env!("TEAMS_PSTN_RUSTC").unwrap_or("unknown");
    let version = env!("CARGO_PKG_VERSION");
    format!("{version} (revision {revision}, rustc {rustc})")
});

/// Paragraphs of one line each: clap wraps them to the terminal.
const AFTER_HELP: &str = "\
Without --config.file one tenant is read from the environment: AZURE_TENANT_ID, AZURE_CLIENT_ID and one of \
AZURE_CLIENT_SECRET, AZURE_CLIENT_CERTIFICATE_PATH and AZURE_FEDERATED_TOKEN_FILE; AZURE_AUTHORITY_HOST. \
HTTPS_PROXY, NO_PROXY and SSL_CERT_FILE are honoured.

Exit codes: 0 stopped by a signal or a check passed, 1 cannot start or a task died, 2 bad configuration.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_addresses_by_table() {
        let check = |text: &str, parts: Option<(Option<&str>, u16)>| {
            let parsed: Option<ListenAddress> = text.parse().ok();
            let seen = parsed.as_ref().map(|a| (a.host(), a.port()));
            assert_eq!(seen, parts, "{text}");
            if let Some(address) = parsed {
                assert_eq!(
                    address.to_string().parse::<ListenAddress>().unwrap(),
                    address
                );
            }
        };
        check(":10053", Some((None, 10053)));
        check("127.0.0.1:0", Some((Some("127.0.0.1"), 0)));
        check("[::1]:10053", Some((Some("::1"), 10053)));
        check("[0:0::1]:1", Some((Some("::1"), 1)));
        check("localhost:10053", Some((Some("localhost"), 10053)));
        check("10053", None);
        check("::1:10053", None);
        check("[::1]", None);
        check("[localhost]:1", None);
        check("localhost:65536", None);
        check("localhost:+1", None);
        check("localhost:", None);
        check("http://localhost:1", None);
        check("a b:1", None);
        check("", None);
    }

    #[test]
    fn defaults() {
        let args = Args::from_words(["x"]).unwrap();
        assert_eq!(args.listen_addresses, [":10053".parse().unwrap()]);
        assert_eq!(args.telemetry_path, "/metrics");
        assert_eq!(args.max_requests.get(), 40);
        assert_eq!(args.log_level, LogLevel::Info);
        assert_eq!(args.log_format, LogFormat::Logfmt);
        assert!(!args.config_check && !args.systemd_socket);
        assert!(args.command.is_none() && args.config_file.is_none());
    }

    #[test]
    fn flags_before_and_after_the_subcommand() {
        let flags = [
            "--web.listen-address=:1",
            "--web.listen-address=[::1]:2",
            "--log.level=debug",
            "--log.format=json",
            "--web.max-requests=7",
            "--web.telemetry-path=/m",
            "--config.file=c.yml",
            "--web.config.file=w.yml",
            "--web.systemd-socket",
            "--config.check",
        ];
        let before: Vec<&str> = ["x"].into_iter().chain(flags).chain(["demo"]).collect();
        let after: Vec<&str> = ["x", "demo"].into_iter().chain(flags).collect();
        for words in [before, after] {
            let args = Args::from_words(words).unwrap();
            assert_eq!(args.command, Some(Command::Demo));
            assert_eq!(args.listen_addresses.len(), 2);
            assert_eq!(args.log_level, LogLevel::Debug);
            assert_eq!(args.log_format, LogFormat::Json);
            assert_eq!(args.max_requests.get(), 7);
            assert_eq!(args.telemetry_path, "/m");
            assert!(args.config_check && args.systemd_socket);
            assert!(args.config_file.is_some() && args.web_config_file.is_some());
        }
    }

    #[test]
    fn wrong_command_lines_exit_with_2() {
        for words in [
            vec!["x", "--nonsense"],
            vec!["x", "nonsense"],
            vec!["x", "--web.listen-address=10053"],
            vec!["x", "--web.max-requests=0"],
            vec!["x", "--web.telemetry-path=metrics"],
            vec!["x", "--web.telemetry-path=/"],
            vec!["x", "--web.telemetry-path=/-/ready"],
            vec!["x", "--web.telemetry-path=/a?b"],
            vec!["x", "--log.level=loud"],
            vec!["x", "--log.format=xml"],
            vec!["x", "--config.file"],
            vec!["x", "--log.level=info", "--log.level=warn"],
        ] {
            let error = Args::from_words(&words).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{words:?}");
        }
        for words in [["x", "--help"], ["x", "--version"]] {
            assert_eq!(Args::from_words(words).unwrap_err().exit_code(), 0);
        }
    }
}
