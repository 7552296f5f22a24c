//! Decodes the envelope of a page and passes its rows to a callback, one at a time. So memory holds only one decoded
//! row.
//!
//! A page is valid only if it has one `value`, has no `error`, and is JSON to its end.
//!
//! This module does not interpret rows. See
//! <https://learn.microsoft.com/graph/paging> and
//! <https://learn.microsoft.com/graph/api/callrecords-callrecord-getpstnonlinemeetingdialoutreport>.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

use memchr::memchr3;
use serde::Deserialize;
use serde::de::{
    self, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess,
};
use serde_json::de::{Read, SliceRead, StrRead};
use serde_json::value::RawValue;

use super::error_body::{ErrorBody, is_error, last_segment, without_bom};

/// The contents of a page except for its rows.
#[derive(Debug)]
pub(crate) struct Envelope {
    /// Link to the next page. An empty link counts as none.
    pub(crate) next: Option<String>,
    /// `@odata.context`, a URL on the server that wrote the page.
    pub(crate) context: Option<String>,
}

/// The reason why decoding stopped before the end of the page.
#[derive(Debug)]
pub(crate) enum Stop<E> {
    /// The page or a row is malformed. `row` is the number of that row in the report, from 1.
    Json {
        row: Option<u64>,
        source: serde_json::Error,
    },
    /// The page contains an error in addition to its rows, or instead of rows.
    Error(ErrorBody),
    /// The callback returned this error.
    Callback(E),
    /// The report has more rows than permitted.
    RowLimit,
}

/// Decodes `page` and calls `add` with each row and its number. The numbers continue from `rows_before`. Fails if a row
/// has a number above `rows_max`. Sets `rows` to the number of rows that were passed to `add`, also on failure.
pub(crate) fn decode<'t, R, E, F>(
    page: &'t [u8],
    rows_before: u64,
    rows_max: u64,
    rows: &mut u64,
    add: F,
) -> Result<Envelope, Stop<E>>
where
    R: Deserialize<'t>,
    F: FnMut(u64, R) -> Result<(), E>,
{
    let mut progress = Progress {
        number: rows_before,
        rows_max,
        in_rows: false,
        stop: None,
    };
    let visitor = PageVisitor(Rows {
        progress: &mut progress,
        add,
        row: PhantomData,
    });
    let page = without_bom(page);
    // Checks here, once, that the page is valid UTF-8. Without this check, Serde would check each key and each value,
    // and decoding would take 1.5 times as long.
    let text = str::from_utf8(page);
    IS_HARMLESS.set(text.is_ok_and(is_harmless));
    let envelope = match text {
        Ok(text) => read(StrRead::new(text), visitor),
        Err(_) => read(SliceRead::new(page), visitor),
    };
    IS_HARMLESS.set(false);
    *rows = progress.number - rows_before;
    match (progress.stop, envelope) {
        (Some(stop), _) => Err(stop),
        (None, Ok(envelope)) => Ok(envelope),
        (None, Err(source)) => Err(Stop::Json {
            row: progress.in_rows.then_some(progress.number + 1),
            source,
        }),
    }
}

thread_local! {
    /// The value that [`page_is_harmless`] returns. It is thread-local, because Serde cannot pass a value to the
    /// deserializers of a row's properties.
    static IS_HARMLESS: Cell<bool> = const { Cell::new(false) };
}

/// Returns true if the page that is being decoded is valid UTF-8 without control characters, escaped ones included. Its
/// texts then need no check, which saves a quarter of the decoding time.
pub(crate) fn page_is_harmless() -> bool {
    IS_HARMLESS.get()
}

/// Returns true if UTF-8 text has no byte that begins a control character or a JSON escape.
pub(crate) fn is_plain(text: &[u8]) -> bool {
    // These two searches are vectorized: they compare many bytes at once.
    let lowest = text.iter().copied().fold(u8::MAX, u8::min);
    lowest >= 0x20 && memchr3(0x7F, 0xC2, b'\\', text).is_none()
}

/// Returns true if the page contains no control characters, escaped ones included. Returns false for some harmless
/// pages too, because the function recognizes only common escapes.
fn is_harmless(page: &str) -> bool {
    // Between the two backslashes of an escaped backslash (`\\`) is an empty part. It is harmless.
    let is_letter = |escaped: &str| match escaped.as_bytes() {
        [] | [b'"' | b'/', ..] => true,
        [b'u', b'0', b'0', third, ..] => !third.is_ascii_digit(),
        [b'u', first, ..] => !matches!(first, b'd' | b'D'),
        _ => false,
    };
    let mut parts = (0_u32..).zip(page.split('\\'));
    is_plain(page.as_bytes())
        || parts.all(|(n, part)| is_plain(part.as_bytes()) && (n == 0 || is_letter(part)))
}

