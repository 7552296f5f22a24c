//! Content negotiation: format and encoding by `Accept` and `Accept-Encoding`.
//!
//! The rules are those of Prometheus' Go reference, `expfmt.NegotiateIncludingOpenMetrics`. The highest `q` wins, then
//! the more specific range, then the earlier one. Unknown ranges are skipped. If no range is left, the format is text
//! 0.0.4, so a header never makes a scrape fail. Two differences follow RFC 9110: a range with `q=0` is never used, and
//! types are compared without regard to case.
//!
//! This module does not escape names. All metric and label names of the exporter are legacy names, which no escaping
//! scheme changes. So the answer repeats the requested `escaping`, and the body is always the same.

use std::cmp::Reverse;

use super::Format;

impl Format {
    /// The format for these `Accept` headers, with its `Content-Type`.
    pub(crate) fn negotiate<'a>(accept: impl IntoIterator<Item = &'a str>) -> (Self, &'static str) {
        let mut ranges: Vec<MediaRange<'_>> = accept
            .into_iter()
            .flat_map(|header| header.split(','))
            .take(RANGES_MAX)
            .filter_map(MediaRange::parse)
            .collect();
        ranges.sort_by_key(|range| Reverse((range.quality, range.specificity())));
        let mut escaping = UNDERSCORES;
        for range in ranges {
            // As in the Go reference, a range without a known escaping scheme uses the scheme of the range before it,
            // even if that range was skipped.
            let known = ESCAPINGS.iter().position(|known| *known == range.escaping);
            escaping = known.unwrap_or(escaping);
            let of = |format, types: &[&'static str; 4]| (format, types[escaping]);
            let is = |name: &str| range.media.eq_ignore_ascii_case(name);
            match range.version {
                "" | "0.0.4" if is("text/plain") => return of(Self::Text, &TEXT),
                "1.0.0" if is("application/openmetrics-text") => {
                    return of(Self::OpenMetrics, &OPEN_METRICS_1_0_0);
                }
                "" | "0.0.1" if is("application/openmetrics-text") => {
                    return of(Self::OpenMetrics, &OPEN_METRICS_0_0_1);
                }
                _ => {}
            }
        }
        (Self::Text, TEXT[escaping])
    }
}

/// Returns true if the client accepts gzip with a `q` at least as high as that of `identity`.
pub(crate) fn accepts_gzip<'a>(accept_encoding: impl IntoIterator<Item = &'a str>) -> bool {
    let (mut gzip, mut identity, mut any) = (None, None, None);
    for item in accept_encoding
        .into_iter()
        .flat_map(|header| header.split(','))
        .take(RANGES_MAX)
    {
        let mut fields = item.split(';');
        let coding = fields.next().unwrap_or_default().trim();
        let quality = fields.find_map(quality).unwrap_or(QUALITY_ONE);
        if coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip") {
            gzip = Some(quality);
        } else if coding.eq_ignore_ascii_case("identity") {
            identity = Some(quality);
        } else if coding == "*" {
            any = Some(quality);
        }
    }
    let gzip = gzip.or(any).unwrap_or(0);
    gzip > 0 && gzip >= identity.unwrap_or(0)
}

/// An element of `Accept`, with the parameters that negotiation uses.
struct MediaRange<'a> {
    media: &'a str,
    quality: u16,
    version: &'a str,
    escaping: &'a str,
}

impl<'a> MediaRange<'a> {
    /// Returns `None` if the element has no media type, or if the client refuses that type with `q=0`.
    fn parse(element: &'a str) -> Option<Self> {
        let mut fields = element.split(';');
        let mut range = Self {
            media: fields.next()?.trim(),
            quality: QUALITY_ONE,
            version: "",
            escaping: "",
        };
        for field in fields {
            if let Some(quality) = quality(field) {
                range.quality = quality;
            } else if let Some((name, value)) = field.split_once('=') {
                let value = value.trim().trim_matches('"');
                match name.trim() {
                    name if name.eq_ignore_ascii_case("version") => range.version = value,
                    name if name.eq_ignore_ascii_case("escaping") => range.escaping = value,
                    _ => {}
                }
            }
        }
        (range.media.contains('/') && range.quality > 0).then_some(range)
    }

