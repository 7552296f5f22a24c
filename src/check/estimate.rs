//! The first page of a report, and an estimate of the series of the whole report.

use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::CheckContext;
use super::finding::{Check, Finding};
use crate::config::Labels;
use crate::graph::pages::{Pages, Read};
use crate::graph::stats::RequestStats;
use crate::graph::{Flaw, Graph};
use crate::memory::MemoryPool;
use crate::period::{BillingPeriod, Window};
use crate::report::allocation::Allocation;
use crate::report::budget::{Budget, BudgetRow};
use crate::report::department::Departments;
use crate::report::labels::{RenderContext, RetainedSeries};
use crate::report::log::{self, AggregationContext, AnyLog, LogAggregator, SeenRows};
use crate::report::pool::{self, Pool, PooledCall};
use crate::report::{AggregatedReport, CollectError, Log, Rendered, ReportKind, Visitor, add_page};
use crate::server::exposure::{EXPOSED_REMEDY, Exposure};

/// Figures of the first page of a report.
pub(super) struct FirstPage {
    pub(super) rows: u64,
    /// Number of label sets, which `labels.max_series` limits.
    pub(super) series: u64,
    pub(super) size: Size,
    /// Number of users whose names are in the series.
    users: u64,
    /// Labels and user of each row, and its call if there is one. The findings about budgets, pools, licences and
    /// departments use them.
    budget_rows: Vec<BudgetRow>,
    /// The origin of the server that the page names in `@odata.context`, if it is not the origin of `graph_url`.
    foreign_context: Option<String>,
}

/// Estimated size of the exposition.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Size {
    /// Number of first pages that these figures are computed from.
    pages: u64,
    samples: u64,
    bytes: u64,
    /// True if further pages follow.
    has_more: bool,
}

/// The request for the first page of the current period, and the settings with which the daemon would render the rows
/// of that page.
pub(super) struct FirstPageRequest<'a> {
    pub(super) graph: &'a Graph,
    pub(super) context: &'a CheckContext,
    pub(super) tenant: Option<&'a str>,
    pub(super) labels: &'a Labels,
    pub(super) deadline: Instant,
}

impl<'a> Visitor for FirstPageRequest<'a> {
    type Output = BoxFuture<'a, Result<FirstPage, CollectError>>;

    fn aggregated<R: AggregatedReport>(self) -> Self::Output {
        Box::pin(self.whole::<R>())
    }

    fn log<L: Log>(self) -> Self::Output {
        Box::pin(self.day(AnyLog::of::<L>()))
    }
}

impl FirstPageRequest<'_> {
    async fn whole<R: AggregatedReport>(self) -> Result<FirstPage, CollectError> {
        let (now, period) = self.period();
        let windows = R::windows(period, now);
        let query = R::INFO.query(windows[0]);
        let memory = MemoryPool::for_process(None).for_report();
        let stats = RequestStats::default();
        let mut pages = self.graph.pages(&query, self.deadline, &stats, &memory);
        let mut totals = R::Totals::default();
        let mut reservation = memory.reservation();
        while let Some(mut page) = pages.next().await? {
            if add_page::<R>(&mut page, &mut totals, &mut reservation)? == Read::Whole {
                break;
            }
        }
        let budget_rows = R::budget_rows(&totals);
        Ok(
            self.first_page(&pages, windows.len(), budget_rows, |context| {
                R::render(totals, context)
            }),
        )
    }

    /// Fetches the first page of the last complete day of a log. Other days may have few rows: the first day of the
    /// period may be a holiday, and most rows of the current day have not arrived yet. If the current day is the only
    /// one so far, fetches its first page.
    async fn day(self, log: &'static AnyLog) -> Result<FirstPage, CollectError> {
        let (now, period) = self.period();
        let windows: Vec<Window> = period.windows(now, log::DAY).collect();
        let window = windows[windows.len().saturating_sub(2)];
        let memory = MemoryPool::for_process(None).for_report();
        let aggregation = AggregationContext {
            user_label: &self.labels.user,
            allocation: &Allocation::default(),
            period,
            seen: &SeenRows::new(&memory),
            memory: &memory,
        };
        let stats = RequestStats::default();
        let query = log.info.query(window);
        let mut pages = self.graph.pages(&query, self.deadline, &stats, &memory);
        let mut aggregator = LogAggregator::new(log, window, aggregation);
        aggregator.budget_rows = Some(Vec::new());
        while let Some(mut page) = pages.next().await? {
            if aggregator.add_page(&mut page)? == Read::Whole {
                break;
            }
        }
        let budget_rows = aggregator.budget_rows.unwrap_or_default();
        Ok(
            self.first_page(&pages, windows.len(), budget_rows, |context| {
                aggregator.totals.render(log.info, context)
            }),
        )
    }

    fn period(&self) -> (DateTime<Utc>, BillingPeriod) {
        let now = self.context.clock.now();
        let period = BillingPeriod::containing(now, self.context.config.billing.cycle_day);
        (now, period)
    }

    fn first_page(
        &self,
        pages: &Pages<'_>,
        windows: usize,
        budget_rows: Vec<BudgetRow>,
        render: impl FnOnce(&RenderContext<'_>) -> Rendered,
    ) -> FirstPage {
        let (_, period) = self.period();
        let rendered = render(&RenderContext {
            tenant: self.tenant,
            period,
            user_label: &self.labels.user,
            series_max: usize::MAX,
            allocation: &Allocation::default(),
            retained: &RetainedSeries::default(),
        });
        let samples = &rendered.samples;
        let series = samples.iter().map(|family| family.count).max().unwrap_or(0);
        let series_max = self.labels.max_series.get() as u64;
        // Series above the limit are aggregated, so they do not make the body longer.
        let share = |count: u64| count * series_max.min(series) / series.max(1);
        FirstPage {
            rows: rendered.rows,
            series,
            size: Size {
                pages: 1,
                samples: share(samples.iter().map(|family| family.count).sum()),
                bytes: share(samples.iter().map(|family| family.block.length()).sum()),
                has_more: !pages.is_last() || windows > 1,
            },
            users: rendered.users,
            budget_rows,
            foreign_context: pages.foreign_context().map(str::to_owned),
        }
    }
}

