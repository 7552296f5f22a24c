//! Renders the sums of a report by label set. All reports with users and figures share this code.
//!
//! The smallest series are aggregated into `__other__`. Then the table is rendered twice: as samples of the current
//! period, and as samples that are served when this period is the previous one. The page gets spend and top users.
//!
//! This module does not read rows of Graph and does not know which report it renders.

#![deny(clippy::float_arithmetic)]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashMap;

use super::allocation::Allocated;
use super::column::{LATER_MONTH, Measure, Values};
use super::interner::{Dictionary, UNKNOWN};
use super::labels::{RenderContext, RetainedSeries, Size};
use super::pool::{self, Pool, Seconds, UsedSeconds};
use super::{Organizer, Rendered, ReportInfo, SECONDS_COUNT, Spend};
use crate::exposition::{FamilyWriter, Samples, label_block, write_label};
use crate::money::Sum;

/// One label set and its figures. Labels are ranks in a [`Dictionary`], so that series compare like their texts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Series<const LABELS: usize, const MONEY: usize> {
    /// The labels, in the order of [`ReportInfo::labels`]. If the report has fewer labels, the unused places have the
    /// same rank in every series.
    pub(crate) labels: [u32; LABELS],
    pub(crate) user: u32,
    pub(crate) values: Values<MONEY>,
}

/// The series of a report, sorted by their labels.
pub(crate) struct Table<'a, const LABELS: usize, const MONEY: usize> {
    pub(crate) info: &'static ReportInfo,
    /// The texts of the labels.
    pub(crate) texts: &'a Dictionary,
    /// The texts of the label `user`.
    pub(crate) users: &'a Dictionary,
    pub(crate) series: Vec<Series<LABELS, MONEY>>,
}

