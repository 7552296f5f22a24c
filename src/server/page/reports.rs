//! The reports on the page: one line for each report, and the first reports in full.

use std::fmt::{self, Display, Write as _};

use chrono::{DateTime, TimeDelta, Utc};

use super::amount::Money;
use super::format::{
    Escaped, Number, Text, ago, bar, count_heading, count_value, counts, report_title, span,
    timestamp,
};
use super::{FULL_MAX, PageContext, ReportStatus};
use crate::report::{Count, Spend};
use crate::snapshot::{Failure, State, Summary};

pub(super) fn write_table(
    html: &mut String,
    view: &PageContext<'_>,
    states: &[&State],
) -> fmt::Result {
    writeln!(
        html,
        "{}<table>\n<thead><tr><th>Report</th><th>State</th><th class=\"figure\">Spend so far</th>\
         <th class=\"wide\">Last success</th><th class=\"wide\">Next poll</th></tr></thead>\n<tbody>",
        scrollable("Reports")
    )?;
    for (index, state) in states.iter().take(ROWS_MAX).enumerate() {
        let (class, label) = ReportStatus::new(state).class_and_label();
        let mut title = report_title(state);
        if index < FULL_MAX {
            title = format!("<a href=\"#r{index}\">{title}</a>");
        }
        let spend = state.summary.iter().flat_map(|summary| &summary.spend);
        let spend = spend.map(|spend| {
            let total = Money::new(&spend.total, &spend.currency);
            format!("{} {total}", Text(&spend.currency))
        });
        let success = state.last_success.map(|at| ago(at, view.now));
        writeln!(
            html,
            "<tr><td class=\"name\">{title}</td><td><span class=\"state {class}\">{label}</span></td>\
             <td class=\"figure\">{}</td><td class=\"wide\">{}</td><td class=\"wide\">{}</td></tr>",
            spend.collect::<Vec<_>>().join("<br>"),
            success.as_deref().unwrap_or("never"),
            due(state, view.now),
        )?;
    }
    writeln!(html, "</tbody></table></div>")?;
    if states.len() > ROWS_MAX {
        writeln!(
            html,
            "<p class=\"soft\">And {} more, in no worse state than these.</p>",
            Number(states.len() - ROWS_MAX)
        )?;
    }
    Ok(())
}

/// Writes one report in full.
pub(super) fn write_in_full(
    html: &mut String,
    view: &PageContext<'_>,
    index: usize,
    state: &State,
) -> fmt::Result {
    let (class, label) = ReportStatus::new(state).class_and_label();
    writeln!(
        html,
        "<section class=\"sheet\" id=\"r{index}\">\n<div class=\"head\"><h2>{}</h2><span class=\"state {class}\">{label}</span></div>",
        report_title(state)
    )?;
    if let Some(failure) = &state.failure {
        write_failure(html, view, state, failure)?;
    }
    writeln!(html, "<dl class=\"facts\">")?;
    if let Some(summary) = &state.summary {
        write_period(html, view, summary)?;
    }
    let past = |at| format!("{} {}", ago(at, view.now), timestamp(at));
    let past = |at: Option<_>| at.map_or_else(|| "never".to_owned(), past);
    let newest = state.summary.as_ref().and_then(|summary| summary.newest);
    let next = state.next_poll.filter(|_| !state.polling.is_under_way());
    let next = next.map_or_else(String::new, |at| format!(" {}", timestamp(at)));
    let facts = [
        ("Last success", past(state.last_success)),
        ("Last attempt", past(state.last_attempt)),
        ("Next poll", due(state, view.now) + &next),
    ];
    let data = newest.map(|newest| ("Data up to", past(Some(newest))));
    for (name, fact) in data.into_iter().chain(facts) {
        writeln!(html, "<div><dt>{name}</dt><dd>{fact}</dd></div>")?;
    }
    writeln!(html, "</dl>")?;
    if state.expired {
        writeln!(
            html,
            "<p class=\"facts soft\">The figures are older than poll.max_age and are no longer exported.</p>"
        )?;
    }
    if let Some(summary) = &state.summary {
        write_summary(html, summary)?;
    }
    writeln!(html, "</section>")
}

fn write_failure(
    html: &mut String,
    view: &PageContext<'_>,
    state: &State,
    failure: &Failure,
) -> fmt::Result {
    let since = match state.last_success.map(|at| span(view.now - at)) {
        Some(age) => format!("The last poll failed. The figures are {age} old."),
        None => "No poll has succeeded yet.".to_owned(),
    };
    writeln!(
        html,
        "<div class=\"alarm\"><p><b>{since}</b></p><p><code>{}</code>: {}</p>\
         <p><b>What to do:</b> {}</p></div>",
        Text(failure.reason),
        Text(&failure.message),
        Text(failure.remedy),
    )
}

fn write_period(html: &mut String, view: &PageContext<'_>, summary: &Summary) -> fmt::Result {
    let period = summary.period;
    let whole = (period.end() - period.start()).num_seconds().max(1);
    let elapsed = (view.now - period.start()).num_seconds().clamp(0, whole);
    let percent = elapsed * 100 / whole;
    let left = period.end() - view.now;
    writeln!(
        html,
        "<div class=\"whole\"><dt>Billing period</dt><dd>{} {}<span class=\"soft\">{}</span></dd></div>",
        Escaped(&period.to_string()),
        bar(&[("one", percent)]),
        if left > TimeDelta::zero() {
            format!("{percent} % of the period elapsed, {} left", span(left))
        } else {
            "The period has ended. The first report of the new period has not arrived yet."
                .to_owned()
        }
    )
}

