//! `check`: the preflight. It runs every step of the daemon once, reports each result, and gives a remedy for each
//! failure.
//!
//! The command changes nothing. It checks tenants concurrently, each within a time limit, and writes findings in the
//! order of the configuration. Findings never contain a secret, a token, or the users of a row.

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

use crate::chain::Chain;
use crate::config::args::CheckFormat;
use crate::config::{self, Config, Departments};
use crate::daemon::Load;
use crate::graph::http::HttpClient;
use crate::period::Clock;
use crate::report::labels::UserLabel;
use crate::server::Listen;
use crate::server::exposure::Exposure;
use crate::server::web_config::WebConfig;
use crate::tenant::SetupError;

use self::estimate::Size;
use self::finding::{Check, Finding, Findings};
use self::tenant::Tenant;

/// Settings that the checks of all tenants share.
struct CheckContext {
    clock: Clock,
    http: HttpClient,
    config: Config,
    exposure: Exposure,
    patience: Duration,
}

/// Checks everything in the configuration that `load` reads, and writes the findings. Returns the exit code of the
/// process: 0 if no check failed, 1 if one failed, and 2 if the daemon cannot start with this configuration.
pub(crate) async fn run(
    load: &Load,
    listen: &Listen,
    web_config: Option<&Path>,
    format: CheckFormat,
    clock: Clock,
    out: &mut impl Write,
) -> io::Result<ExitCode> {
    let mut findings = Findings::new(format, out);
    let (web, loaded) = web_config.map(check_web_config).unzip();
    let exposure = Exposure::expected(listen, loaded.flatten().as_ref());
    let config = match load() {
        Ok(config) => config,
        Err(errors) => {
            let errors = errors.to_string();
            let failure = |error| Finding::failure(Check::Configuration, error, None);
            findings.extend(errors.lines().map(failure).chain(web))?;
            return findings.finish(true);
        }
    };
    let http = match crate::tenant::http(&config) {
        Ok(http) => http,
        Err(error) => {
            findings.push(Finding::failure(Check::Client, Chain(&error), None))?;
            return findings.finish(false);
        }
    };
    let tenants: Result<Vec<Tenant>, SetupError> = config
        .tenants
        .iter()
        .map(|tenant| Tenant::new(&http, &clock, &config, tenant))
        .collect();
    let tenants = match tenants {
        Ok(tenants) => tenants,
        Err(error) => {
            let remedy = Some("correct the configuration, or the files that it names");
            findings.push(Finding::failure(
                Check::Configuration,
                Chain(&error),
                remedy,
            ))?;
            return findings.finish(true);
        }
    };
    findings.push(Finding::ok(Check::Configuration, described(&config)))?;
    let is_web_bad = web.as_ref().is_some_and(Finding::is_failure);
    findings.extend(web)?;
    let patience = config.poll.timeout.min(PATIENCE);
    let context = Arc::new(CheckContext {
        clock,
        http,
        config,
        exposure,
        patience,
    });
    findings.extend(context.config.departments.iter().map(check_departments))?;
    findings.extend(storage::check(&context).await)?;
    let total = check_tenants(&context, tenants, &mut findings).await?;
    findings.extend(total.finding())?;
    findings.finish(is_web_bad)
}

/// Writes that a configuration is valid. Call this function after [`crate::daemon::validate`].
pub(crate) fn confirm(config: &Config, out: &mut impl Write) -> io::Result<()> {
    finding::ignore_broken_pipe(writeln!(
        out,
        "the configuration is good: {}",
        described(config)
    ))
}

/// Checks the web configuration and all files that it names. Also returns the configuration if it can be used.
fn check_web_config(path: &Path) -> (Finding, Option<WebConfig>) {
    let loaded = WebConfig::load(path);
    let finding = match &loaded {
        Ok(web) if web.has_tls() => Finding::ok(Check::WebConfiguration, "can be used, with TLS"),
        Ok(_) => Finding::ok(Check::WebConfiguration, "can be used, without TLS"),
        Err(error) => Finding::failure(Check::WebConfiguration, Chain(error), None),
    };
    (finding.about(path.display()), loaded.ok())
}

fn check_departments(departments: &Departments) -> Finding {
    let (users, count) = (departments.of.users(), departments.of.count());
    let message = format!("{users} users in {count} departments");
    Finding::ok(Check::Departments, message)
}

/// Checks tenants concurrently and writes the findings in the order of the tenants. Returns the estimated size of
/// `/metrics`.
async fn check_tenants(
    context: &Arc<CheckContext>,
    tenants: Vec<Tenant>,
    findings: &mut Findings<'_, impl Write>,
) -> io::Result<Size> {
    let places = Arc::new(Semaphore::new(TENANTS_MAX));
    let checks: Vec<_> = tenants
        .into_iter()
        .map(|tenant| {
            let (context, places) = (Arc::clone(context), Arc::clone(&places));
            tokio::spawn(async move {
                let _place = places.acquire_owned().await.expect("never closed");
                tenant.check(&context).await
            })
        })
        .collect();
    let mut total = Size::default();
    for check in checks {
        let (found, expected) = check.await.expect("no check panics");
        total.add(expected);
        findings.extend(found)?;
    }
    Ok(total)
}

fn described(config: &Config) -> String {
    let described = |report: &config::Report| {
        let interval = humantime::format_duration(config.poll.interval_of(report));
        let user = report.user.as_ref().map(UserLabel::as_str);
        let user = user.map_or_else(String::new, |user| format!(", user: {user}"));
        format!("{} (every {interval}{user})", report.kind)
    };
    let reports: Vec<String> = config.reports.iter().map(described).collect();
    let user = config.labels.user.as_str();
    let tenants = config.tenants.len();
    let reports = reports.join(", ");
    format!("tenants: {tenants}; reports: {reports}; labels.user: {user}")
}

/// Time limit per tenant, because an administrator or a deployment waits for the result. A step that succeeds takes
/// less time.
const PATIENCE: Duration = Duration::from_mins(1);

/// Maximum number of tenants that are checked concurrently.
const TENANTS_MAX: usize = 16;
