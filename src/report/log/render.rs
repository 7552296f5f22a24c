//! From totals to a report that can be published: sorted, aggregated into `__other__`, and written in one order.

use std::cmp::Reverse;

use hashbrown::HashMap;

use super::totals::{Labels, Values};
use super::{Column, LABELS_MAX, LabelPositions, Log, Measure, Totals};
use crate::exposition::{FamilyWriter, Samples, write_label};
use crate::money::Sum;
use crate::report::interner::Interner;
use crate::report::labels::{OTHER, RenderContext, RetainedSeries};
use crate::report::{Count, Organizer, Rendered, Spend, budget, contexts};

/// The series of a log in the order of their labels.
struct Series<'a> {
    lines: Vec<Line>,
    /// Text by rank.
    text: Vec<&'a str>,
    names: &'static [&'static str],
    columns: &'static [Column],
    positions: LabelPositions,
}

/// One label set. Labels are ranks, so that lines compare like their texts. The user's is the last.
#[derive(Clone, Copy)]
struct Line {
    labels: Labels,
    values: Values,
}

/// Renders the totals of a period. Nothing is added to them after this.
pub(crate) fn render<L: Log>(mut totals: Totals, context: &RenderContext<'_>) -> Rendered {
    // The aggregated users are one user of this name, and sorted as such.
    let other = totals.texts.intern(OTHER);
    let ranks = totals.texts.ranks();
    // Both at once would take twice the memory.
    let sets = std::mem::take(&mut totals.series);
    let mut series = Series::of::<L>(sets, &totals.texts, &ranks);
    // Before series are aggregated into `__other__`, which hides parts of a user's spend.
    let (top, spend) = (series.top(context), series.spend());
    let (aggregated, retained) = series.collapse(context, ranks[other as usize]);
    Rendered {
        closing: series.closing(context),
        spend,
        counts: series.counts(&series.lines),
        top,
        budgets: budget::for_page(context.budgets, totals.spent().iter().copied()),
        samples: series
            .samples(context)
            .chain(budget::samples(
                context.budgets,
                context.tenant,
                totals.spent().iter().copied(),
            ))
            .collect(),
        rows: totals.rows(),
        overlapping: totals.overlapping,
        repeated: 0,
        unplaced: totals.unplaced,
        aggregated,
        retained,
    }
}

impl<'a> Series<'a> {
    fn of<L: Log>(sets: HashMap<Labels, Values>, texts: &'a Interner, ranks: &[u32]) -> Self {
        let mut text = vec![""; ranks.len()];
        for (id, &rank) in (0..).zip(ranks) {
            text[rank as usize] = texts.text(id);
        }
        let mut lines: Vec<Line> = sets
            .into_iter()
            .map(|(labels, values)| Line {
                labels: labels.map(|id| ranks[id as usize]),
                values,
            })
            .collect();
        lines.sort_unstable_by_key(|line| line.labels);
        Self {
            lines,
            text,
            names: L::LABELS,
            columns: L::COLUMNS,
            positions: LabelPositions::of::<L>(),
        }
    }

    /// Aggregates the smallest series into `__other__` if there are more than `max_series`: first over users and, if that is
    /// not enough, over all labels except for the currency, since amounts in different currencies have no sum.
    fn collapse(&mut self, context: &RenderContext<'_>, other: u32) -> (u64, RetainedSeries) {
        let names_users = context.naming.names_users();
        let (mut count, mut retained) = (0, context.retained.next_generation());
        if self.lines.len() > context.series_max && names_users {
            let groups = self.groups().count();
            (count, retained) = self.collapse_smallest(context, groups, |line| {
                line.labels[LABELS_MAX] = other;
            });
        }
        if self.lines.len() > context.series_max {
            let currency = self.positions.currency;
            let labels = self.positions.count;
            let mut currencies: Vec<Option<u32>> = self
                .lines
                .iter()
                .map(|line| currency.map(|position| line.labels[position]))
                .collect();
            currencies.sort_unstable();
            currencies.dedup();
            let more;
            (more, retained) = self.collapse_smallest(context, currencies.len(), |line| {
                for position in (0..labels).filter(|&position| Some(position) != currency) {
                    line.labels[position] = other;
                }
                if names_users {
                    line.labels[LABELS_MAX] = other;
                }
            });
            count += more;
        }
        (count, retained)
    }

    /// Changes the labels of the smallest series, so that with the `others` that they become there are at most
    /// `max_series`.
    fn collapse_smallest(
        &mut self,
        context: &RenderContext<'_>,
        others: usize,
        change: impl Fn(&mut Line),
    ) -> (u64, RetainedSeries) {
        let room = context.series_max.saturating_sub(others);
        let (aggregated, retained) = context.retained.select(
            self.lines.len(),
            room,
            |index| self.size(&self.lines[index].values),
            |index| {
                let line = &self.lines[index];
                (self.group_key(line), self.user(line))
            },
        );
        for &index in &aggregated {
            change(&mut self.lines[index]);
        }
        self.lines.sort_unstable_by_key(|line| line.labels);
        self.lines.dedup_by(|next, last| {
            let same = next.labels == last.labels;
            if same {
                last.values.add(&next.values);
            }
            same
        });
        (aggregated.len() as u64, retained)
    }

    /// The rank of a line: the figure of the first family, then all counts.
    fn size(&self, values: &Values) -> (Sum, [i64; super::COUNTS_MAX]) {
        let first = match self.columns[0].measure {
            Measure::Money(index) => values.money[index],
            Measure::Count(index, _) => Sum::from(values.counts[index]),
        };
        (first.abs(), values.counts)
    }

