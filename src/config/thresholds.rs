//! Resolves the thresholds of budgets and other limits.

use super::ConfigErrors;
use super::read::{Either, Field, Place};
use super::scalar::Percent;
use super::sections::Threshold;
use crate::report::threshold;

/// Returns the thresholds in ascending order, or `default` if there are none.
pub(super) fn thresholds(
    field: Field<Vec<Field<Either<Threshold>>>>,
    default: impl Fn() -> Vec<threshold::Threshold>,
    errors: &mut ConfigErrors,
) -> Vec<threshold::Threshold> {
    let Some((place, items)) = field.set() else {
        return default();
    };
    if items.len() > THRESHOLDS_MAX {
        let count = items.len();
        let what = format!("{count} thresholds are too many; give at most {THRESHOLDS_MAX}");
        errors.at(&place, what);
    }
    let mut thresholds: Vec<threshold::Threshold> = Vec::new();
    for (Place { path, .. }, Either(item)) in items.into_iter().filter_map(Field::set) {
        let Some((Place { line, .. }, Percent(share))) = item.at.set() else {
            continue;
        };
        if thresholds.iter().any(|threshold| threshold.at == share) {
            let what = format!("{share} is given twice; remove one of them");
            errors.at(&Place { line, path }, what);
        }
        let mut threshold = threshold::Threshold::from(share);
        threshold.severity = item.severity.value().unwrap_or(threshold.severity);
        thresholds.push(threshold);
    }
    thresholds.sort_by_key(|threshold| threshold.at);
    thresholds
}

/// Maximum number of thresholds. Each threshold adds an alert, and a series per budget and tenant. No administrator
/// needs more than ten.
const THRESHOLDS_MAX: usize = 10;