impl FirstPage {
    /// Returns findings about the page and its series.
    pub(super) fn findings(&self, report: ReportKind, series_max: usize) -> [Finding; 2] {
        let at_least = at_least(self.size.has_more);
        let more = if self.size.has_more {
            ", and more pages"
        } else {
            ""
        };
        let page = format!("{} rows{more}", self.rows);
        let series = format!(
            "{at_least}{} of the {series_max} label combinations that max_series allows",
            self.series
        );
        let series = if self.series > series_max as u64 {
            Finding::warning(
                Check::Series,
                format!("{series}; the smallest will be aggregated into user=\"__other__\""),
                "if every user is needed, raise the report's max_series, or labels.max_series if the report has none; otherwise nothing is needed, because no sum changes",
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

    /// Returns how many names of users the daemon would show, and which clients could read them. If the page has no
    /// names yet, the result is a warning for a server that is open to every client, and `None` for any other server.
    pub(super) fn names(&self, report: ReportKind, exposure: &Exposure) -> Option<Finding> {
        let users = self.users;
        let at_least = at_least(self.size.has_more);
        let message = match users {
            0 => format!(
                "no names of users yet; as soon as there are some, they will be readable {exposure}"
            ),
            _ => format!("{at_least}{users} names of users are readable {exposure}"),
        };
        let finding = match (users, exposure.is_open) {
            (0, false) => return None,
            (_, true) => Finding::warning(Check::Names, message, EXPOSED_REMEDY),
            (_, false) => Finding::ok(Check::Names, message),
        };
        Some(finding.about(report).measured(float(users)))
    }

    /// Returns a warning if the page names another server than `graph_url`. That happens behind a reverse proxy that
    /// does not rewrite links: the link to a second page would lead to the other server. This function does not check
    /// links, because a report of one page has no link.
    pub(super) fn links(&self, report: ReportKind) -> Option<Finding> {
        let origin = self.foreign_context.as_deref()?;
        let message = format!(
            "the page names {origin} as its server, so the link to a second page probably leads there and will be refused"
        );
        Some(Finding::warning(Check::FirstPage, message, Flaw::ForeignLink.remedy()).about(report))
    }

    /// Returns how many users of the page are not in the departments file. `None` if there is no file or the page has
    /// no users.
    pub(super) fn unmapped(
        &self,
        report: ReportKind,
        departments: Option<&Departments>,
    ) -> Option<Finding> {
        let departments = departments?;
        let users: HashSet<&[String; 2]> = self.budget_rows.iter().map(|row| &row.names).collect();
        let is_unmapped = |[principal_name, id]: &&&[String; 2]| {
            departments.of(principal_name, id) == departments.unmapped()
        };
        let unmapped = users.iter().filter(is_unmapped).count();
        let message = match (users.len(), unmapped) {
            (0, _) => return None,
            (users, unmapped) => {
                format!("{unmapped} of {users} users of the first page are unmapped")
            }
        };
        let finding = if unmapped == users.len() {
            let remedy =
                "check that the file has the user principal names or object ids that Graph returns";
            Finding::warning(Check::Departments, message, remedy)
        } else {
            Finding::ok(Check::Departments, message)
        };
        Some(finding.about(report).measured(float(unmapped as u64)))
    }

    /// Counts outgoing calls by licence and destination context. The counts show whether the log names the licence that
    /// pays for each call.
    pub(super) fn licenses(&self) -> Vec<Finding> {
        let mut groups: BTreeMap<[&str; 2], Vec<&PooledCall>> = BTreeMap::new();
        for call in self.calls() {
            let [license, _, context, call_type] = call.labels.each_ref().map(String::as_str);
            if pool::is_outgoing(call_type) {
                groups.entry([license, context]).or_default().push(call);
            }
        }
        let finding = |([license, context], calls): ([&str; 2], Vec<&PooledCall>)| {
            let seconds: i64 = calls.iter().map(|call| call.seconds).sum();
            let charged = calls.iter().filter(|call| call.has_charge).count();
            let (rows, free) = (calls.len(), calls.len() - charged);
            let message = format!(
                "{rows} outgoing calls on the first page, {seconds} s in all; {charged} with a charge, {free} without"
            );
            let subject = format!("{license}, {context}");
            Finding::ok(Check::Licence, message).about(subject.escape_debug())
        };
        groups.into_iter().take(LICENSES_MAX).map(finding).collect()
    }

    /// Returns a warning for each pool that matches no row.
    pub(super) fn unused_pools(&self, pools: &[Pool]) -> Vec<Finding> {
        let covers = |pool: &Pool, call: &PooledCall| {
            pool.covers(call.labels.each_ref().map(String::as_str))
        };
        let unused = pools
            .iter()
            .filter(|_| self.calls().next().is_some())
            .filter(|pool| !self.calls().any(|call| covers(pool, call)));
        let warn = |pool: &Pool| {
            let message = "matches no row of the first page";
            Finding::warning(Check::Pool, message, POOL_REMEDY).about(&pool.name)
        };
        unused.map(warn).collect()
    }

    fn calls(&self) -> impl Iterator<Item = &PooledCall> {
        self.budget_rows.iter().filter_map(|row| row.call.as_ref())
    }

    /// Returns a warning for each of the report's budgets that matches no row.
    pub(super) fn mismatches(
        &self,
        report: ReportKind,
        budgets: &[Budget],
        departments: Option<&Departments>,
    ) -> Vec<Finding> {
        let mismatch = |budget: &Budget| {
            let why = budget.mismatch(&self.budget_rows, departments)?;
            let message = format!("matches no row of the first page: {why}");
            Some(Finding::warning(Check::Budget, message, BUDGET_REMEDY).about(&budget.name))
        };
        let of_report = budgets.iter().filter(|budget| budget.report == report);
        of_report.filter_map(mismatch).collect()
    }
}

impl Size {
    /// Returns the size of a report that could not be fetched. It is zero, and marks a sum as a minimum.
    pub(super) fn unknown() -> Self {
        Self {
            has_more: true,
            ..Self::default()
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.pages += other.pages;
        self.samples += other.samples;
        self.bytes += other.bytes;
        self.has_more |= other.has_more;
    }

    /// Compares the size of all reports of all tenants with the limits of a scrape. `None` if no report was fetched.
    pub(super) fn finding(self) -> Option<Finding> {
        if self.pages == 0 {
            return None;
        }
        let message = format!(
            "{}{} series in {} KiB",
            at_least(self.has_more),
            self.samples,
            self.bytes.div_ceil(1024)
        );
        let finding = if self.bytes > SCRAPE_BYTES_MAX {
            Finding::warning(
                Check::Exposition,
                format!("{message}, more than the 16 MiB that VictoriaMetrics reads by default"),
                "raise -promscrape.maxScrapeSize, lower labels.max_series, or spread the tenants over several exporters",
            )
        } else {
            Finding::ok(Check::Exposition, message)
        };
        Some(finding.measured(float(self.bytes)))
    }
}

fn at_least(has_more: bool) -> &'static str {
    if has_more { "at least " } else { "" }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of one page stay below 2⁵³"
)]
fn float(count: u64) -> f64 {
    count as f64
}

/// The remedy for a pool that matches no row of the first page. This is not always a mistake.
const POOL_REMEDY: &str = "compare license_capability and the selectors with the lines about licences; if calls that the pool covers are rare, nothing is needed";

/// Maximum number of findings about licences. There is one for each pair of licence and destination context, and a
/// tenant has fewer pairs.
const LICENSES_MAX: usize = 20;

/// The remedy for a budget that matches no row of the first page. This is not always a mistake.
const BUDGET_REMEDY: &str = "correct the budget, or set its key tenant; if rows that the budget covers are rare, nothing is needed";

/// Default of `-promscrape.maxScrapeSize` of VictoriaMetrics.
const SCRAPE_BYTES_MAX: u64 = 16 << 20;
