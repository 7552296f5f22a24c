//! Interned text: the few distinct values of a property are stored once.
//!
//! All texts share one allocation. A poll copies and drops many texts. One large allocation is returned to the
//! operating system as a whole. Many small allocations would leave gaps between allocations that are still in use.

use std::borrow::Cow;

use hashbrown::HashMap;

use super::index::Index;

/// Interned texts in the order of their first arrival. The id of a text is its index.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interner {
    texts: Texts,
    last: u32,
    index: Index,
}

/// The few distinct combinations of currency, destination context and usage location, as interned text.
#[derive(Default)]
pub(crate) struct LabelSets {
    distinct: Vec<[u32; 3]>,
    index: HashMap<[u32; 3], LabelSetId>,
}

/// Index of a combination in [`LabelSets`].
pub(crate) type LabelSetId = u32;

/// Label values in sorted order, including `__other__`. The id of a text is its rank, so ids compare like the texts.
#[derive(Default)]
pub(crate) struct Dictionary {
    texts: Texts,
    other: u32,
}

/// Texts in one string, and the end of each text.
#[derive(Clone, Debug, Default)]
struct Texts {
    text: String,
    ends: Vec<u32>,
}

impl Interner {
    pub(crate) fn intern(&mut self, text: &str) -> u32 {
        // Most texts equal the previous text, and comparing the two is faster than hashing.
        if self.last < self.texts.count() && self.text(self.last) == text {
            return self.last;
        }
        let next = self.texts.count();
        let is_same = |id| self.texts.get(id) == text;
        self.last = self.index.number(text, next, is_same);
        if self.last == next {
            self.texts.push(text);
        }
        self.last
    }

    /// Bytes of memory that the texts take.
    pub(crate) fn bytes(&self) -> usize {
        let Texts { text, ends } = &self.texts;
        text.len() + size_of_val(&**ends) + self.index.bytes()
    }

    /// The texts in the order of their ids.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> + Clone {
        (0..self.texts.count()).map(|id| self.text(id))
    }

    pub(crate) fn text(&self, id: u32) -> &str {
        self.texts.get(id)
    }

    /// Returns the dictionary of all texts, and for each id the rank of its text.
    pub(crate) fn into_sorted(self) -> (Dictionary, Vec<u32>) {
        let Self { texts, index, .. } = self;
        drop(index);
        let mut order: Vec<u32> = (0..texts.count()).collect();
        order.sort_unstable_by_key(|&id| texts.get(id));
        Dictionary::from_sorted(order.into_iter().map(|id| (id, texts.get(id))))
    }
}

impl LabelSets {
    pub(crate) fn intern(&mut self, label_set: [u32; 3]) -> LabelSetId {
        *self.index.entry(label_set).or_insert_with(|| {
            self.distinct.push(label_set);
            LabelSetId::try_from(self.distinct.len() - 1).expect("fewer label sets than rows")
        })
    }

    /// Bytes of memory that the combinations take.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.distinct) + self.index.allocation_size()
    }

    /// The number of combinations. Every id is below this number.
    pub(crate) fn count(&self) -> LabelSetId {
        LabelSetId::try_from(self.distinct.len()).expect("fewer label sets than rows")
    }

    pub(crate) fn get(&self, id: LabelSetId) -> [u32; 3] {
        self.distinct[id as usize]
    }
}

impl Dictionary {
    /// Returns the dictionary of `texts`, and for each id the rank of its text. The texts must be sorted. Their ids are
    /// 0, 1, 2 and so on, in any order.
    pub(crate) fn from_sorted<'t>(
        texts: impl ExactSizeIterator<Item = (u32, &'t str)>,
    ) -> (Self, Vec<u32>) {
        let mut sorted = Texts::default();
        let mut other = None;
        let mut ranks = vec![0; texts.len()];
        for (id, text) in texts {
            if other.is_none() && OTHER <= text {
                other = Some(sorted.push(OTHER));
            }
            let last = sorted.count().checked_sub(1);
            ranks[id as usize] = last
                .filter(|&last| sorted.get(last) == text)
                .unwrap_or_else(|| sorted.push(text));
        }
        let other = other.unwrap_or_else(|| sorted.push(OTHER));
        let texts = sorted;
        (Self { texts, other }, ranks)
    }

    /// The number of texts. Every rank is below this number.
    pub(crate) fn count(&self) -> u32 {
        self.texts.count()
    }

    pub(crate) fn text(&self, rank: u32) -> &str {
        self.texts.get(rank)
    }

    /// The rank of `__other__`.
    pub(crate) fn other(&self) -> u32 {
        self.other
    }
}

impl Texts {
    fn push(&mut self, text: &str) -> u32 {
        let index = self.count();
        self.text.push_str(text);
        let end = u32::try_from(self.text.len()).expect("a report keeps less than 4 GiB of text");
        self.ends.push(end);
        index
    }

    fn get(&self, index: u32) -> &str {
        let index = index as usize;
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.text[start as usize..self.ends[index] as usize]
    }

    fn count(&self) -> u32 {
        u32::try_from(self.ends.len()).expect("fewer texts than rows")
    }
}

/// Text of a row as a label value; `unknown` if it is empty.
pub(crate) fn label(text: &str) -> &str {
    if text.is_empty() { UNKNOWN } else { text }
}

/// Text of a row as a label value in upper case, as ISO codes are written; `unknown` if it is empty.
pub(crate) fn code(text: &str) -> Cow<'_, str> {
    match text {
        "" => Cow::Borrowed(UNKNOWN),
        text if text.bytes().all(|byte| byte.is_ascii_uppercase()) => Cow::Borrowed(text),
        text => Cow::Owned(text.to_uppercase()),
    }
}

/// Label value of the series into which the smallest series are aggregated.
pub(crate) const OTHER: &str = "__other__";

/// Label value for a property that the source does not have.
pub(crate) const UNKNOWN: &str = "unknown";
