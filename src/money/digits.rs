//! Formats a sum without heap allocations, and with divisions of 64 instead of 128 bits if possible.

use super::Sum;

/// The exact text of a sum, in a buffer on the stack: a sign, up to 39 digits before the decimal point, and up to 28
/// after it.
pub(super) struct Digits {
    buffer: [u8; 72],
    start: usize,
    end: usize,
    /// Number of digits from the first nonzero digit to the last digit of the text.
    pub(super) significant: usize,
}

impl Digits {
    pub(super) fn new(sum: Sum) -> Self {
        let magnitude = sum.abs();
        let mut digits = Self {
            buffer: [b'0'; 72],
            start: POINT,
            end: POINT,
            significant: 0,
        };
        if magnitude.fraction > 0 {
            digits.buffer[POINT] = b'.';
            digits.write_fraction(magnitude.fraction);
        }
        digits.write_whole(magnitude.whole.unsigned_abs());
        let places = &digits.buffer[POINT + 1..digits.end.max(POINT + 1)];
        digits.significant = match magnitude.whole {
            0 => places.len() - places.iter().take_while(|&&digit| digit == b'0').count(),
            _ => POINT - digits.start + places.len(),
        };
        if sum.whole < 0 {
            digits.start -= 1;
            digits.buffer[digits.start] = b'-';
        }
        digits
    }

    fn write_whole(&mut self, mut whole: u128) {
        // Most amounts fit into 64 bits. A division of 64 bits takes a tenth of the time of a division of 128 bits.
        while whole > u128::from(u64::MAX) {
            self.start -= 1;
            self.buffer[self.start] = ascii_digit(u64::try_from(whole % 10).expect("a digit"));
            whole /= 10;
        }
        let mut rest = u64::try_from(whole).expect("the loop ended below 2⁶⁴");
        loop {
            self.start -= 1;
            self.buffer[self.start] = ascii_digit(rest % 10);
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
    }

    fn write_fraction(&mut self, fraction: u128) {
        let halves =
            [fraction / HALF, fraction % HALF].map(|half| u64::try_from(half).expect("below 10¹⁴"));
        for (index, mut half) in halves.into_iter().enumerate() {
            for place in (0..14).rev() {
                self.buffer[POINT + 1 + 14 * index + place] = ascii_digit(half % 10);
                half /= 10;
            }
        }
        let places = self.buffer[POINT + 1..POINT + 29]
            .iter()
            .rposition(|&digit| digit != b'0')
            .expect("above zero");
        self.end = POINT + 2 + places;
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("digits are ASCII")
    }
}

fn ascii_digit(digit: u64) -> u8 {
    b'0' + u8::try_from(digit).expect("a digit")
}

/// Position of the decimal point in the buffer of [`Digits`]. Any `i128` with its sign fits into the bytes before this
/// position.
const POINT: usize = 41;

/// Splits a fraction of 28 digits into two halves of 14 digits.
const HALF: u128 = 10_u128.pow(14);
