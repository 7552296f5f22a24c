//! The checks of one tenant. A step runs only if the steps that it needs have succeeded.

use crate::chain::Chain;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

use super::CheckContext;
use super::estimate::{FirstPageRequest, Size};
use super::finding::{Check, Finding};
use crate::config::{self, Config};
use crate::graph::credential::{Credential, SecretSource};
use crate::graph::http::HttpClient;
use crate::graph::reach::{ReachError, Target};
use crate::graph::token::TokenError;
use crate::graph::{self, Graph};
use crate::period::Clock;
use crate::report::budget::Budget;
use crate::report::pool::Pool;
use crate::report::{CollectError, ReportKind};
use crate::tenant::{self, SetupError};

/// A tenant that is set up and not contacted yet.
pub(super) struct Tenant {
    config: config::Tenant,
    graph: Graph,
    root: Target,
    /// `None` if a managed identity issues the tokens.
    authority: Option<Target>,
    /// Budgets that select this tenant.
    budgets: Vec<Budget>,
    /// Pools that select this tenant.
    pools: Vec<Pool>,
}

/// The findings of one tenant so far, with the state of its checks.
struct TenantReport<'a> {
    tenant: &'a Tenant,
    context: &'a CheckContext,
    deadline: Instant,
    findings: Vec<Finding>,
    /// The time of each server's clock minus the time of this machine's clock.
    skews: Vec<TimeDelta>,
}

impl Tenant {
    pub(super) fn new(
        http: &HttpClient,
        clock: &Clock,
        config: &Config,
        tenant: &config::Tenant,
    ) -> Result<Self, SetupError> {
        let target = |root: &str| Target::new(root).expect("a root was a URL before");
        let authority = match tenant.credential {
            Credential::ManagedIdentity(_) => None,
            _ => Some(target(&tenant.authority().to_string())),
        };
        let plan = tenant::plan(config, tenant);
        Ok(Self {
            config: tenant.clone(),
            graph: tenant::graph(http, clock, config, tenant)?,
            root: target(&tenant.graph_root().to_string()),
            authority,
            budgets: plan.budgets,
            pools: plan.pools,
        })
    }

    /// Runs all steps within the time limit. Returns the findings and the size of the exposition.
    pub(super) async fn check(self, context: &CheckContext) -> (Vec<Finding>, Size) {
        let mut report = TenantReport {
            tenant: &self,
            context,
            deadline: Instant::now() + context.patience,
            findings: Vec::new(),
            skews: Vec::new(),
        };
        let authority = match &self.authority {
            Some(authority) => report.reach(authority).await,
            None => true,
        };
        let same = self.authority.as_ref() == Some(&self.root);
        let root = if same {
            authority
        } else {
            report.reach(&self.root).await
        };
        report.clock();
        let token = authority && report.token().await;
        let expected = if token && root {
            report.reports().await
        } else {
            Size::unknown()
        };
        let TenantReport { findings, .. } = report;
        let name = self.config.name.as_deref();
        let findings = findings.into_iter().map(|finding| finding.for_tenant(name));
        (findings.collect(), expected)
    }
}

