//! Amounts of money, exact from the JSON literal to the last step before the sample.
//!
//! An [`Amount`] is one figure as it was read, and a [`Sum`] is the sum of any number of amounts. Neither can be made
//! from a float, and this module has no float arithmetic. A sum becomes a float only when its sample is written. The
//! parser of the standard library then converts it with correct rounding. This module does not know currencies and does
//! not convert them. Callers have a separate sum for each currency.

#![deny(clippy::float_arithmetic)]

mod digits;

use std::fmt::{self, Write as _};

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use digits::Digits;

/// One amount as Graph sent it, signed, in the currency of its row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Amount(Decimal);

/// The exact sum of amounts. It is never rounded and does not overflow for any number of rows that fits into memory. So
/// the order of the amounts does not matter.
///
/// A sum is stored as its floor and the remaining fraction. The fraction is in units of 10⁻²⁸, the smallest step of a
/// [`Decimal`].
///
/// A state file has both parts as text.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(into = "(String, String)", try_from = "(String, String)")]
pub struct Sum {
    whole: i128,
    fraction: u128,
}

/// The reason why a literal is not an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// Neither a number nor a number in quotes.
    #[error("not a number")]
    NotANumber,
    /// The literal has more digits than a [`Decimal`], which has 96 bits and 28 decimal places. Rounding would change
    /// the bill.
    #[error("more digits than can be kept exactly (28)")]
    Inexact,
}

impl Amount {
    /// Reads a JSON literal: a number with an optional exponent, optionally in quotes (`12.83`, `"0.10"`, `1.5e1`).
    ///
    /// # Errors
    /// [`AmountError`] if the literal is not such a number, or if the number cannot be stored exactly.
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

    /// The amount as an integer. `None` if it has a fraction or does not fit into an `i64`.
    pub fn to_integer(self) -> Option<i64> {
        let integer = self.0.is_integer().then(|| self.0.trunc())?;
        integer.try_into().ok()
    }
}

