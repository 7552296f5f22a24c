//! Checks exposition text: each line must be a sample of its family.

/// Returns the number of samples, or `None` if a line is not a sample of the family.
pub(super) fn samples(family: &str, text: &[u8]) -> Option<u64> {
    let lines = match text.strip_suffix(b"\n") {
        Some(lines) => lines.split(|&byte| byte == b'\n'),
        None => return text.is_empty().then_some(0),
    };
    let mut count = 0;
    for line in lines {
        is_sample(family, line).then_some(())?;
        count += 1;
    }
    Some(count)
}

/// Returns true if a line is the family's name, labels in the order of their names, and one number.
fn is_sample(family: &str, line: &[u8]) -> bool {
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

/// Returns the text after the labels and the closing brace. Label names must be in ascending order, so none is
/// repeated.
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

/// Returns the text after a label value and its closing quote.
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

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn every_line_is_complete() {
        assert_eq!(samples("charge", b""), Some(0));
        assert_eq!(samples("charge", b"charge 1\ncharge 2\n"), Some(2));
        assert_eq!(samples("charge", b"charge 1\ncharge 2"), None);
        assert_eq!(samples("charge", b"charge 1\n\n"), None);
    }
}
