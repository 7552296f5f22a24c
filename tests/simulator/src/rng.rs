//! Deterministic random numbers (`SplitMix64`).

use uuid::{Builder, Uuid};

/// `SplitMix64`: a few instructions, one number as state, and the same results on every machine and in every version, which
/// no crate's generator promises.
pub(super) struct Rng(pub(super) u64);

impl Rng {
    pub(super) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mixed(self.0)
    }

    /// From 0 to one less than `bound`.
    pub(super) fn below(&mut self, bound: u32) -> u32 {
        u32::try_from(self.roll() % u64::from(bound)).expect("a remainder is below its divisor")
    }

    /// A random GUID.
    pub(super) fn id(&mut self) -> Uuid {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.roll().to_le_bytes());
        bytes[8..].copy_from_slice(&self.roll().to_le_bytes());
        Builder::from_random_bytes(bytes).into_uuid()
    }

    /// One of some values with equal probability.
    pub(super) fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        let bound = u32::try_from(choices.len()).expect("a handful");
        choices[usize::try_from(self.below(bound)).expect("below a handful")]
    }

    /// A telephone number, masked like in the service.
    pub(super) fn number(&mut self, calling_code: &str) -> String {
        format!("{calling_code}{:07}***", self.below(10_000_000))
    }
}

pub(super) const fn mixed(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}
