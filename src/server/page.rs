//! The page at `/`, for people: what an administrator opens first when something looks wrong.
//!
//! Made anew for each request from what is published, without script, without anything from elsewhere, and bounded: with
//! a thousand tenants the failing ones are on top, and only the first are shown in full. Every text is escaped, and set
//! apart from the text around it, for names may be written from right to left.

mod words;

use std::fmt::{self, Write as _};

use chrono::{DateTime, TimeDelta, Utc};

use super::About;
use crate::report::{Organizer, Spend};
use crate::snapshot::{Failure, State, Summary};

use words::{Ago, Bar, Counts, Escaped, Figure, Moment, Span, Text, Title};

/// What the page is made from.
#[derive(Debug)]
pub struct View<'a> {
    /// Every report of every tenant.
    pub states: &'a [State],
    /// The time of day.
    pub now: DateTime<Utc>,
    /// What the program is.
    pub about: &'a About,
    /// Why it is not ready, where it is not.
    pub unready: Option<&'a str>,
    /// Why the newest web configuration file is not in force, where it is not.
    pub complaint: Option<&'a str>,
    /// Where the metrics are.
    pub telemetry_path: &'a str,
}

/// The page as HTML.
pub fn render(view: &View<'_>) -> String {
    let mut html = String::with_capacity(16 * 1024);
    let written = write_page(&mut html, view);
    debug_assert!(written.is_ok(), "a String takes everything");
    html
}

/// How a report is doing; in the order in which they are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Health {
    Never,
    Failing,
    Untried,
    Fine,
}

impl Health {
    const fn of(state: &State) -> Self {
        match (&state.failure, state.last_success) {
            (Some(_), None) => Self::Never,
            (Some(_), Some(_)) => Self::Failing,
            (None, None) => Self::Untried,
            (None, Some(_)) => Self::Fine,
        }
    }

    const fn class(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Failing => "failing",
            Self::Untried => "untried",
            Self::Fine => "ok",
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Never => "never succeeded",
            Self::Failing => "failing",
            Self::Untried => "not yet tried",
            Self::Fine => "ok",
        }
    }
}

fn write_page(html: &mut String, view: &View<'_>) -> fmt::Result {
    let mut states: Vec<&State> = view.states.iter().collect();
    states.sort_by_key(|state| Health::of(state));
    write!(
        html,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Teams PSTN exporter</title>\n<style>\n{CSS}</style>\n</head>\n<body>\n\
         <header>\n<h1>Teams PSTN exporter</h1>\n\
         <p class=\"soft\">The telephony cost of Microsoft Teams in the current billing period, for Prometheus.</p>\n\
         <nav><a href=\"{path}\">Metrics</a> <a href=\"/-/ready\">Ready</a> <a href=\"/-/healthy\">Healthy</a></nav>\n\
         </header>\n<main>\n",
        path = Escaped(view.telemetry_path),
    )?;
    write_overview(html, view, &states)?;
    for (index, state) in states.iter().take(FULL_MAX).enumerate() {
        write_state(html, view, index, state)?;
    }
    if states.len() > FULL_MAX {
        writeln!(
            html,
            "<p class=\"soft sheet\">Shown in full are the first {FULL_MAX} of {} reports, failing ones first.</p>",
            states.len()
        )?;
    }
    writeln!(
        html,
        "</main>\n<footer class=\"soft\">Version {} ({}). As of {}. The numbers are those of the newest complete \
         reports; Microsoft's data comes 24 to 48 hours late.</footer>\n</body>\n</html>",
        Escaped(view.about.version),
        Escaped(view.about.revision),
        Moment(view.now),
    )
}