impl TenantReport<'_> {
    fn push(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// Checks that the host's name resolves and that a connection succeeds. Returns true if both do.
    async fn reach(&mut self, target: &Target) -> bool {
        let failure = |check: Check, error: &ReachError| {
            Finding::failure(check, Chain(error), Some(error.remedy())).about(target.host())
        };
        let via = target.proxy().map(|proxy| format!(" by the proxy {proxy}"));
        let via = via.unwrap_or_default();
        if !target.is_address() {
            match target.resolve(self.deadline).await {
                Err(error) => {
                    self.push(failure(Check::Name, &error));
                    return false;
                }
                Ok(addresses) => {
                    let addresses: Vec<String> =
                        addresses.iter().map(ToString::to_string).collect();
                    let whose = target.proxy().map(|_| " of the proxy").unwrap_or_default();
                    let message = format!("{}{whose}", addresses.join(", "));
                    self.push(Finding::ok(Check::Name, message).about(target.host()));
                }
            }
        }
        let asked = self.context.clock.now();
        match target.connect(&self.context.http, self.deadline).await {
            Err(error) => {
                self.push(failure(Check::Connection, &error));
                false
            }
            Ok(date) => {
                let middle = asked + (self.context.clock.now() - asked) / 2;
                self.skews.extend(date.map(|date| date - middle));
                let message = format!("answers{via}");
                self.push(Finding::ok(Check::Connection, message).about(target.host()));
                true
            }
        }
    }

    /// Reports the largest clock offset of all servers. The value is positive if this machine's clock is ahead.
    fn clock(&mut self) {
        let Some(skew) = self.skews.iter().max_by_key(|skew| skew.abs()).copied() else {
            return;
        };
        let seconds = skew.num_seconds();
        let direction = if seconds < 0 { "ahead of" } else { "behind" };
        let off = seconds.abs();
        let message = format!("{off} s {direction} the servers' clock");
        let remedy = "set this machine's clock by NTP or chrony";
        let finding = if skew.abs() > SKEW_FAILURE {
            let message =
                format!("{message}; signed assertions and billing periods are off by that much");
            Finding::failure(Check::Clock, message, Some(remedy))
        } else if skew.abs() > SKEW_WARNING {
            Finding::warning(Check::Clock, message, remedy)
        } else if off <= 1 {
            // A difference of one second means nothing, because the header `Date` has no fractions of a second.
            Finding::ok(Check::Clock, "agrees with the servers' clocks")
        } else {
            Finding::ok(Check::Clock, message)
        };
        let value = f64::from(i32::try_from(-seconds).unwrap_or(i32::MAX));
        self.push(finding.measured(value));
    }

    /// Requests a token, and checks its permissions and the expiry of the credential. Returns true if there is a token.
    async fn token(&mut self) -> bool {
        let tokens = &self.tenant.graph.tokens;
        let token = match tokens.token(self.deadline).await {
            Ok(token) => token,
            Err(error) => {
                let silent = matches!(error, TokenError::Transport(..) | TokenError::Timeout(_));
                let error = CollectError::Graph(graph::Error::Token(error));
                let remedy = if silent && self.tenant.authority.is_none() {
                    "no managed identity answers on this machine; assign one in Azure, or use another credential"
                } else {
                    error.remedy()
                };
                self.push(Finding::failure(Check::Token, Chain(&error), Some(remedy)));
                self.hint_at_id().await;
                return false;
            }
        };
        let valid = tokens.expires_in().unwrap_or_default().as_secs();
        let message = format!("valid for {valid} s");
        self.push(
            Finding::ok(Check::Token, message)
                .measured(f64::from(u32::try_from(valid).unwrap_or(u32::MAX))),
        );
        self.credential(tokens.credential_expiry());
        self.push(permission(token.roles()));
        true
    }

    /// Adds a warning if the secret looks like the id of the secret. Pasting the id is the most frequent mistake.
    async fn hint_at_id(&mut self) {
        let Credential::Secret(source) = self.tenant.config.credential.clone() else {
            return;
        };
        let read = tokio::task::spawn_blocking(move || source.looks_like_id());
        // There is no hint for a file that cannot be read in time.
        if let Ok(Ok(true)) = tokio::time::timeout_at(self.deadline, read).await {
            self.push(Finding::warning(
                Check::Credential,
                "this looks like the id of the secret",
                "the value is shown only once, when the secret is created; create a new one and use its value",
            ));
        }
    }

    /// Checks the expiry of the credential: the configured date, or the end of the certificate's validity if no date is
    /// configured.
    fn credential(&mut self, of_certificate: Option<DateTime<Utc>>) {
        let stated = self.tenant.config.credential_expiry;
        let Some(expiry) = stated.or(of_certificate) else {
            return;
        };
        let left = expiry - self.context.clock.now();
        let date = expiry.format("%Y-%m-%d %H:%M UTC");
        self.push(if stated.is_some() && left <= TimeDelta::zero() {
            Finding::warning(
                Check::Credential,
                format!("client_secret_expires is {date}, but the secret still gets a token"),
                "correct the date; the app registration shows it under certificates & secrets",
            )
        } else if left < TimeDelta::days(30) {
            let file = match &self.tenant.config.credential {
                Credential::Secret(SecretSource::File(path)) => path.display().to_string(),
                Credential::Certificate { certificate, .. } => {
                    certificate.display().to_string()
                }
                _ => "the variable".to_owned(),
            };
            Finding::warning(
                Check::Credential,
                format!("ends on {date}"),
                format!("add a new secret or certificate to the app registration and replace {file}; restart the service only if systemd passes copies of the files (LoadCredential=)"),
            )
        } else {
            Finding::ok(Check::Credential, format!("ends on {date}"))
        });
    }

    async fn reports(&mut self) -> Size {
        let CheckContext { config, .. } = self.context;
        let tenant = self.tenant.config.name.as_deref();
        let mut total = Size::default();
        for report in &config.reports {
            let labels = config.labels.of(report);
            let report = report.kind;
            let graph = &self.tenant.graph;
            let request = FirstPageRequest {
                graph,
                context: self.context,
                tenant,
                labels: &labels,
                deadline: self.deadline,
            };
            match report.visit(request).await {
                Ok(page) => {
                    total.add(page.size);
                    let series_max = labels.max_series.get();
                    self.findings.extend(page.findings(report, series_max));
                    if labels.user.shows_names() {
                        let names = page.names(report, &self.context.exposure);
                        self.findings.extend(names);
                    }
                    self.findings.extend(page.links(report));
                    let departments = config.departments.as_ref();
                    let departments = departments.map(|departments| &*departments.of);
                    let budgets = &self.tenant.budgets;
                    let mismatches = page.mismatches(report, budgets, departments);
                    self.findings.extend(mismatches);
                    self.findings.extend(page.unmapped(report, departments));
                    if report == ReportKind::CallLog {
                        self.findings.extend(page.licenses());
                        self.findings.extend(page.unused_pools(&self.tenant.pools));
                    }
                }
                Err(error) => {
                    total.add(Size::unknown());
                    let remedy = Some(error.remedy());
                    let failure = Finding::failure(Check::FirstPage, Chain(&error), remedy);
                    self.push(failure.about(report));
                }
            }
        }
        total
    }
}

