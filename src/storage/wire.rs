//! The line of JSON in a file: all small values, and the positions of the texts.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::format::{Blobs, Malformed};
use super::{ClosedPeriod, Identity, Rejected, SavedState};
use crate::exposition::{Family, Samples};
use crate::period::BillingPeriod;
use crate::report::budget::{Budget, BudgetSpend, drop_others};
use crate::report::log::{Ledgers, SavedLedger};
use crate::report::{Count, Organizer, Spend};
use crate::snapshot::Summary;

/// All values except for the texts, which follow in the order in which they are listed here. Times are in RFC 3339.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    naming: String,
    numbers: String,
    columns: Vec<String>,
    last_success: Option<String>,
    pages: u64,
    folded: u64,
    unplaced: Option<u64>,
    summary: Option<WireSummary>,
    current: Vec<Block>,
    /// The fingerprint of the budgets in the current figures.
    budgets: String,
    closing: Option<WirePeriod>,
    closed: Option<WirePeriod>,
    fetched: Option<(String, String)>,
    ledgers: Vec<SavedLedger>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireSummary {
    /// The start of the period; the end follows from it.
    period: String,
    rows: u64,
    spend: Vec<WireSpend>,
    counts: Vec<(String, i64)>,
    top: Vec<WireOrganizer>,
    /// Absent from files of versions that did not show budgets on the page.
    #[serde(default)]
    budgets: Vec<BudgetSpend>,
}

