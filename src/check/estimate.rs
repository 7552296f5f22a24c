//! The first page of a report, and how many series the whole of it may become.

use tokio::time::Instant;

use super::Site;
use super::finding::{Check, Finding};
use crate::graph::tally::Tally;
use crate::graph::{self, Graph, Query};
use crate::period::{BillingPeriod, Window};
use crate::report::dialout::Dialout;
use crate::report::labels::{Kept, View};
use crate::report::{CollectError, Report, ReportKind, add_page};

/// What a first page holds.
pub(super) struct FirstPage {
    pub(super) rows: u64,
    /// Label sets: what `labels.max_series` counts.
    pub(super) series: u64,
    pub(super) size: Size,
}

/// How much would be exposed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    samples: u64,
    bytes: u64,
    /// Whether there is no more than this.
    exact: bool,
}

/// Asks for the first page of the current period, and renders it as the daemon would.
pub(super) async fn first_page(
    report: ReportKind,
    graph: &Graph,
    site: &Site,
    tenant: Option<&str>,
    deadline: Instant,
) -> Result<FirstPage, CollectError> {
    match report {
        ReportKind::Dialout => page_of::<Dialout>(graph, site, tenant, deadline).await,
    }
}

async fn page_of<R: Report>(
    graph: &Graph,
    site: &Site,
    tenant: Option<&str>,
    deadline: Instant,
) -> Result<FirstPage, CollectError> {
    let now = site.clock.now();
    let period = BillingPeriod::containing(now, site.config.billing.cycle_day);
    let mut windows = period.windows(now, Window::MAX);
    let window = windows.next().expect("the period of now has begun");
    let query = Query {
        version: R::VERSION,
        function: R::FUNCTION,
        from: window.from_literal(),
        to: window.to_literal(R::END),
    };
    let tally = Tally::default();
    let mut pages = graph.pages(&query, deadline, &tally);
    let mut totals = R::Totals::default();
    // Without a page there is none to fail, and nothing to count.
    if let Some(mut page) = pages.next().await? {
        add_page::<R>(&mut page, &mut totals)?;
    }
    let exact = pages.is_last() && windows.next().is_none();
    let rendered = R::render(
        totals,
        &View {
            tenant,
            naming: &site.naming,
            series_max: usize::MAX,
            budgets: &[],
            kept: &Kept::default(),
        },
    );
    let samples = &rendered.samples;
    let series = samples.iter().map(|family| family.count).max().unwrap_or(0);
    let series_max = site.config.labels.max_series.get() as u64;
    // What is beyond is folded, so it does not make the body longer.
    let share = |count: u64| count * series_max.min(series) / series.max(1);
    Ok(FirstPage {
        rows: rendered.rows,
        series,
        size: Size {
            samples: share(samples.iter().map(|family| family.count).sum()),
            bytes: share(samples.iter().map(|family| family.block.length()).sum()),
            exact,
        },
    })
}

impl FirstPage {
    /// The page, and what is to be said of its series.
    pub(super) fn findings(&self, report: ReportKind, series_max: usize) -> [Finding; 2] {
        let at_least = at_least(self.size.exact);
        let more = if self.size.exact {
            ""
        } else {
            ", and more pages"
        };
        let page = format!("{} rows{more}", self.rows);
        let series = format!(
            "{at_least}{} of the {series_max} that labels.max_series allows",
            self.series
        );
        let series = if self.series > series_max as u64 {
            Finding::warning(
                Check::Series,
                format!(
                    "{series}; those with the smallest charge will be folded into user=\"__other__\""
                ),
                "raise labels.max_series where every user is needed, else do nothing: no sum changes",
            )
        } else {
            Finding::ok(Check::Series, series)
        };
        [
            Finding::ok(Check::FirstPage, page)
                .about(report)
                .measured(float(self.rows)),
            series.about(report).measured(float(self.series)),
        ]
    }
}

impl Default for Size {
    fn default() -> Self {
        Self {
            samples: 0,
            bytes: 0,
            exact: true,
        }
    }
}

impl Size {
    /// Anything.
    pub(super) fn unknown() -> Self {
        Self {
            exact: false,
            ..Self::default()
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.samples += other.samples;
        self.bytes += other.bytes;
        self.exact &= other.exact;
    }

    /// What all reports of all tenants come to, against what is read at a scrape.
    pub(super) fn finding(self) -> Finding {
        let message = format!(
            "{}{} series in {} KiB",
            at_least(self.exact),
            self.samples,
            self.bytes.div_ceil(1024)
        );
        if self.bytes > SCRAPE_BYTES_MAX {
            Finding::warning(
                Check::Exposition,
                format!("{message}, more than the 16 MiB that VictoriaMetrics reads by default"),
                "raise -promscrape.maxScrapeSize, lower labels.max_series, or spread the tenants over several exporters",
            )
        } else {
            Finding::ok(Check::Exposition, message)
        }
        .measured(float(self.bytes))
    }
}

/// What to do about a report that is not to be had, also where the error itself knows no remedy.
pub(super) fn remedy(error: &CollectError) -> &'static str {
    use graph::FailureReason as Reason;
    use graph::token::TokenError;
    if let Some(known) = error.remedy() {
        return known;
    }
    if let CollectError::Graph(graph::Error::Token(error)) = error {
        match error {
            TokenError::Credential(_) => {
                return "give a file that this user may read, with nothing in it but the secret, the token, or a certificate and its RSA key in PEM";
            }
            TokenError::Malformed { .. } => {
                return "check authority_url, and whether a proxy or portal answers in its place";
            }
            _ => {}
        }
    }
    match error.reason() {
        Reason::Auth => "check tenant_id, client_id and the credential",
        Reason::Forbidden => "grant the application permission CallRecord-PstnCalls.Read.All",
        Reason::Throttled => "poll less often, and see what else uses this application",
        Reason::Timeout => {
            "try again; where it stays, raise poll.timeout or see what slows the network"
        }
        Reason::Connect => "try again; where it stays, see what breaks connections on the way",
        Reason::Status => "try again; where it stays, see the service health page of Microsoft 365",
        Reason::Malformed => {
            "check graph_url, and whether a proxy or portal answers in Graph's place"
        }
        Reason::Limit => "this is more than a report ever is; check graph_url",
    }
}

fn at_least(exact: bool) -> &'static str {
    if exact { "" } else { "at least " }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of one page stay below 2⁵³"
)]
fn float(count: u64) -> f64 {
    count as f64
}

/// `-promscrape.maxScrapeSize` of VictoriaMetrics, as it is unless it is changed.
const SCRAPE_BYTES_MAX: u64 = 16 << 20;
