//! Thresholds of a limit, such as a budget: the shares at which an alert fires, and the severity of each.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::exposition::label_block;
use crate::money::{Amount, Sum};

/// A share of a limit, and the severity of the alert that fires at this share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Threshold {
    /// In percent, above zero.
    pub at: u32,
    /// Value of the label `severity`.
    pub severity: Severity,
}

closed_set! {
    /// The severities of alerts.
    #[derive(PartialOrd, Ord, Serialize, Deserialize)]
    Severity {
        /// Nothing needs to be done.
        Info = "info",
        /// Someone should look at it on a working day.
        Warning = "warning",
        /// Someone should look at it now.
        Critical = "critical",
    }
}

impl Threshold {
    /// The default thresholds of a limit.
    pub fn defaults() -> Vec<Self> {
        [50, 80, 100, 120].map(Self::from).to_vec()
    }

    /// Returns the highest threshold that a share in percent has reached. `thresholds` are in ascending order.
    pub(crate) fn reached(thresholds: &[Self], percent: u32) -> Option<Self> {
        let mut thresholds = thresholds.iter().copied();
        thresholds.rfind(|threshold| threshold.at <= percent)
    }

    /// The labels of a sample, and its value: the share, for example 0.8 for 80 %. Appends the labels `severity`,
    /// `tenant` and `threshold` to `labels`. All names in `labels` must sort before `severity`, because labels are
    /// sorted by name.
    pub(crate) fn sample(
        self,
        labels: &[(&str, Option<&str>)],
        tenant: Option<&str>,
    ) -> (Vec<u8>, Sum) {
        let at = self.at.to_string();
        let own = [
            ("severity", Some(self.severity.as_str())),
            ("tenant", tenant),
            ("threshold", Some(&*at)),
        ];
        let ratio = Amount::from(Decimal::new(self.at.into(), 2));
        let labels = labels.iter().copied();
        (label_block(labels.chain(own)), ratio.into())
    }
}

impl From<u32> for Threshold {
    /// The threshold with its default severity.
    fn from(at: u32) -> Self {
        let severity = match at {
            0..60 => Severity::Info,
            60..100 => Severity::Warning,
            100.. => Severity::Critical,
        };
        Self { at, severity }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severities_by_table() {
        let severity = |at: u32| Threshold::from(at).severity.as_str();
        let found = [1, 59, 60, 99, 100, 1_000].map(severity);
        let [info, warning, critical] = Severity::ALL.map(Severity::as_str);
        assert_eq!(found, [info, info, warning, warning, critical, critical]);
    }

    #[test]
    fn the_highest_threshold_that_is_reached_counts() {
        let reached = |percent: u32| {
            let reached = Threshold::reached(&Threshold::defaults(), percent);
            reached.map(|threshold| threshold.at)
        };
        let expected = [None, Some(50), Some(80), Some(80), Some(120)];
        assert_eq!([49, 50, 80, 99, 500].map(reached), expected);
        assert_eq!(Threshold::reached(&[], 500), None);
    }
}
