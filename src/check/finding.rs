//! Findings and their output.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use serde::Serialize;

use crate::config::args::CheckFormat;

/// Checks in the order of the output. The names are part of the JSON document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Check {
    Configuration,
    WebConfiguration,
    Storage,
    Client,
    Name,
    Connection,
    Clock,
    Token,
    Credential,
    Permission,
    FirstPage,
    Series,
    Names,
    Budget,
    Pool,
    Licence,
    Departments,
    Exposition,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Level {
    Ok,
    Warning,
    Failure,
}

/// A line of the output. The fields are the keys of the JSON document.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    level: Level,
    /// Name of the tenant, if tenants have names.
    tenant: Option<String>,
    check: Check,
    /// Subject of the finding: for example a host, a report, a file, a budget or a pool.
    subject: Option<String>,
    message: String,
    remedy: Option<String>,
    /// The number that the check measured, if any: clock offset in seconds, or number of rows, series or bytes.
    value: Option<f64>,
}

/// Writer of the findings.
pub(super) struct Findings<'a, W> {
    format: CheckFormat,
    out: &'a mut W,
    /// Number of findings by level.
    counts: [usize; 3],
    /// Findings for the JSON document, which is written at the end. Empty if the output is text.
    kept: Vec<Finding>,
}

impl Finding {
    pub(super) fn ok(check: Check, message: impl Display) -> Self {
        Self {
            level: Level::Ok,
            tenant: None,
            check,
            subject: None,
            message: message.to_string(),
            remedy: None,
            value: None,
        }
    }

    pub(super) fn warning(check: Check, message: impl Display, remedy: impl Display) -> Self {
        Self {
            level: Level::Warning,
            remedy: Some(remedy.to_string()),
            ..Self::ok(check, message)
        }
    }

    /// Creates a failure. `remedy` is `None` if the message already has the remedy.
    pub(super) fn failure(check: Check, message: impl Display, remedy: Option<&str>) -> Self {
        Self {
            level: Level::Failure,
            remedy: remedy.map(str::to_owned),
            ..Self::ok(check, message)
        }
    }

    pub(super) fn is_failure(&self) -> bool {
        self.level == Level::Failure
    }

    pub(super) fn about(self, subject: impl Display) -> Self {
        Self {
            subject: Some(subject.to_string()),
            ..self
        }
    }

    pub(super) fn for_tenant(self, tenant: Option<&str>) -> Self {
        Self {
            tenant: tenant.map(str::to_owned),
            ..self
        }
    }

    pub(super) fn measured(self, value: f64) -> Self {
        Self {
            value: Some(value),
            ..self
        }
    }

    fn line(&self) -> String {
        let mut line = format!("{:<8}", words(&self.level));
        if let Some(tenant) = &self.tenant {
            line.extend([tenant, " "]);
        }
        line += &words(&self.check);
        if let Some(subject) = &self.subject {
            line.extend([" ", subject]);
        }
        line.extend([": ", &self.message]);
        if let Some(remedy) = &self.remedy {
            line.extend(["; remedy: ", remedy]);
        }
        line
    }
}

impl<'a, W: Write> Findings<'a, W> {
    pub(super) fn new(format: CheckFormat, out: &'a mut W) -> Self {
        Self {
            format,
            out,
            counts: [0; 3],
            kept: Vec::new(),
        }
    }

    /// In text, writes the finding immediately, so that a waiting administrator sees it. In JSON, keeps the finding for
    /// the document, which is written at the end.
    pub(super) fn push(&mut self, finding: Finding) -> io::Result<()> {
        self.counts[finding.level as usize] += 1;
        match self.format {
            CheckFormat::Text => ignore_broken_pipe(writeln!(self.out, "{}", finding.line())),
            CheckFormat::Json => {
                self.kept.push(finding);
                Ok(())
            }
        }
    }

    pub(super) fn extend(&mut self, found: impl IntoIterator<Item = Finding>) -> io::Result<()> {
        found.into_iter().try_for_each(|finding| self.push(finding))
    }

    fn worst(&self) -> Level {
        let mut levels = [Level::Failure, Level::Warning].into_iter();
        let worst = levels.find(|level| self.counts[*level as usize] > 0);
        worst.unwrap_or(Level::Ok)
    }

    fn verdict(&self) -> String {
        let all: usize = self.counts.iter().sum();
        let warned = match self.counts[Level::Warning as usize] {
            0 => String::new(),
            1 => ", 1 warning".to_owned(),
            warnings => format!(", {warnings} warnings"),
        };
        match self.counts[Level::Failure as usize] {
            0 => format!("passed, {all} checks{warned}"),
            failures => format!(
                "failed, {failures} of {all} checks{warned}; start with the first failure, because it can cause the others"
            ),
        }
    }

    /// Writes the verdict or the document, and returns the exit code. `is_misconfigured` is true if the daemon cannot
    /// start with this configuration.
    pub(super) fn finish(self, is_misconfigured: bool) -> io::Result<ExitCode> {
        #[derive(Serialize)]
        struct Document {
            version: &'static str,
            result: Level,
            checks: Vec<Finding>,
        }
        let worst = self.worst();
        if self.format == CheckFormat::Text {
            ignore_broken_pipe(writeln!(self.out, "verdict: {}", self.verdict()))?;
        } else {
            let document = Document {
                version: crate::VERSION,
                result: worst,
                checks: self.kept,
            };
            let text = serde_json::to_string_pretty(&document).expect("findings are JSON");
            ignore_broken_pipe(writeln!(self.out, "{text}"))?;
        }
        ignore_broken_pipe(self.out.flush())?;
        Ok(match worst {
            _ if is_misconfigured => ExitCode::from(2),
            Level::Ok | Level::Warning => ExitCode::SUCCESS,
            Level::Failure => ExitCode::FAILURE,
        })
    }
}

/// Returns the name that a value has in the JSON document, with spaces instead of underscores.
fn words(name: &impl Serialize) -> String {
    let name = serde_json::to_value(name).expect("a name is JSON");
    name.as_str().unwrap_or_default().replace('_', " ")
}

/// Ignores a broken pipe (`check | head`), because the exit code still shows the result.
pub(super) fn ignore_broken_pipe(written: io::Result<()>) -> io::Result<()> {
    written.or_else(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(error),
    })
}
