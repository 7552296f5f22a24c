//! The flags of `export`.

use std::path::PathBuf;

use chrono::NaiveDate;
use clap::ValueEnum;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::report::ReportKind;

/// One table of one report.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct ExportArgs {
    /// The report
    #[arg(long, value_name = "NAME", value_parser = reports())]
    pub report: ReportKind,

    /// The billing period that begins in this month, up to now if it is the current one
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

    /// Content of a line
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = By::Row)]
    pub by: By,

    /// Name of the tenant; required if there are several
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,

    /// Format of the table
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = TableFormat::Csv)]
    pub format: TableFormat,

    /// Exit with 1 if the figures may still change, and print until when
    #[arg(long)]
    pub require_final: bool,

    /// Leave out telephone numbers
    #[arg(long)]
    pub no_numbers: bool,

    /// File that is replaced when the table is complete, instead of standard output
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

closed_set! {
    /// The content of a line of the table.
    #[derive(ValueEnum)]
    By {
        /// A row of the report, with the properties that Graph documents.
        Row = "row",
        /// The sum of a user, for each currency.
        User = "user",
        /// The sum of a department of the configured file, for each currency.
        Department = "department",
        /// The sum of a destination, or of a destination context if the report has no more; for each currency.
        Destination = "destination",
        /// The sum of a conference on one day, for each organizer and currency; `call_log` only.
        Meeting = "meeting",
    }
}

/// The format of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TableFormat {
    /// Comma-separated values with a header, RFC 4180.
    Csv,
    /// One JSON object a line.
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
    // Chrono accepts other widths too.
    (month.len() == 7)
        .then(|| format!("{month}-01").parse().ok())
        .flatten()
        .ok_or("write a year and a month, such as 2026-10")
}
