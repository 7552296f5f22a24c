//! Amounts of money, exact from the JSON literal to the last step before the sample.
//!
//! An [`Amount`] is one figure as it was read; a [`Sum`] is any number of them added up. Neither can be made from a
//! float, and no arithmetic here is done in floats: a sum becomes one only when its sample is written, and then by the
//! correctly rounding parser of the standard library. What this module does not do: convert between currencies, or know
//! which one an amount is in; the currency is part of the key that a sum is kept under.

#![deny(clippy::float_arithmetic)]

use std::fmt::{self, Write as _};

use rust_decimal::Decimal;

/// One amount as Graph sent it, signed, in whatever currency its row names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Amount(Decimal);

/// The exact sum of amounts: no rounding, no overflow for any number of rows that fits in memory, and so the same in
/// whatever order the amounts were added.
///
/// Kept as the floor of the sum and what is above it in units of 10⁻²⁸, the smallest step of a [`Decimal`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sum {
    whole: i128,
    fraction: u128,
}

/// A literal that is not an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// Neither a number nor a number in quotes.
    #[error("not a number")]
    NotANumber,
    /// More digits than a decimal of 96 bits and 28 places holds: an error, for rounding would change the bill.
    #[error("more digits than can be kept exactly (28)")]
    Inexact,
}

impl Amount {
    /// Reads a JSON literal: a number, or the same in quotes, with or without an exponent (`12.83`, `"0.10"`, `1.5e1`).
    ///
    /// # Errors
    /// [`AmountError`] where it is neither, or where it cannot be held exactly.
    pub fn from_json(literal: &str) -> Result<Self, AmountError> {
        match read_short(literal.as_bytes()) {
            Some(amount) => Ok(amount),
            None => Self::from_any_json(literal),
        }
    }

    fn from_any_json(literal: &str) -> Result<Self, AmountError> {
        let bare = literal
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'))
            .unwrap_or(literal);
        let (mantissa, exponent) = match bare.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, read_exponent(exponent)?),
            None => (bare, 0),
        };
        if !is_plain_number(mantissa) {
            return Err(AmountError::NotANumber);
        }
        let significant = if mantissa.contains('.') {
            mantissa.trim_end_matches('0').trim_end_matches('.')
        } else {
            mantissa
        };
        let decimal = Decimal::from_str_exact(significant).map_err(|_| AmountError::Inexact)?;
        shifted(decimal, exponent).map(Self)
    }

    /// The amount as a whole number, where it is one.
    pub fn to_integer(self) -> Option<i64> {
        self.0
            .is_integer()
            .then(|| i64::try_from(self.0.trunc()).ok())
            .flatten()
    }
}

