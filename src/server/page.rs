//! The HTML page at `/`, which an administrator opens first when something looks wrong.
//!
//! The page has no script and loads nothing. Its size is limited: failing reports come first, and only the first
//! reports are shown in full. Every external text is escaped. It is also isolated from the text around it, because
//! names may be written from right to left.

mod amount;
mod format;
mod limits;
mod reports;

use std::fmt::{self, Write as _};

use chrono::{DateTime, Utc};

use crate::snapshot::State;

use format::{Escaped, Number, Text, timestamp, truncate};
use limits::Limits;

#[derive(Debug)]
pub(crate) struct PageContext<'a> {
    /// Every report of every tenant.
    pub(crate) states: &'a [State],
    pub(crate) now: DateTime<Utc>,
    /// The reason why the exporter is not ready; `None` if it is ready.
    pub(crate) unready: Option<&'a str>,
    /// The error of the last reload; `None` if the new configuration was accepted.
    pub(crate) refused_reload: Option<&'a str>,
    /// The error of the newest web configuration file, if that file is not in use.
    pub(crate) web_config_error: Option<&'a str>,
    pub(crate) telemetry_path: &'a str,
}

pub(crate) fn render(view: &PageContext<'_>) -> String {
    let mut html = String::with_capacity(16 * 1024);
    let written = write_page(&mut html, view);
    debug_assert!(written.is_ok(), "a String takes everything");
    html
}

/// The status of a report. The page shows reports in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum ReportStatus {
    Never,
    Failing,
    Untried,
    Fine,
}

impl ReportStatus {
    const fn new(state: &State) -> Self {
        match (&state.failure, state.last_success) {
            (Some(_), None) => Self::Never,
            (Some(_), Some(_)) => Self::Failing,
            (None, None) => Self::Untried,
            (None, Some(_)) => Self::Fine,
        }
    }

    const fn class_and_label(self) -> (&'static str, &'static str) {
        match self {
            Self::Never => ("never", "never succeeded"),
            Self::Failing => ("failing", "failing"),
            Self::Untried => ("untried", "not yet tried"),
            Self::Fine => ("ok", "ok"),
        }
    }
}

fn write_page(html: &mut String, view: &PageContext<'_>) -> fmt::Result {
    let mut states: Vec<&State> = view.states.iter().collect();
    states.sort_by_key(|state| ReportStatus::new(state));
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
        reports::write_in_full(html, view, index, state)?;
    }
    if states.len() > FULL_MAX {
        writeln!(
            html,
            "<p class=\"soft sheet\">Only the first {FULL_MAX} of {} reports are shown in full, failing ones first.</p>",
            Number(states.len())
        )?;
    }
    writeln!(
        html,
        "</main>\n<footer class=\"soft\">Version {} ({}). As of {}. Figures come from the last complete \
         reports. Microsoft's data is 24 to 48 hours late.</footer>\n</body>\n</html>",
        Escaped(crate::VERSION),
        Escaped(crate::REVISION),
        timestamp(view.now),
    )
}

/// Writes the headline, the budgets and pools, and one line for each report if there are several.
fn write_overview(html: &mut String, view: &PageContext<'_>, states: &[&State]) -> fmt::Result {
    let limits = [
        Limits::budgets(states, view.now),
        Limits::pools(states, view.now),
    ];
    writeln!(html, "<section class=\"sheet\">")?;
    write_headline(html, view, states, &limits)?;
    if let Some(reason) = view.unready {
        writeln!(html, "<p class=\"soft\">Not ready: {}</p>", Text(reason))?;
    }
    if let Some(error) = view.refused_reload {
        writeln!(
            html,
            "<div class=\"alarm\"><p><b>The new configuration was refused. The previous one stays in use.</b></p>\
             <pre>{}</pre><p><b>What to do:</b> Correct the configuration, check it with <code>--config.check</code>, and \
             reload again.</p></div>",
            Text(&truncate(error, ERROR_MAX))
        )?;
    }
    if let Some(web_config_error) = view.web_config_error {
        writeln!(
            html,
            "<div class=\"alarm\"><p><b>The new web configuration file was refused. The previous one stays in use.</b></p>\
             <p>{}</p></div>",
            Text(&truncate(web_config_error, ERROR_MAX))
        )?;
    }
    for limits in &limits {
        limits.write(html)?;
    }
    if states.len() > 1 {
        reports::write_table(html, view, states)?;
    }
    writeln!(html, "</section>")
}

/// Writes the headline: first the problems of budgets, pools and configuration, if any, then the state of the reports.
fn write_headline(
    html: &mut String,
    view: &PageContext<'_>,
    states: &[&State],
    limits: &[Limits<'_>],
) -> fmt::Result {
    let (mut class, reports) = reports_sentence(states);
    let mut sentences = Vec::new();
    for (level, sentence) in limits.iter().filter_map(Limits::sentence) {
        class = worse(class, level);
        sentences.push(sentence);
    }
    if view.refused_reload.is_some() {
        class = worse(class, "failing");
        sentences.push("The new configuration was refused.".to_owned());
    }
    if view.web_config_error.is_some() {
        class = worse(class, "failing");
        sentences.push("The new web configuration file was refused.".to_owned());
    }
    sentences.push(reports);
    writeln!(
        html,
        "<p class=\"lead {class}\"><span>{}</span></p>",
        sentences.join(" ")
    )
}

/// Returns the worse of two CSS classes. From worst to best they are `failing`, `untried`, `ok`.
fn worse(one: &'static str, other: &'static str) -> &'static str {
    match (one, other) {
        ("failing", _) | (_, "failing") => "failing",
        ("untried", _) | (_, "untried") => "untried",
        _ => "ok",
    }
}

/// Returns the CSS class for all reports together, and a sentence about their state.
fn reports_sentence(states: &[&State]) -> (&'static str, String) {
    let count = |health| {
        let is = |state: &&&State| ReportStatus::new(state) == health;
        states.iter().filter(is).count()
    };
    let failing = count(ReportStatus::Never) + count(ReportStatus::Failing);
    let untried = count(ReportStatus::Untried);
    let total = states.len();
    let of_total = |count: usize| {
        let verb = if count == 1 { "is" } else { "are" };
        format!("{} of {} reports {verb}", Number(count), Number(total))
    };
    match (total, failing, untried) {
        (0, _, _) => ("untried", "There is no tenant to poll.".to_owned()),
        (1, 0, 0) => ("ok", "The report is up to date.".to_owned()),
        (1, 0, _) => (
            "untried",
            "The report is being fetched for the first time.".to_owned(),
        ),
        (1, _, _) => ("failing", "The report is failing.".to_owned()),
        (_, 0, 0) => (
            "ok",
            format!("All {} reports are up to date.", Number(total)),
        ),
        (_, 0, _) => (
            "untried",
            format!("{} being fetched for the first time.", of_total(untried)),
        ),
        (..) => ("failing", format!("{} failing.", of_total(failing))),
    }
}

const CSS: &str = include_str!("page.css");

/// Maximum characters of a configuration error, enough for dozens of mistakes. The log has the whole error.
const ERROR_MAX: usize = 8_000;

/// Maximum number of reports shown in full, so that the page stays below a few hundred KiB.
const FULL_MAX: usize = 50;

#[cfg(test)]
mod tests;
