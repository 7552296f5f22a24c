//! Budgets: what may be spent, and what has been.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest;

use super::labels::View;
use crate::exposition::{Family, Samples, Sheet, write_label};
use crate::money::{Amount, Sum};

/// A limit of spend in one currency, for each tenant that it is configured for. A selector that is none matches
/// everything; the others match the labels as they are exposed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Value of the label `budget`.
    pub name: String,
    /// ISO 4217, upper case.
    pub currency: String,
    /// What may be spent in a billing period.
    pub amount: Amount,
    /// User principal name or object id, without regard to case, and however users are named in labels.
    pub user: Option<String>,
    /// Upper case, or `unknown`.
    pub usage_location: Option<String>,
    /// As in the label.
    pub destination_context: Option<String>,
}

static AMOUNT: Family = Family::gauge(
    "teams_pstn_budget_amount",
    "What the configuration allows to be spent in a billing period, in the currency of the label.",
);

static SPENT: Family = Family::gauge(
    "teams_pstn_budget_spent",
    "What has been spent of the budget in the current billing period, over all users, also hidden and folded ones. \
     Cached: from the last complete report.",
);

/// Those of the budgets of any report.
pub(crate) const FAMILIES: [&Family; 2] = [&AMOUNT, &SPENT];

impl Budget {
    /// Whether it covers what has these labels, whoever it is of.
    pub(crate) fn covers(&self, currency: &str, context: &str, location: &str) -> bool {
        let selects = |selector: &Option<String>, label: &str| {
            selector.as_deref().is_none_or(|wanted| wanted == label)
        };
        self.currency == currency
            && selects(&self.destination_context, context)
            && selects(&self.usage_location, location)
    }

    /// Whether it is of everyone, or of the person with one of these names.
    pub(crate) fn is_of(&self, names: [&str; 2]) -> bool {
        self.user.as_deref().is_none_or(|user| {
            names
                .into_iter()
                .any(|name| name.to_lowercase() == user.to_lowercase())
        })
    }
}

/// The same for the same budgets in the same order, and else another; tells nothing of what they select.
pub(crate) fn fingerprint(budgets: &[Budget]) -> String {
    let hash = digest::digest(&digest::SHA256, format!("{budgets:?}").as_bytes());
    URL_SAFE_NO_PAD.encode(hash)
}

/// Amount and spend of every budget of the view, in its order.
pub(crate) fn samples(
    view: &View<'_>,
    spent: impl Iterator<Item = Sum>,
) -> impl Iterator<Item = Samples> {
    let mut sheet = Sheet::new(&[&AMOUNT, &SPENT]);
    for (budget, spent) in view.budgets.iter().zip(spent) {
        let mut labels = Vec::new();
        write_label("budget", &budget.name, &mut labels);
        write_label("currency", &budget.currency, &mut labels);
        if let Some(tenant) = view.tenant {
            write_label("tenant", tenant, &mut labels);
        }
        sheet.row(&labels, |family, out| match family {
            0 => Sum::from(budget.amount).write_sample(out),
            _ => spent.write_sample(out),
        });
    }
    sheet.finish().filter(|samples| samples.count > 0)
}
