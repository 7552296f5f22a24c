//! The lines of a table: rows with their properties, or sums.
//!
//! Sums are exact and sorted by their keys. So neither the order of rows nor their division into pages changes a table.

#![deny(clippy::float_arithmetic)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::value::RawValue;

use super::error::ExportError;
use crate::config::args::{By, ExportArgs};
use crate::memory::{MemoryError, Reservation};
use crate::money::{Amount, Sum};
use crate::report::ReportInfo;
use crate::report::column::{Measure, Values};
use crate::report::department::Departments;
use crate::report::labels::UserLabel;
use crate::report::log::{MONEY_MAX, Record};
use crate::report::row::{Notes, Property, PropertyName, Shown};
use crate::report::scan::RowTexts;

/// A value in a line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Field {
    Null,
    /// Text from Graph, or a label value.
    Text(String),
    /// A number or boolean.
    Literal(String),
}

/// The line of one row, or the values that one row adds to its group.
pub(super) struct Line {
    /// All fields of the row, or the fields that identify the group.
    pub(super) fields: Vec<Field>,
    group: Group,
}

/// The figures of one row, or the sums over the rows of one group.
#[derive(Default)]
struct Group {
    values: Values<MONEY_MAX>,
    /// Earliest start of a call; only for meetings.
    start: Option<DateTime<Utc>>,
    /// Destinations of the calls; only for meetings.
    destinations: BTreeSet<String>,
}

/// The columns of a table, and its sums.
pub(super) struct Table {
    by: By,
    user_label: UserLabel,
    departments: Option<Arc<Departments>>,
    /// The names of all columns.
    pub(super) names: Vec<String>,
    columns: Vec<Column>,
    figures: Vec<Measure>,
    /// Position of `call_type` in the report's labels. A table of meetings has only rows with the call types `conf_…`.
    call_type: Option<usize>,
    /// Position of the most exact destination in the report's labels.
    destination: Option<usize>,
    sums: BTreeMap<Vec<Field>, Group>,
    /// Bytes of memory that the sums take.
    bytes: usize,
    memory: Reservation,
}

/// The source of a field.
enum Column {
    User,
    Department,
    /// A property, with its name in Graph.
    Property(String),
    /// A label, with its position in the report's labels.
    Label(usize),
    Day,
}

impl Table {
    /// # Errors
    /// If the flags do not fit the report or the configuration.
    pub(super) fn new(
        args: &ExportArgs,
        user_label: UserLabel,
        departments: Option<Arc<Departments>>,
        memory: Reservation,
    ) -> Result<Self, ExportError> {
        let report = args.report.info();
        if !has(report, args.by) {
            let all = By::ALL.iter();
            let possible = all.filter(|&&by| has(report, by)).map(|by| by.as_str());
            return Err(ExportError::Choice(format!(
                "{} has no {}; give --by with one of these: {}",
                args.report,
                args.by.as_str(),
                possible.collect::<Vec<_>>().join(", ")
            )));
        }
        if args.by == By::User && !user_label.names_users() {
            let what = "labels.user or reports[].user is none, so users are not named; change it, or give another --by";
            return Err(ExportError::Choice(what.to_owned()));
        }
        if args.by == By::Department && departments.is_none() {
            let what = "there are no departments; set departments.file, or give another --by";
            return Err(ExportError::Choice(what.to_owned()));
        }
        let mut table = Self {
            by: args.by,
            user_label,
            departments,
            names: Vec::new(),
            columns: Vec::new(),
            figures: Vec::new(),
            call_type: report.label("call_type"),
            destination: destination(report),
            sums: BTreeMap::new(),
            bytes: 0,
            memory,
        };
        if args.by == By::Row {
            for property in report.properties {
                table.push_property(property, args.no_numbers);
            }
        } else {
            table.push_key(report);
            table.push_figures(report);
        }
        Ok(table)
    }

    /// Adds the column of a property. The three properties that identify a user share one column.
    fn push_property(&mut self, property: &'static str, no_numbers: bool) {
        match property {
            "user_id" => self.push_user(),
            "user_principal_name" | "user_display_name" => {}
            _ if no_numbers && property.ends_with("_number") => {}
            _ => {
                let name = PropertyName::new(property).to_string();
                self.push(property, Column::Property(name));
            }
        }
    }

    /// Adds the columns that the rows are grouped by.
    fn push_key(&mut self, report: &ReportInfo) {
        match self.by {
            By::Row => {}
            By::User => self.push_user(),
            By::Department => self.push("department", Column::Department),
            By::Destination => self.push_label(report, self.destination),
            By::Meeting => {
                self.push("day", Column::Day);
                self.push_property("conference_id", false);
                self.push_user();
            }
        }
        self.push_label(report, report.label("currency"));
    }

    /// Adds the columns of the figures. Their names are those of the metrics without the prefix.
    fn push_figures(&mut self, report: &ReportInfo) {
        if self.by == By::Meeting {
            self.names
                .extend(["start", "destinations"].map(str::to_owned));
        }
        let prefix = format!("teams_pstn_{}_", report.name);
        for column in report.columns {
            let name = column.current.name;
            self.names
                .push(name.strip_prefix(&prefix).unwrap_or(name).to_owned());
            self.figures.push(column.measure);
        }
    }

