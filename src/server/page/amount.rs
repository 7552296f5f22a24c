//! Amounts and counts for readers: thousands separators, and the decimals of the currency.

use std::fmt::{self, Display, Formatter};

use rust_decimal::{Decimal, RoundingStrategy};

use super::format::{Escaped, Text};

/// An amount, shown rounded to the decimals of its currency. The `title` attribute has the exact digits if they differ.
pub(super) struct Money<'a> {
    exact: &'a str,
    currency: &'a str,
}

/// A count with thousands separators.
pub(super) struct Number<N>(pub(super) N);

impl<'a> Money<'a> {
    pub(super) const fn new(exact: &'a str, currency: &'a str) -> Self {
        Self { exact, currency }
    }

    /// Returns the rounded amount. `None` if the text is not a decimal number that can be rounded.
    fn rounded(&self) -> Option<String> {
        let plain = |byte: u8| byte.is_ascii_digit() || byte == b'.' || byte == b'-';
        let exact = Some(self.exact).filter(|exact| exact.bytes().all(plain))?;
        let decimal: Decimal = exact.parse().ok()?;
        let decimals = minor_digits(self.currency);
        // Half a cent is rounded up to a cent, as on an invoice.
        let strategy = RoundingStrategy::MidpointAwayFromZero;
        let mut rounded = decimal.round_dp_with_strategy(decimals, strategy);
        rounded.rescale(decimals);
        if rounded.is_zero() {
            rounded.set_sign_positive(true);
        }
        Some(grouped(&rounded.to_string()))
    }
}

impl Display for Money<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.rounded() {
            None => write!(f, "{}", Text(self.exact)),
            Some(shown) if shown == self.exact => f.write_str(&shown),
            Some(shown) => write!(
                f,
                "<span title=\"{} {}\">{shown}</span>",
                Escaped(self.exact),
                Escaped(self.currency)
            ),
        }
    }
}

impl<N: Display> Display for Number<N> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&grouped(&self.0.to_string()))
    }
}

/// Adds thousands separators to a decimal number.
fn grouped(number: &str) -> String {
    let (sign, unsigned) = number.split_at(usize::from(number.starts_with('-')));
    let whole = unsigned.find('.').unwrap_or(unsigned.len());
    let mut grouped = sign.to_owned();
    for (index, char) in unsigned.char_indices() {
        if index > 0 && index < whole && (whole - index) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(char);
    }
    grouped
}

/// Returns the number of decimals that ISO 4217 states for a currency; two if the currency is not in the list below.
fn minor_digits(currency: &str) -> u32 {
    match currency {
        "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX"
        | "UYI" | "VND" | "VUV" | "XAF" | "XOF" | "XPF" => 0,
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
        "CLF" | "UYW" => 4,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_by_table() {
        for (exact, currency, shown) in [
            (
                "24768.02",
                "USD",
                "<span title=\"24768.02 USD\">24,768.02</span>",
            ),
            ("812.40", "EUR", "812.40"),
            ("812.4", "EUR", "<span title=\"812.4 EUR\">812.40</span>"),
            ("0", "unknown", "<span title=\"0 unknown\">0.00</span>"),
            ("0.005", "EUR", "<span title=\"0.005 EUR\">0.01</span>"),
            ("-0.0049", "EUR", "<span title=\"-0.0049 EUR\">0.00</span>"),
            (
                "-1234567.891",
                "EUR",
                "<span title=\"-1234567.891 EUR\">-1,234,567.89</span>",
            ),
            (
                "-999.995",
                "EUR",
                "<span title=\"-999.995 EUR\">-1,000.00</span>",
            ),
            ("1234.5", "JPY", "<span title=\"1234.5 JPY\">1,235</span>"),
            ("999", "JPY", "999"),
            ("1.23456", "KWD", "<span title=\"1.23456 KWD\">1.235</span>"),
            ("1", "CLF", "<span title=\"1 CLF\">1.0000</span>"),
            ("<b>", "USD", "<bdi>&lt;b&gt;</bdi>"),
            ("", "USD", "<bdi></bdi>"),
            ("1_000", "USD", "<bdi>1_000</bdi>"),
            // An amount with too many digits for rounding is shown unchanged.
            (
                "99999999999999999999999999999999.5",
                "USD",
                "<bdi>99999999999999999999999999999999.5</bdi>",
            ),
        ] {
            assert_eq!(Money::new(exact, currency).to_string(), shown);
        }
    }

    #[test]
    fn counts_by_table() {
        for (count, shown) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (-1_000, "-1,000"),
            (-100, "-100"),
            (12_345_678, "12,345,678"),
        ] {
            assert_eq!(Number(count).to_string(), shown);
        }
    }
}
