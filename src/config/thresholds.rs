//! Resolves the thresholds of budgets and other limits.

use super::ConfigErrors;
use super::read::{Either, Field, valid};
use super::scalar::Percent;
use super::sections::Threshold;
use crate::report::threshold;

/// Returns the thresholds in ascending order, or `default` if there are none. `at` is the path of the list.
pub(super) fn thresholds(
    field: Field<Vec<Field<Either<Threshold>>>>,
    at: &str,
    default: impl Fn() -> Vec<threshold::Threshold>,
    errors: &mut ConfigErrors,
) -> Vec<threshold::Threshold> {
    let Some((line, items)) = field.set() else {
        return default();
    };
    if items.len() > THRESHOLDS_MAX {
        errors.push(
            line,
            format!(
                "{at}: {} thresholds are too many; give at most {THRESHOLDS_MAX}",
                items.len()
            ),
        );
    }
    let mut thresholds: Vec<threshold::Threshold> = Vec::new();
    for (at, _, Either(item)) in valid(at, items) {
        let Some((line, Percent(share))) = item.at.set() else {
            continue;
        };
        if thresholds.iter().any(|threshold| threshold.at == share) {
            errors.push(
                line,
                format!("{at}: {share} is given twice; remove one of them"),
            );
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