/// Reads a page to its end.
fn read<'t, J: Read<'t>>(
    json: J,
    visitor: impl de::Visitor<'t, Value = Envelope>,
) -> serde_json::Result<Envelope> {
    let mut json = serde_json::Deserializer::new(json);
    let envelope = json.deserialize_map(visitor)?;
    json.end()?;
    Ok(envelope)
}

/// State of the decoder. `stop` keeps the callback's error, because Serde's errors cannot contain it.
struct Progress<E> {
    number: u64,
    rows_max: u64,
    in_rows: bool,
    stop: Option<Stop<E>>,
}

struct PageVisitor<'s, R, E, F>(Rows<'s, R, E, F>);

impl<'t, R, E, F> de::Visitor<'t> for PageVisitor<'_, R, E, F>
where
    R: Deserialize<'t>,
    F: FnMut(u64, R) -> Result<(), E>,
{
    type Value = Envelope;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a page, which is an object with `value`")
    }

    fn visit_map<A: MapAccess<'t>>(mut self, mut map: A) -> Result<Envelope, A::Error> {
        let mut seen_value = false;
        let mut next: Option<String> = None;
        let mut context = None;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "value" if seen_value => return Err(A::Error::duplicate_field("value")),
                "value" => {
                    seen_value = true;
                    map.next_value_seed(&mut self.0)?;
                }
                key if key.eq_ignore_ascii_case("value") => {
                    return Err(A::Error::custom("`value` is not in lower case"));
                }
                key if is_error(key) => {
                    if let Some(error) = ErrorBody::member(map.next_value()?) {
                        self.0.progress.stop = Some(Stop::Error(error));
                        return Err(A::Error::custom("stopped"));
                    }
                }
                "@odata.context" => {
                    // The context is only a hint, so a value that is not text is ignored.
                    let raw: &RawValue = map.next_value()?;
                    context = serde_json::from_str(raw.get()).ok();
                }
                // Older documentation spells the key `NextLink`, and OData 4.01 omits the prefix `@odata.`.
                key if last_segment(key).eq_ignore_ascii_case("nextLink") => {
                    let link = map.next_value::<Option<String>>()?.unwrap_or_default();
                    match next {
                        _ if link.trim().is_empty() => {}
                        Some(other) if other != link => {
                            return Err(A::Error::custom("two different nextLinks"));
                        }
                        _ => next = Some(link),
                    }
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        if seen_value {
            Ok(Envelope { next, context })
        } else {
            Err(A::Error::missing_field("value"))
        }
    }
}

struct Rows<'s, R, E, F> {
    progress: &'s mut Progress<E>,
    add: F,
    row: PhantomData<fn() -> R>,
}

impl<'t, R, E, F> DeserializeSeed<'t> for &mut Rows<'_, R, E, F>
where
    R: Deserialize<'t>,
    F: FnMut(u64, R) -> Result<(), E>,
{
    type Value = ();

    fn deserialize<D: Deserializer<'t>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'t, R, E, F> de::Visitor<'t> for &mut Rows<'_, R, E, F>
where
    R: Deserialize<'t>,
    F: FnMut(u64, R) -> Result<(), E>,
{
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of rows")
    }

    fn visit_seq<A: SeqAccess<'t>>(self, mut rows: A) -> Result<(), A::Error> {
        self.progress.in_rows = true;
        while rows.next_element_seed(RowSeed(&mut *self))?.is_some() {}
        self.progress.in_rows = false;
        Ok(())
    }
}

/// Decodes one row and passes it to `add` immediately. Returning the row would copy this large value, which takes a
/// tenth of the decoding time.
struct RowSeed<'r, 's, R, E, F>(&'r mut Rows<'s, R, E, F>);

