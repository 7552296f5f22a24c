//! Reads the envelope of a page and hands its rows on, one by one, without ever holding two of them.
//!
//! What this module does not do: look into a row. See
//! <https://learn.microsoft.com/graph/paging> and <https://learn.microsoft.com/graph/api/callrecords-callrecord-getpstnonlinemeetingdialoutreport>.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{
    self, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess,
};

/// What a page holds besides its rows.
#[derive(Debug)]
pub(crate) struct Envelope {
    pub(crate) next: Option<String>,
}

/// Why the reading ended before the end of the page.
#[derive(Debug)]
pub(crate) enum Stop<E> {
    /// Not a page, or a row that is not one; the number is the row's, from 1.
    Json {
        row: Option<u64>,
        source: serde_json::Error,
    },
    /// The callback's own error.
    Callback(E),
    /// One row more than allowed.
    RowLimit,
}

/// Reads `text` and calls `add` with each row's number, counted on from `rows_before`, and the row. Stops before row
/// number `rows_max + 1`. On failure too, `rows` says how many rows were handed on.
pub(crate) fn decode<'t, R, E, F>(
    text: &'t str,
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
    let mut json = serde_json::Deserializer::from_str(text);
    let page = PageVisitor {
        progress: &mut progress,
        add,
        row: PhantomData,
    };
    let next = json
        .deserialize_map(page)
        .and_then(|next| json.end().map(|()| next));
    *rows = progress.number - rows_before;
    match (progress.stop, next) {
        (Some(stop), _) => Err(stop),
        (None, Ok(next)) => Ok(Envelope { next }),
        (None, Err(source)) => Err(Stop::Json {
            row: progress.in_rows.then_some(progress.number + 1),
            source,
        }),
    }
}

/// Where the reading is. Serde's errors cannot carry the callback's, so that one waits here in `stop`.
struct Progress<E> {
    number: u64,
    rows_max: u64,
    in_rows: bool,
    stop: Option<Stop<E>>,
}

struct PageVisitor<'s, R, E, F> {
    progress: &'s mut Progress<E>,
    add: F,
    row: PhantomData<fn() -> R>,
}

impl<'t, R, E, F> de::Visitor<'t> for PageVisitor<'_, R, E, F>
where
    R: Deserialize<'t>,
    F: FnMut(u64, R) -> Result<(), E>,
{
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a page, which is an object with `value`")
    }

    fn visit_map<A: MapAccess<'t>>(mut self, mut map: A) -> Result<Option<String>, A::Error> {
        let mut seen_value = false;
        let mut next: Option<String> = None;
        while let Some(key) = map.next_key()? {
            match key {
                Key::Value if seen_value => return Err(A::Error::duplicate_field("value")),
                Key::Value => {
                    seen_value = true;
                    map.next_value_seed(Rows {
                        progress: self.progress,
                        add: &mut self.add,
                        row: PhantomData,
                    })?;
                }
                Key::NextLink => match (&next, map.next_value::<Option<String>>()?) {
                    (Some(one), Some(other)) if *one != other => {
                        return Err(A::Error::custom("two different nextLinks"));
                    }
                    (_, Some(link)) => next = Some(link),
                    (_, None) => {}
                },
                Key::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        if seen_value {
            Ok(next)
        } else {
            Err(A::Error::missing_field("value"))
        }
    }
}

struct Rows<'s, R, E, F> {
    progress: &'s mut Progress<E>,
    add: &'s mut F,
    row: PhantomData<fn() -> R>,
}

impl<'t, R, E, F> DeserializeSeed<'t> for Rows<'_, R, E, F>
where
    R: Deserialize<'t>,
    F: FnMut(u64, R) -> Result<(), E>,
{
    type Value = ();

    fn deserialize<D: Deserializer<'t>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'t, R, E, F> de::Visitor<'t> for Rows<'_, R, E, F>
where
    R: Deserialize<'t>,
    F: FnMut(u64, R) -> Result<(), E>,
{
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of rows")
    }

    fn visit_seq<A: SeqAccess<'t>>(self, mut rows: A) -> Result<(), A::Error> {
        let progress = self.progress;
        progress.in_rows = true;
        while let Some(row) = rows.next_element::<R>()? {
            let stop = if progress.number == progress.rows_max {
                Some(Stop::RowLimit)
            } else {
                progress.number += 1;
                (self.add)(progress.number, row).err().map(Stop::Callback)
            };
            if stop.is_some() {
                progress.stop = stop;
                return Err(A::Error::custom("stopped"));
            }
        }
        progress.in_rows = false;
        Ok(())
    }
}

enum Key {
    Value,
    NextLink,
    Other,
}

impl<'t> Deserialize<'t> for Key {
    fn deserialize<D: Deserializer<'t>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;

        impl de::Visitor<'_> for KeyVisitor {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_str<E: de::Error>(self, key: &str) -> Result<Key, E> {
                Ok(match key {
                    "value" => Key::Value,
                    // The second spelling is that of older documentation.
                    "@odata.nextLink" | "@odata.NextLink" => Key::NextLink,
                    _ => Key::Other,
                })
            }
        }

        deserializer.deserialize_str(KeyVisitor)
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

    #[test]
    fn pages_by_table() {
        let check = |text: &str, expected: Result<(&str, Option<&str>), &str>| {
            let mut ids = String::new();
            let mut rows = 0;
            let add = |number: u64, row: Row<'_>| {
                ids.extend([&number.to_string(), &*row.id, " "]);
                (row.id != "bad").then_some(()).ok_or("bad row")
            };
            match (decode(text, 10, 13, &mut rows, add), expected) {
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
        };
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
        let page =
            decode::<IgnoredAny, (), _>(text, 0, 9, &mut rows, |_, _| Ok(())).expect("a page");
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
            let page = decode(&text, 0, 5, &mut rows, |number, _: Row<'_>| {
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
            let page = decode::<Row<'_>, (), _>(text, 0, 5, &mut rows, |_, _| Ok(()));
            prop_assert!(page.is_err());
        }
    }
}
