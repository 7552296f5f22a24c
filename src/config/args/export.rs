//! The flags of `export`.

use std::path::PathBuf;

use chrono::NaiveDate;
use clap::ValueEnum;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::report::ReportKind;

/// Flags of the command that writes one report as a table.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct ExportArgs {
    /// The report
    #[arg(long, value_name = "NAME", value_parser = reports())]
    pub report: ReportKind,

    /// Export the billing period that begins in this month; the current one up to now
    #[arg(
        long,
        value_name = "YYYY-MM",
        value_parser = first_of_month,
        required_unless_present = "from",
        conflicts_with_all = ["from", "to"]
    )]
    pub period: Option<NaiveDate>,

    /// First day in UTC, instead of a period
    #[arg(long, value_name = "YYYY-MM-DD", requires = "to")]
    pub from: Option<NaiveDate>,

    /// Day in UTC after the last one
    #[arg(long, value_name = "YYYY-MM-DD", requires = "from")]
    pub to: Option<NaiveDate>,

    /// Content of each line of the table
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = By::Row)]
    pub by: By,

    /// Name of the tenant; required if there are several
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,

    /// Format of the table
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = TableFormat::Csv)]
    pub format: TableFormat,

    /// Exit with 1 if the figures may still change, and print the time from which they are final
    #[arg(long)]
    pub require_final: bool,

    /// Leave out telephone numbers
    #[arg(long)]
    pub no_numbers: bool,

    /// File to write instead of standard output; it is replaced only when the table is complete
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

closed_set! {
    /// Content of each line of the table.
    #[derive(ValueEnum)]
    By {
        /// One row of the report, with the properties that Graph documents.
        Row = "row",
        /// The sum for one user and currency.
        User = "user",
        /// The sum for one currency and one department of departments.file.
        Department = "department",
        /// The sum for one destination and currency. If the report has no destinations, the sum for one destination
        /// context.
        Destination = "destination",
        /// The sum for one conference, day, organizer and currency; only in `call_log`.
        Meeting = "meeting",
    }
}

/// The format of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TableFormat {
    /// Comma-separated values with a header, RFC 4180.
    Csv,
    /// One JSON object per line.
    Jsonl,
}

pub(super) fn reports() -> impl TypedValueParser<Value = ReportKind> {
    let names = ReportKind::ALL.iter().map(|report| report.as_str());
    PossibleValuesParser::new(names).map(|name| {
        let mut reports = ReportKind::ALL.iter();
        let report = reports.find(|report| report.as_str() == name);
        *report.expect("one of the possible values")
    })
}

fn first_of_month(month: &str) -> Result<NaiveDate, &'static str> {
    // The length is checked because chrono accepts other widths too.
    (month.len() == 7)
        .then(|| format!("{month}-01").parse().ok())
        .flatten()
        .ok_or("write a year and a month, such as 2026-10")
}