    fn specificity(&self) -> u8 {
        match self.media.split_once('/') {
            Some(("*", _)) => 0,
            Some((_, "*")) => 1,
            _ => 2,
        }
    }
}

/// The value of a `q` parameter in thousandths, or `None` for any other parameter. An invalid number counts as 1, as in
/// the Go reference.
fn quality(field: &str) -> Option<u16> {
    let (name, value) = field.split_once('=')?;
    name.trim().eq_ignore_ascii_case("q").then(|| {
        let value = value.trim();
        let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
        let below_one = whole == "0" || (whole.is_empty() && !fraction.is_empty());
        if !below_one || !fraction.bytes().all(|digit| digit.is_ascii_digit()) {
            return QUALITY_ONE;
        }
        fraction
            .bytes()
            .chain(std::iter::repeat(b'0'))
            .take(3)
            .fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'))
    })
}

/// A `q` of 1 in thousandths, the precision that RFC 9110 allows.
const QUALITY_ONE: u16 = 1000;

/// Maximum number of elements of `Accept` or `Accept-Encoding` that are read. Scrapers send up to six and browsers up
/// to eight. The limit bounds the CPU time of a request.
const RANGES_MAX: usize = 64;

/// The schemes for escaping names outside the legacy character set, in the order of the content types below. An unknown
/// scheme is ignored, as in the Go reference.
const ESCAPINGS: [&str; 4] = ["allow-utf-8", "underscores", "dots", "values"];

/// Index of the default in [`ESCAPINGS`].
const UNDERSCORES: usize = 1;

const TEXT: [&str; 4] = [
    "text/plain; version=0.0.4; charset=utf-8; escaping=allow-utf-8",
    "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
    "text/plain; version=0.0.4; charset=utf-8; escaping=dots",
    "text/plain; version=0.0.4; charset=utf-8; escaping=values",
];

const OPEN_METRICS_1_0_0: [&str; 4] = [
    "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
    "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores",
    "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=dots",
    "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=values",
];

