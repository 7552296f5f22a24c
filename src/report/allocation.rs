//! Allocation of cost: finds the budgets that a row counts for, and the department that the row belongs to.
//!
//! A selector matches the exposed labels of a row, or the names of its person as Graph sends them, whatever the label
//! `user` shows. A report has far fewer label sets and persons than rows. So each label set and each person is matched
//! once, and no text is compared for a row.

#![deny(clippy::float_arithmetic)]

use std::cmp::Reverse;
use std::sync::Arc;

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use super::budget::{self, Budget, BudgetSpend};
use super::column::{COUNTS_MAX, Values};
use super::department::{DepartmentId, Departments};
use super::interner::Interner;
use super::pool::{self, Pool, PoolUse};
use super::{CALLS_COUNT, Count, ReportInfo, SECONDS_COUNT};
use crate::exposition::{Family, Samples, gauges, label_block};
use crate::money::Sum;

/// The configured budgets, pools and departments that apply to a report.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Allocation {
    /// The budgets of the report.
    pub budgets: Vec<Budget>,
    /// The pools, if the report is the call log.
    pub pools: Vec<Pool>,
    /// The departments, if the configuration has a file of departments.
    pub departments: Option<Arc<Departments>>,
}

/// Matches label sets and persons with budgets and departments. The caller adds each kind in the order of its ids.
pub(crate) struct Allocator<'a> {
    allocation: &'a Allocation,
    currencies: Interner,
    label_sets: Vec<LabelSet>,
    persons: Vec<Person>,
}

struct LabelSet {
    currency: u32,
    /// For each budget, true if its label selectors match.
    covered: Vec<bool>,
    /// Indices of the matching budgets that do not select persons.
    everyone: Vec<usize>,
}

struct Person {
    department: Option<DepartmentId>,
    /// Indices of the budgets that select this person.
    budgets: Vec<usize>,
}

/// Sums by budget and by department.
#[derive(Clone, Debug, Default)]
pub(crate) struct Allocated {
    spent: Vec<Sum>,
    currencies: Interner,
    /// The sums by department and currency. A row can have several amounts, and only its first amount is added.
    departments: HashMap<(DepartmentId, u32), Values<1>>,
}

/// Budgets, pools and departments of a report, for the HTML page.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllocatedSummary {
    /// Budgets and their spend, in the order of the configuration.
    pub budgets: Vec<BudgetSpend>,
    /// Pools and their use, in the order of the configuration.
    pub pools: Vec<PoolUse>,
    /// The ten departments with the highest charge in each currency, highest first.
    pub departments: Vec<DepartmentSpend>,
}

/// One department's spend in one currency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DepartmentSpend {
    /// Value of the label `department`.
    pub department: String,
    /// ISO 4217, or `unknown`.
    pub currency: String,
    /// Exact decimal.
    pub charge: String,
    /// Calls, seconds, messages, …
    pub counts: Vec<Count>,
}

static CHARGE: Family = Family::gauge(
    "teams_pstn_department_charge",
    "Charge of the report's rows in the current billing period by department of the user, in the currency of the label; never \
     add different currencies or reports. As of the last complete report.",
);

static CALLS: Family = Family::gauge(
    "teams_pstn_department_calls",
    "Calls of the report in the current billing period by department of the user. As of the last complete report.",
);

static CALL_SECONDS: Family = Family::gauge(
    "teams_pstn_department_call_seconds",
    "Duration of the report's calls in the current billing period by department of the user. As of the last complete report.",
);

/// The families of budgets, departments and pools. Several reports can have them.
pub(crate) const FAMILIES: [&Family; 9] = [
    budget::FAMILIES[0],
    budget::FAMILIES[1],
    budget::FAMILIES[2],
    &CHARGE,
    &CALLS,
    &CALL_SECONDS,
    pool::FAMILIES[0],
    pool::FAMILIES[1],
    pool::FAMILIES[2],
];

impl Allocation {
    /// A hash of everything that decides how rows are allocated. State files contain it.
    pub(crate) fn fingerprint(&self) -> String {
        let mut fingerprint = budget::fingerprint(&self.budgets);
        if let Some(departments) = &self.departments {
            fingerprint.extend([" ", departments.fingerprint()]);
        }
        fingerprint
    }

    /// The fingerprint, extended by the thresholds and pools, which are shown but do not change the saved sums.
    pub(crate) fn shown_fingerprint(&self) -> String {
        let thresholds = budget::spelled_thresholds(&self.budgets);
        self.fingerprint() + &thresholds + &pool::spelled(&self.pools)
    }

