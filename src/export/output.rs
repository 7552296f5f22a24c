//! The output of a table, in two formats.
//!
//! A file is replaced only when the table is complete. Until then it stays unchanged. Standard output cannot be taken
//! back, so a table that broke off there ends with a line that no parser accepts.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::error::ExportError;
use super::table::Field;
use crate::config::args::{ExportArgs, TableFormat};
use crate::money::Amount;
use crate::storage::TempFile;

/// A table that is being written.
pub(super) struct Output {
    out: BufWriter<Box<dyn Write + Send>>,
    file: Option<Replacement>,
    format: TableFormat,
    has_begun: bool,
    is_complete: bool,
    line: String,
}

/// The file that takes the place of another one.
struct Replacement {
    temp: TempFile,
    file: File,
    path: PathBuf,
}

impl Output {
    /// The file that the flags name, or else `out`.
    pub(super) fn new(args: &ExportArgs, out: Box<dyn Write + Send>) -> Result<Self, ExportError> {
        let path = args.output.as_deref();
        let file = path.map(Replacement::new).transpose().map_err(|source| {
            let to = path.unwrap_or(Path::new("")).display().to_string();
            let remedy = "give the path of a regular file in a folder that you may write";
            ExportError::Write { to, source, remedy }
        })?;
        let out = match &file {
            Some(replacement) => Box::new(replacement.file.try_clone()?),
            None => out,
        };
        Ok(Self {
            out: BufWriter::new(out),
            file,
            format: args.format,
            has_begun: false,
            is_complete: false,
            line: String::new(),
        })
    }

    /// Writes the header, unless the table has begun.
    pub(super) fn begin(&mut self, names: &[String]) -> Result<(), ExportError> {
        if !std::mem::replace(&mut self.has_begun, true) && self.format == TableFormat::Csv {
            self.line = names.join(",") + "\r\n";
            self.write_line()?;
        }
        Ok(())
    }

    /// Writes one line.
    pub(super) fn write(&mut self, names: &[String], fields: &[Field]) -> Result<(), ExportError> {
        self.begin(names)?;
        self.line.clear();
        match self.format {
            TableFormat::Csv => write_csv(fields, &mut self.line),
            TableFormat::Jsonl => write_json(names, fields, &mut self.line),
        }
        self.write_line()
    }

    /// Completes the table.
    pub(super) fn finish(mut self) -> Result<(), ExportError> {
        let written = self.out.flush();
        written.map_err(|source| self.failed(source))?;
        self.is_complete = true;
        let Some(Replacement { temp, file, path }) = self.file.take() else {
            return Ok(());
        };
        let replaced = file.sync_all().and_then(|()| temp.replace(&path));
        replaced.map_err(|source| failed(path.display().to_string(), source))
    }

    fn write_line(&mut self) -> Result<(), ExportError> {
        let written = self.out.write_all(self.line.as_bytes());
        written.map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> ExportError {
        let path = self
            .file
            .as_ref()
            .map(|file| file.path.display().to_string());
        failed(path.unwrap_or_else(|| "standard output".to_owned()), source)
    }
}

/// Ends a table on standard output that is not complete, also after a signal.
impl Drop for Output {
    fn drop(&mut self) {
        if self.has_begun && self.file.is_none() && !self.is_complete {
            let mark = match self.format {
                TableFormat::Csv => "\"INCOMPLETE: the export failed, do not use this table",
                TableFormat::Jsonl => "{\"INCOMPLETE\":\"the export failed, do not use this table",
            };
            // A failure here changes nothing: the error that is reported came before.
            let written = self.out.write_all(mark.as_bytes());
            let _ = written.and_then(|()| self.out.flush());
        }
    }
}

fn failed(to: String, source: io::Error) -> ExportError {
    let remedy = match source.kind() {
        io::ErrorKind::BrokenPipe => "its reader has ended; let it read to the end",
        io::ErrorKind::StorageFull => "free space, or choose another place",
        _ => "choose another place",
    };
    ExportError::Write { to, source, remedy }
}

impl Replacement {
    fn new(path: &Path) -> io::Result<Self> {
        // The file that a link names is replaced, not the link.
        let path = match fs::canonicalize(path) {
            Ok(path) if !path.is_file() => {
                return Err(io::Error::other("it is not a regular file"));
            }
            Ok(path) => path,
            Err(_) => path.to_owned(),
        };
        let (temp, file) = TempFile::beside(&path, ALL)?;
        if let Ok(old) = fs::metadata(&path) {
            file.set_permissions(old.permissions())?;
        }
        Ok(Self { temp, file, path })
    }
}

/// A record of RFC 4180. Written here, because quoting is all that there is to it.
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
                if text.contains(['"', ',', '\r', '\n']) {
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

/// The text with an apostrophe before it if a spreadsheet could run it as a formula, as OWASP advises. A number and a
/// telephone number are no formulas:
/// <https://owasp.org/www-community/attacks/CSV_Injection>
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

/// `+` and digits, of which the last ones may be hidden.
fn is_phone_number(text: &str) -> bool {
    let digits = text
        .strip_prefix('+')
        .map(|rest| rest.trim_end_matches('*'));
    digits.is_some_and(|digits| {
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// Permissions of a new file before the process' own mask, as of a file that a shell creates.
const ALL: u32 = 0o666;

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
            ("\tx", "'\tx"),
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
