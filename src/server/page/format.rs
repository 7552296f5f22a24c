//! `Display` helpers for the page: escaped texts, times, durations, counts and bars.

use std::borrow::Cow;
use std::fmt::{self, Display, Formatter, Write as _};

use chrono::{DateTime, TimeDelta, Utc};

use crate::report::{Count, SECONDS_COUNT};
use crate::snapshot::State;

pub(super) use super::amount::Number;

/// An external text, escaped and isolated from the text around it, as it may be written from right to left.
pub(super) struct Text<'a>(pub(super) &'a str);

/// An external text, escaped only: for attributes and places in which it cannot affect other text.
pub(super) struct Escaped<'a>(pub(super) &'a str);

/// The name of a report.
pub(super) struct ReportTitle<'a>(pub(super) &'a State);

/// A point in time.
pub(super) struct Timestamp(pub(super) DateTime<Utc>);

/// A point in time, relative to now.
pub(super) enum RelativeTime {
    Never,
    Unknown,
    Now,
    Before(TimeDelta),
    In(TimeDelta),
}

/// A span of time in its largest unit.
pub(super) struct Span(pub(super) TimeDelta);

/// Talk time in seconds.
pub(super) struct TalkTime(pub(super) i64);

/// A bar with parts: shade and percent of each.
pub(super) struct Bar<'a>(pub(super) &'a [(&'static str, i64)]);

/// Counts as a list in a sentence; seconds are shown as hours and minutes.
pub(super) struct Counts<'a>(pub(super) &'a [Count]);

/// One count without its noun.
pub(super) struct CountValue<'a>(pub(super) &'a Count);

/// Truncates the text to a number of characters, and marks the cut.
pub(super) fn truncate(text: &str, characters: usize) -> Cow<'_, str> {
    match text.char_indices().nth(characters) {
        None => text.into(),
        Some((end, _)) => format!("{}… (the log has all of it)", &text[..end]).into(),
    }
}

/// The column heading of a count.
pub(super) struct CountHeading<'a>(pub(super) &'a Count);

impl Display for CountHeading<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let what = &*self.0.what;
        if what == SECONDS_COUNT {
            return f.write_str("Duration");
        }
        let (first, rest) = what.split_at(what.chars().next().map_or(0, char::len_utf8));
        write!(f, "{}", Text(&(first.to_uppercase() + rest)))
    }
}

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

impl Display for ReportTitle<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(tenant) = &self.0.tenant {
            write!(f, "{} · ", Text(tenant))?;
        }
        write!(f, "{}", self.0.report)
    }
}

impl Display for Timestamp {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let machine = self.0.format("%Y-%m-%dT%H:%M:%SZ");
        write!(
            f,
            "<time datetime=\"{machine}\">{} UTC</time>",
            self.0.format("%Y-%m-%d %H:%M:%S")
        )
    }
}

impl Display for RelativeTime {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str("never"),
            Self::Unknown => f.write_str("unknown"),
            Self::Now => f.write_str("due now"),
            Self::Before(span) if span.num_seconds() < 5 => f.write_str("just now"),
            Self::Before(span) => write!(f, "{} ago", Span(*span)),
            Self::In(span) => write!(f, "in {}", Span(*span)),
        }
    }
}

impl Display for Span {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let seconds = self.0.num_seconds().max(0);
        let (count, unit) = match seconds {
            0..60 => (seconds, "second"),
            60..3_600 => (seconds / 60, "minute"),
            3_600..172_800 => (seconds / 3_600, "hour"),
            _ => (seconds / 86_400, "day"),
        };
        write!(
            f,
            "{} {unit}{}",
            Number(count),
            if count == 1 { "" } else { "s" }
        )
    }
}

impl Display for TalkTime {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            seconds @ ..60 => write!(f, "{seconds} s"),
            seconds @ 60..3_600 => write!(f, "{} min", seconds / 60),
            seconds => write!(f, "{} h {} min", Number(seconds / 3_600), seconds / 60 % 60),
        }
    }
}

impl Display for Bar<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("<svg aria-hidden=\"true\">")?;
        let mut left = 0;
        for (shade, percent) in self.0 {
            let width = (*percent).clamp(0, 100 - left);
            write!(
                f,
                "<rect class=\"{shade}\" x=\"{left}%\" width=\"{width}%\" height=\"100%\"/>"
            )?;
            left += width;
        }
        f.write_str("</svg>")
    }
}

impl Display for Counts<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (index, count) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{}", CountValue(count))?;
            if count.what != SECONDS_COUNT {
                write!(f, " {}", Escaped(&count.what))?;
            }
        }
        Ok(())
    }
}

impl Display for CountValue<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(Count { what, value }) = self;
        if what == SECONDS_COUNT {
            write!(f, "{}", TalkTime(*value))
        } else {
            write!(f, "{}", Number(value))
        }
    }
}
