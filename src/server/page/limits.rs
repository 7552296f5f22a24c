//! The budgets and the pools of included minutes on the page, the most used first.

use std::cmp::Reverse;
use std::fmt::{self, Write as _};

use chrono::{DateTime, Datelike, Utc};

use super::amount::Money;
use super::format::{Number, Text, bar};
use crate::report::budget::BudgetSpend;
use crate::report::pool::PoolUse;
use crate::report::threshold::{Severity, Threshold};
use crate::snapshot::State;

/// All budgets or all pools, of all reports, the most used first.
pub(super) struct Limits<'a> {
    words: &'static Words,
    now: DateTime<Utc>,
    list: Vec<(&'a State, Limit<'a>)>,
}

#[derive(Clone, Copy)]
enum Limit<'a> {
    Budget(&'a BudgetSpend),
    Pool(&'a PoolUse),
}

/// The words of the page for budgets or for pools.
struct Words {
    heading: &'static str,
    one: &'static str,
    many: &'static str,
    used: &'static str,
}

const BUDGETS: Words = Words {
    heading: "Budgets",
    one: "budget",
    many: "budgets",
    used: "spent",
};

const POOLS: Words = Words {
    heading: "Included minutes",
    one: "pool",
    many: "pools",
    used: "used",
};

impl<'a> Limit<'a> {
    fn name(self) -> &'a str {
        match self {
            Self::Budget(budget) => &budget.name,
            Self::Pool(pool) => &pool.name,
        }
    }

    fn percent(self) -> u32 {
        match self {
            Self::Budget(budget) => budget.percent,
            Self::Pool(pool) => pool.percent,
        }
    }

    fn thresholds(self) -> &'a [Threshold] {
        match self {
            Self::Budget(budget) => &budget.thresholds,
            Self::Pool(pool) => &pool.thresholds,
        }
    }

    fn reached(self) -> Option<Threshold> {
        Threshold::reached(self.thresholds(), self.percent())
    }

    /// Returns true if a budget has figures of an earlier billing period, or a pool has figures of an earlier month,
    /// because no poll has succeeded since then.
    fn has_ended(self, state: &State, now: DateTime<Utc>) -> bool {
        match self {
            Self::Budget(_) => {
                let period = state.summary.as_ref().map(|summary| summary.period);
                period.is_some_and(|period| period.end() <= now)
            }
            Self::Pool(_) => {
                let fetched = state.last_success;
                fetched.is_some_and(|time| (time.year(), time.month()) != (now.year(), now.month()))
            }
        }
    }

    /// Returns a text that says which threshold has been reached.
    fn label(self) -> String {
        match (self.reached(), self.thresholds().first()) {
            (Some(Threshold { at, .. }), _) => format!("{at} % reached"),
            (None, Some(Threshold { at, .. })) => format!("below {at} %"),
            (None, None) => "no thresholds".to_owned(),
        }
    }

    /// Returns a text that says how much of the limit is used.
    fn figures(self) -> String {
        match self {
            Self::Budget(budget) => format!(
                "{} of {} {} spent",
                Money::new(&budget.spent, &budget.currency),
                Money::new(&budget.amount, &budget.currency),
                Text(&budget.currency),
            ),
            Self::Pool(pool) => format!(
                "<span title=\"{} seconds\">{}</span> of {} minutes used",
                pool.used,
                Number(pool.used / 60),
                Number(pool.seconds / 60),
            ),
        }
    }
}

