//! Budgets: the configured limits, and the spend that counts for each of them.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest;
use serde::{Deserialize, Serialize};

use super::ReportKind;
use super::department::Departments;
use super::pool::PooledCall;
use super::threshold::Threshold;
use crate::exposition::{Family, Samples, gauges, label_block};
use crate::money::{Amount, Sum};

/// A limit of spend in one currency. It applies to each selected tenant separately. A selector that is `None` matches
/// everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Value of the label `budget`.
    pub name: String,
    /// ISO 4217, upper case.
    pub currency: String,
    /// Limit of a billing period, exactly as written, above zero.
    pub amount: Amount,
    /// Shares of the amount at which alerts fire, in ascending order.
    pub thresholds: Vec<Threshold>,
    /// Report that has the charges. The configuration rejects a report that has no amounts or is not polled.
    pub report: ReportKind,
    /// The name of the selected tenant. `None` selects all tenants.
    pub tenant: Option<String>,
    /// User principal name or object id, compared without regard to case. This is the real user, even if the label
    /// `user` shows a pseudonym or nothing.
    pub user: Option<String>,
    /// A department of the configured file, or `unmapped`.
    pub department: Option<String>,
    /// Value of the label `usage_location`: upper case, or `unknown`.
    pub usage_location: Option<String>,
    /// Value of the label `destination_context`.
    pub destination_context: Option<String>,
}

/// The labels that budgets select by.
pub(crate) const LABELS: [&str; 3] = ["currency", "destination_context", "usage_location"];

/// The labels and names by which budgets select a row.
#[derive(Clone, Debug)]
pub struct BudgetRow {
    /// The exposed values of [`LABELS`].
    pub(crate) labels: [String; 3],
    /// User principal name and object id.
    pub(crate) names: [String; 2],
    /// The data that pools need, if the row is a call of the call log.
    pub(crate) call: Option<PooledCall>,
}

/// A budget with its spend in the current billing period, for the page. Amounts are exact decimals as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BudgetSpend {
    /// Value of the label `budget`.
    pub name: String,
    /// ISO 4217, upper case.
    pub currency: String,
    /// Limit of a billing period.
    pub amount: String,
    /// Spend of the current billing period.
    pub spent: String,
    /// Spend in whole percent of the amount, rounded down, so that 99.9 % is not yet 100 %.
    pub percent: u32,
    /// The thresholds, in ascending order.
    pub thresholds: Vec<Threshold>,
}

static AMOUNT: Family = Family::gauge(
    "teams_pstn_budget_amount",
    "Amount of the budget for a billing period, in the currency of the label.",
);

static SPENT: Family = Family::gauge(
    "teams_pstn_budget_spent",
    "Spend that counts for the budget in the current billing period, over all users, including hidden and aggregated ones. As \
     of the last complete report.",
);

static THRESHOLD: Family = Family::gauge(
    "teams_pstn_budget_threshold_ratio",
    "Share of the budget at which an alert fires: 0.8 for 80 %. From the configuration.",
);

/// The families of budgets, which each report with amounts has.
pub(crate) const FAMILIES: [&Family; 3] = [&AMOUNT, &SPENT, &THRESHOLD];

impl Budget {
    /// A budget in US dollars for all charges of the dial-out report.
    pub fn new(name: &str, amount: impl Into<Amount>) -> Self {
        Self {
            name: name.to_owned(),
            currency: "USD".to_owned(),
            amount: amount.into(),
            thresholds: Threshold::defaults(),
            report: ReportKind::Dialout,
            tenant: None,
            user: None,
            department: None,
            usage_location: None,
            destination_context: None,
        }
    }

    /// Returns whether the selectors match these labels. The person is not compared.
    pub(crate) fn covers(&self, [currency, context, location]: [&str; 3]) -> bool {
        let selects = |selector: &Option<String>, label: &str| {
            selector.as_deref().is_none_or(|wanted| wanted == label)
        };
        self.currency == currency
            && selects(&self.destination_context, context)
            && selects(&self.usage_location, location)
    }

    /// Returns whether a selector depends on the person.
    pub(crate) fn selects_persons(&self) -> bool {
        self.user.is_some() || self.department.is_some()
    }

    /// Returns whether the selectors match a person with these names in this department.
    pub(crate) fn is_of(&self, names: [&str; 2], department: Option<&str>) -> bool {
        let is_named = self.user.as_deref().is_none_or(|user| {
            names
                .into_iter()
                .any(|name| name.to_lowercase() == user.to_lowercase())
        });
        is_named && (self.department.is_none() || self.department.as_deref() == department)
    }

