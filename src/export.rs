//! `export`: writes one report of one billing period or range of days as a table, and ends.
//!
//! The command sends the same queries as the daemon, with the same client, and reads the same rows. A table of rows is
//! written page by page, so its size does not affect memory. A table of sums is written when it is complete.
//!
//! Out of scope: state files, which this command neither reads nor writes, and figures that Graph does not have, such
//! as budgets.

mod error;
mod output;
mod table;
mod writer;

use std::future::Future;
use std::io::{self, IsTerminal as _, Write};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use tokio::time::Instant;

use crate::config::args::{By, ExportArgs};
use crate::config::{Config, Tenant};
use crate::graph::Graph;
use crate::graph::stats::RequestStats;
use crate::logging;
use crate::machine;
use crate::memory::MemoryPool;
use crate::period::{BillingPeriod, Clock, Span};
use crate::report::log::LATENESS;
use crate::report::scan::Scan;
use crate::signals;
use crate::tenant;

pub use error::ExportError;
pub(crate) use output::Output;

use table::Table;
use writer::TableWriter;

/// One export, with all its flags resolved.
struct Export<'a> {
    args: &'a ExportArgs,
    table: Table,
    graph: Graph,
    span: Span,
    /// The name of the span in messages.
    name: String,
    now: DateTime<Utc>,
    timeout: Duration,
    memory: Arc<MemoryPool>,
}

/// Runs a command until it is complete or a signal arrives.
pub async fn until_signal(
    command: impl Future<Output = Result<(), ExportError>>,
) -> Result<(), ExportError> {
    let (stop, _) = signals::listen()?;
    tokio::select! {
        outcome = command => outcome,
        () = stop => Err(ExportError::Stopped),
    }
}

/// Writes the table to the file that the flags name, or to `out` if they name none.
///
/// # Errors
/// If the flags do not fit the report, or if the table cannot be fetched or written. After an error, the file is
/// unchanged. If the table has begun on `out`, its last line is one that no parser accepts. Otherwise nothing was
/// written to `out`.
pub async fn run(
    config: &Config,
    args: &ExportArgs,
    clock: &Clock,
    out: Box<dyn Write + Send>,
) -> Result<(), ExportError> {
    let mut export = Export::new(config, args, clock)?;
    export.check_final(export.now)?;
    let output = Output::new(args.output.as_deref(), out)?;
    let mut output = TableWriter::new(output, args.format);
    let stats = RequestStats::default();
    with_progress(&stats, export.fetch(&stats, &mut output)).await?;
    output.finish()?;
    let (pages, rows) = (stats.pages(), stats.rows());
    tracing::info!(pages, rows, "export complete");
    Ok(())
}

impl<'a> Export<'a> {
    fn new(config: &Config, args: &'a ExportArgs, clock: &Clock) -> Result<Self, ExportError> {
        let tenant = choose_tenant(config, args.tenant.as_deref())?;
        let now = clock.now();
        let (span, name) = choose_span(config, args)?;
        if span.start() > now {
            return Err(ExportError::Choice(format!("{name} has not begun")));
        }
        let user_label = config.labels_of(args.report).user;
        let departments = tenant::plan(config, tenant).departments;
        let memory = MemoryPool::for_process(machine::memory_limit()).for_report();
        let table = Table::new(args, user_label, departments, memory.reservation())?;
        let http = tenant::http(config).map_err(tenant::SetupError::from)?;
        Ok(Self {
            args,
            table,
            graph: tenant::graph(&http, clock, config, tenant)?,
            span,
            name,
            now,
            timeout: config.poll.timeout,
            memory,
        })
    }