impl From<u32> for Amount {
    fn from(amount: u32) -> Self {
        Self(amount.into())
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
    /// Adds another sum, exactly.
    pub fn merge(&mut self, other: Self) {
        self.whole = self
            .whole
            .checked_add(other.whole)
            .expect("fewer than 10⁹ amounts of 29 digits fit in memory");
        self.fraction += other.fraction;
        if self.fraction >= UNIT {
            self.fraction -= UNIT;
            self.whole += 1;
        }
    }

    /// The sum without its sign.
    pub fn abs(self) -> Self {
        if self.whole >= 0 {
            self
        } else {
            Self {
                whole: -self.whole - i128::from(self.fraction > 0),
                fraction: (UNIT - self.fraction) % UNIT,
            }
        }
    }

    /// `self` as a share of `of` in whole percent, rounded, from 0 to 100. `None` if `of` is not above zero.
    pub fn percent_of(self, of: Self) -> Option<u8> {
        if of <= Self::default() {
            return None;
        }
        // Four decimal places are precise enough for a whole percentage and leave room for the products.
        let scaled = |sum: Self| {
            let fraction = i128::try_from(sum.fraction / (UNIT / 10_000)).expect("below 10,000");
            sum.whole.saturating_mul(10_000).saturating_add(fraction)
        };
        let (part, whole) = (scaled(self), scaled(of).max(1));
        let share = part.saturating_mul(200).saturating_add(whole) / whole.saturating_mul(2);
        Some(u8::try_from(share.clamp(0, 100)).expect("clamped to 0 to 100"))
    }

    /// `self` as a share of `of` in whole percent, rounded down: 99.99 % is 99. Returns 0 if `self` or `of` is not
    /// above zero.
    pub fn whole_percent_of(self, of: Self) -> u32 {
        if self <= Self::default() || of <= Self::default() {
            return 0;
        }
        let hundredfold = self.times(100);
        // Finds the largest percentage of `of` that does not exceed `self`. Bisection needs only products, which are
        // exact. A quotient would not be exact.
        let (mut below, mut above) = (0, WHOLE_PERCENT_MAX + 1);
        while above - below > 1 {
            let middle = u32::midpoint(below, above);
            if of.times(middle) <= hundredfold {
                below = middle;
            } else {
                above = middle;
            }
        }
        below
    }

    /// Writes the sample: the shortest decimal that reads back as the float nearest to the sum.
    ///
    /// A decimal with up to 15 significant digits is written unchanged, because no other such decimal has the same
    /// nearest float. Only longer decimals are converted to a float.
    pub fn write_sample(self, out: &mut Vec<u8>) {
        let text = Digits::new(self);
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

    fn times(self, factor: u32) -> Self {
        let fraction = self.fraction * u128::from(factor);
        let carried = i128::try_from(fraction / UNIT).expect("below the factor");
        Self {
            whole: self
                .whole
                .saturating_mul(factor.into())
                .saturating_add(carried),
            fraction: fraction % UNIT,
        }
    }
}

impl From<Sum> for (String, String) {
    fn from(Sum { whole, fraction }: Sum) -> Self {
        (whole.to_string(), fraction.to_string())
    }
}

impl TryFrom<(String, String)> for Sum {
    type Error = &'static str;

    fn try_from((whole, fraction): (String, String)) -> Result<Self, Self::Error> {
        let sum = || {
            let whole: i128 = whole.parse().ok()?;
            let fraction = fraction.parse().ok()?;
            // Every amount is below 2⁹⁶. If restored sums are too, 2³⁰ of them can be added without overflow.
            let room = whole.unsigned_abs() < 1 << 96;
            (fraction < UNIT && room).then_some(Self { whole, fraction })
        };
        sum().ok_or("these are not the parts of a sum")
    }
}

impl From<Amount> for Sum {
    fn from(Amount(amount): Amount) -> Self {
        let (whole, fraction) = split(amount.mantissa(), amount.scale());
        Self { whole, fraction }
    }
}

impl From<i64> for Sum {
    /// Converts a count, so that it can be compared and written like a sum of amounts.
    fn from(count: i64) -> Self {
        Self {
            whole: count.into(),
            fraction: 0,
        }
    }
}

impl fmt::Display for Sum {
    /// The exact sum, without trailing zeros.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(Digits::new(*self).as_str())
    }
}

/// Writes a sample value that is a float already, in the shortest form that reads back as the same float.
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

/// The floor of mantissa × 10^-scale, and the rest in units of 10⁻²⁸.
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
    let shift = || {
        let normal = decimal.normalize();
        let scale = i64::from(normal.scale()).checked_sub(exponent)?;
        // A decimal has no negative scale, so its mantissa gets the zeros instead.
        let zeros = POWERS.get(usize::try_from((-scale).max(0)).ok()?)?;
        let mantissa = normal.mantissa().checked_mul(*zeros)?;
        Decimal::try_from_i128_with_scale(mantissa, scale.max(0).try_into().ok()?).ok()
    };
    let shifted = shift().ok_or(AmountError::Inexact)?;
    Ok(shifted.normalize())
}

/// Reads the common form: at most 18 digits with an optional decimal point and an optional minus. Returns `None` for
/// all other forms.
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
    // Zero and a decimal point at the end are rare, so they are left to `from_any_json`.
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

/// Accepts digits with an optional minus and an optional point between digits: a JSON number without exponent.
fn is_plain_number(text: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    match unsigned.split_once('.') {
        Some((whole, fraction)) => digits(whole) && digits(fraction),
        None => digits(unsigned),
    }
}

/// The largest percentage that [`Sum::whole_percent_of`] returns. No real budget is overspent by more, and products
/// with this percentage are exact.
const WHOLE_PERCENT_MAX: u32 = 999_999;

/// Number of units of 10⁻²⁸ in 1.
const UNIT: u128 = 10_u128.pow(28);

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
mod tests;