    /// Explains why no row matches. The text has the selectors up to the first one that matches no row, and the values
    /// that the rows have instead (never user names). Returns `None` if a row matches or there are no rows.
    pub(crate) fn mismatch(
        &self,
        rows: &[BudgetRow],
        departments: Option<&Departments>,
    ) -> Option<String> {
        let selectors = [
            (" in ", Some(&self.currency)),
            (", usage_location ", self.usage_location.as_ref()),
            (", destination_context ", self.destination_context.as_ref()),
            (", department ", self.department.as_ref()),
        ];
        let with_values = rows.iter().map(|row| {
            let [principal_name, id] = &row.names;
            let department = departments.map(|all| all.name(all.of(principal_name, id)));
            let [currency, context, location] = row.labels.each_ref().map(|label| Some(&**label));
            (row, [currency, location, context, department])
        });
        let mut rows: Vec<_> = with_values.collect();
        if rows.is_empty() {
            return None;
        }
        let mut text = "no charge".to_owned();
        for (index, (name, wanted)) in selectors.into_iter().enumerate() {
            let Some(wanted) = wanted else { continue };
            text.extend([name, wanted]);
            let seen = rows.iter().filter_map(|(_, values)| values[index]);
            let seen: BTreeSet<&str> = seen.collect();
            rows.retain(|(_, values)| values[index] == Some(wanted));
            if rows.is_empty() {
                return Some(format!("{text}; seen {}", listed(&seen)));
            }
        }
        let is_of = |(row, [.., department]): &(&BudgetRow, [_; 4])| {
            self.is_of(row.names.each_ref().map(String::as_str), *department)
        };
        (!rows.iter().any(is_of)).then(|| format!("{text} by this user"))
    }
}

/// A hash of the budgets and their order. It leaves out the thresholds, because they do not change a sum. State files
/// contain the hash, so it must not depend on the output of `Debug`, which can change.
pub(crate) fn fingerprint(budgets: &[Budget]) -> String {
    let spell = |budget: &Budget| {
        serde_json::json!([
            budget.name,
            budget.currency,
            budget.amount.to_string(),
            budget.user,
            budget.department,
            budget.usage_location,
            budget.destination_context,
        ])
    };
    let spelled: serde_json::Value = budgets.iter().map(spell).collect();
    let hash = digest::digest(&digest::SHA256, spelled.to_string().as_bytes());
    URL_SAFE_NO_PAD.encode(hash)
}

/// The thresholds of all budgets as text, for state files; empty if there are none.
pub(crate) fn spelled_thresholds(budgets: &[Budget]) -> String {
    let spell = |(index, budget): (usize, &Budget)| {
        let thresholds = budget.thresholds.iter();
        let spell = |threshold: &Threshold| {
            format!(" {index}:{}:{}", threshold.at, threshold.severity.as_str())
        };
        thresholds.map(spell).collect::<String>()
    };
    budgets.iter().enumerate().map(spell).collect()
}

/// Amount, spend and thresholds of every configured budget, in the order of the configuration.
pub(crate) fn samples(budgets: &[Budget], tenant: Option<&str>, spent: &[Sum]) -> Vec<Samples> {
    let (mut amounts, mut spends, mut thresholds) = (Vec::new(), Vec::new(), Vec::new());
    for (budget, spent) in budgets.iter().zip(spent) {
        let [name, currency] = [&budget.name, &budget.currency].map(|text| Some(&**text));
        let own = [("budget", name), ("currency", currency)];
        let labels = label_block(own.into_iter().chain([("tenant", tenant)]));
        amounts.push((labels.clone(), budget.amount.into()));
        spends.push((labels, *spent));
        let sample = |threshold: &Threshold| threshold.sample(&own, tenant);
        thresholds.extend(budget.thresholds.iter().map(sample));
    }
    let families = [
        (&AMOUNT, amounts),
        (&SPENT, spends),
        (&THRESHOLD, thresholds),
    ];
    let families = families.into_iter();
    families
        .filter_map(|(family, samples)| gauges(family, samples))
        .collect()
}

/// Every configured budget with its spend, in the order of the configuration.
pub(crate) fn for_page(budgets: &[Budget], spent: &[Sum]) -> Vec<BudgetSpend> {
    let shown = |(budget, spent): (&Budget, &Sum)| BudgetSpend {
        name: budget.name.clone(),
        currency: budget.currency.clone(),
        amount: budget.amount.to_string(),
        spent: spent.to_string(),
        percent: spent.whole_percent_of(budget.amount.into()),
        thresholds: budget.thresholds.clone(),
    };
    budgets.iter().zip(spent).map(shown).collect()
}