    pub(crate) fn selects_persons(&self) -> bool {
        self.departments.is_some() || self.budgets.iter().any(Budget::selects_persons)
    }

    /// If the allocation has changed since `current` was rendered, removes the samples of budgets, departments and
    /// pools from `current`, and clears `shown`. `theirs` is the [`Self::shown_fingerprint`] with which `current` was
    /// rendered. This function replaces it with the fingerprint of `self`.
    pub(crate) fn drop_others(
        &self,
        current: &mut Vec<Samples>,
        shown: Option<&mut AllocatedSummary>,
        theirs: &mut String,
    ) {
        let configured = self.shown_fingerprint();
        if *theirs != configured {
            current.retain(|samples| !FAMILIES.contains(&samples.family));
            if let Some(shown) = shown {
                *shown = AllocatedSummary::default();
            }
            *theirs = configured;
        }
    }
}

impl<'a> Allocator<'a> {
    pub(crate) fn new(allocation: &'a Allocation) -> Self {
        Self {
            allocation,
            currencies: Interner::default(),
            label_sets: Vec::new(),
            persons: Vec::new(),
        }
    }

    /// Adds the next label set: the exposed values of [`budget::LABELS`]. A label that the report does not have is
    /// empty.
    pub(crate) fn add_label_set(&mut self, labels: [&str; 3]) {
        let budgets = &self.allocation.budgets;
        let covered = budgets.iter().map(|budget| budget.covers(labels));
        let covered: Vec<bool> = covered.collect();
        let everyone =
            (0..budgets.len()).filter(|&index| covered[index] && !budgets[index].selects_persons());
        self.label_sets.push(LabelSet {
            currency: self.currencies.intern(labels[0]),
            everyone: everyone.collect(),
            covered,
        });
    }

    pub(crate) fn add_person(&mut self, principal_name: &str, id: &str) {
        let departments = self.allocation.departments.as_deref();
        let department = departments.map(|departments| departments.of(principal_name, id));
        let name = departments.zip(department);
        let name = name.map(|(departments, department)| departments.name(department));
        let budgets = (0..)
            .zip(&self.allocation.budgets)
            .filter_map(|(index, budget)| {
                let selected = budget.selects_persons() && budget.is_of([principal_name, id], name);
                selected.then_some(index)
            });
        self.persons.push(Person {
            department,
            budgets: budgets.collect(),
        });
    }

    /// Bytes of memory of the allocator. The budgets of each person are left out, because few budgets select a person.
    pub(crate) fn bytes(&self) -> usize {
        let each =
            size_of::<LabelSet>() + self.allocation.budgets.len() * size_of::<(bool, usize)>();
        let label_sets = self.label_sets.len() * each;
        label_sets + size_of_val(&*self.persons) + self.currencies.bytes()
    }

    pub(crate) fn no_sums(&self) -> Allocated {
        Allocated::new(self.allocation)
    }

    /// Adds a row to the sums of its budgets and of its department. If [`Self::add_person`] was never called, `person`
    /// is ignored.
    pub(crate) fn add<const MONEY: usize>(
        &self,
        label_set: u32,
        person: u32,
        values: &Values<MONEY>,
        sums: &mut Allocated,
    ) {
        let label_set = &self.label_sets[label_set as usize];
        let person = self.persons.get(person as usize);
        let personal = person.map_or(&[][..], |person| &person.budgets);
        let personal = personal.iter().filter(|&&index| label_set.covered[index]);
        for &index in label_set.everyone.iter().chain(personal) {
            sums.spent[index].merge(values.money[0]);
        }
        if let Some(department) = person.and_then(|person| person.department) {
            let currency = sums
                .currencies
                .intern(self.currencies.text(label_set.currency));
            let sum = sums.departments.entry((department, currency)).or_default();
            sum.add(&Values {
                money: [values.money[0]],
                counts: values.counts,
            });
        }
    }
}

impl Allocated {
    pub(crate) fn new(allocation: &Allocation) -> Self {
        Self {
            spent: vec![Sum::default(); allocation.budgets.len()],
            ..Self::default()
        }
    }

    /// Bytes of memory that the sums by department take.
    pub(crate) fn bytes(&self) -> usize {
        self.currencies.bytes() + self.departments.allocation_size()
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (sum, more) in self.spent.iter_mut().zip(&other.spent) {
            sum.merge(*more);
        }
        for ((department, currency), values) in &other.departments {
            let currency = self.currencies.intern(other.currencies.text(*currency));
            let sum = self.departments.entry((*department, currency));
            sum.or_default().add(values);
        }
    }

