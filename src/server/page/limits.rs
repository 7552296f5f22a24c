//! The budgets and the pools of included minutes on the page, the most used first.

use std::cmp::Reverse;
use std::fmt::{self, Write as _};

use chrono::{DateTime, Datelike, Utc};

use super::amount::Money;
use super::format::{Number, Text, bar};
use crate::report::budget::BudgetSpend;
use crate::report::pool::PoolUse;
use crate::report::threshold::{Severity, Threshold};
use crate::snapshot::{State, Summary};

/// All budgets or all pools, of all reports, the most used first.
pub(super) struct Limits<'a> {
    heading: &'static str,
    /// `budget` or `pool`.
    noun: &'static str,
    /// `spent` or `used`.
    verb: &'static str,
    list: Vec<Limit<'a>>,
}

/// A budget or a pool.
struct Limit<'a> {
    state: &'a State,
    name: &'a str,
    percent: u32,
    thresholds: &'a [Threshold],
    /// The highest threshold that has been reached.
    reached: Option<Threshold>,
    /// True if a budget has figures of an earlier billing period, or a pool has figures of an earlier month, because no
    /// poll has succeeded since then.
    has_ended: bool,
    figures: Figures<'a>,
}

/// How much of a limit is used.
enum Figures<'a> {
    Spent(&'a BudgetSpend),
    Used(&'a PoolUse),
}

impl<'a> Limits<'a> {
    pub(super) fn budgets(states: &[&'a State], now: DateTime<Utc>) -> Self {
        let mut list = Vec::new();
        for (state, summary) in summaries(states) {
            for budget in &summary.allocated.budgets[..] {
                list.push(Limit {
                    state,
                    name: &budget.name,
                    percent: budget.percent,
                    thresholds: &budget.thresholds,
                    reached: Threshold::reached(&budget.thresholds, budget.percent),
                    has_ended: summary.period.end() <= now,
                    figures: Figures::Spent(budget),
                });
            }
        }
        list.sort_by_key(Limit::rank);
        Self {
            heading: "Budgets",
            noun: "budget",
            verb: "spent",
            list,
        }
    }

    pub(super) fn pools(states: &[&'a State], now: DateTime<Utc>) -> Self {
        let month = |time: DateTime<Utc>| (time.year(), time.month());
        let mut list = Vec::new();
        for (state, summary) in summaries(states) {
            let fetched = state.last_success;
            let has_ended = fetched.is_some_and(|time| month(time) != month(now));
            for pool in &summary.allocated.pools[..] {
                list.push(Limit {
                    state,
                    name: &pool.name,
                    percent: pool.percent,
                    thresholds: &pool.thresholds,
                    reached: Threshold::reached(&pool.thresholds, pool.percent),
                    has_ended,
                    figures: Figures::Used(pool),
                });
            }
        }
        list.sort_by_key(Limit::rank);
        Self {
            heading: "Included minutes",
            noun: "pool",
            verb: "used",
            list,
        }
    }

    /// Returns a CSS class and a sentence for the limits that have reached the highest severity. Returns `None` if no
    /// limit has reached `warning` or `critical`. Ignores limits of a period that has ended.
    pub(super) fn sentence(&self) -> Option<(&'static str, String)> {
        let (noun, verb) = (self.noun, self.verb);
        let current = || self.list.iter().filter(|limit| !limit.has_ended);
        let all = || current().filter_map(|limit| limit.reached);
        let severity = all().map(|threshold| threshold.severity).max()?;
        if severity == Severity::Info {
            return None;
        }
        let same = || all().filter(|threshold| threshold.severity == severity);
        let lowest = same().min_by_key(|threshold| threshold.at)?;
        let reached = match lowest.at {
            100 => format!("fully {verb}"),
            at => format!("at least {at} % {verb}"),
        };
        let sentence = match (same().count(), self.list.len()) {
            (_, 1) => format!("The {noun} is {reached}."),
            (1, total) => format!("1 of {} {noun}s is {reached}.", Number(total)),
            (count, total) => {
                let (count, total) = (Number(count), Number(total));
                format!("{count} of {total} {noun}s are {reached}.")
            }
        };
        Some((class(lowest), sentence))
    }

    pub(super) fn write(&self, html: &mut String) -> fmt::Result {
        if self.list.is_empty() {
            return Ok(());
        }
        writeln!(html, "<h2>{}</h2>\n<ul class=\"limits\">", self.heading)?;
        for limit in self.list.iter().take(SHOWN_MAX) {
            limit.write(html)?;
        }
        writeln!(html, "</ul>")?;
        if self.list.len() > SHOWN_MAX {
            let more = Number(self.list.len() - SHOWN_MAX);
            writeln!(
                html,
                "<p class=\"soft\">{more} others are not shown: they are used no more than these, or their period has ended.</p>"
            )?;
        }
        Ok(())
    }
}

impl Limit<'_> {
    /// Returns the sort key: the most used limits come first, and limits of a period that has ended come last.
    fn rank(&self) -> (bool, Reverse<u32>) {
        (self.has_ended, Reverse(self.percent))
    }

    fn write(&self, html: &mut String) -> fmt::Result {
        let percent = self.percent;
        let (class, label) = match (self.reached, self.thresholds.first()) {
            _ if self.has_ended => ("untried", "of a period that has ended".to_owned()),
            (Some(reached), _) => (class(reached), format!("{} % reached", reached.at)),
            (None, Some(lowest)) => ("ok", format!("below {} %", lowest.at)),
            (None, None) => ("ok", "no thresholds".to_owned()),
        };
        let shade = if percent >= 100 && !self.has_ended {
            "over"
        } else {
            "one"
        };
        write!(
            html,
            "<li><div class=\"head\"><b>{}</b><span class=\"state {class}\">{label}</span></div>{}\
             <p>",
            Text(self.name),
            bar(&[(shade, percent.into())]),
        )?;
        match self.figures {
            Figures::Spent(budget) => write!(
                html,
                "{} of {} {} spent",
                Money::new(&budget.spent, &budget.currency),
                Money::new(&budget.amount, &budget.currency),
                Text(&budget.currency),
            ),
            Figures::Used(pool) => write!(
                html,
                "<span title=\"{} seconds\">{}</span> of {} minutes used",
                pool.used,
                Number(pool.used / 60),
                Number(pool.seconds / 60),
            ),
        }?;
        let percent = Number(percent);
        write!(html, ", <b>{percent}&nbsp;%</b></p><p class=\"soft\">")?;
        if let Some(tenant) = &self.state.tenant {
            write!(html, "{} · ", Text(tenant))?;
        }
        writeln!(html, "{}</p></li>", self.state.report)
    }
}

/// Returns the reports that have figures.
fn summaries<'a>(states: &[&'a State]) -> impl Iterator<Item = (&'a State, &'a Summary)> {
    let summaries = states
        .iter()
        .map(|state| (*state, state.summary.as_deref()));
    summaries.filter_map(|(state, summary)| Some((state, summary?)))
}

/// Returns the CSS class of a limit that has reached this threshold.
const fn class(reached: Threshold) -> &'static str {
    match reached.severity {
        Severity::Info => "ok",
        Severity::Warning => "untried",
        Severity::Critical => "failing",
    }
}

/// Maximum number of budgets shown, and of pools. No administrator reads more, and the most used come first.
const SHOWN_MAX: usize = 100;
