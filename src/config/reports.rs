//! Resolves the reports: their settings, and the key that pseudonyms need.

use std::path::Path;

use super::files;
use super::read::{Either, Field, Place};
use super::scalar::UserSetting;
use super::sections::{Labels, Report};
use super::{ConfigErrors, Poll};
use crate::report::ReportKind;
use crate::report::labels::{Pseudonyms, UserLabel};

pub(super) fn reports(
    field: Field<Vec<Field<Either<Report>>>>,
    key: &mut PseudonymKey,
    errors: &mut ConfigErrors,
) -> Option<Vec<super::Report>> {
    let (place, items) = match field {
        Field::Missing => return Some(vec![ReportKind::Dialout.into()]),
        field => field.set()?,
    };
    if items.is_empty() {
        errors.at(
            &place,
            "the list is empty; name at least one report, for example dialout, or remove the key",
        );
    }
    let mut reports = Vec::new();
    for (Place { line, path }, Either(report)) in items.into_iter().filter_map(Field::set) {
        let line = report.name.line().unwrap_or(line);
        let Some(report) = report.resolve(key, errors) else {
            continue;
        };
        if contains(&reports, report.kind) {
            let what = format!("{} is named twice; remove one of them", report.kind);
            errors.at(&Place { line, path }, what);
        }
        reports.push(report);
    }
    Some(reports)
}

pub(super) fn contains(reports: &[super::Report], kind: ReportKind) -> bool {
    reports.iter().any(|report| report.kind == kind)
}

/// Records an error if the figures of a report would be older than `poll.max_age` before its next poll.
pub(super) fn check_max_age(
    poll: &Poll,
    line: Option<usize>,
    reports: Option<&[super::Report]>,
    errors: &mut ConfigErrors,
) {
    let reports = reports.unwrap_or_default().iter();
    let rarest = reports.max_by_key(|report| poll.interval_of(report));
    if let (Some(line), Some(max_age), Some(report)) = (line, poll.max_age, rarest)
        && max_age <= poll.interval_of(report)
    {
        let interval = humantime::format_duration(poll.interval_of(report));
        errors.push(
            line,
            format!(
                "poll.max_age: not longer than the interval of {interval} between polls of {}, so that report would be too old before its next poll; set it to several intervals",
                report.kind
            ),
        );
    }
}

/// The key of the pseudonyms, and whether a user label needs it.
pub(super) struct PseudonymKey {
    line: Option<usize>,
    pseudonyms: Option<Pseudonyms>,
    is_used: bool,
}

impl PseudonymKey {
    pub(super) fn of(labels: &mut Labels, folder: &Path, errors: &mut ConfigErrors) -> Self {
        let field = std::mem::take(&mut labels.pseudonym_key_file);
        Self {
            line: field.line(),
            pseudonyms: files::pseudonyms(folder, field, errors),
            is_used: false,
        }
    }

    /// Returns the user label that a setting `user` selects. Records an error if the label needs a key and there is
    /// none.
    pub(super) fn label(
        &mut self,
        field: Field<UserSetting>,
        errors: &mut ConfigErrors,
    ) -> Option<UserLabel> {
        self.is_used |= matches!(field, Field::Invalid(_) | Field::Set(_, UserSetting(None)));
        let (place, UserSetting(label)) = field.set()?;
        if label.is_none() && self.line.is_none() {
            let what = "pseudonym needs a key; give labels.pseudonym_key_file";
            errors.at(&place, what);
        }
        label.or_else(|| self.pseudonyms.clone().map(UserLabel::Pseudonym))
    }

    /// Records an error if a key is configured that no user label needs.
    pub(super) fn check_use(&self, errors: &mut ConfigErrors) {
        if let (Some(line), false) = (self.line, self.is_used) {
            errors.push(
                line,
                "labels.pseudonym_key_file: no user label needs it; remove it or set labels.user to pseudonym",
            );
        }
    }
}

impl Report {
    /// Returns the report if its name is valid.
    fn resolve(self, key: &mut PseudonymKey, errors: &mut ConfigErrors) -> Option<super::Report> {
        let user = key.label(self.user, errors);
        Some(super::Report {
            kind: self.name.value()?,
            interval: self.interval.value(),
            user,
            max_series: self.max_series.value(),
        })
    }
}