/// The text of one family.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Block {
    pub(super) family: String,
    pub(super) count: u64,
    /// Bytes in the file.
    pub(super) bytes: u64,
    /// Checksum and length of the text, if it is compressed.
    pub(super) deflated: Option<(u32, u64)>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WirePeriod {
    start: String,
    families: Vec<Block>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireSpend {
    currency: String,
    total: String,
    contexts: Vec<(String, String, Option<u8>)>,
    counts: Vec<(String, i64)>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireOrganizer {
    user: String,
    currency: String,
    charge: String,
    counts: Vec<(String, i64)>,
}

impl Header {
    /// The header, and the texts that follow it.
    pub(super) fn of(saved: &SavedState, identity: &Identity) -> (Self, Vec<Bytes>) {
        let mut blobs = Vec::new();
        let mut blocks = |samples: &[Samples]| -> Vec<Block> {
            let block = |samples: &Samples| {
                let (bytes, deflated) = samples.block.stored();
                blobs.push(bytes.clone());
                Block {
                    family: samples.family.name.to_owned(),
                    count: samples.count,
                    bytes: bytes.len() as u64,
                    deflated,
                }
            };
            samples.iter().map(block).collect()
        };
        let current = blocks(&saved.current);
        let mut period = |period: BillingPeriod, samples: &[Samples]| WirePeriod {
            start: period.start().to_rfc3339(),
            families: blocks(samples),
        };
        let closing = saved
            .closing
            .as_ref()
            .map(|(p, samples)| period(*p, samples));
        let closed = saved.closed.as_ref();
        let fetched = closed.and_then(|closed| closed.fetched);
        let header = Self {
            naming: identity.naming.clone(),
            numbers: identity.numbers.clone(),
            columns: identity.columns.clone(),
            last_success: saved.last_success.map(|at| at.to_rfc3339()),
            pages: saved.pages,
            folded: saved.folded,
            unplaced: saved.unplaced,
            summary: saved.summary.as_ref().map(WireSummary::of),
            current,
            budgets: saved.budgets.clone(),
            closing,
            closed: closed.map(|closed| period(closed.period, &closed.samples)),
            fetched: fetched.map(|(at, since)| (at.to_rfc3339(), since.to_rfc3339())),
            ledgers: saved.ledgers.save(),
        };
        (header, blobs)
    }

    pub(super) fn check(&self, identity: &Identity) -> Result<(), Rejected> {
        if self.naming != identity.naming {
            Err(Rejected::OtherNames)
        } else if self.numbers != identity.numbers {
            Err(Rejected::OtherConfiguration)
        } else if self.columns != identity.columns {
            Err(Rejected::OtherColumns)
        } else {
            Ok(())
        }
    }

    pub(super) fn read(
        self,
        blobs: &mut Blobs,
        family: impl Fn(&str) -> Option<&'static Family>,
        budgets: &[Budget],
    ) -> Result<SavedState, Malformed> {
        let mut texts = |blocks: Vec<Block>| -> Result<Vec<Samples>, Malformed> {
            let samples = blocks.iter().map(|block| blobs.samples(block, &family));
            samples.collect()
        };
        let mut current = texts(self.current)?;
        let mut of_current = self.budgets;
        let mut summary = self.summary.map(WireSummary::restore).transpose()?;
        let shown = summary.as_mut().map(|summary| &mut summary.budgets);
        drop_others(&mut current, shown, &mut of_current, budgets);
        let mut of_period =
            |wire: WirePeriod| Ok::<_, Malformed>((period(&wire.start)?, texts(wire.families)?));
        let closing = self.closing.map(&mut of_period).transpose()?;
        let closed = self.closed.map(&mut of_period).transpose()?;
        let fetched = match self.fetched {
            Some((at, since)) => Some((time(&at)?, time(&since)?)),
            None => None,
        };
        let ledgers = Ledgers::restore(self.ledgers, budgets);
        Ok(SavedState {
            last_success: self.last_success.as_deref().map(time).transpose()?,
            pages: self.pages,
            folded: self.folded,
            summary,
            unplaced: self.unplaced,
            current,
            budgets: of_current,
            closing,
            closed: closed.map(|(period, samples)| ClosedPeriod {
                period,
                samples,
                fetched,
            }),
            ledgers: ledgers.ok_or(Malformed::Other("a ledger does not add up"))?,
        })
    }
}

impl WireSummary {
    fn of(summary: &Summary) -> Self {
        Self {
            period: summary.period.start().to_rfc3339(),
            rows: summary.rows,
            spend: summary.spend.iter().map(WireSpend::of).collect(),
            counts: pairs(&summary.counts),
            top: summary.top.iter().map(WireOrganizer::of).collect(),
            budgets: summary.budgets.clone(),
        }
    }

    fn restore(self) -> Result<Summary, Malformed> {
        Ok(Summary {
            period: period(&self.period)?,
            rows: self.rows,
            spend: self.spend.into_iter().map(WireSpend::restore).collect(),
            counts: counts(self.counts),
            top: self.top.into_iter().map(WireOrganizer::restore).collect(),
            budgets: self.budgets,
        })
    }
}

impl WireSpend {
    fn of(spend: &Spend) -> Self {
        Self {
            currency: spend.currency.clone(),
            total: spend.total.clone(),
            contexts: spend.contexts.clone(),
            counts: pairs(&spend.counts),
        }
    }

    fn restore(self) -> Spend {
        Spend {
            currency: self.currency,
            total: self.total,
            contexts: self.contexts,
            counts: counts(self.counts),
        }
    }
}

impl WireOrganizer {
    fn of(organizer: &Organizer) -> Self {
        Self {
            user: organizer.user.clone(),
            currency: organizer.currency.clone(),
            charge: organizer.charge.clone(),
            counts: pairs(&organizer.counts),
        }
    }

    fn restore(self) -> Organizer {
        Organizer {
            user: self.user,
            currency: self.currency,
            charge: self.charge,
            counts: counts(self.counts),
        }
    }
}

fn pairs(counts: &[Count]) -> Vec<(String, i64)> {
    let pair = |count: &Count| (count.what.clone().into_owned(), count.value);
    counts.iter().map(pair).collect()
}

fn counts(pairs: Vec<(String, i64)>) -> Vec<Count> {
    let count = |(what, value): (String, i64)| Count {
        what: what.into(),
        value,
    };
    pairs.into_iter().map(count).collect()
}

fn time(text: &str) -> Result<DateTime<Utc>, Malformed> {
    text.parse()
        .map_err(|_| Malformed::Other("a time cannot be read"))
}

fn period(start: &str) -> Result<BillingPeriod, Malformed> {
    BillingPeriod::starting(time(start)?).ok_or(Malformed::Other("no period starts then"))
}
