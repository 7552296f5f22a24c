//! The command line: flags for how the process runs. The configuration file has the settings for what the exporter
//! measures. No setting is in both.

mod backfill;
mod export;

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::LazyLock;

use super::shard::Shard;
use crate::server::{Listen, ListenAddress, TelemetryPath};
use clap::builder::NonEmptyStringValueParser;
use clap::{Parser as _, Subcommand, ValueEnum};

pub use backfill::BackfillArgs;
pub use export::{By, ExportArgs, TableFormat};

/// Prometheus exporter for the telephony cost of Microsoft Teams
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "teams-pstn-exporter", version = VERSION.as_str(), after_help = AFTER_HELP, disable_help_subcommand = true)]
#[command(mut_subcommands = |one| one.defer(without_what_it_refuses))]
pub struct Args {
    /// Configuration file; without it, one tenant is read from the environment. The demo accepts only a file without
    /// tenants
    #[arg(long = "config.file", value_name = "PATH", global = true)]
    pub config_file: Option<PathBuf>,

    /// Validate the configuration, print all errors and exit with 0 or 2
    #[arg(long = "config.check", global = true)]
    pub config_check: bool,

    /// Poll only this share of the tenants, for example 0/3, 1/3 and 2/3 for three exporters with the same configuration
    #[arg(
        long = "tenants.shard",
        value_name = "INDEX/COUNT",
        default_value_t = Shard::WHOLE,
        global = true
    )]
    pub shard: Shard,

    /// Address to listen on, may be repeated; without a host, all interfaces [default: :10053; demo: 127.0.0.1:10053]
    #[arg(long = "web.listen-address", value_name = "ADDR", global = true)]
    pub listen_addresses: Vec<ListenAddress>,

    /// Path of the metrics
    #[arg(
        long = "web.telemetry-path",
        value_name = "PATH",
        default_value = "/metrics",
        global = true
    )]
    pub telemetry_path: TelemetryPath,

    /// File with TLS and authentication, in the format of Prometheus' exporter-toolkit
    #[arg(long = "web.config.file", value_name = "PATH", global = true)]
    pub web_config_file: Option<PathBuf>,

    /// Listen on the sockets that systemd passes instead of the listen address
    #[arg(long = "web.systemd-socket", global = true)]
    pub systemd_socket: bool,

    /// Maximum number of parallel scrapes; further scrapes get 503
    #[arg(
        long = "web.max-requests",
        value_name = "N",
        default_value = "40",
        global = true
    )]
    pub max_requests: NonZeroUsize,

    /// Lowest severity to log [default: info; demo: warn]
    #[arg(long = "log.level", value_name = "LEVEL", value_enum, global = true)]
    pub log_level: Option<LogLevel>,

    /// Format of the log
    #[arg(
        long = "log.format",
        value_name = "FORMAT",
        value_enum,
        default_value_t = LogFormat::Logfmt,
        global = true
    )]
    pub log_format: LogFormat,

    /// Subcommand that runs instead of the daemon.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Subcommands that run instead of the daemon. The fields of a variant are its flags.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Run against a built-in simulator of Microsoft Graph; needs no account
    #[cfg(feature = "demo")]
    Demo,
    /// Check configuration, network, clock, token, permission, first page and budgets once; print a remedy for each failure
    Check {
        /// Format of the findings
        #[arg(
            long = "check.format",
            alias = "format",
            value_name = "FORMAT",
            value_enum,
            default_value_t = CheckFormat::Text
        )]
        format: CheckFormat,
    },
    /// Write one report of one period as a table, once
    Export(ExportArgs),
    /// Write the samples of past days in OpenMetrics, for promtool tsdb create-blocks-from openmetrics
    Backfill(BackfillArgs),
    /// Print the pseudonyms of users, computed with the configured key
    Pseudonym {
        /// User principal name, or the object id if there is none
        #[arg(required = true, value_name = "USER", value_parser = NonEmptyStringValueParser::new())]
        users: Vec<String>,
    },
    /// Check the health of the running exporter (give it the same web flags); exit with 0 or 1
    Healthcheck,
}