/// The state of everything in one sentence, and one line for each report where there are several.
fn write_overview(html: &mut String, view: &View<'_>, states: &[&State]) -> fmt::Result {
    let count = |health| {
        let is = |state: &&&State| Health::of(state) == health;
        states.iter().filter(is).count()
    };
    let failing = count(Health::Never) + count(Health::Failing);
    let untried = count(Health::Untried);
    let total = states.len();
    let (class, sentence) = match (total, failing, untried) {
        (0, _, _) => ("untried", "There is no tenant to poll.".to_owned()),
        (1, 0, 0) => ("ok", "The report is up to date.".to_owned()),
        (1, 0, _) => (
            "untried",
            "The report is being fetched for the first time.".to_owned(),
        ),
        (1, _, _) => ("failing", "The report is failing.".to_owned()),
        (_, 0, 0) => ("ok", format!("All {total} reports are up to date.")),
        (_, 0, _) => (
            "untried",
            format!("{untried} of {total} reports are being fetched for the first time."),
        ),
        (..) => (
            "failing",
            format!("{failing} of {total} reports are failing."),
        ),
    };
    writeln!(
        html,
        "<section class=\"sheet\">\n<p class=\"lead {class}\">{sentence}</p>"
    )?;
    if let Some(reason) = view.unready {
        writeln!(html, "<p class=\"soft\">Not ready: {}</p>", Text(reason))?;
    }
    if let Some(complaint) = view.complaint {
        writeln!(
            html,
            "<div class=\"alarm\"><p><b>The new web configuration file is not in force.</b></p><p>{}</p></div>",
            Text(complaint)
        )?;
    }
    if total > 1 {
        write_table(html, view, states)?;
    }
    writeln!(html, "</section>")
}

fn write_table(html: &mut String, view: &View<'_>, states: &[&State]) -> fmt::Result {
    writeln!(
        html,
        "<div class=\"scroll\"><table>\n<thead><tr><th>Report</th><th>State</th><th class=\"figure\">Spend so far</th>\
         <th class=\"wide\">Last success</th><th class=\"wide\">Next poll</th></tr></thead>\n<tbody>"
    )?;
    for (index, state) in states.iter().take(ROWS_MAX).enumerate() {
        let health = Health::of(state);
        write!(html, "<tr><td class=\"name\">")?;
        if index < FULL_MAX {
            write!(html, "<a href=\"#r{index}\">{}</a>", Title(state))?;
        } else {
            write!(html, "{}", Title(state))?;
        }
        write!(
            html,
            "</td><td><span class=\"state {}\">{}</span></td><td class=\"figure\">",
            health.class(),
            health.words()
        )?;
        let spend = state.summary.iter().flat_map(|summary| &summary.spend);
        for (position, spend) in spend.enumerate() {
            let separator = if position == 0 { "" } else { "<br>" };
            write!(
                html,
                "{separator}{} {}",
                Text(&spend.currency),
                Text(&spend.total)
            )?;
        }
        writeln!(
            html,
            "</td><td class=\"wide\">{}</td><td class=\"wide\">{}</td></tr>",
            state
                .last_success
                .map_or(Ago::Never, |at| Ago::of(at, view.now)),
            due(state, view.now),
        )?;
    }
    writeln!(html, "</tbody></table></div>")?;
    if states.len() > ROWS_MAX {
        writeln!(
            html,
            "<p class=\"soft\">And {} more, none of which is doing worse.</p>",
            states.len() - ROWS_MAX
        )?;
    }
    Ok(())
}

/// One report in full.
fn write_state(html: &mut String, view: &View<'_>, index: usize, state: &State) -> fmt::Result {
    let health = Health::of(state);
    writeln!(
        html,
        "<section class=\"sheet\" id=\"r{index}\">\n<div class=\"head\"><h2>{}</h2><span class=\"state {}\">{}</span></div>",
        Title(state),
        health.class(),
        health.words()
    )?;
    if let Some(failure) = &state.failure {
        write_failure(html, view, state, failure)?;
    }
    writeln!(html, "<dl class=\"facts\">")?;
    if let Some(summary) = &state.summary {
        write_period(html, view, summary)?;
    }
    let moments = [
        ("Last success", state.last_success),
        ("Last attempt", state.last_attempt),
    ];
    for (name, at) in moments {
        match at {
            Some(at) => writeln!(
                html,
                "<div><dt>{name}</dt><dd>{} {}</dd></div>",
                Ago::of(at, view.now),
                Moment(at)
            )?,
            None => writeln!(html, "<div><dt>{name}</dt><dd>never</dd></div>")?,
        }
    }
    if let Some(at) = state.next_poll {
        let due = due(state, view.now);
        writeln!(
            html,
            "<div><dt>Next poll</dt><dd>{due} {}</dd></div>",
            Moment(at)
        )?;
    }
    writeln!(html, "</dl>")?;
    if state.expired {
        writeln!(
            html,
            "<p class=\"facts soft\">The numbers are older than poll.max_age, and no longer served.</p>"
        )?;
    }
    if let Some(summary) = &state.summary {
        write_summary(html, summary)?;
    }
    writeln!(html, "</section>")
}