/// Content types of OpenMetrics 0.0.1, for a range with this version or without a version, as in the Go reference. The
/// exporter's output is the same in 0.0.1 and 1.0.0.
const OPEN_METRICS_0_0_1: [&str; 4] = [
    "application/openmetrics-text; version=0.0.1; charset=utf-8; escaping=allow-utf-8",
    "application/openmetrics-text; version=0.0.1; charset=utf-8; escaping=underscores",
    "application/openmetrics-text; version=0.0.1; charset=utf-8; escaping=dots",
    "application/openmetrics-text; version=0.0.1; charset=utf-8; escaping=values",
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn formats_by_table() {
        let check = |accept: &[&str], expected: (Format, &str)| {
            assert_eq!(
                Format::negotiate(accept.iter().copied()),
                expected,
                "{accept:?}"
            );
        };
        let text = (Format::Text, TEXT[UNDERSCORES]);
        let text_utf8 = (Format::Text, TEXT[0]);
        let open = (Format::OpenMetrics, OPEN_METRICS_1_0_0[UNDERSCORES]);
        let open_utf8 = (Format::OpenMetrics, OPEN_METRICS_1_0_0[0]);
        let open_old = (Format::OpenMetrics, OPEN_METRICS_0_0_1[UNDERSCORES]);

        // No header, an empty one, curl, browsers.
        check(&[], text);
        check(&[""], text);
        check(&["*/*"], text);
        check(
            &[
                "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
            ],
            text,
        );
        // Prometheus 2.42, VictoriaMetrics.
        check(
            &[
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            ],
            open,
        );
        check(&["text/plain;version=0.0.4;q=1,*/*;q=0.1"], text);
        // Prometheus 3, as configured by default, with protobuf first, and with UTF-8 names off.
        check(
            &[
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            ],
            open_utf8,
        );
        check(
            &[
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            ],
            open_utf8,
        );
        check(
            &["application/openmetrics-text;version=1.0.0;escaping=underscores;q=0.5,*/*;q=0.2"],
            open,
        );
        // Text 1.0.0 is skipped, but its escaping still applies, as in the Go reference.
        check(
            &["text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3"],
            text_utf8,
        );
        check(
            &["text/plain;version=0.0.4;escaping=allow-utf-8"],
            text_utf8,
        );
        check(&["text/plain;escaping=nonsense"], text);
        // Versions of OpenMetrics.
        check(&["application/openmetrics-text"], open_old);
        check(&["application/openmetrics-text;version=0.0.1"], open_old);
        check(
            &["application/openmetrics-text; version=\"1.0.0\"; charset=utf-8"],
            open,
        );
        check(&["application/openmetrics-text;version=2.0.0"], text);
        // Order: by q, then the more specific, then the earlier; several headers are one list.
        check(
            &["text/plain;q=0.5,application/openmetrics-text;version=1.0.0;q=0.9"],
            open,
        );
        check(
            &["text/plain;q=.5,application/openmetrics-text;version=1.0.0;q=.9"],
            open,
        );
        check(&["*/*", "application/openmetrics-text;version=1.0.0"], open);
        check(
            &["application/openmetrics-text;version=1.0.0,text/plain"],
            open,
        );
        check(
            &["text/plain,application/openmetrics-text;version=1.0.0"],
            text,
        );
        check(&["Application/OpenMetrics-Text;Version=1.0.0;Q=0.3"], open);
        // Refused by the client, and malformed.
        check(&["application/openmetrics-text;version=1.0.0;q=0"], text);
        check(
            &["application/openmetrics-text;version=1.0.0;q=0.000,text/plain;q=0.1"],
            text,
        );
        check(&[";;;,=,q=,/;q=x,text/plain;version"], text);
        check(&["application/openmetrics-text;version=1.0.0;q=-1"], open);
    }

    #[test]
    fn encodings_by_table() {
        let check = |accept: &[&str], gzip: bool| {
            assert_eq!(accepts_gzip(accept.iter().copied()), gzip, "{accept:?}");
        };
        check(&[], false);
        check(&[""], false);
        check(&["gzip"], true);
        check(&["GZIP"], true);
        check(&["gzip, deflate, br, zstd"], true);
        check(&["deflate, br"], false);
        check(&["identity"], false);
        check(&["gzip;q=0"], false);
        check(&["gzip;q=0.0, *"], false);
        check(&["*"], true);
        check(&["*;q=0"], false);
        check(&["identity;q=0"], false);
        check(&["identity;q=0, gzip"], true);
        check(&["gzip;q=0.5, identity"], false);
        check(&["gzip;q=0.5, identity;q=0.5"], true);
        check(&["gzip;q=0.001"], true);
        check(&["br", "gzip"], true);
        check(&["gzip;q=;;=,"], true);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(headers in prop::collection::vec(any::<String>(), 0..3)) {
            let (_, content_type) = Format::negotiate(headers.iter().map(String::as_str));
            prop_assert!(content_type.contains("; charset=utf-8"));
            accepts_gzip(headers.iter().map(String::as_str));
        }

        #[test]
        fn garbage_of_the_right_letters_never_panics(
            header in "([a-z*/]{0,4}(text/plain|application/openmetrics-text)?[;=,. q0-9\"]{0,8}(version|escaping|q)?=?){0,6}",
        ) {
            Format::negotiate([header.as_str()]);
            accepts_gzip([header.as_str()]);
        }
    }
}
