//! Tests that literals become the expected samples, by table and with integers and the decimal type as oracles.

use proptest::prelude::*;

use super::*;

#[test]
fn parts_that_are_read_again_can_be_added() {
    let largest = ((1_i128 << 96) - 1).to_string();
    let fraction = (UNIT - 1).to_string();
    let one = Sum::try_from((largest.clone(), fraction.clone())).unwrap();
    assert_eq!(<(String, String)>::from(one), (largest, fraction));
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
            Sum::try_from((whole.clone(), fraction.clone())).ok(),
            None,
            "{whole} {fraction}"
        );
    }
}

proptest! {
    #[test]
    fn short_and_general_readers_agree(
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
        // More digits than `read_short` accepts.
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
        let amounts = literals.iter().map(|literal| Amount::from_json(literal));
        let sum = sum_of(amounts.map(Result::unwrap));
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

#[test]
fn whole_percents_by_table() {
    for (part, of, percent) in [
        ("1", "3", 33),
        ("2", "3", 66),
        ("99.9999999999999999", "100", 99),
        ("100", "100", 100),
        ("24768.02", "20000", 123),
        (
            "0.0000000000000000000000000001",
            "0.0000000000000000000000000001",
            100,
        ),
        (
            "79228162514264337593543950335",
            "79228162514264337593543950335",
            100,
        ),
        ("79228162514264337593543950335", "0.01", WHOLE_PERCENT_MAX),
        ("0.499", "1", 49),
        ("0", "3", 0),
        ("-1", "3", 0),
        ("1", "0", 0),
        ("1", "-3", 0),
    ] {
        let sum = |literal| Sum::from(Amount::from_json(literal).unwrap());
        assert_eq!(
            sum(part).whole_percent_of(sum(of)),
            percent,
            "{part} of {of}"
        );
    }
}

fn sum_of(amounts: impl Iterator<Item = Amount>) -> Sum {
    amounts.fold(Sum::default(), |mut sum, amount| {
        sum.merge(amount.into());
        sum
    })
}

/// Any decimal, as a literal and as an integer of units of 10⁻²⁸.
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
        let sum = sum_of(amounts.iter().copied());
        prop_assert_eq!(sum, sum_of(amounts.iter().rev().copied()));
        let (left, right) = amounts.split_at(amounts.len() / 2);
        let mut merged = sum_of(right.iter().copied());
        merged.merge(sum_of(left.iter().copied()));
        prop_assert_eq!(sum, merged);
        // So few amounts rarely overflow an integer, so integer addition is the oracle.
        let expected: Option<i128> = decimals.iter().try_fold(0_i128, |sum, (_, mantissa)| sum.checked_add(*mantissa));
        if let Some(expected) = expected {
            prop_assert_eq!(sum.whole, expected.div_euclid(10_i128.pow(28)));
            prop_assert_eq!(sum.fraction, expected.rem_euclid(10_i128.pow(28)).unsigned_abs());
        }
    }

    #[test]
    fn a_sample_is_the_shortest_text_of_the_nearest_float(decimals in prop::collection::vec(decimals(), 1..10)) {
        let sum = sum_of(decimals.iter().map(|(literal, _)| Amount::from_json(literal).unwrap()));
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