fn write_failure(
    html: &mut String,
    view: &View<'_>,
    state: &State,
    failure: &Failure,
) -> fmt::Result {
    let since = match state.last_success {
        Some(at) => format!(
            "The last poll failed; the numbers are {} old.",
            Span(view.now - at)
        ),
        None => "No poll has succeeded yet.".to_owned(),
    };
    write!(
        html,
        "<div class=\"alarm\"><p><b>{since}</b></p><p><code>{}</code>: {}</p>",
        Text(failure.reason),
        Text(&failure.message)
    )?;
    let remedy = Text(failure.remedy);
    writeln!(html, "<p><b>What to do:</b> {remedy}</p></div>")
}

fn write_period(html: &mut String, view: &View<'_>, summary: &Summary) -> fmt::Result {
    let period = summary.period;
    let whole = (period.end() - period.start()).num_seconds().max(1);
    let over = (view.now - period.start()).num_seconds().clamp(0, whole);
    let percent = over * 100 / whole;
    let left = period.end() - view.now;
    writeln!(
        html,
        "<div class=\"whole\"><dt>Billing period</dt><dd>{} {}<span class=\"soft\">{}</span></dd></div>",
        Escaped(&period.to_string()),
        Bar(&[("one", percent)]),
        if left > TimeDelta::zero() {
            format!("{percent} % over, {} left", Span(left))
        } else {
            "over; the new period's first report is awaited".to_owned()
        }
    )
}

fn write_summary(html: &mut String, summary: &Summary) -> fmt::Result {
    if summary.spend.is_empty() {
        let facts = if summary.counts.is_empty() {
            "No charges in this billing period so far.".to_owned()
        } else {
            Counts(&summary.counts).to_string()
        };
        return writeln!(html, "<p class=\"facts soft\">{facts}</p>");
    }
    writeln!(html, "<div class=\"spends\">")?;
    for spend in &summary.spend {
        write_spend(html, spend)?;
    }
    writeln!(html, "</div>")?;
    if summary.top.is_empty() {
        return Ok(());
    }
    writeln!(
        html,
        "<details open><summary>Top users</summary>\n<div class=\"scroll\"><table>\n<thead><tr><th>User</th>\
         <th class=\"figure\">Charge</th>"
    )?;
    for count in &summary.top[0].counts {
        write!(html, "<th class=\"figure wide\">{}</th>", Text(&count.what))?;
    }
    writeln!(html, "</tr></thead>\n<tbody>")?;
    for Organizer {
        user,
        currency,
        charge,
        counts,
    } in summary.top.iter().take(ORGANIZERS_MAX)
    {
        write!(
            html,
            "<tr><td class=\"name\">{}</td><td class=\"figure\">{} {}</td>",
            Text(user),
            Text(currency),
            Text(charge),
        )?;
        for count in counts {
            write!(html, "<td class=\"figure wide\">{}</td>", Figure(count))?;
        }
        writeln!(html, "</tr>")?;
    }
    writeln!(html, "</tbody></table></div></details>")
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
        Text(&spend.total),
        Text(&spend.currency),
        Counts(&spend.counts),
        Bar(&shares),
    )?;
    for (context, amount, share) in spend.contexts.iter().take(CONTEXTS_MAX) {
        write!(
            html,
            "<li class=\"{}\"><span>{}</span><span class=\"figure\">{}",
            shade(context),
            Text(context),
            Text(amount)
        )?;
        if let Some(share) = share {
            write!(html, " <span class=\"soft\">{share} %</span>")?;
        }
        writeln!(html, "</span></li>")?;
    }
    writeln!(html, "</ul></div>")
}

/// International calls, which make the cost, have the same shade everywhere.
fn shade(context: &str) -> &'static str {
    match context {
        "International" => "one",
        "Domestic" => "two",
        _ => "three",
    }
}

fn due(state: &State, now: DateTime<Utc>) -> Ago {
    match state.next_poll {
        None => Ago::Unknown,
        Some(at) if at <= now => Ago::Now,
        Some(at) => Ago::In(at - now),
    }
}

const CSS: &str = include_str!("page.css");

/// Reports shown in full: more than anyone reads, and the page stays below a few hundred KiB.
const FULL_MAX: usize = 50;

/// Lines of the table; the failing ones are on top, so what is left out is well.
const ROWS_MAX: usize = 1000;

/// Ten in each of a handful of currencies.
const ORGANIZERS_MAX: usize = 50;

/// Destination contexts of one currency: Microsoft knows two.
const CONTEXTS_MAX: usize = 10;

#[cfg(test)]
mod tests;