/// The first values, escaped and shortened for a log line.
fn listed(values: &BTreeSet<&str>) -> String {
    let short = |value: &&str| value.escape_debug().take(VALUE_MAX).collect::<String>();
    let mut listed: Vec<String> = values.iter().take(VALUES_MAX).map(short).collect();
    if values.len() > VALUES_MAX {
        listed.push("…".to_owned());
    }
    listed.join(", ")
}

/// Maximum number of values that a message lists. Most reports have fewer, so the intended value is usually among them.
const VALUES_MAX: usize = 10;

/// Maximum characters of a listed value. Microsoft's values are shorter.
const VALUE_MAX: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::threshold::Severity;

    #[test]
    fn mismatches_by_table() {
        let row = |[currency, location, context, name]: [&str; 4]| BudgetRow {
            labels: [currency, context, location].map(str::to_owned),
            names: [name, "id"].map(str::to_owned),
            call: None,
        };
        let rows = [
            ["EUR", "DE", "Domestic", "Ann@x"],
            ["EUR", "FR", "a\nb", "ben@x"],
            ["GBP", "GB", "International", "cy@x"],
        ]
        .map(row);
        let departments = Departments::parse(b"user,department\nann@x,Sales\n").unwrap();
        let some = |text: &str| (text != "-").then(|| text.to_owned());
        for ([currency, location, context, user, department], expected) in [
            (["EUR", "-", "-", "-", "-"], None),
            (["EUR", "DE", "Domestic", "ANN@X", "Sales"], None),
            (["GBP", "-", "-", "ID", "unmapped"], None),
            (
                ["CHF", "DE", "-", "-", "-"],
                Some("no charge in CHF; seen EUR, GBP"),
            ),
            (
                ["EUR", "GB", "-", "-", "-"],
                Some("no charge in EUR, usage_location GB; seen DE, FR"),
            ),
            (
                ["EUR", "-", "International", "-", "-"],
                Some("no charge in EUR, destination_context International; seen Domestic, a\\nb"),
            ),
            (
                ["EUR", "FR", "-", "ann@x", "-"],
                Some("no charge in EUR, usage_location FR by this user"),
            ),
            (
                ["EUR", "FR", "-", "-", "Sales"],
                Some("no charge in EUR, usage_location FR, department Sales; seen unmapped"),
            ),
            (
                ["EUR", "-", "-", "ben@x", "Sales"],
                Some("no charge in EUR, department Sales by this user"),
            ),
        ] {
            let budget = Budget {
                currency: currency.to_owned(),
                user: some(user),
                department: some(department),
                usage_location: some(location),
                destination_context: some(context),
                ..Budget::new("a", 1)
            };
            let found = budget.mismatch(&rows, Some(&departments));
            assert_eq!(found.as_deref(), expected);
            assert_eq!(budget.mismatch(&[], Some(&departments)), None);
        }
    }

    #[test]
    fn thresholds_are_exact_shares() {
        let warning = Threshold {
            severity: Severity::Warning,
            ..Threshold::from(120)
        };
        let budget = Budget {
            currency: "EUR".to_owned(),
            thresholds: vec![Threshold::from(5), Threshold::from(100), warning],
            ..Budget::new("a", 500)
        };
        let mut text = Vec::new();
        for samples in samples(&[budget], Some("t"), &[Sum::default()]) {
            if samples.family == &THRESHOLD {
                samples.write(crate::exposition::Format::Text, &mut text);
            }
        }
        let name = "teams_pstn_budget_threshold_ratio{budget=\"a\",currency=\"EUR\"";
        let expected = [
            ("info", 5, "0.05"),
            ("critical", 100, "1"),
            ("warning", 120, "1.2"),
        ];
        let expected = expected.map(|(severity, at, ratio)| {
            format!("{name},severity=\"{severity}\",tenant=\"t\",threshold=\"{at}\"}} {ratio}\n")
        });
        let text = String::from_utf8(text).unwrap();
        assert!(
            text.ends_with(&format!("gauge\n{}", expected.concat())),
            "{text}"
        );
    }

    #[test]
    fn listed_values_are_limited() {
        let values: Vec<String> = (10..25)
            .map(|n| format!("{n}{}", "x".repeat(100)))
            .collect();
        let listed = listed(&values.iter().map(String::as_str).collect());
        assert_eq!(listed.matches(", ").count(), VALUES_MAX);
        assert!(listed.len() < VALUES_MAX * (VALUE_MAX + 2) + 4, "{listed}");
    }
}
