//! Validates exposition text from a state file: it must be samples of one family, like those of a
//! [`FamilyWriter`](super::FamilyWriter).
//!
//! Prometheus rejects a whole body if it cannot read one line, so no line with another form may get into a body. Out of
//! scope: the correctness of the numbers.

use super::Family;

/// Validates text piece by piece.
pub(crate) struct SampleValidator {
    family: &'static Family,
    /// Start of a line that is not complete yet.
    begun: Vec<u8>,
    count: u64,
}

impl SampleValidator {
    /// A validator for one family.
    pub(crate) fn of(family: &'static Family) -> Self {
        Self {
            family,
            begun: Vec::new(),
            count: 0,
        }
    }

    /// Reads the next piece. Returns true if all lines so far are samples.
    pub(crate) fn feed(&mut self, piece: &[u8]) -> bool {
        let mut rest = piece;
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            if self.begun.len() + end > LINE_MAX {
                return false;
            }
            let is_good = if self.begun.is_empty() {
                is_sample(self.family.name, &rest[..end])
            } else {
                self.begun.extend_from_slice(&rest[..end]);
                let is_good = is_sample(self.family.name, &self.begun);
                self.begun.clear();
                is_good
            };
            if !is_good {
                return false;
            }
            self.count += 1;
            rest = &rest[end + 1..];
        }
        self.begun.extend_from_slice(rest);
        self.begun.len() <= LINE_MAX
    }

    /// Returns the number of samples, or `None` if the last line is not complete.
    pub(crate) fn finish(self) -> Option<u64> {
        self.begun.is_empty().then_some(self.count)
    }
}

/// Returns true if a line is the family's name, labels in the order of their names, and one number.
pub(crate) fn is_sample(family: &str, line: &[u8]) -> bool {
    let rest = std::str::from_utf8(line)
        .ok()
        .and_then(|line| line.strip_prefix(family));
    let value = rest.and_then(|rest| match rest.strip_prefix('{') {
        Some(labels) => after_labels(labels),
        None => Some(rest),
    });
    let number = value.and_then(|value| value.strip_prefix(' ')?.parse::<f64>().ok());
    number.is_some_and(f64::is_finite)
}

/// Returns the text after the labels and their brace. Names must ascend, so none is repeated.
fn after_labels(mut rest: &str) -> Option<&str> {
    let mut last = "";
    loop {
        let (name, value) = rest.split_once("=\"")?;
        let is_name = name.starts_with(|first: char| first.is_ascii_lowercase())
            && name
                .bytes()
                .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
        if !is_name || name <= last {
            return None;
        }
        last = name;
        let behind = after_value(value)?;
        match behind.strip_prefix(',') {
            Some(next) => rest = next,
            None => return behind.strip_prefix('}'),
        }
    }
}

/// Returns the text after a value and its quote.
fn after_value(value: &str) -> Option<&str> {
    let mut bytes = value.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return value.get(at + 1..),
            b'\\' => {
                let (_, escaped) = bytes.next()?;
                matches!(escaped, b'\\' | b'"' | b'n').then_some(())?;
            }
            _ => {}
        }
    }
    None
}

/// Bytes of a line: eight labels of a kilobyte, each byte of them escaped, are a quarter of it.
const LINE_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::exposition::{FamilyWriter, Format, write_label};

    static CHARGE: Family = Family::gauge("charge", "What it costs.");

    #[test]
    fn lines_by_table() {
        for (line, is_good) in [
            ("charge 1", true),
            ("charge -1.5e3", true),
            (r#"charge{user="ann"} 1"#, true),
            (r#"charge{tenant="a",user="\"b\\c\nd 🦀, }="} 0.10"#, true),
            (r#"charge{a="",b2_="" } 1"#, false),
            ("", false),
            ("charge", false),
            ("charge ", false),
            ("charge{} 1", false),
            ("charges 1", false),
            ("# TYPE charge gauge", false),
            ("# EOF", false),
            (" charge 1", false),
            ("charge  1", false),
            ("charge 1 ", false),
            ("charge 1 1700000000", false),
            ("charge 1 # {} 1", false),
            ("charge one", false),
            ("charge NaN", false),
            ("charge +Inf", false),
            ("charge 1e400", false),
            ("charge 0x10", false),
            (r#"other{user="ann"} 1"#, false),
            (r#"charge{user="ann" 1"#, false),
            (r#"charge{user="ann} 1"#, false),
            (r#"charge{user="ann\"} 1"#, false),
            (r#"charge{user="ann\t"} 1"#, false),
            (r#"charge{user="ann",} 1"#, false),
            (r#"charge{,user="ann"} 1"#, false),
            (r"charge{user=ann} 1", false),
            (r#"charge{user="ann"}{a="b"} 1"#, false),
            (r#"charge{user="ann",user="bob"} 1"#, false),
            (r#"charge{user="ann",tenant="a"} 1"#, false),
            (r#"charge{__name__="up"} 1"#, false),
            (r#"charge{User="ann"} 1"#, false),
            (r#"charge{"user"="ann"} 1"#, false),
            ("charge{user=\"a\rb\"} 1", true),
        ] {
            assert_eq!(is_sample("charge", line.as_bytes()), is_good, "{line}");
        }
        assert!(!is_sample("charge", b"charge{user=\"\xff\"} 1"));
    }

    proptest! {
        #[test]
        fn what_a_sheet_writes_is_lines(
            labels in vec((".*", any::<i32>()), 1..20),
            pieces in vec(1_usize..50, 1..20),
        ) {
            let mut writer = FamilyWriter::new(&[&CHARGE]);
            for (label, value) in &labels {
                let mut out = Vec::new();
                write_label("user", label, &mut out);
                writer.sample(&out, |_, out| out.extend(value.to_string().bytes()));
            }
            let mut text = Vec::new();
            writer.finish().for_each(|samples| samples.block.write(&mut text));
            let mut lines = SampleValidator::of(&CHARGE);
            let mut rest = text.as_slice();
            for &piece in pieces.iter().cycle() {
                let (now, later) = rest.split_at(piece.min(rest.len()));
                prop_assert!(lines.feed(now));
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(lines.finish(), Some(labels.len() as u64));
            let mut with_header = Vec::new();
            CHARGE.write_header(Format::Text, &mut with_header);
            prop_assert!(!SampleValidator::of(&CHARGE).feed(&with_header));
        }
    }

    #[test]
    fn a_line_has_an_end_and_a_limit() {
        let mut lines = SampleValidator::of(&CHARGE);
        assert!(lines.feed(b"charge 1\ncharge 2"));
        assert_eq!(lines.finish(), None);
        for (length, is_good) in [(LINE_MAX, true), (LINE_MAX + 1, false)] {
            let around = r#"charge{user=""} 1"#.len();
            let line = format!("charge{{user=\"{}\"}} 1\n", "a".repeat(length - around));
            let (begun, end) = line.split_at(length - 1);
            for text in [line.as_str(), line.trim_end()] {
                assert_eq!(
                    SampleValidator::of(&CHARGE).feed(text.as_bytes()),
                    is_good,
                    "{length}"
                );
            }
            let mut lines = SampleValidator::of(&CHARGE);
            assert!(lines.feed(begun.as_bytes()));
            assert_eq!(lines.feed(end.as_bytes()), is_good, "in pieces, {length}");
        }
    }
}