/// Checks the permissions that the token lists. The finding is only a hint, because Graph decides about the permissions
/// when the first page is requested.
fn permission(roles: Option<Vec<String>>) -> Finding {
    let Some(roles) = roles else {
        return Finding::warning(
            Check::Permission,
            "the token cannot be read, so its permissions are not known",
            "if the first page is ok, nothing is needed",
        );
    };
    let granted: Vec<&str> = ROLES
        .into_iter()
        .filter(|role| roles.iter().any(|granted| granted == role))
        .collect();
    if granted.is_empty() {
        Finding::warning(
            Check::Permission,
            format!("the token grants neither {} nor {}", ROLES[0], ROLES[1]),
            format!(
                "add the application permission {} of Microsoft Graph and grant admin consent; a new grant may take some minutes; if Graph still answers 403, add {}",
                ROLES[0], ROLES[1]
            ),
        )
    } else {
        Finding::ok(Check::Permission, granted.join(", "))
    }
}

/// Permissions that are each sufficient. The first one grants less than the second.
const ROLES: [&str; 2] = ["CallRecord-PstnCalls.Read.All", "CallRecords.Read.All"];

/// Maximum clock offset without a warning. With a larger offset, the current period begins and ends at the wrong time.
const SKEW_WARNING: TimeDelta = TimeDelta::minutes(1);

/// Maximum clock offset without a failure. With a larger offset, Microsoft rejects the assertions that this machine
/// signs.
const SKEW_FAILURE: TimeDelta = TimeDelta::minutes(5);