    /// The samples of budgets and departments. Departments have only families for figures that the report has.
    pub(crate) fn samples(
        &self,
        allocation: &Allocation,
        report: &ReportInfo,
        tenant: Option<&str>,
    ) -> Vec<Samples> {
        let mut samples = budget::samples(&allocation.budgets, tenant, &self.spent);
        let Some(departments) = &allocation.departments else {
            return samples;
        };
        let labels = |currency, department| {
            label_block([
                ("currency", currency),
                ("department", Some(departments.name(department))),
                ("report", Some(report.name)),
                ("tenant", tenant),
            ])
        };
        let sums = self.sorted();
        if report.has_money() {
            let charge = |&(department, currency, values): &(_, _, &Values<1>)| {
                (labels(Some(currency), department), values.money[0])
            };
            samples.extend(gauges(&CHARGE, sums.iter().map(charge)));
        }
        for (family, unit) in [(&CALLS, CALLS_COUNT), (&CALL_SECONDS, SECONDS_COUNT)] {
            let Some(count) = report.count_of(unit) else {
                continue;
            };
            let total = |sums: &[(DepartmentId, &str, &Values<1>)]| {
                let counts = sums.iter().map(|(_, _, values)| values.counts[count]);
                let total = counts.fold(0, i64::saturating_add);
                (labels(None, sums[0].0), total.into())
            };
            let departments = sums.chunk_by(|a, b| a.0 == b.0);
            samples.extend(gauges(family, departments.map(total)));
        }
        samples
    }

    /// Budgets and departments for the HTML page.
    pub(crate) fn for_page(
        &self,
        allocation: &Allocation,
        report: &ReportInfo,
    ) -> AllocatedSummary {
        let mut summary = AllocatedSummary {
            budgets: budget::for_page(&allocation.budgets, &self.spent),
            ..AllocatedSummary::default()
        };
        let Some(departments) = (allocation.departments.as_ref()).filter(|_| report.has_money())
        else {
            return summary;
        };
        let mut sums = self.sorted();
        sums.sort_unstable_by_key(|&(department, currency, values)| {
            (currency, Reverse(values.money[0]), department)
        });
        let top = sums
            .chunk_by(|a, b| a.1 == b.1)
            .flat_map(|sums| sums.iter().take(DEPARTMENTS_SHOWN));
        let spend =
            |&(department, currency, values): &(DepartmentId, &str, &Values<1>)| DepartmentSpend {
                department: departments.name(department).to_owned(),
                currency: currency.to_owned(),
                charge: values.money[0].to_string(),
                counts: report.counts(values),
            };
        summary.departments = top.map(spend).collect();
        summary
    }

    /// The sums of departments, in the order of the departments and currencies.
    fn sorted(&self) -> Vec<(DepartmentId, &str, &Values<1>)> {
        let named = |(key, values)| {
            let &(department, currency): &(DepartmentId, u32) = key;
            (department, self.currencies.text(currency), values)
        };
        let mut sums: Vec<_> = self.departments.iter().map(named).collect();
        sums.sort_unstable_by_key(|&(department, currency, _)| (department, currency));
        sums
    }
}

/// Maximum number of departments on the HTML page, per currency.
const DEPARTMENTS_SHOWN: usize = 10;

/// Sums in a state file.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SavedAllocated {
    spent: Vec<Sum>,
    departments: Vec<(DepartmentId, String, Sum, [i64; COUNTS_MAX])>,
}

impl Allocated {
    pub(crate) fn save(&self) -> SavedAllocated {
        let saved = |(department, currency, values): (DepartmentId, &str, &Values<1>)| {
            let [charge] = values.money;
            (department, currency.to_owned(), charge, values.counts)
        };
        SavedAllocated {
            spent: self.spent.clone(),
            departments: self.sorted().into_iter().map(saved).collect(),
        }
    }
}

impl From<SavedAllocated> for Allocated {
    fn from(SavedAllocated { spent, departments }: SavedAllocated) -> Self {
        let mut allocated = Self {
            spent,
            ..Self::default()
        };
        for (department, currency, charge, counts) in departments {
            let currency = allocated.currencies.intern(&currency);
            let money = [charge];
            let values = Values { money, counts };
            allocated.departments.insert((department, currency), values);
        }
        allocated
    }
}