    fn samples(&self, context: &RenderContext<'_>) -> impl Iterator<Item = Samples> + use<> {
        let families: Vec<_> = self.columns.iter().map(|column| &column.current).collect();
        let mut writer = FamilyWriter::new(&families);
        for group in self.groups() {
            let mut labels = self.group_labels(&group[0], context.tenant);
            let length = labels.len();
            for line in group {
                labels.truncate(length);
                if context.naming.names_users() {
                    write_label("user", self.user(line), &mut labels);
                }
                self.write(&line.values, &labels, &mut writer);
            }
        }
        writer.finish()
    }

    fn closing(&self, context: &RenderContext<'_>) -> Vec<Samples> {
        let families: Vec<_> = self.columns.iter().map(|column| &column.previous).collect();
        let mut writer = FamilyWriter::new(&families);
        for group in self.groups() {
            let labels = self.group_labels(&group[0], context.tenant);
            self.write(&total(group), &labels, &mut writer);
        }
        writer.finish().collect()
    }

    fn write(&self, values: &Values, labels: &[u8], writer: &mut FamilyWriter) {
        writer.sample(labels, |column, out| match self.columns[column].measure {
            Measure::Money(index) => values.money[index].write_sample(out),
            Measure::Count(index, _) => Sum::from(values.counts[index]).write_sample(out),
        });
    }

    /// Spend by currency; empty if the log has no amounts.
    fn spend(&self) -> Vec<Spend> {
        let Some(position) = self.positions.currency else {
            return Vec::new();
        };
        let context = |line: &Line| self.positions.context.map_or("", |at| self.label(line, at));
        let by_currency = self.by(|line| self.label(line, position));
        let spend = by_currency.into_iter().map(|(currency, lines)| {
            let total = total(&lines);
            let mut sums: HashMap<&str, Sum> = HashMap::new();
            for line in &lines {
                sums.entry(context(line))
                    .or_default()
                    .merge(line.values.money[0]);
            }
            Spend {
                currency: currency.to_owned(),
                total: total.money[0].to_string(),
                contexts: contexts(sums, total.money[0]),
                counts: self.counts(&lines),
            }
        });
        spend.collect()
    }

    /// The users with the highest charge in each currency.
    fn top(&self, context: &RenderContext<'_>) -> Vec<Organizer> {
        let Some(position) = self.positions.currency else {
            return Vec::new();
        };
        if !context.naming.names_users() {
            return Vec::new();
        }
        let mut top = Vec::new();
        for (currency, lines) in self.by(|line| self.label(line, position)) {
            let mut sums: HashMap<u32, Values> = HashMap::new();
            for line in &lines {
                let sum = sums.entry(line.labels[LABELS_MAX]).or_default();
                sum.add(&line.values);
            }
            let mut ranked: Vec<(u32, Values)> = sums.into_iter().collect();
            ranked.sort_unstable_by_key(|(user, values)| (Reverse(values.money[0]), *user));
            ranked.truncate(crate::report::TOP);
            top.extend(ranked.into_iter().map(|(user, values)| Organizer {
                user: self.text[user as usize].to_owned(),
                currency: currency.to_owned(),
                charge: values.money[0].to_string(),
                counts: self.counts_of(&values),
            }));
        }
        top
    }

    fn counts(&self, lines: &[Line]) -> Vec<Count> {
        self.counts_of(&total(lines))
    }

    fn counts_of(&self, values: &Values) -> Vec<Count> {
        let count = |column: &Column| match column.measure {
            Measure::Count(index, what) => Some(Count {
                what: what.into(),
                value: values.counts[index],
            }),
            Measure::Money(_) => None,
        };
        self.columns.iter().filter_map(count).collect()
    }

    /// Lines by the text that `key` finds in them, in the order of the texts.
    fn by<'k>(&self, key: impl Fn(&Line) -> &'k str) -> Vec<(&'k str, Vec<Line>)> {
        let mut lines: Vec<(&str, Line)> =
            self.lines.iter().map(|line| (key(line), *line)).collect();
        lines.sort_by_key(|&(text, _)| text);
        lines
            .chunk_by(|a, b| a.0 == b.0)
            .map(|same| (same[0].0, same.iter().map(|&(_, line)| line).collect()))
            .collect()
    }

    /// Runs of lines that differ in the user only.
    fn groups(&self) -> impl Iterator<Item = &[Line]> {
        self.lines
            .chunk_by(|a, b| a.labels[..LABELS_MAX] == b.labels[..LABELS_MAX])
    }

    fn group_key(&self, line: &Line) -> String {
        let labels: Vec<&str> = (0..self.positions.count)
            .map(|position| self.label(line, position))
            .collect();
        labels.join("\n")
    }

    /// In the order of their names, as the client libraries write them; `user` comes after all of them.
    fn group_labels(&self, line: &Line, tenant: Option<&str>) -> Vec<u8> {
        let own = (0..).zip(self.names);
        let mut labels: Vec<(&str, &str)> = own
            .map(|(position, &name)| (name, self.label(line, position)))
            .chain(tenant.map(|tenant| ("tenant", tenant)))
            .collect();
        labels.sort_unstable_by_key(|&(name, _)| name);
        let mut out = Vec::new();
        for (name, value) in labels {
            write_label(name, value, &mut out);
        }
        out
    }

    fn label(&self, line: &Line, position: usize) -> &'a str {
        self.text[line.labels[position] as usize]
    }

    fn user(&self, line: &Line) -> &'a str {
        self.text[line.labels[LABELS_MAX] as usize]
    }
}

fn total(lines: &[Line]) -> Values {
    let mut sum = Values::default();
    for line in lines {
        sum.add(&line.values);
    }
    sum
}