impl From<Decimal> for Amount {
    fn from(amount: Decimal) -> Self {
        Self(amount)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Sum {
    /// Adds one amount, exactly.
    pub fn add(&mut self, Amount(amount): Amount) {
        let (whole, fraction) = split(amount.mantissa(), amount.scale());
        self.carry(whole, fraction);
    }

    /// Adds another sum, exactly.
    pub fn merge(&mut self, other: Self) {
        self.carry(other.whole, other.fraction);
    }

    /// Its two parts, to be kept as text and read again by [`Sum::from_parts`].
    pub(crate) fn parts(self) -> (String, String) {
        (self.whole.to_string(), self.fraction.to_string())
    }

    /// The sum of these parts; none where they are not parts of one.
    pub(crate) fn from_parts(whole: &str, fraction: &str) -> Option<Self> {
        let whole: i128 = whole.parse().ok()?;
        let fraction = fraction.parse().ok()?;
        // More than any amount, and so little that 2³⁰ of them can be added.
        let room = whole.unsigned_abs() < 1 << 96;
        (fraction < UNIT && room).then_some(Self { whole, fraction })
    }

    /// The sum without its sign.
    pub fn abs(self) -> Self {
        if self.whole >= 0 {
            self
        } else {
            self.negated()
        }
    }

    /// `self` as a share of `of` in whole percent, rounded, from 0 to 100; none where `of` is not above zero.
    pub fn percent_of(self, of: Self) -> Option<u8> {
        if of <= Self::default() {
            return None;
        }
        // Ten-thousandths are fine enough for a percentage, and leave room to multiply.
        let scaled = |sum: Self| {
            let fraction = i128::try_from(sum.fraction / (UNIT / 10_000)).expect("below 10,000");
            sum.whole.saturating_mul(10_000).saturating_add(fraction)
        };
        let (part, whole) = (scaled(self), scaled(of).max(1));
        let share = part.saturating_mul(200).saturating_add(whole) / whole.saturating_mul(2);
        Some(u8::try_from(share.clamp(0, 100)).expect("clamped to 0 to 100"))
    }

    /// Writes the sample: the shortest decimal that reads back as the float nearest to the sum.
    ///
    /// A decimal of up to 15 significant digits is that itself, as every double tells those apart; only longer ones go
    /// through a float.
    pub fn write_sample(self, out: &mut Vec<u8>) {
        let text = Digits::of(self);
        if text.significant <= 15 {
            out.extend_from_slice(text.as_bytes());
        } else {
            let float: f64 = text
                .as_str()
                .parse()
                .expect("a decimal literal is a float literal");
            write_float(float, out);
        }
    }

    fn carry(&mut self, whole: i128, fraction: u128) {
        self.whole = self
            .whole
            .checked_add(whole)
            .expect("fewer than 10⁹ amounts of 29 digits fit in memory");
        self.fraction += fraction;
        if self.fraction >= UNIT {
            self.fraction -= UNIT;
            self.whole += 1;
        }
    }

    fn negated(self) -> Self {
        match self.fraction {
            0 => Self {
                whole: -self.whole,
                fraction: 0,
            },
            fraction => Self {
                whole: -self.whole - 1,
                fraction: UNIT - fraction,
            },
        }
    }
}

impl From<Amount> for Sum {
    fn from(amount: Amount) -> Self {
        let mut sum = Self::default();
        sum.add(amount);
        sum
    }
}

impl From<i64> for Sum {
    /// A count, to be written as exactly as a charge.
    fn from(count: i64) -> Self {
        Self {
            whole: count.into(),
            fraction: 0,
        }
    }
}

impl FromIterator<Amount> for Sum {
    fn from_iter<I: IntoIterator<Item = Amount>>(amounts: I) -> Self {
        amounts
            .into_iter()
            .fold(Self::default(), |mut sum, amount| {
                sum.add(amount);
                sum
            })
    }
}

impl fmt::Display for Sum {
    /// The exact sum, without trailing zeros.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(Digits::of(*self).as_str())
    }
}

/// Writes a sample value that is a float already, in the shortest form that reads back as the same.
pub fn write_float(float: f64, out: &mut Vec<u8>) {
    let mut text = String::new();
    match float {
        _ if float.is_nan() => text.push_str("NaN"),
        _ if float == f64::INFINITY => text.push_str("+Inf"),
        _ if float == f64::NEG_INFINITY => text.push_str("-Inf"),
        _ => write!(text, "{float}").expect("writing to a string does not fail"),
    }
    out.extend_from_slice(text.as_bytes());
}

/// The exact text of a sum, on the stack: sign, 29 and more digits before the point, 28 after it.
struct Digits {
    buffer: [u8; 72],
    start: usize,
    end: usize,
    significant: usize,
}

impl Digits {
    fn of(sum: Sum) -> Self {
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
        // Most amounts are small: dividing 64 bits costs a tenth of dividing 128.
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

    fn as_bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("digits are ASCII")
    }
}

/// The floor of mantissa × 10^-scale, and what is above it in units of 10⁻²⁸.
fn split(mantissa: i128, scale: u32) -> (i128, u128) {
    let power = POWERS[scale as usize];
    let (whole, rest) = match (i64::try_from(mantissa), i64::try_from(power)) {
        (Ok(mantissa), Ok(power)) => (
            i128::from(mantissa.div_euclid(power)),
            i128::from(mantissa.rem_euclid(power)),
        ),
        _ => (mantissa.div_euclid(power), mantissa.rem_euclid(power)),
    };
    (
        whole,
        rest.unsigned_abs() * POWERS[28 - scale as usize].unsigned_abs(),
    )
}

/// `decimal` × 10^exponent.
fn shifted(decimal: Decimal, exponent: i64) -> Result<Decimal, AmountError> {
    if exponent == 0 || decimal.is_zero() {
        return Ok(decimal);
    }
    let normal = decimal.normalize();
    let scale = i64::from(normal.scale())
        .checked_sub(exponent)
        .ok_or(AmountError::Inexact)?;
    let (mantissa, scale) = match scale {
        0..=28 => (normal.mantissa(), u32::try_from(scale).expect("0 to 28")),
        -28..0 => {
            let power = POWERS[usize::try_from(-scale).expect("1 to 28")];
            (
                normal
                    .mantissa()
                    .checked_mul(power)
                    .ok_or(AmountError::Inexact)?,
                0,
            )
        }
        _ => return Err(AmountError::Inexact),
    };
    Decimal::try_from_i128_with_scale(mantissa, scale).map_err(|_| AmountError::Inexact)
}

/// Reads what nearly every amount is: at most 18 digits, a point within, a minus at most. Everything else is none here.
fn read_short(literal: &[u8]) -> Option<Amount> {
    let (negative, digits) = match literal {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.len() > 19 {
        return None;
    }
    let mut number = 0_i64;
    let mut point = None;
    for (index, &byte) in digits.iter().enumerate() {
        match byte {
            b'0'..=b'9' if index < 18 || point.is_some() => {
                number = number * 10 + i64::from(byte - b'0');
            }
            b'.' if point.is_none() && index > 0 => point = Some(index),
            _ => return None,
        }
    }
    let mut scale = match point {
        Some(index) => digits.len() - 1 - index,
        None => 0,
    };
    // A zero, and a point at the end, are rare enough to be left to the general way.
    if number == 0 || (point.is_some() && scale == 0) {
        return None;
    }
    while scale > 0 && number % 10 == 0 {
        number /= 10;
        scale -= 1;
    }
    let scale = u32::try_from(scale).expect("at most 18");
    Some(Amount(Decimal::new(
        if negative { -number } else { number },
        scale,
    )))
}

fn read_exponent(text: &str) -> Result<i64, AmountError> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(AmountError::NotANumber);
    }
    text.parse().map_err(|_| AmountError::Inexact)
}