    fn push_user(&mut self) {
        if self.user_label.names_users() {
            self.push("user", Column::User);
        }
    }

    fn push_label(&mut self, report: &ReportInfo, position: Option<usize>) {
        if let Some(position) = position {
            self.push(report.labels[position], Column::Label(position));
        }
    }

    fn push(&mut self, name: &str, column: Column) {
        self.names.push(name.to_owned());
        self.columns.push(column);
    }

    /// Returns the line of a row, or the values that the row adds to its group. `None` if the table leaves the row out.
    pub(super) fn line(&self, texts: &RowTexts<'_>, record: &Record<'_>) -> Option<Line> {
        let label = |position: Option<usize>| position.map_or("", |index| &*record.labels[index]);
        if self.by == By::Meeting && !label(self.call_type).starts_with("conf_") {
            return None;
        }
        let [id, principal_name, _] = record.person;
        let field = |column: &Column| match column {
            Column::User => Field::Text(self.user_label.label(record.person).into_owned()),
            Column::Department => self
                .departments
                .as_ref()
                .map_or(Field::Null, |departments| {
                    let department = departments.of(principal_name, id);
                    Field::Text(departments.name(department).to_owned())
                }),
            Column::Property(name) => Field::of(texts.properties.get(name)),
            Column::Label(position) => Field::Text(record.labels[*position].to_string()),
            Column::Day => record.time.map_or(Field::Null, |time| {
                Field::Text(time.format("%Y-%m-%d").to_string())
            }),
        };
        let mut group = Group::default();
        if self.by != By::Row {
            group.values = Values {
                money: record.money.map(Sum::from),
                counts: record.counts,
            };
        }
        if self.by == By::Meeting {
            group.start = record.time;
            group.destinations = [label(self.destination).to_owned()].into();
        }
        Some(Line {
            fields: self.columns.iter().map(field).collect(),
            group,
        })
    }

    pub(super) fn add(&mut self, lines: Vec<Line>) -> Result<(), MemoryError> {
        for Line { fields, group } in lines {
            let size: usize = fields.iter().map(Field::bytes).sum();
            let sum = self.sums.entry(fields).or_insert_with(|| {
                self.bytes += size + size_of::<Group>();
                Group::default()
            });
            sum.values.add(&group.values);
            sum.start = sum.start.into_iter().chain(group.start).min();
            for destination in group.destinations {
                let bytes = destination.len();
                if sum.destinations.insert(destination) {
                    self.bytes += bytes + size_of::<String>();
                }
            }
            self.memory.resize(self.bytes)?;
        }
        Ok(())
    }

    /// Returns one line for each sum.
    pub(super) fn sums(&self) -> impl Iterator<Item = Vec<Field>> {
        self.sums.iter().map(|(key, sum)| {
            let mut fields = key.clone();
            if self.by == By::Meeting {
                let start = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::AutoSi, true);
                fields.push(
                    sum.start
                        .map_or(Field::Null, |time| Field::Text(start(time))),
                );
                let destinations: Vec<&str> = sum.destinations.iter().map(|it| &**it).collect();
                fields.push(Field::Text(destinations.join("; ")));
            }
            fields.extend(self.figures.iter().map(|figure| {
                Field::Literal(match *figure {
                    Measure::Money(index) => sum.values.money[index].to_string(),
                    Measure::Count(index, _) => sum.values.counts[index].to_string(),
                })
            }));
            fields
        })
    }
}

impl Field {
    /// Returns the value of a property. A number becomes an exact decimal.
    fn of(json: Option<&&RawValue>) -> Self {
        let json = json.map_or("null", |json| json.get());
        match json.as_bytes().first() {
            Some(b'"') => {
                let text: Shown<'_> = serde_json::from_str(json).unwrap_or_default();
                let text = Property::new("text", &text);
                Self::Text(text.shown(&mut Notes::default()).to_owned())
            }
            Some(b'n') => Self::Null,
            Some(b't' | b'f') => Self::Literal(json.to_owned()),
            _ => match Amount::from_json(json) {
                Ok(number) => Self::Literal(number.to_string()),
                Err(_) => Self::Text(json.to_owned()),
            },
        }
    }

    fn bytes(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Null => 0,
                Self::Text(text) | Self::Literal(text) => text.len(),
            }
    }
}

/// Returns true if rows of the report can be grouped by `by`.
fn has(report: &ReportInfo, by: By) -> bool {
    match by {
        By::Row => true,
        By::User | By::Department => !report.columns.is_empty(),
        By::Destination => destination(report).is_some(),
        By::Meeting => report.properties.contains(&"conference_id"),
    }
}

/// Returns the position of the most exact destination in the report's labels.
fn destination(report: &ReportInfo) -> Option<usize> {
    let destination = report.label("destination");
    destination.or_else(|| report.label("destination_context"))
}
