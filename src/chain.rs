//! The text of an error and its sources on one line, for logs, pages and the output of `check`.

use std::error::Error;
use std::fmt;

pub(crate) struct Chain<'a>(pub(crate) &'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.0.to_string();
        let mut source = self.0.source();
        while let Some(error) = source {
            let part = error.to_string();
            // Some errors already contain the text of their source.
            if !text.contains(&part) {
                text = format!("{text}: {part}");
            }
            source = error.source();
        }
        f.write_str(&one_line(&text))
    }
}

/// Returns the text on one line of limited length.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
        if word.is_empty() {
            continue;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if line.len() > LINE_MAX {
            let fits = |&end: &usize| line.is_char_boundary(end);
            let end = (0..=LINE_MAX).rev().find(fits).unwrap_or(0);
            line.truncate(end);
            line.push('…');
            break;
        }
    }
    line
}

/// Maximum bytes of server text in one message: enough for an AADSTS description with its ids.
const LINE_MAX: usize = 600;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_one_bounded_line() {
        for (text, expected) in [
            ("plain", "plain"),
            ("a\r\n\tb\u{2028}c\u{85}d\0e", "a b c d e"),
            ("", ""),
        ] {
            assert_eq!(one_line(text), expected);
        }
        let longest = "x".repeat(LINE_MAX);
        assert_eq!(one_line(&longest), longest);
        let long = one_line(&"ä".repeat(LINE_MAX));
        assert!(long.len() <= LINE_MAX + '…'.len_utf8() && long.ends_with('…'));
    }

    #[test]
    fn sources_follow_on_one_line_without_repetition() {
        #[derive(Debug, thiserror::Error)]
        #[error("{text}")]
        struct Level {
            text: &'static str,
            source: Option<Box<Level>>,
        }

        let level = |text, source: Option<Level>| Level {
            text,
            source: source.map(Box::new),
        };
        let error = level(
            "cannot poll\nnow",
            Some(level(
                "no answer: connection refused",
                Some(level(
                    "connection refused",
                    Some(level("os error 111", None)),
                )),
            )),
        );
        assert_eq!(
            Chain(&error).to_string(),
            "cannot poll now: no answer: connection refused: os error 111"
        );
    }
}
