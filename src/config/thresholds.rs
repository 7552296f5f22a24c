//! Resolves the thresholds of budgets and other limits.

use super::ConfigErrors;
use super::read::{Either, Field, Scalar as _};
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
    for (index, item) in items.into_iter().enumerate() {
        let Some((line, Either(item))) = item.set() else {
            continue;
        };
        let at = format!("{at}[{index}]");
        let line = item.at.line().unwrap_or(line);
        if item.at.is_missing() {
            errors.push(line, format!("{at}: no at; {}", Percent::HINT));
        }
        let Some(Percent(share)) = item.at.value() else {
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