/// Digits, at most one point with a digit on either side, a minus at most: what JSON calls a number without exponent.
fn is_plain_number(text: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    match unsigned.split_once('.') {
        Some((whole, fraction)) => digits(whole) && digits(fraction),
        None => digits(unsigned),
    }
}

fn ascii_digit(digit: u64) -> u8 {
    b'0' + u8::try_from(digit).expect("a digit")
}

/// Where the point stands in [`Digits`]: 40 digits before it hold any `i128` and its sign.
const POINT: usize = 41;

/// Units of 10⁻²⁸ in one.
const UNIT: u128 = 10_u128.pow(28);

/// Half the digits of a fraction.
const HALF: u128 = 10_u128.pow(14);

const POWERS: [i128; 29] = {
    let mut powers = [1; 29];
    let mut index = 1;
    while index < 29 {
        powers[index] = powers[index - 1] * 10;
        index += 1;
    }
    powers
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parts_that_are_read_again_can_be_added() {
        let largest = ((1_i128 << 96) - 1).to_string();
        let fraction = (UNIT - 1).to_string();
        let one = Sum::from_parts(&largest, &fraction).unwrap();
        assert_eq!(one.parts(), (largest, fraction));
        let mut sum = Sum::default();
        for _ in 0..1_000_000 {
            sum.merge(one);
        }
        assert!(sum > one);
        for (whole, fraction) in [
            ((1_i128 << 96).to_string(), "0".to_owned()),
            ((-(1_i128 << 96)).to_string(), "0".to_owned()),
            ("0".to_owned(), UNIT.to_string()),
            ("0.5".to_owned(), "0".to_owned()),
            (String::new(), "0".to_owned()),
        ] {
            assert_eq!(
                Sum::from_parts(&whole, &fraction),
                None,
                "{whole} {fraction}"
            );
        }
    }

    proptest! {
        #[test]
        fn the_short_way_and_the_general_one_agree(
            literal in prop_oneof![
                "-?[0-9]{1,19}",
                "-?[0-9]{0,10}\\.[0-9]{0,10}",
                "[-0-9.eE\"]{0,8}",
            ],
        ) {
            if let Some(amount) = read_short(literal.as_bytes()) {
                let general = Amount::from_any_json(&literal).expect("what the short way reads is a number");
                prop_assert_eq!(amount, general);
            }
        }
    }

    #[test]
    fn literals_by_table() {
        let check = |literal: &str, expected: Result<&str, AmountError>| {
            let read = Amount::from_json(literal).map(|amount| Sum::from(amount).to_string());
            assert_eq!(
                read.as_deref().map_err(|error| *error),
                expected,
                "{literal}"
            );
        };
        check("12.83", Ok("12.83"));
        check("\"12.83\"", Ok("12.83"));
        check("0.10", Ok("0.1"));
        check("1.5e1", Ok("15"));
        check("\"1.5E+1\"", Ok("15"));
        check("1e-2", Ok("0.01"));
        check("1E3", Ok("1000"));
        check("0", Ok("0"));
        check("-0.00", Ok("0"));
        check("-7.5", Ok("-7.5"));
        check("0e400", Ok("0"));
        check("123456789012345.6789", Ok("123456789012345.6789"));
        check(
            "79228162514264337593543950335",
            Ok("79228162514264337593543950335"),
        );
        check(
            "-79228162514264337593543950335",
            Ok("-79228162514264337593543950335"),
        );
        check(
            "0.1234567890123456789012345678",
            Ok("0.1234567890123456789012345678"),
        );
        check(
            "0.12345678901234567890123456780000",
            Ok("0.1234567890123456789012345678"),
        );
        check("1.00000000000000000000000000000000000", Ok("1"));
        check("0.12345678901234567890123456789", Err(AmountError::Inexact));
        check("79228162514264337593543950336", Err(AmountError::Inexact));
        check("1e400", Err(AmountError::Inexact));
        check("1e-400", Err(AmountError::Inexact));
        check("1e99999999999999999999", Err(AmountError::Inexact));
        for nonsense in [
            "",
            "\"\"",
            "null",
            "NaN",
            "\"NaN\"",
            "1,5",
            "\"1_000\"",
            "1e",
            "1e+",
            "e5",
            ".5",
            "5.",
            "+1",
            "--1",
            "\" 1\"",
            "1.2.3",
            "{}",
            "true",
            "\"1",
            "\"\\u0031\"",
        ] {
            check(nonsense, Err(AmountError::NotANumber));
        }
    }

    #[test]
    fn amounts_are_shown_and_turned_by_table() {
        for (literal, text, integer) in [
            ("7", "7", Some(7)),
            ("-3.00", "-3", Some(-3)),
            ("0", "0", Some(0)),
            ("1.50", "1.5", None),
            ("9223372036854775807", "9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", "9223372036854775808", None),
            // More than the short way can hold.
            ("9999999999999999999", "9999999999999999999", None),
        ] {
            let amount = Amount::from_json(literal).unwrap();
            assert_eq!(amount.to_string(), text);
            assert_eq!(amount.to_integer(), integer, "{literal}");
            let decimal: Decimal = literal.parse().unwrap();
            assert_eq!(Amount::from(decimal), amount);
            assert_eq!(Sum::from(amount).to_string(), text);
        }
        assert_eq!(Sum::from(-7_i64).to_string(), "-7");
    }

    #[test]
    fn floats_by_table() {
        for (float, text) in [
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (0.1, "0.1"),
            (1e21, "1000000000000000000000"),
        ] {
            let mut out = Vec::new();
            write_float(float, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }

    #[test]
    fn samples_by_table() {
        let check = |literals: &[&str], sample: &str| {
            let sum: Sum = literals
                .iter()
                .map(|literal| Amount::from_json(literal).unwrap())
                .collect();
            let mut out = Vec::new();
            sum.write_sample(&mut out);
            assert_eq!(String::from_utf8(out).unwrap(), sample, "{literals:?}");
        };
        check(&[], "0");
        check(&["12.83"], "12.83");
        check(&["0.1", "0.2"], "0.3");
        check(&["-0.05"], "-0.05");
        check(&["-1.25", "0.25"], "-1");
        check(&["5", "-5.0000"], "0");
        check(
            &["0.0000000000000000000000000001"],
            "0.0000000000000000000000000001",
        );
        check(&["123456789012345.6789"], "123456789012345.67");
        check(
            &["79228162514264337593543950335"],
            "79228162514264340000000000000",
        );
        check(
            &[
                "79228162514264337593543950335",
                "0.5",
                "-79228162514264337593543950335",
            ],
            "0.5",
        );
        check(&["9007199254740993"], "9007199254740992");
    }

    #[test]
    fn shares_by_table() {
        let check = |part: &str, of: &str, percent: Option<u8>| {
            let sum = |literal| Sum::from(Amount::from_json(literal).unwrap());
            assert_eq!(sum(part).percent_of(sum(of)), percent, "{part} of {of}");
        };
        check("1", "3", Some(33));
        check("2", "3", Some(67));
        check("0.005", "1", Some(1));
        check("0.0049", "1", Some(0));
        check("3", "3", Some(100));
        check("0", "3", Some(0));
        check("-1", "3", Some(0));
        check("1", "0", None);
        check("1", "-3", None);
    }

    /// Any decimal: its literal and its mantissa at 28 places, the plainest way to say the same number.
    fn decimals() -> impl Strategy<Value = (String, i128)> {
        (-9_999_999_999_i64..9_999_999_999, 0_u32..=28).prop_map(|(mantissa, scale)| {
            let literal = Decimal::from_i128_with_scale(i128::from(mantissa), scale).to_string();
            (literal, i128::from(mantissa) * 10_i128.pow(28 - scale))
        })
    }

    proptest! {
        #[test]
        fn sums_are_exact_in_any_order(decimals in prop::collection::vec(decimals(), 0..40)) {
            let amounts: Vec<Amount> = decimals.iter().map(|(literal, _)| Amount::from_json(literal).unwrap()).collect();
            let sum: Sum = amounts.iter().copied().collect();
            prop_assert_eq!(sum, amounts.iter().rev().copied().collect());
            let (left, right) = amounts.split_at(amounts.len() / 2);
            let mut merged: Sum = right.iter().copied().collect();
            merged.merge(left.iter().copied().collect());
            prop_assert_eq!(sum, merged);
            // The mantissas of so few amounts of ten digits fit, so plain integer addition is the oracle.
            let expected: Option<i128> = decimals.iter().try_fold(0_i128, |sum, (_, mantissa)| sum.checked_add(*mantissa));
            if let Some(expected) = expected {
                prop_assert_eq!(sum.whole, expected.div_euclid(10_i128.pow(28)));
                prop_assert_eq!(sum.fraction, expected.rem_euclid(10_i128.pow(28)).unsigned_abs());
            }
        }

        #[test]
        fn a_sample_is_the_shortest_text_of_the_nearest_float(decimals in prop::collection::vec(decimals(), 1..10)) {
            let sum: Sum = decimals.iter().map(|(literal, _)| Amount::from_json(literal).unwrap()).collect();
            let mut sample = Vec::new();
            sum.write_sample(&mut sample);
            let sample = String::from_utf8(sample).unwrap();
            let nearest: f64 = sum.to_string().parse().unwrap();
            prop_assert_eq!(sample.parse::<f64>().unwrap().to_bits(), nearest.to_bits());
            prop_assert_eq!(sample, if nearest == 0.0 { "0".to_owned() } else { nearest.to_string() });
        }

        #[test]
        fn any_text_is_an_amount_or_an_error(text in ".{0,40}") {
            let _ = Amount::from_json(&text);
        }

        #[test]
        fn order_and_size_agree_with_decimals(a in decimals(), b in decimals()) {
            let sum = |literal: &str| Sum::from(Amount::from_json(literal).unwrap());
            prop_assert_eq!(sum(&a.0).cmp(&sum(&b.0)), a.1.cmp(&b.1));
            prop_assert_eq!(sum(&a.0).abs().cmp(&sum(&b.0).abs()), a.1.unsigned_abs().cmp(&b.1.unsigned_abs()));
        }
    }
}