impl<'a> Limits<'a> {
    pub(super) fn budgets(states: &[&'a State], now: DateTime<Utc>) -> Self {
        Self::of(states, now, &BUDGETS, |state| {
            let summary = state.summary.as_ref();
            let budgets = summary.map(|summary| &*summary.allocated.budgets);
            budgets.unwrap_or_default().iter().map(Limit::Budget)
        })
    }

    pub(super) fn pools(states: &[&'a State], now: DateTime<Utc>) -> Self {
        Self::of(states, now, &POOLS, |state| {
            let summary = state.summary.as_ref();
            let pools = summary.map(|summary| &*summary.allocated.pools);
            pools.unwrap_or_default().iter().map(Limit::Pool)
        })
    }

    fn of<I: Iterator<Item = Limit<'a>>>(
        states: &[&'a State],
        now: DateTime<Utc>,
        words: &'static Words,
        limits: impl Fn(&'a State) -> I,
    ) -> Self {
        let of_state = |&state: &&'a State| limits(state).map(move |limit| (state, limit));
        let mut list: Vec<_> = states.iter().flat_map(of_state).collect();
        list.sort_by_key(|(state, limit)| (limit.has_ended(state, now), Reverse(limit.percent())));
        Self { words, now, list }
    }

    /// Returns the CSS class of the limits with the highest severity, and a sentence about them. `None` if no limit has
    /// reached a threshold for a warning. Ignores limits of a period that has ended.
    pub(super) fn sentence(&self) -> Option<(&'static str, String)> {
        let Words {
            one, many, used, ..
        } = self.words;
        let current = |(state, limit): &&(&State, Limit<'_>)| !limit.has_ended(state, self.now);
        let current = || self.list.iter().filter(current);
        let all = || current().filter_map(|(_, limit)| limit.reached());
        let severity = all().map(|threshold| threshold.severity).max()?;
        if severity == Severity::Info {
            return None;
        }
        let same = || all().filter(|threshold| threshold.severity == severity);
        let lowest = same().min_by_key(|threshold| threshold.at)?;
        let reached = match lowest.at {
            100 => format!("fully {used}"),
            at => format!("at least {at} % {used}"),
        };
        let sentence = match (same().count(), self.list.len()) {
            (_, 1) => format!("The {one} is {reached}."),
            (1, total) => format!("1 of {} {many} is {reached}.", Number(total)),
            (count, total) => {
                format!(
                    "{} of {} {many} are {reached}.",
                    Number(count),
                    Number(total)
                )
            }
        };
        Some((class(Some(lowest)), sentence))
    }

    pub(super) fn write(&self, html: &mut String) -> fmt::Result {
        if self.list.is_empty() {
            return Ok(());
        }
        let heading = self.words.heading;
        writeln!(html, "<h2>{heading}</h2>\n<ul class=\"limits\">")?;
        for (state, limit) in self.list.iter().take(SHOWN_MAX) {
            write_limit(html, state, *limit, self.now)?;
        }
        writeln!(html, "</ul>")?;
        if self.list.len() > SHOWN_MAX {
            let more = Number(self.list.len() - SHOWN_MAX);
            writeln!(
                html,
                "<p class=\"soft\">{more} others are not shown. None of them that is current is used more than those above.</p>"
            )?;
        }
        Ok(())
    }
}

/// Returns the CSS class of a limit that has reached this threshold.
const fn class(reached: Option<Threshold>) -> &'static str {
    match reached {
        None => "ok",
        Some(threshold) => match threshold.severity {
            Severity::Info => "ok",
            Severity::Warning => "untried",
            Severity::Critical => "failing",
        },
    }
}

fn write_limit(
    html: &mut String,
    state: &State,
    limit: Limit<'_>,
    now: DateTime<Utc>,
) -> fmt::Result {
    let has_ended = limit.has_ended(state, now);
    let (class, label) = if has_ended {
        ("untried", "of a period that has ended".to_owned())
    } else {
        (class(limit.reached()), limit.label())
    };
    let percent = limit.percent();
    let shade = if percent >= 100 && !has_ended {
        "over"
    } else {
        "one"
    };
    write!(
        html,
        "<li><div class=\"head\"><b>{}</b><span class=\"state {}\">{}</span></div>{}\
         <p>{}, <b>{}&nbsp;%</b></p><p class=\"soft\">",
        Text(limit.name()),
        class,
        label,
        bar(&[(shade, percent.into())]),
        limit.figures(),
        Number(percent),
    )?;
    if let Some(tenant) = &state.tenant {
        write!(html, "{} · ", Text(tenant))?;
    }
    writeln!(html, "{}</p></li>", state.report)
}

/// Maximum number of budgets shown, and of pools. No administrator reads more, and the most used come first.
const SHOWN_MAX: usize = 100;
