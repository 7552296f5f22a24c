//! The few distinct values that the rows of a report have in one property, each kept once.

use std::borrow::Cow;

use hashbrown::HashMap;

use super::labels::UNKNOWN;

/// Interned words, in the order of their first arrival; a word is an index.
#[derive(Clone, Debug, Default)]
pub(crate) struct Words {
    distinct: Vec<Box<str>>,
    last: u32,
    bytes: usize,
    index: HashMap<Box<str>, u32>,
}

impl Words {
    pub(crate) fn intern(&mut self, word: &str) -> u32 {
        // The same word mostly comes many times in a row.
        if self
            .distinct
            .get(self.last as usize)
            .is_some_and(|last| **last == *word)
        {
            return self.last;
        }
        self.last = self
            .index
            .get(word)
            .copied()
            .unwrap_or_else(|| self.insert(word));
        self.last
    }

    fn insert(&mut self, word: &str) -> u32 {
        let index = u32::try_from(self.distinct.len()).expect("fewer words than rows");
        self.bytes += word.len();
        self.distinct.push(word.into());
        self.index.insert(word.into(), index);
        index
    }

    /// Bytes of memory that they take: each word is there twice, in two places that point to it.
    pub(crate) fn bytes(&self) -> usize {
        2 * (self.bytes + self.distinct.len() * size_of::<(Box<str>, u32)>())
    }

    /// How many there are; a word is an index below it.
    pub(crate) fn count(&self) -> usize {
        self.distinct.len()
    }

    /// The word as it came.
    pub(crate) fn text(&self, word: u32) -> &str {
        &self.distinct[word as usize]
    }

    /// The word as a label.
    pub(crate) fn label(&self, word: u32) -> String {
        label(self.text(word)).to_owned()
    }

    /// The word as a label, upper case, as ISO writes its codes.
    pub(crate) fn code(&self, word: u32) -> String {
        code(self.text(word)).into_owned()
    }

    /// Every word's place in the order of the words.
    pub(crate) fn ranks(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..).take(self.distinct.len()).collect();
        order.sort_unstable_by_key(|&word| self.text(word));
        let mut ranks = vec![0; order.len()];
        for (rank, word) in (0..).zip(order) {
            ranks[word as usize] = rank;
        }
        ranks
    }
}

/// Text of a row as the value of a label.
pub(crate) fn label(text: &str) -> &str {
    if text.is_empty() { UNKNOWN } else { text }
}

/// Text of a row as the value of a label, upper case, as ISO writes its codes.
pub(crate) fn code(text: &str) -> Cow<'_, str> {
    match text {
        "" => Cow::Borrowed(UNKNOWN),
        text if text.bytes().all(|byte| byte.is_ascii_uppercase()) => Cow::Borrowed(text),
        text => Cow::Owned(text.to_uppercase()),
    }
}
