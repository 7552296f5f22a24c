//! `check`: the preflight. Does everything once that the daemon does, says of each step whether it went well, and where
//! it did not, what to do.
//!
//! It reads and asks, and leaves everything as it was. Tenants are looked at side by side, each within a bounded time; findings come
//! in the order of the configuration. What this module does not do: print a secret, a token, or who is in a row.

mod estimate;
mod finding;
mod storage;
mod tenant;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::config::args::CheckFormat;
use crate::config::{Config, UserLabel};
use crate::daemon::Load;
use crate::graph::Chain;
use crate::graph::http::HttpClient;
use crate::period::Clock;
use crate::poller::{FleetError, setup};
use crate::report::labels::Naming;
use crate::server::web_config::WebConfig;

use self::estimate::Size;
use self::finding::{Check, Finding, Findings};
use self::tenant::Tenant;

/// How the preflight went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// No failure.
    Passed,
    /// At least one check failed.
    Failed,
    /// The configuration cannot be used, so nothing was checked.
    BadConfiguration,
}

/// What the checks of all tenants share.
struct Site {
    clock: Clock,
    http: HttpClient,
    config: Config,
    naming: Naming,
    patience: Duration,
}

impl Outcome {
    /// As the process ends.
    pub fn exit_code(self) -> ExitCode {
        ExitCode::from(match self {
            Self::Passed => 0,
            Self::Failed => 1,
            Self::BadConfiguration => 2,
        })
    }
}

/// [`run`] by the machine's clock to standard output, in a runtime of its own.
///
/// # Errors
/// Where there is no runtime, or the findings cannot be written.
pub fn run_alone(
    load: &Load,
    web_config: Option<&Path>,
    format: CheckFormat,
) -> io::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let mut out = io::stdout();
    let outcome = runtime.block_on(run(load, web_config, format, Clock::system(), &mut out));
    // A name server that does not answer holds a thread, for which nobody waits any more.
    runtime.shutdown_background();
    outcome
}

/// Checks everything that `load` configures, and writes the findings.
///
/// # Errors
/// Where the findings cannot be written.
pub async fn run(
    load: &Load,
    web_config: Option<&Path>,
    format: CheckFormat,
    clock: Clock,
    out: &mut impl Write,
) -> io::Result<Outcome> {
    let mut findings = Findings::new(format, out);
    let web = web_config.map(check_web_config);
    let config = match load() {
        Ok(config) => config,
        Err(mistakes) => {
            for mistake in mistakes.to_string().lines() {
                findings.tell(Finding::failure(Check::Configuration, mistake, None))?;
            }
            web.map_or(Ok(()), |finding| findings.tell(finding))?;
            return findings.finish(Outcome::BadConfiguration);
        }
    };
    let naming = match setup::naming(&config) {
        Ok(naming) => naming,
        Err(error) => return findings.finish_misconfigured(&error),
    };
    let http = match setup::http(&config) {
        Ok(http) => http,
        Err(error) => {
            findings.tell(Finding::failure(Check::Client, Chain(&error), None))?;
            return findings.finish(Outcome::Failed);
        }
    };
    let tenants: Result<Vec<Tenant>, FleetError> = config
        .tenants
        .iter()
        .map(|tenant| Tenant::new(&http, &clock, &config, tenant))
        .collect();
    let tenants = match tenants {
        Ok(tenants) => tenants,
        Err(error) => return findings.finish_misconfigured(&error),
    };
    findings.tell(Finding::ok(Check::Configuration, described(&config)))?;
    let is_web_bad = web.as_ref().is_some_and(Finding::is_failure);
    web.map_or(Ok(()), |finding| findings.tell(finding))?;
    let patience = config.poll.timeout.min(PATIENCE);
    let site = Arc::new(Site {
        clock,
        http,
        config,
        naming,
        patience,
    });
    for finding in storage::check(&site).await {
        findings.tell(finding)?;
    }
    let total = tell_tenants(&site, tenants, &mut findings).await?;
    if let Some(finding) = total.finding() {
        findings.tell(finding)?;
    }
    // As the daemon ends that is started so.
    let outcome = if is_web_bad {
        Outcome::BadConfiguration
    } else {
        findings.outcome()
    };
    findings.finish(outcome)
}

/// Says that a configuration is good, after [`crate::daemon::validate`].
///
/// # Errors
/// If it cannot be written.
pub fn confirm(config: &Config, out: &mut impl Write) -> io::Result<()> {
    finding::read_or_not(writeln!(
        out,
        "the configuration is good: {}",
        described(config)
    ))
}

/// Reads the web configuration and all that it names, as the daemon does.
fn check_web_config(path: &Path) -> Finding {
    match WebConfig::load(path) {
        Ok(web) if web.has_tls() => Finding::ok(Check::WebConfiguration, "can be used, with TLS"),
        Ok(_) => Finding::ok(Check::WebConfiguration, "can be used, without TLS"),
        Err(error) => Finding::failure(Check::WebConfiguration, Chain(&error), None),
    }
    .about(path.display())
}

/// Checks tenants side by side and tells what was found in their order; what all their reports come to.
async fn tell_tenants(
    site: &Arc<Site>,
    tenants: Vec<Tenant>,
    findings: &mut Findings<'_, impl Write>,
) -> io::Result<Size> {
    let places = Arc::new(Semaphore::new(TENANTS_MAX));
    let checks: Vec<_> = tenants
        .into_iter()
        .map(|tenant| {
            let (site, places) = (Arc::clone(site), Arc::clone(&places));
            tokio::spawn(async move {
                let _place = places.acquire_owned().await.expect("never closed");
                tenant.check(&site).await
            })
        })
        .collect();
    let mut total = Size::default();
    for check in checks {
        let (found, expected) = check.await.expect("no check panics");
        total.add(expected);
        for finding in found {
            findings.tell(finding)?;
        }
    }
    Ok(total)
}

fn described(config: &Config) -> String {
    let reports: Vec<&str> = config
        .reports
        .iter()
        .map(|report| report.as_str())
        .collect();
    let user = match config.labels.user {
        UserLabel::Upn => "upn",
        UserLabel::Id => "id",
        UserLabel::DisplayName => "display_name",
        UserLabel::Pseudonym => "pseudonym",
        UserLabel::None => "none",
    };
    let tenants = config.tenants.len();
    format!(
        "tenants: {tenants}; reports: {}; labels.user: {user}; every {}",
        reports.join(", "),
        humantime::format_duration(config.poll.interval)
    )
}

/// A preflight is waited for by a person or by a deployment: longer than any step takes that succeeds.
const PATIENCE: Duration = Duration::from_mins(1);

/// Tenants that are checked side by side.
const TENANTS_MAX: usize = 16;