impl<'t, R, E, F> DeserializeSeed<'t> for RowSeed<'_, '_, R, E, F>
where
    R: Deserialize<'t>,
    F: FnMut(u64, R) -> Result<(), E>,
{
    type Value = ();

    fn deserialize<D: Deserializer<'t>>(self, deserializer: D) -> Result<(), D::Error> {
        let Self(Rows { progress, add, .. }) = self;
        let row = R::deserialize(deserializer)?;
        progress.stop = if progress.number == progress.rows_max {
            Some(Stop::RowLimit)
        } else {
            progress.number += 1;
            add(progress.number, row).err().map(Stop::Callback)
        };
        match progress.stop {
            Some(_) => Err(D::Error::custom("stopped")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Row<'t> {
        #[serde(borrow)]
        id: Cow<'t, str>,
    }

    fn check(text: &str, expected: Result<(&str, Option<&str>), &str>) {
        let mut ids = String::new();
        let mut rows = 0;
        let add = |number: u64, row: Row<'_>| {
            ids.extend([&number.to_string(), &*row.id, " "]);
            (row.id != "bad").then_some(()).ok_or("bad row")
        };
        match (decode(text.as_bytes(), 10, 13, &mut rows, add), expected) {
            (Ok(page), Ok((expected, next))) => {
                assert_eq!((ids.as_str(), page.next.as_deref()), (expected, next));
                assert_eq!(rows, ids.split_whitespace().count() as u64);
            }
            (Err(stop), Err(expected)) => {
                let stop = format!("{stop:?}");
                assert!(stop.contains(expected), "{text}: {stop}");
            }
            (page, _) => panic!("{text}: {page:?}"),
        }
    }

    #[test]
    fn keys_by_table() {
        let one = r#""value":[{"id":"a","x":{"value":[1]}}]"#;
        for link in ["\"\"", "\" \"", "null"] {
            let page = format!(r#"{{"@odata.nextLink":{link},{one}}}"#);
            check(&page, Ok(("11a ", None)));
            let other = format!(r#"{{"@odata.nextLink":"n",{one},"@nextLink":{link}}}"#);
            check(&other, Ok(("11a ", Some("n"))));
        }
        for key in ["@odata.nextlink", "odata.nextLink", "@nextLink", "nextLink"] {
            let page = format!(r#"{{{one},"{key}":"n"}}"#);
            check(&page, Ok(("11a ", Some("n"))));
        }
        check(&format!(r#"{{"error":null,{one}}}"#), Ok(("11a ", None)));
        check(
            &format!(r#"{{"errors":1,"x.errors":2,{one}}}"#),
            Ok(("11a ", None)),
        );
        for key in [
            "error",
            "Error",
            "@odata.error",
            "odata.error",
            "m:error",
            r"err\u006fr",
        ] {
            for error in [r#"{"code":"c\u002d1"}"#, r#"{"Code":"c-1"}"#, r#""c-1""#] {
                for page in [
                    format!(r#"{{"value":[],"{key}":{error}}}"#),
                    format!(r#"{{"{key}":{error},{one}}}"#),
                    format!(r#"{{{one},"{key}":{error}"#),
                    format!(r#"{{"{key}":{error}}}"#),
                ] {
                    check(&page, Err("c-1"));
                }
            }
        }
        for error in ["{}", "[]", "0", "false", "\"\"", "[{\"code\":\"c\"}]"] {
            check(&format!(r#"{{{one},"error":{error}}}"#), Err("Error("));
        }
        check(r#"{"value":[],"Value":[{"id":"a"}]}"#, Err("lower case"));
        check(r#"{"VALUE":[]}"#, Err("lower case"));
        check(r#"{"value":[],"\u0076alue":[]}"#, Err("duplicate field"));
    }

    #[test]
    fn pages_by_table() {
        let one = r#""value":[{"id":"a","x":{"value":[1]}}]"#;
        check(&format!("{{{one}}}"), Ok(("11a ", None)));
        check(
            &format!(r#"{{"@odata.nextLink":"n","@odata.count":7,{one},"y":[{{}}]}}"#),
            Ok(("11a ", Some("n"))),
        );
        check(
            &format!(r#"{{{one},"@odata.NextLink":"n"}}"#),
            Ok(("11a ", Some("n"))),
        );
        check(
            &format!(r#"{{{one},"@odata.nextLink":"n","@odata.NextLink":"n"}}"#),
            Ok(("11a ", Some("n"))),
        );
        check(
            &format!(r#"{{{one},"@odata.nextLink":null,"@odata.NextLink":"n"}}"#),
            Ok(("11a ", Some("n"))),
        );
        check(
            &format!(r#"{{{one},"@odata.nextLink":"\u006e\/"}}"#),
            Ok(("11a ", Some("n/"))),
        );
        check(
            &format!(r#"{{{one},"@odata.nextLink":null}}"#),
            Ok(("11a ", None)),
        );
        check(r#" {"value":[]} "#, Ok(("", None)));
        check("\u{feff}{\"value\":[]}", Ok(("", None)));
        check(
            r#"{"value":[{"id":"a"},{"id":"\u00e4"},{"id":"c"}]}"#,
            Ok(("11a 12ä 13c ", None)),
        );
        check(
            r#"{"value":[{"id":"a"},{"id":"b"},{"id":"c"},{"id":"d"}]}"#,
            Err("RowLimit"),
        );
        check(
            r#"{"value":[{"id":"a"},{"id":"bad"},{"id":1}]}"#,
            Err(r#"Callback("bad row")"#),
        );
        check(r#"{"value":[{"id":"a"},{"id":1}]}"#, Err("row: Some(12)"));
        check(r#"{"value":[{"id":"a"},{}]}"#, Err("row: Some(12)"));
        check(r#"{"value":[{"id":"a"} {"id":"a"}]}"#, Err("row: Some(12)"));
        check(r#"{"value":[{"id":"a"}"#, Err("row: Some(12)"));
        check(r#"{"value":[],"value":[]}"#, Err("duplicate field"));
        check(r#"{"@odata.nextLink":"n"}"#, Err("missing field"));
        check(r#"{"value":[],"@odata.nextLink":7}"#, Err("invalid type"));
        check(r#"{"value":{}}"#, Err("an array of rows"));
        check(r#"{"value":null}"#, Err("an array of rows"));
        check("[]", Err("a page"));
        check("", Err("row: None"));
        check("<html>", Err("row: None"));
        check(r#"{"value":[]} {"value":[]}"#, Err("trailing characters"));
        check(r#"{"value":[]}x"#, Err("trailing characters"));
        check(
            r#"{"value":[],"@odata.nextLink":"a","@odata.NextLink":"b"}"#,
            Err("two different"),
        );
        let deep = format!(r#"{{"value":[],"x":{}"#, "[".repeat(100));
        check(&deep, Err("row: None"));
    }

    #[test]
    fn documented_examples_are_pages() {
        let text = r#"{
            "@odata.context": "https://graph.microsoft.com/beta/$metadata#Collection(microsoft.graph.callRecords.pstnOnlineMeetingDialoutReport)",
            "@odata.count": 1000,
            "@odata.nextLink": "https://graph.microsoft.com/beta/communications/callRecords/getPstnOnlineMeetingDialoutReport(fromDateTime=2022-11-01,toDateTime=2022-12-01)?$skip=1000",
            "value": [ { "userId": "03de33bb-51df-40de-889a-61949faae24f", "totalCallCharge": 12.83 } ]
        }"#;
        let mut rows = 0;
        let page = decode::<IgnoredAny, (), _>(text.as_bytes(), 0, 9, &mut rows, |_, _| Ok(()))
            .expect("a page");
        assert_eq!(rows, 1);
        assert!(page.next.is_some_and(|link| link.ends_with("?$skip=1000")));
    }

    proptest! {
        #[test]
        fn garbage_is_an_error_and_never_a_panic(
            text in prop_oneof![
                "\\PC{0,80}",
                "[\\[\\]{}\",:0-9a-z\\\\ ]{0,80}",
                "\\{(\"(value|@odata\\.nextLink|@odata\\.NextLink|x)\":(\\[(\\{\"id\":\"[a-z]?\"\\},?){0,3}\\]|\"n\"|null|1|\\{\\}),?){0,4}\\}?",
            ],
        ) {
            let mut rows = 0;
            let mut seen = 0;
            let page = decode(text.as_bytes(), 0, 5, &mut rows, |number, _: Row<'_>| {
                seen = number;
                if number == 4 { Err(()) } else { Ok(()) }
            });
            prop_assert_eq!(rows, seen);
            let is_object = text.trim_start().starts_with('{');
            prop_assert!(page.is_err() || is_object);
        }

        #[test]
        fn a_page_cut_anywhere_is_an_error(cut in 0_usize..84) {
            let text = r#"{"@odata.nextLink":"https://a/b","value":[{"id":"a"},{"id":"b"}],"@odata.count":2}  "#;
            let text = &text[..cut.min(text.trim_end().len() - 1)];
            let mut rows = 0;
            let page = decode::<Row<'_>, (), _>(text.as_bytes(), 0, 5, &mut rows, |_, _| Ok(()));
            prop_assert!(page.is_err());
        }
    }
}