fn write_summary(html: &mut String, summary: &Summary) -> fmt::Result {
    if summary.spend.is_empty() {
        let facts = if summary.counts.is_empty() {
            "No charges in this billing period so far.".to_owned()
        } else {
            counts(&summary.counts)
        };
        return writeln!(html, "<p class=\"facts soft\">{facts}</p>");
    }
    writeln!(html, "<div class=\"spends\">")?;
    for spend in &summary.spend {
        write_spend(html, spend)?;
    }
    writeln!(html, "</div>")?;
    let users = summary.top.iter();
    let users = users.map(|one| (&*one.currency, &*one.user, &*one.charge, &*one.counts));
    write_top(html, ["users", "User"], users)?;
    let departments = summary.allocated.departments.iter();
    let departments =
        departments.map(|one| (&*one.currency, &*one.department, &*one.charge, &*one.counts));
    write_top(html, ["departments", "Department"], departments)
}

/// The currency, name, charge and counts of a user or department.
type Spender<'a> = (&'a str, &'a str, &'a str, &'a [Count]);

/// Writes one list per currency, with the users or departments that spent most. `spenders` must be sorted by currency.
fn write_top<'a>(
    html: &mut String,
    words: [&str; 2],
    spenders: impl Iterator<Item = Spender<'a>>,
) -> fmt::Result {
    let spenders: Vec<_> = spenders.collect();
    let by_currency = spenders.chunk_by(|a, b| a.0 == b.0);
    by_currency
        .take(TOP_LISTS_MAX)
        .try_for_each(|top| write_top_of_currency(html, words, top))
}

fn write_top_of_currency(
    html: &mut String,
    [all, one]: [&str; 2],
    top: &[Spender<'_>],
) -> fmt::Result {
    let &(currency, _, _, counts) = &top[0];
    write!(
        html,
        "<h3>Top {all}, {}</h3>\n{}<table>\n<thead><tr><th>{one}</th><th class=\"figure\">Charge</th>",
        Text(currency),
        scrollable(format_args!("Top {all}, {}", Escaped(currency))),
    )?;
    for heading in counts.iter().map(count_heading) {
        write!(html, "<th class=\"figure wide\">{heading}</th>")?;
    }
    writeln!(html, "</tr></thead>\n<tbody>")?;
    for (_, name, charge, counts) in top {
        write!(
            html,
            "<tr><td class=\"name\">{}</td><td class=\"figure\">{}</td>",
            Text(name),
            Money::new(charge, currency),
        )?;
        for value in counts.iter().map(count_value) {
            write!(html, "<td class=\"figure wide\">{value}</td>")?;
        }
        writeln!(html, "</tr>")?;
    }
    writeln!(html, "</tbody></table></div>")
}

fn write_spend(html: &mut String, spend: &Spend) -> fmt::Result {
    let shares: Vec<_> = spend
        .contexts
        .iter()
        .filter_map(|(context, _, share)| Some((shade(context), i64::from((*share)?))))
        .collect();
    writeln!(
        html,
        "<div><p class=\"total\">{} <small>{}</small></p>\n<p class=\"soft\">{}</p>\n{}\n<ul>",
        Money::new(&spend.total, &spend.currency),
        Text(&spend.currency),
        counts(&spend.counts),
        bar(&shares),
    )?;
    for (context, amount, share) in spend.contexts.iter().take(CONTEXTS_MAX) {
        let share = share.map(|share| format!(" <span class=\"soft\">{share} %</span>"));
        writeln!(
            html,
            "<li class=\"{}\"><span>{}</span><span class=\"figure\">{}{}</span></li>",
            shade(context),
            Text(context),
            Money::new(amount, &spend.currency),
            share.unwrap_or_default(),
        )?;
    }
    writeln!(html, "</ul></div>")
}

/// Returns the shade of a destination context. International calls, which cause most of the cost, have the same shade
/// in every bar.
fn shade(context: &str) -> &'static str {
    match context {
        "International" => "one",
        "Domestic" => "two",
        _ => "three",
    }
}

fn due(state: &State, now: DateTime<Utc>) -> String {
    match state.next_poll {
        _ if state.polling.is_under_way() => "polling…".to_owned(),
        None => "unknown".to_owned(),
        Some(at) if at <= now => "due now".to_owned(),
        Some(at) => format!("in {}", span(at - now)),
    }
}

/// Returns the opening tag of an element that scrolls if the table in it is too wide. The element has a name and can
/// take the focus, so users can scroll it with the keyboard.
fn scrollable(name: impl Display) -> String {
    format!("<div class=\"scroll\" role=\"group\" aria-label=\"{name}\" tabindex=\"0\">")
}

/// Maximum number of lines of the table. Failing reports come first, so they are the last to be left out.
const ROWS_MAX: usize = 1000;

/// Maximum number of currencies for which a report shows its top users, and its top departments.
const TOP_LISTS_MAX: usize = 5;

/// Maximum number of destination contexts shown per currency. Microsoft documents two.
const CONTEXTS_MAX: usize = 10;
