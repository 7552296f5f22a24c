//! Interned text: the few distinct values of a property are stored once.

use std::borrow::Cow;

use hashbrown::HashMap;

use super::labels::UNKNOWN;

/// Interned texts in the order of their first arrival. An id is an index.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interner {
    distinct: Vec<Box<str>>,
    last: u32,
    bytes: usize,
    index: HashMap<Box<str>, u32>,
}

impl Interner {
    pub(crate) fn intern(&mut self, text: &str) -> u32 {
        // Most texts are repeated many times in succession.
        if self
            .distinct
            .get(self.last as usize)
            .is_some_and(|last| **last == *text)
        {
            return self.last;
        }
        self.last = self
            .index
            .get(text)
            .copied()
            .unwrap_or_else(|| self.insert(text));
        self.last
    }

    fn insert(&mut self, text: &str) -> u32 {
        let index = u32::try_from(self.distinct.len()).expect("fewer texts than rows");
        self.bytes += text.len();
        self.distinct.push(text.into());
        self.index.insert(text.into(), index);
        index
    }

    /// Bytes of memory that they take. Each text is stored twice, in the list and in the index.
    pub(crate) fn bytes(&self) -> usize {
        2 * (self.bytes + self.distinct.len() * size_of::<(Box<str>, u32)>())
    }

    /// The number of texts; an id is an index below it.
    pub(crate) fn count(&self) -> usize {
        self.distinct.len()
    }

    /// The text as it was interned.
    pub(crate) fn text(&self, id: u32) -> &str {
        &self.distinct[id as usize]
    }

    /// The text as a label value.
    pub(crate) fn label(&self, id: u32) -> String {
        label(self.text(id)).to_owned()
    }

    /// The text as a label value in upper case, as ISO codes are written.
    pub(crate) fn code(&self, id: u32) -> String {
        code(self.text(id)).into_owned()
    }

    /// The rank of every text in the sorted order.
    pub(crate) fn ranks(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..).take(self.distinct.len()).collect();
        order.sort_unstable_by_key(|&id| self.text(id));
        let mut ranks = vec![0; order.len()];
        for (rank, id) in (0..).zip(order) {
            ranks[id as usize] = rank;
        }
        ranks
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
