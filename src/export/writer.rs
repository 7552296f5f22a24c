//! The two formats of a table.
//!
//! Lines on standard output cannot be taken back. So an incomplete table there ends with a line that no parser accepts.

use std::borrow::Cow;

use super::error::ExportError;
use super::output::Output;
use super::table::Field;
use crate::config::args::TableFormat;
use crate::money::Amount;

/// A table that is being written.
pub(super) struct TableWriter {
    /// `None` if the table is complete.
    output: Option<Output>,
    format: TableFormat,
    has_begun: bool,
    line: String,
}

impl TableWriter {
    pub(super) fn new(output: Output, format: TableFormat) -> Self {
        Self {
            output: Some(output),
            format,
            has_begun: false,
            line: String::new(),
        }
    }

    /// Writes the header, unless the table has begun.
    pub(super) fn begin(&mut self, names: &[String]) -> Result<(), ExportError> {
        if !std::mem::replace(&mut self.has_begun, true) && self.format == TableFormat::Csv {
            self.line = names.join(",") + "\r\n";
            self.write_line()?;
        }
        Ok(())
    }

    pub(super) fn write(&mut self, names: &[String], fields: &[Field]) -> Result<(), ExportError> {
        self.begin(names)?;
        self.line.clear();
        match self.format {
            TableFormat::Csv => write_csv(fields, &mut self.line),
            TableFormat::Jsonl => write_json(names, fields, &mut self.line),
        }
        self.write_line()
    }

    pub(super) fn finish(mut self) -> Result<(), ExportError> {
        // Flushes while `self` still has the output. So if this fails, `drop` marks the table as incomplete.
        if let Some(output) = &mut self.output {
            output.flush()?;
        }
        self.output.take().map_or(Ok(()), Output::finish)
    }

    fn write_line(&mut self) -> Result<(), ExportError> {
        let output = self.output.as_mut();
        let output = output.expect("the table is not complete");
        output.write(self.line.as_bytes())
    }
}

/// Marks an incomplete table on standard output, also if a signal stopped the export.
impl Drop for TableWriter {
    fn drop(&mut self) {
        let Some(output) = self.output.as_mut().filter(|output| output.is_stream()) else {
            return;
        };
        if self.has_begun {
            let mark = match self.format {
                TableFormat::Csv => "\"INCOMPLETE: the export failed, do not use this table",
                TableFormat::Jsonl => "{\"INCOMPLETE\":\"the export failed, do not use this table",
            };
            // A failed write is ignored, because the caller already reports the error that ended the export.
            let written = output.write(mark.as_bytes());
            let _ = written.and_then(|()| output.flush());
        }
    }
}

/// Writes a record of RFC 4180. No library is needed, because quoting is the only rule. Fields with semicolons or tabs
/// are quoted too. Otherwise a spreadsheet could split such a field and run its second part as a formula.
fn write_csv(fields: &[Field], line: &mut String) {
    for (index, field) in fields.iter().enumerate() {
        if index > 0 {
            line.push(',');
        }
        match field {
            Field::Null => {}
            Field::Literal(literal) => line.push_str(literal),
            Field::Text(text) => {
                let text = harmless(text);
                if text.contains(['"', ',', '\r', '\n', ';', '\t']) {
                    line.extend(["\"", &text.replace('"', "\"\""), "\""]);
                } else {
                    line.push_str(&text);
                }
            }
        }
    }
    line.push_str("\r\n");
}

fn write_json(names: &[String], fields: &[Field], line: &mut String) {
    let mut separator = '{';
    for (name, field) in names.iter().zip(fields) {
        line.push(separator);
        separator = ',';
        line.extend(["\"", name, "\":"]);
        match field {
            Field::Null => line.push_str("null"),
            Field::Literal(literal) => line.push_str(literal),
            Field::Text(text) => {
                line.push_str(&serde_json::to_string(text).expect("a text is JSON"));
            }
        }
    }
    line.push_str("}\n");
}

/// Returns the text. If a spreadsheet could run it as a formula, an apostrophe is put before it, as OWASP advises:
/// <https://owasp.org/www-community/attacks/CSV_Injection>. Numbers and telephone numbers are not formulas.
fn harmless(text: &str) -> Cow<'_, str> {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r'])
        && Amount::from_json(text).is_err()
        && !is_phone_number(text);
    if is_formula {
        Cow::Owned(format!("'{text}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// Returns true if the text is `+` and digits. Asterisks may replace the last digits.
fn is_phone_number(text: &str) -> bool {
    let digits = text
        .strip_prefix('+')
        .map(|rest| rest.trim_end_matches('*'));
    digits.is_some_and(|digits| {
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_a_spreadsheet_could_run_is_escaped_by_table() {
        for (text, written) in [
            ("Ann", "Ann"),
            ("", ""),
            ("=1+1", "'=1+1"),
            (
                "=HYPERLINK(\"x\",\"y\")",
                "\"'=HYPERLINK(\"\"x\"\",\"\"y\"\")\"",
            ),
            ("+1+cmd|' /C calc'!A0", "'+1+cmd|' /C calc'!A0"),
            ("-2+3", "'-2+3"),
            ("@SUM(1)", "'@SUM(1)"),
            ("\tx", "\"'\tx\""),
            ("\rx", "\"'\rx\""),
            ("-0.10", "-0.10"),
            ("+14255550123", "+14255550123"),
            ("+1425555***", "+1425555***"),
            ("+1*2", "'+1*2"),
            ("+***", "'+***"),
            ("+", "'+"),
            ("a=b", "a=b"),
            ("O'Hara, \"Bo\"", "\"O'Hara, \"\"Bo\"\"\""),
            ("two\nlines", "\"two\nlines\""),
            ("a;=1+1", "\"a;=1+1\""),
            ("a\t=1+1", "\"a\t=1+1\""),
        ] {
            let mut line = String::new();
            write_csv(&[Field::Text(text.to_owned()), Field::Null], &mut line);
            assert_eq!(line, format!("{written},\r\n"), "{text}");
        }
    }

    #[test]
    fn numbers_and_json_are_never_escaped() {
        let names = ["user", "charge", "currency"].map(str::to_owned);
        let fields = [
            Field::Text("=1+1\"".to_owned()),
            Field::Literal("-0.5".to_owned()),
            Field::Null,
        ];
        let (mut csv, mut json) = (String::new(), String::new());
        write_csv(&fields, &mut csv);
        assert_eq!(csv, "\"'=1+1\"\"\",-0.5,\r\n");
        write_json(&names, &fields, &mut json);
        assert_eq!(
            json,
            "{\"user\":\"=1+1\\\"\",\"charge\":-0.5,\"currency\":null}\n"
        );
    }
}
