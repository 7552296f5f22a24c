//! The flags of `backfill`.

use std::path::PathBuf;
use std::time::Duration;

use chrono::NaiveDate;

use super::export::reports;
use crate::report::ReportKind;

/// Flags of the command that writes the samples of past days.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct BackfillArgs {
    /// A report, may be repeated
    #[arg(
        long = "report",
        value_name = "NAME",
        value_parser = reports(),
        required = true
    )]
    pub reports: Vec<ReportKind>,

    /// First day in UTC
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub from: NaiveDate,

    /// Day in UTC after the last one
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub to: NaiveDate,

    /// Label of every sample, may be repeated. Give the job and instance of the scrape, so that the samples join the
    /// series that Prometheus already has
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    pub labels: Vec<(String, String)>,

    /// Time between two samples. It must be under 5m, the lookback of Prometheus. With backfill.sh it can also be 1d,
    /// because the script repeats daily samples until the next one
    #[arg(long, value_name = "DURATION", default_value = "4m", value_parser = step)]
    pub step: Duration,

    /// Include the label user, with the content that labels.user selects
    #[arg(long)]
    pub users: bool,

    /// File to write instead of standard output; it is replaced only when all samples are complete
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

fn label(text: &str) -> Result<(String, String), &'static str> {
    let is_name = |name: &str| {
        let inside = |c: char| c.is_ascii_alphanumeric() || c == '_';
        name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(inside)
    };
    text.split_once('=')
        .filter(|(name, value)| is_name(name) && !value.is_empty())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .ok_or("write a name of letters, digits and underscores, and a value, such as job=teams")
}

fn step(text: &str) -> Result<Duration, &'static str> {
    let step = humantime::parse_duration(text).ok();
    step.filter(|step| (1..=86_400).contains(&step.as_secs()) && step.subsec_nanos() == 0)
        .ok_or("write whole seconds up to a day, such as 4m")
}
