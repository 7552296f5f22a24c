//! `Display` helpers for the page: escaped texts, times, durations, counts and bars.

use std::borrow::Cow;
use std::fmt::{self, Display, Formatter, Write as _};

use chrono::{DateTime, TimeDelta, Utc};

use crate::report::{Count, SECONDS_COUNT};
use crate::snapshot::State;

pub(super) use super::amount::Number;

/// A text from elsewhere, escaped, and isolated if it is written from right to left.
pub(super) struct Text<'a>(pub(super) &'a str);

/// A text from elsewhere, for attributes and for places where it cannot disturb others.
pub(super) struct Escaped<'a>(pub(super) &'a str);

/// The name of a report.
pub(super) struct Title<'a>(pub(super) &'a State);

/// A point in time.
pub(super) struct Moment(pub(super) DateTime<Utc>);

/// A point in time, relative to now.
pub(super) enum Ago {
    Never,
    Unknown,
    Now,
    Before(TimeDelta),
    In(TimeDelta),
}

/// A span of time in its greatest unit.
pub(super) struct Span(pub(super) TimeDelta);

/// Seconds of talk.
pub(super) struct Talk(pub(super) i64);

/// A bar of parts: shade and percent.
pub(super) struct Bar<'a>(pub(super) &'a [(&'static str, i64)]);

/// Counts in a sentence; a number of seconds as hours and minutes.
pub(super) struct Counts<'a>(pub(super) &'a [Count]);

/// One count without its noun.
pub(super) struct Figure<'a>(pub(super) &'a Count);

/// The text up to a number of characters, with a mark if it is longer.
pub(super) fn cut(text: &str, characters: usize) -> Cow<'_, str> {
    match text.char_indices().nth(characters) {
        None => text.into(),
        Some((end, _)) => format!("{}… (the log has all of it)", &text[..end]).into(),
    }
}

/// The heading of a column of such counts.
pub(super) struct Heading<'a>(pub(super) &'a Count);

impl Display for Heading<'_> {
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
            // HTML has no way to write them.
            char if char.is_control() && char != '\n' && char != '\t' => f.write_char('\u{fffd}'),
            char => f.write_char(char),
        })
    }
}

impl Display for Title<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(tenant) = &self.0.tenant {
            write!(f, "{} · ", Text(tenant))?;
        }
        write!(f, "{}", self.0.report)
    }
}

impl Display for Moment {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let machine = self.0.format("%Y-%m-%dT%H:%M:%SZ");
        write!(
            f,
            "<time datetime=\"{machine}\">{} UTC</time>",
            self.0.format("%Y-%m-%d %H:%M:%S")
        )
    }
}

impl Ago {
    pub(super) fn of(at: DateTime<Utc>, now: DateTime<Utc>) -> Self {
        Self::Before(now - at)
    }
}

impl Display for Ago {
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

impl Display for Talk {
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
            write!(f, "{separator}{}", Figure(count))?;
            if count.what != SECONDS_COUNT {
                write!(f, " {}", Escaped(&count.what))?;
            }
        }
        Ok(())
    }
}

impl Display for Figure<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(Count { what, value }) = self;
        if what == SECONDS_COUNT {
            write!(f, "{}", Talk(*value))
        } else {
            write!(f, "{}", Number(value))
        }
    }
}