    /// Fetches all rows, and writes the table.
    async fn fetch(
        &mut self,
        stats: &RequestStats,
        output: &mut TableWriter,
    ) -> Result<(), ExportError> {
        let now = (self.span, self.now);
        let (timeout, memory) = (self.timeout, &self.memory);
        let report = self.args.report;
        let mut scan = Scan::new(report, &self.graph, stats, now, timeout, memory);
        let has_sums = !report.is_log() && !report.info().columns.is_empty();
        if has_sums && scan.windows_left() > 1 {
            tracing::warn!(
                "Graph returns at most 90 days per query, so this aggregated report takes several queries; with --by=row, a user \
                 has a line for each query"
            );
        }
        loop {
            let table = &self.table;
            let page = scan
                .next_page(|texts, record| table.line(texts, record))
                .await;
            let page = page.map_err(|error| ExportError::report(report, &error))?;
            // Checks again by Graph's clock, because this machine's clock may be ahead.
            self.check_final(scan.asked.unwrap_or(self.now))?;
            let Some(lines) = page else { break };
            if self.args.by == By::Row {
                lines
                    .iter()
                    .try_for_each(|line| output.write(&table.names, &line.fields))?;
            } else {
                self.table
                    .add(lines)
                    .map_err(|error| ExportError::report(report, &error.into()))?;
            }
        }
        if scan.unplaced > 0 {
            tracing::warn!(
                rows = scan.unplaced,
                "rows are left out, because their times are far outside the query windows for which Graph returned them"
            );
        }
        output.begin(&self.table.names)?;
        for line in self.table.sums() {
            output.write(&self.table.names, &line)?;
        }
        Ok(())
    }

    /// Returns an error if the flags require final figures and the figures may still change at `now`.
    fn check_final(&self, now: DateTime<Utc>) -> Result<(), ExportError> {
        let until = self.span.end() + LATENESS;
        if self.args.require_final && now < until {
            return Err(ExportError::NotFinal {
                name: self.name.clone(),
                until: until.to_rfc3339_opts(SecondsFormat::Secs, true),
            });
        }
        Ok(())
    }
}

/// Returns the tenant with this name, or the only tenant if there is no name.
fn choose_tenant<'c>(config: &'c Config, name: Option<&str>) -> Result<&'c Tenant, ExportError> {
    let found = match (name, &config.tenants[..]) {
        (None, [only]) => Some(only),
        (None, _) => None,
        (Some(name), tenants) => tenants.iter().find(|tenant| tenant.name_or_id() == name),
    };
    found.ok_or_else(|| {
        let names: Vec<&str> = config.tenants.iter().map(Tenant::name_or_id).collect();
        let names = names.join(", ");
        ExportError::Choice(format!(
            "the tenant is missing or unknown; give --tenant with one of these: {names}"
        ))
    })
}

/// Returns the span of the rows, and the name of the span for messages.
fn choose_span(config: &Config, args: &ExportArgs) -> Result<(Span, String), ExportError> {
    let chosen = match (args.period, args.from, args.to) {
        (Some(month), ..) => BillingPeriod::beginning_in(month, config.billing.cycle_day)
            .map(|period| (period.into(), period.to_string())),
        (None, Some(from), Some(to)) => {
            Span::of_days(from, to).map(|span| (span, format!("{from}/{to}")))
        }
        _ => None,
    };
    chosen.ok_or_else(|| {
        let what = "the time span is empty; give --period, or --from and a later --to";
        ExportError::Choice(what.to_owned())
    })
}

/// Shows the progress on standard error until `work` is done: on one line of a terminal, or else in the log.
pub(crate) async fn with_progress<T>(stats: &RequestStats, work: impl Future<Output = T>) -> T {
    // If the terminal also shows the table, the progress line would be mixed with it.
    let on_terminal = io::stderr().is_terminal() && !io::stdout().is_terminal();
    let pause = if on_terminal {
        TERMINAL_PAUSE
    } else {
        LOG_PAUSE
    };
    let started = Instant::now();
    let mut ticks = tokio::time::interval_at(started + pause, pause);
    let mut work = pin!(work);
    loop {
        tokio::select! {
            done = &mut work => {
                if on_terminal {
                    logging::write(ERASE_LINE);
                }
                return done;
            }
            _ = ticks.tick() => {
                let (pages, rows) = (stats.pages(), stats.rows());
                let rows_per_second = rows / started.elapsed().as_secs().max(1);
                if on_terminal {
                    let line = format!("{pages} pages, {rows} rows, {rows_per_second} rows/s");
                    logging::write(&[ERASE_LINE, &line].concat());
                } else {
                    tracing::info!(pages, rows, rows_per_second, "exporting");
                }
            }
        }
    }
}

/// Moves the cursor to the start of the line on a terminal, and erases the line.
const ERASE_LINE: &str = "\r\x1b[K";

/// Pause between two updates of the progress line on a terminal.
const TERMINAL_PAUSE: Duration = Duration::from_millis(500);

/// Pause between two progress messages in the log.
const LOG_PAUSE: Duration = Duration::from_secs(10);
