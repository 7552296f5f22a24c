//! The budgets on the page, the most used first.

use std::cmp::Reverse;
use std::fmt::{self, Write as _};

use super::amount::Money;
use super::format::{Number, Text, bar};
use crate::report::budget::BudgetSpend;
use crate::report::threshold::{Severity, Threshold};
use crate::snapshot::State;

/// Every budget of every report, the most used first.
pub(super) struct Budgets<'a>(Vec<(&'a State, &'a BudgetSpend)>);

/// The class of a budget that has reached this threshold.
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

fn reached(budget: &BudgetSpend) -> Option<Threshold> {
    Threshold::reached(&budget.thresholds, budget.percent)
}

/// Says which threshold has been reached.
fn label(budget: &BudgetSpend) -> String {
    match (reached(budget), budget.thresholds.first()) {
        (Some(Threshold { at, .. }), _) => format!("{at} % reached"),
        (None, Some(Threshold { at, .. })) => format!("below {at} %"),
        (None, None) => "no thresholds".to_owned(),
    }
}

impl<'a> Budgets<'a> {
    pub(super) fn of(states: &[&'a State]) -> Self {
        let of_state = |state: &&'a State| {
            let state = *state;
            let summaries = state.summary.iter();
            summaries.flat_map(move |summary| summary.budgets.iter().map(move |one| (state, one)))
        };
        let mut budgets: Vec<_> = states.iter().flat_map(of_state).collect();
        budgets.sort_by_key(|(_, budget)| Reverse(budget.percent));
        Self(budgets)
    }

    /// Returns the class of the budgets with the highest severity and a sentence on them; `None` while no threshold for a
    /// warning is reached.
    pub(super) fn sentence(&self) -> Option<(&'static str, String)> {
        let all = || self.0.iter().filter_map(|(_, budget)| reached(budget));
        let severity = all().map(|threshold| threshold.severity).max()?;
        if severity == Severity::Info {
            return None;
        }
        let same = || all().filter(|threshold| threshold.severity == severity);
        let lowest = same().min_by_key(|threshold| threshold.at)?;
        let reached = match lowest.at {
            100 => "fully spent".to_owned(),
            at => format!("at least {at} % spent"),
        };
        let sentence = match (same().count(), self.0.len()) {
            (_, 1) => format!("The budget is {reached}."),
            (1, total) => format!("1 of {} budgets is {reached}.", Number(total)),
            (count, total) => {
                format!(
                    "{} of {} budgets are {reached}.",
                    Number(count),
                    Number(total)
                )
            }
        };
        Some((class(Some(lowest)), sentence))
    }

    pub(super) fn write(&self, html: &mut String) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        writeln!(html, "<h2>Budgets</h2>\n<ul class=\"budgets\">")?;
        for (state, budget) in self.0.iter().take(SHOWN_MAX) {
            write_budget(html, state, budget)?;
        }
        writeln!(html, "</ul>")?;
        if self.0.len() > SHOWN_MAX {
            let more = Number(self.0.len() - SHOWN_MAX);
            writeln!(
                html,
                "<p class=\"soft\">And {more} more, none of them used more.</p>"
            )?;
        }
        Ok(())
    }
}

fn write_budget(html: &mut String, state: &State, budget: &BudgetSpend) -> fmt::Result {
    let shade = if budget.percent >= 100 { "over" } else { "one" };
    write!(
        html,
        "<li><div class=\"head\"><b>{}</b><span class=\"state {}\">{}</span></div>{}\
         <p>{} of {} {} spent, <b>{}&nbsp;%</b></p><p class=\"soft\">",
        Text(&budget.name),
        class(reached(budget)),
        label(budget),
        bar(&[(shade, budget.percent.into())]),
        Money::new(&budget.spent, &budget.currency),
        Money::new(&budget.amount, &budget.currency),
        Text(&budget.currency),
        Number(budget.percent),
    )?;
    if let Some(tenant) = &state.tenant {
        write!(html, "{} · ", Text(tenant))?;
    }
    writeln!(html, "{}</p></li>", state.report)
}

/// Budgets shown: more than anyone reads, and the most used are on top.
const SHOWN_MAX: usize = 100;
