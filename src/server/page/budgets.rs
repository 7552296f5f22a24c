//! The budgets on the page, the most used first.

use std::cmp::Reverse;
use std::fmt::{self, Write as _};

use super::amount::Money;
use super::format::{Bar, Number, Text};
use crate::report::budget::BudgetSpend;
use crate::snapshot::State;

/// Every budget of every report, the most used first.
pub(super) struct Budgets<'a>(Vec<(&'a State, &'a BudgetSpend)>);

/// The highest alert threshold that a budget has reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Below,
    Half,
    Most,
    Whole,
}

impl Level {
    const fn of(budget: &BudgetSpend) -> Self {
        match budget.percent {
            0..50 => Self::Below,
            50..80 => Self::Half,
            80..100 => Self::Most,
            100.. => Self::Whole,
        }
    }

    const fn class(self) -> &'static str {
        match self {
            Self::Below | Self::Half => "ok",
            Self::Most => "untried",
            Self::Whole => "failing",
        }
    }

    const fn label(self) -> &'static str {
        match self {
            Self::Below => "below 50 %",
            Self::Half => "50 % reached",
            Self::Most => "80 % reached",
            Self::Whole => "100 % reached",
        }
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

    /// Returns the class of the most used budgets and a sentence on them; `None` while all are below 80 %.
    pub(super) fn sentence(&self) -> Option<(&'static str, String)> {
        let level = Level::of(self.0.first()?.1);
        let reached = match level {
            Level::Below | Level::Half => return None,
            Level::Most => "at least 80 % spent",
            Level::Whole => "fully spent",
        };
        let same = |(_, budget): &&(_, &BudgetSpend)| Level::of(budget) == level;
        let sentence = match (self.0.iter().filter(same).count(), self.0.len()) {
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
        Some((level.class(), sentence))
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
    let level = Level::of(budget);
    let shade = if level == Level::Whole { "over" } else { "one" };
    write!(
        html,
        "<li><div class=\"head\"><b>{}</b><span class=\"state {}\">{}</span></div>{}\
         <p>{} of {} {} spent, <b>{}&nbsp;%</b></p><p class=\"soft\">",
        Text(&budget.name),
        level.class(),
        level.label(),
        Bar(&[(shade, budget.percent.into())]),
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