impl<const LABELS: usize, const MONEY: usize> Table<'_, LABELS, MONEY> {
    /// Renders the table, and the sums that are `allocated` to budgets and departments. The caller sets the row counts
    /// of the result, such as [`Rendered::rows`].
    pub(crate) fn render(mut self, context: &RenderContext<'_>, allocated: &Allocated) -> Rendered {
        // Runs before series are aggregated into `__other__`, because aggregation hides parts of a user's spend.
        let (spend, top) = self.spend_and_top(context);
        let overall = match self.info.label("currency") {
            Some(_) => Vec::new(),
            None => self.info.counts(&total(&self.series)),
        };
        let users = self.named_users(context);
        let used_seconds = self.used_seconds(&context.allocation.pools);
        let (aggregated, retained) = self.collapse(context);
        let allocation = context.allocation;
        Rendered {
            samples: self
                .samples(context)
                .chain(allocated.samples(allocation, self.info, context.tenant))
                .collect(),
            closing: self.closing(context),
            spend,
            counts: overall,
            top,
            allocated: allocated.for_page(allocation, self.info),
            used_seconds,
            users,
            aggregated,
            retained,
            ..Rendered::default()
        }
    }

    fn used_seconds(&self, pools: &[Pool]) -> UsedSeconds {
        let mut used = vec![Seconds::default(); pools.len()];
        if let Some(positions) = pool::positions(self.info)
            && let Some(count) = self.info.count_of(SECONDS_COUNT)
            && !pools.is_empty()
        {
            for group in self.groups() {
                let labels = positions.map(|position| self.label(&group[0], position));
                let counts = total(group).counts;
                let uses = used.iter_mut().zip(pools);
                for (used, _) in uses.filter(|(_, pool)| pool.covers(labels)) {
                    used.add(counts[count], counts[LATER_MONTH]);
                }
            }
        }
        UsedSeconds::new(pools, used)
    }

    /// The number of users in the label `user` of the series.
    fn named_users(&self, context: &RenderContext<'_>) -> u64 {
        if !context.user_label.names_users() {
            return 0;
        }
        let mut is_named = vec![false; self.users.count() as usize];
        for series in &self.series {
            is_named[series.user as usize] = true;
        }
        let named = (0..).zip(is_named);
        let named = named.filter(|&(user, named)| named && self.users.text(user) != UNKNOWN);
        named.count() as u64
    }

    /// If there are more than `max_series` series, aggregates the smallest ones. First, their user becomes `__other__`.
    /// If that is not enough, their other labels become `__other__` too. The currency does not, because amounts in
    /// different currencies cannot be added up.
    fn collapse(&mut self, context: &RenderContext<'_>) -> (u64, RetainedSeries) {
        let names_users = context.user_label.names_users();
        let (other, other_user) = (self.texts.other(), self.users.other());
        let (mut count, mut retained) = (0, RetainedSeries::default());
        if self.series.len() > context.series_max && names_users {
            let groups = self.groups().count();
            (count, retained) = self.collapse_smallest(context, groups, |series| {
                series.user = other_user;
            });
        }
        if self.series.len() > context.series_max {
            let currency = self.info.label("currency");
            let label_count = self.info.labels.len();
            let currencies = self.series.iter();
            let currencies = currencies.map(|series| currency.map(|at| series.labels[at]));
            let currencies: BTreeSet<Option<u32>> = currencies.collect();
            let more;
            (more, retained) = self.collapse_smallest(context, currencies.len(), |series| {
                for position in (0..label_count).filter(|&position| Some(position) != currency) {
                    series.labels[position] = other;
                }
                if names_users {
                    series.user = other_user;
                }
            });
            count += more;
        }
        (count, retained)
    }

    /// Changes the labels of the smallest series and merges series with equal labels, so that at most `max_series`
    /// remain. The changed series become at most `others` series.
    fn collapse_smallest(
        &mut self,
        context: &RenderContext<'_>,
        others: usize,
        change: impl Fn(&mut Series<LABELS, MONEY>),
    ) -> (u64, RetainedSeries) {
        let room = context.series_max.saturating_sub(others);
        let (aggregated, retained) = context.retained.select(
            self.series.len(),
            room,
            &|index| self.size(&self.series[index].values),
            &|index| {
                let series = &self.series[index];
                let labels = (0..self.info.labels.len()).map(|at| self.label(series, at));
                let group = labels.collect::<Vec<_>>().join("\n");
                (group, self.users.text(series.user))
            },
        );
        for &index in &aggregated {
            change(&mut self.series[index]);
        }
        self.series.sort_unstable_by_key(Series::key);
        self.series.dedup_by(|next, last| {
            let same = next.key() == last.key();
            if same {
                last.values.add(&next.values);
            }
            same
        });
        (aggregated.len() as u64, retained)
    }

    /// The size of a series, for sorting: the absolute value of the first family's figure, then all counts.
    fn size(&self, values: &Values<MONEY>) -> Size {
        let first = match self.info.columns[0].measure {
            Measure::Money(index) => values.money[index],
            Measure::Count(index, _) => Sum::from(values.counts[index]),
        };
        (first.abs(), values.counts)
    }

    fn samples(
        &self,
        context: &RenderContext<'_>,
    ) -> impl Iterator<Item = Samples> + use<LABELS, MONEY> {
        let columns = self.info.columns.iter();
        let families: Vec<_> = columns.map(|column| &column.current).collect();
        let mut writer = FamilyWriter::new(&families);
        for group in self.groups() {
            let mut labels = self.group_labels(&group[0], context.tenant);
            let length = labels.len();
            for series in group {
                labels.truncate(length);
                if context.user_label.names_users() {
                    write_label("user", self.users.text(series.user), &mut labels);
                }
                self.write(&series.values, &labels, &mut writer);
            }
        }
        writer.finish()
    }

    fn closing(&self, context: &RenderContext<'_>) -> Vec<Samples> {
        let columns = self.info.columns.iter();
        let families: Vec<_> = columns.map(|column| &column.previous).collect();
        let mut writer = FamilyWriter::new(&families);
        for group in self.groups() {
            let labels = self.group_labels(&group[0], context.tenant);
            self.write(&total(group), &labels, &mut writer);
        }
        writer.finish().collect()
    }

    fn write(&self, values: &Values<MONEY>, labels: &[u8], writer: &mut FamilyWriter) {
        writer.sample(labels, |column, out| {
            match self.info.columns[column].measure {
                Measure::Money(index) => values.money[index].write_sample(out),
                Measure::Count(index, _) => Sum::from(values.counts[index]).write_sample(out),
            }
        });
    }

    /// Spend and top users by currency; empty if the report has no amounts.
    fn spend_and_top(&self, context: &RenderContext<'_>) -> (Vec<Spend>, Vec<Organizer>) {
        let (mut spend, mut top) = (Vec::new(), Vec::new());
        let Some(currency) = self.info.label("currency") else {
            return (spend, top);
        };
        let mut by_currency: BTreeMap<u32, Vec<&[Series<LABELS, MONEY>]>> = BTreeMap::new();
        for group in self.groups() {
            let groups = by_currency.entry(group[0].labels[currency]);
            groups.or_default().push(group);
        }
        let mut positions = vec![u32::MAX; self.users.count() as usize];
        for (currency, groups) in by_currency {
            let currency = self.texts.text(currency);
            spend.push(self.spend(currency, &groups));
            if context.user_label.names_users() {
                self.add_top(currency, &groups, &mut positions, &mut top);
            }
        }
        (spend, top)
    }

    fn spend(&self, currency: &str, groups: &[&[Series<LABELS, MONEY>]]) -> Spend {
        let context = self.info.label("destination_context");
        let mut all = Values::default();
        let mut contexts: HashMap<&str, Sum> = HashMap::new();
        for group in groups {
            let sum = total(*group);
            all.add(&sum);
            let name = context.map_or("", |position| self.label(&group[0], position));
            contexts.entry(name).or_default().merge(sum.money[0]);
        }
        let mut contexts: Vec<(&str, Sum)> = contexts.into_iter().collect();
        contexts.sort_unstable_by_key(|&(context, charge)| (Reverse(charge), context));
        let share = |(context, charge): (&str, Sum)| {
            let percent = charge.percent_of(all.money[0]);
            (context.to_owned(), charge.to_string(), percent)
        };
        Spend {
            currency: currency.to_owned(),
            total: all.money[0].to_string(),
            contexts: contexts.into_iter().map(share).collect(),
            counts: self.info.counts(&all),
        }
    }

    /// Adds the users with the highest charge in one currency to `top`. `positions` is scratch space with an entry for
    /// each user. All entries are `u32::MAX` before and after the call.
    fn add_top(
        &self,
        currency: &str,
        groups: &[&[Series<LABELS, MONEY>]],
        positions: &mut [u32],
        top: &mut Vec<Organizer>,
    ) {
        let all = || groups.iter().copied().flatten();
        let mut ranked: Vec<(Reverse<Sum>, u32)> = Vec::new();
        for series in all() {
            let charge = series.values.money[0];
            // Index of the user's sum in `ranked`. Several groups may have the same user.
            let position = &mut positions[series.user as usize];
            if let Some((Reverse(sum), _)) = ranked.get_mut(*position as usize) {
                sum.merge(charge);
            } else {
                *position = u32::try_from(ranked.len()).expect("no more than users");
                ranked.push((Reverse(charge), series.user));
            }
        }
        for &(_, user) in &ranked {
            positions[user as usize] = u32::MAX;
        }
        if TOP < ranked.len() {
            ranked.select_nth_unstable(TOP);
        }
        ranked.truncate(TOP);
        ranked.sort_unstable();
        top.extend(ranked.into_iter().map(|(Reverse(charge), user)| {
            Organizer {
                user: self.users.text(user).to_owned(),
                currency: currency.to_owned(),
                charge: charge.to_string(),
                counts: self
                    .info
                    .counts(&total(all().filter(|series| series.user == user))),
            }
        }));
    }

    /// Groups of series that differ only in the user.
    fn groups(&self) -> impl Iterator<Item = &[Series<LABELS, MONEY>]> {
        self.series.chunk_by(|a, b| a.labels == b.labels)
    }

    /// Writes the labels of a group in the order of their names, as the client libraries do. The caller appends `user`,
    /// which comes last in this order.
    fn group_labels(&self, series: &Series<LABELS, MONEY>, tenant: Option<&str>) -> Vec<u8> {
        let names = self.info.labels;
        let before_tenant = names.partition_point(|&name| name < "tenant");
        let label = |at: usize| (names[at], Some(self.label(series, at)));
        let before = (0..before_tenant).map(label);
        let after = (before_tenant..names.len()).map(label);
        label_block(before.chain([("tenant", tenant)]).chain(after))
    }

    fn label(&self, series: &Series<LABELS, MONEY>, position: usize) -> &str {
        self.texts.text(series.labels[position])
    }
}

impl<const LABELS: usize, const MONEY: usize> Series<LABELS, MONEY> {
    /// Sort key for the order of the samples.
    pub(crate) fn key(&self) -> ([u32; LABELS], u32) {
        (self.labels, self.user)
    }
}

fn total<'s, const LABELS: usize, const MONEY: usize>(
    series: impl IntoIterator<Item = &'s Series<LABELS, MONEY>>,
) -> Values<MONEY> {
    let mut sum = Values::default();
    for series in series {
        sum.add(&series.values);
    }
    sum
}

/// Maximum number of users on the page, per currency.
const TOP: usize = 10;