/// How `check` writes its findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CheckFormat {
    /// One line per finding.
    Text,
    /// One JSON document.
    Json,
}

/// The lowest severity that is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// Every request.
    Debug,
    /// Every poll.
    Info,
    /// Events that can lead to a failure.
    Warn,
    /// Failures.
    Error,
}

/// How a line of the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// `key=value`, as Prometheus does.
    Logfmt,
    /// One JSON object per line.
    Json,
}

impl Args {
    /// Parses the process' own command line. Exits with 0 after it printed the help, and with 2 if the command line is
    /// wrong.
    pub fn from_command_line() -> Self {
        Self::parse()
    }

    /// Parses a command line given as words. The first word is the program's name.
    pub fn from_words(
        words: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    ) -> Result<Self, clap::Error> {
        Self::try_parse_from(words)
    }

    /// Returns true for the subcommand `demo`, which only a build with the feature `demo` has.
    pub fn is_demo(&self) -> bool {
        #[cfg(feature = "demo")]
        return self.command == Some(Command::Demo);
        #[cfg(not(feature = "demo"))]
        return false;
    }

    /// Returns true if the process runs until a signal arrives, and false if it ends by itself.
    pub fn is_daemon(&self) -> bool {
        !self.config_check && (self.command.is_none() || self.is_demo())
    }

    /// The log level. The demo logs warnings only, so that its first lines stay on the screen.
    pub fn log_level(&self) -> LogLevel {
        let default = if self.is_demo() {
            LogLevel::Warn
        } else {
            LogLevel::Info
        };
        self.log_level.unwrap_or(default)
    }

    /// Listen addresses. The default is all interfaces, or loopback in the demo.
    pub fn listen(&self) -> Listen {
        if self.systemd_socket {
            return Listen::Systemd;
        }
        let default = if self.is_demo() { "127.0.0.1" } else { "" };
        match &self.listen_addresses[..] {
            [] => Listen::Addresses(vec![
                format!("{default}:{PORT}").parse().expect("an address"),
            ]),
            addresses => Listen::Addresses(addresses.to_vec()),
        }
    }
}

/// Hides in the help of `demo` the flags that `demo` refuses. clap calls this function late (`defer`), because a
/// subcommand gets its parent's flags only when clap builds the subcommand.
fn without_what_it_refuses(subcommand: clap::Command) -> clap::Command {
    let is_demo = subcommand.get_name() == "demo";
    subcommand.mut_args(|flag| {
        let refused = is_demo && flag.get_id() == "shard";
        if refused { flag.hide(true) } else { flag }
    })
}

/// Output of `--version`. The build sets the revision if it is known.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    format!(
        "{} (revision {}, rustc {})",
        crate::VERSION,
        crate::REVISION,
        crate::RUSTC
    )
});

/// The default port. The README, the systemd unit and the Helm chart have the same number.
const PORT: u16 = 10053;

/// Each paragraph is one line, because clap wraps paragraphs to the width of the terminal.
const AFTER_HELP: &str = "\
Without --config.file one tenant is read from the environment: AZURE_TENANT_ID, AZURE_CLIENT_ID and one of \
AZURE_CLIENT_SECRET, AZURE_CLIENT_CERTIFICATE_PATH and AZURE_FEDERATED_TOKEN_FILE; AZURE_AUTHORITY_HOST. \
HTTPS_PROXY, NO_PROXY and SSL_CERT_FILE are used, and STATE_DIRECTORY if the configuration has no storage.path.

