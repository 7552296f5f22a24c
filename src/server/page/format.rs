//! Formatting of the page: escaped texts, times, durations, counts and bars.

use std::borrow::Cow;
use std::fmt::{self, Display, Formatter, Write as _};

use chrono::{DateTime, TimeDelta, Utc};

use crate::report::{Count, SECONDS_COUNT};
use crate::snapshot::State;

pub(super) use super::amount::Number;

/// An external text, escaped and isolated from the text around it, because it may be written from right to left.
pub(super) struct Text<'a>(pub(super) &'a str);

/// An external text that is only escaped, for attributes and for places without other text.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "<bdi>{}</bdi>", Escaped(self.0))
    }
}

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|char| match char {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            // HTML cannot represent control characters.
            char if char.is_control() && char != '\n' && char != '\t' => f.write_char('\u{fffd}'),
            char => f.write_char(char),
        })
    }
}

/// Truncates the text to a number of characters, and adds a note if anything is left out.
pub(super) fn truncate(text: &str, characters: usize) -> Cow<'_, str> {
    match text.char_indices().nth(characters) {
        None => text.into(),
        Some((end, _)) => format!("{}… (the log has all of it)", &text[..end]).into(),
    }
}

/// Returns the title of a report: the tenant, if tenants have names, and the report.
pub(super) fn report_title(state: &State) -> String {
    match &state.tenant {
        Some(tenant) => format!("{} · {}", Text(tenant), state.report),
        None => state.report.to_string(),
    }
}

pub(super) fn timestamp(time: DateTime<Utc>) -> String {
    let machine = time.format("%Y-%m-%dT%H:%M:%SZ");
    let person = time.format("%Y-%m-%d %H:%M:%S");
    format!("<time datetime=\"{machine}\">{person} UTC</time>")
}

/// Returns a time in the past as text relative to now.
pub(super) fn ago(time: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let past = now - time;
    if past.num_seconds() < 5 {
        "just now".to_owned()
    } else {
        format!("{} ago", span(past))
    }
}

/// Returns a duration in whole seconds, minutes, hours or days, such as `3 hours`. Days are used from two days on.
pub(super) fn span(time: TimeDelta) -> String {
    let seconds = time.num_seconds().max(0);
    let (count, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..3_600 => (seconds / 60, "minute"),
        3_600..172_800 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {unit}{plural}", Number(count))
}

/// Returns a horizontal bar as SVG. Each part has a CSS class and a width in percent.
pub(super) fn bar(parts: &[(&'static str, i64)]) -> String {
    let mut left = 0;
    let part = |(shade, percent): &(&str, i64)| {
        let (x, width) = (left, (*percent).clamp(0, 100 - left));
        left += width;
        format!("<rect class=\"{shade}\" x=\"{x}%\" width=\"{width}%\" height=\"100%\"/>")
    };
    let parts: Vec<String> = parts.iter().map(part).collect();
    format!("<svg aria-hidden=\"true\">{}</svg>", parts.concat())
}

/// Returns counts as text, separated by commas. Seconds are shown as hours and minutes.
pub(super) fn counts(counts: &[Count]) -> String {
    let count = |count: &Count| match &*count.what {
        SECONDS_COUNT => count_value(count),
        what => format!("{} {}", count_value(count), Escaped(what)),
    };
    counts.iter().map(count).collect::<Vec<_>>().join(", ")
}

/// Returns the value of a count, without the name of what is counted.
pub(super) fn count_value(count: &Count) -> String {
    match count.value {
        value if count.what != SECONDS_COUNT => Number(value).to_string(),
        seconds @ ..60 => format!("{seconds} s"),
        seconds @ 60..3_600 => format!("{} min", seconds / 60),
        seconds => format!("{} h {} min", Number(seconds / 3_600), seconds / 60 % 60),
    }
}

/// Returns the column heading of a count.
pub(super) fn count_heading(count: &Count) -> String {
    let what = &*count.what;
    if what == SECONDS_COUNT {
        return "Duration".to_owned();
    }
    let (first, rest) = what.split_at(what.chars().next().map_or(0, char::len_utf8));
    Text(&(first.to_uppercase() + rest)).to_string()
}