Exit codes: 0 stopped by a signal or a check passed, 1 cannot start, an internal task crashed, or a check, an export or a backfill failed, 2 bad configuration.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults() {
        let args = Args::from_words(["x"]).unwrap();
        assert_eq!(
            args.listen(),
            Listen::Addresses(vec![":10053".parse().unwrap()])
        );
        assert_eq!(args.telemetry_path, TelemetryPath::default());
        assert_eq!(args.max_requests.get(), 40);
        assert_eq!(args.log_level(), LogLevel::Info);
        assert_eq!(args.log_format, LogFormat::Logfmt);
        assert_eq!(args.shard, Shard::WHOLE);
        assert!(!args.config_check && !args.systemd_socket);
        assert!(args.command.is_none() && args.config_file.is_none());
    }

    #[cfg(feature = "demo")]
    #[test]
    fn demo_listens_on_loopback_by_default() {
        let listen = |words: &[&str]| Args::from_words(words).unwrap().listen();
        assert_eq!(
            listen(&["x", "demo"]),
            Listen::Addresses(vec!["127.0.0.1:10053".parse().unwrap()])
        );
        let given = listen(&["x", "demo", "--web.listen-address=:1"]);
        assert_eq!(given, Listen::Addresses(vec![":1".parse().unwrap()]));
        assert_eq!(
            listen(&["x", "demo", "--web.systemd-socket"]),
            Listen::Systemd
        );
    }

    #[cfg(feature = "demo")]
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
            "--tenants.shard=1/2",
        ];
        let before: Vec<&str> = ["x"].into_iter().chain(flags).chain(["demo"]).collect();
        let after: Vec<&str> = ["x", "demo"].into_iter().chain(flags).collect();
        for words in [before, after] {
            let args = Args::from_words(words).unwrap();
            assert_eq!(args.command, Some(Command::Demo));
            assert_eq!(args.listen_addresses.len(), 2);
            assert_eq!(args.log_level(), LogLevel::Debug);
            assert_eq!(args.log_format, LogFormat::Json);
            assert_eq!(args.max_requests.get(), 7);
            assert_eq!(args.telemetry_path, "/m".parse().unwrap());
            assert_eq!(args.shard, "1/2".parse().unwrap());
            assert!(args.config_check && args.systemd_socket);
            assert!(args.config_file.is_some() && args.web_config_file.is_some());
        }
    }

    #[test]
    fn daemons_by_table() {
        for (words, expected) in [
            (&["x"][..], true),
            (&["x", "--config.file=c"], true),
            (&["x", "--config.check"], false),
            (&["x", "check"], false),
            (&["x", "healthcheck"], false),
            (&["x", "pseudonym", "a@b"], false),
            (&["x", "export", "--report=sms", "--period=2026-10"], false),
            #[cfg(feature = "demo")]
            (&["x", "demo"], true),
            #[cfg(feature = "demo")]
            (&["x", "demo", "--config.check"], false),
        ] {
            let args = Args::from_words(words).unwrap();
            assert_eq!(args.is_daemon(), expected, "{words:?}");
        }
    }

    #[test]
    fn subcommands_have_flags_of_their_own() {
        let command = |words: &[&str]| Args::from_words(words).unwrap().command.unwrap();
        let check = |format| Command::Check { format };
        assert_eq!(command(&["x", "check"]), check(CheckFormat::Text));
        for flag in ["--check.format=json", "--format=json"] {
            assert_eq!(command(&["x", "check", flag]), check(CheckFormat::Json));
        }
        let users = ["a@b".to_owned(), "c".to_owned()].to_vec();
        assert_eq!(
            command(&["x", "pseudonym", "--config.file=c", "a@b", "c"]),
            Command::Pseudonym { users }
        );
    }

    #[test]
    fn wrong_command_lines_exit_with_2() {
        for words in [
            vec!["x", "--nonsense"],
            vec!["x", "nonsense"],
            vec!["x", "--web.listen-address=10053"],
            vec!["x", "--web.max-requests=0"],
            vec!["x", "--web.telemetry-path=metrics"],
            vec!["x", "--web.telemetry-path=/-/ready"],
            vec!["x", "--web.telemetry-path=/a?b"],
            vec!["x", "--log.level=loud"],
            vec!["x", "--log.format=xml"],
            vec!["x", "--tenants.shard=2/2"],
            vec!["x", "--config.file"],
            vec!["x", "--log.level=info", "--log.level=warn"],
            vec!["x", "check", "--check.format=xml"],
            vec!["x", "--check.format=json"],
            vec!["x", "pseudonym"],
            vec!["x", "pseudonym", ""],
        ] {
            let error = Args::from_words(&words).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{words:?}");
        }
        for words in [["x", "--help"], ["x", "--version"]] {
            assert_eq!(Args::from_words(words).unwrap_err().exit_code(), 0);
        }
    }
}
