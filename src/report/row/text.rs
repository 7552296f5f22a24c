//! Text of a row, borrowed from the page if possible.

use std::borrow::Cow;
use std::fmt;

use ring::digest;
use serde::de::{self, Deserialize, Deserializer, Visitor};

use crate::graph::decode;

/// Text that is kept unchanged; empty if it is null or missing.
#[derive(Default)]
pub struct Text<'a>(pub(super) Cow<'a, str>);

/// Text that is shown, in a form that is harmless in labels and logs: invalid bytes and control characters are replaced
/// by U+FFFD, and text beyond 1,024 bytes is cut. It is empty if it is null or missing.
///
/// Changed text ends in `~` and eight digits of the SHA-256 of the original text, so that different names stay
/// different.
#[derive(Default)]
pub struct Shown<'a> {
    pub(super) text: Cow<'a, str>,
    pub(super) change: Change,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Change {
    #[default]
    None,
    Replaced,
    Cut,
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text")
            }

            fn visit_none<E: de::Error>(self) -> Result<Text<'de>, E> {
                Ok(Text::default())
            }

            fn visit_some<D: Deserializer<'de>>(self, text: D) -> Result<Text<'de>, D::Error> {
                text.deserialize_str(self)
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_option(TextVisitor)
    }
}

impl<'a> Shown<'a> {
    /// Creates shown text from text without control characters.
    fn new(text: Cow<'a, str>) -> Self {
        if text.len() > TEXT_MAX {
            Self::changed(text.as_bytes())
        } else {
            let change = Change::None;
            Self { text, change }
        }
    }

    /// Creates shown text from the bytes of a JSON string that must be changed. The bytes may be invalid UTF-8, because
    /// JSON can contain an unpaired surrogate, which is decoded to three invalid bytes.
    fn changed(bytes: &[u8]) -> Self {
        let mut text = String::new();
        let read = &bytes[..bytes.len().min(2 * TEXT_MAX)];
        for chunk in read.utf8_chunks() {
            let harmless = |c: char| if c.is_control() { '\u{FFFD}' } else { c };
            text.extend(chunk.valid().chars().map(harmless));
            // Consecutive invalid bytes, such as the three of a surrogate, become one replacement character.
            let goes_on = chunk.valid().is_empty() && text.ends_with('\u{FFFD}');
            if !chunk.invalid().is_empty() && !goes_on {
                text.push('\u{FFFD}');
            }
        }
        let hash = digest::digest(&digest::SHA256, bytes);
        let (hash, _) = hash
            .as_ref()
            .split_first_chunk()
            .expect("SHA-256 has 32 bytes");
        let hash = u32::from_be_bytes(*hash);
        let change = if bytes.len() > TEXT_MAX {
            text.truncate(text.floor_char_boundary(TEXT_MAX - CUT_BYTES));
            text.push('…');
            Change::Cut
        } else {
            Change::Replaced
        };
        Shown {
            text: Cow::Owned(format!("{text}~{hash:08x}")),
            change,
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Shown<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ShownVisitor;
        impl<'de> Visitor<'de> for ShownVisitor {
            type Value = Shown<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text")
            }

            fn visit_none<E: de::Error>(self) -> Result<Shown<'de>, E> {
                Ok(Shown::default())
            }

            fn visit_some<D: Deserializer<'de>>(self, text: D) -> Result<Shown<'de>, D::Error> {
                if decode::page_is_harmless() {
                    text.deserialize_str(self)
                } else {
                    // Reads bytes, because the text may be invalid UTF-8.
                    text.deserialize_bytes(self)
                }
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Shown<'de>, E> {
                Ok(Shown::new(Cow::Borrowed(text)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Shown<'de>, E> {
                Ok(Shown::new(Cow::Owned(text.to_owned())))
            }

            fn visit_borrowed_bytes<E: de::Error>(self, bytes: &'de [u8]) -> Result<Shown<'de>, E> {
                let text = harmless(bytes).map(Cow::Borrowed);
                Ok(text.map_or_else(|| Shown::changed(bytes), Shown::new))
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Shown<'de>, E> {
                let text = harmless(bytes).map(|text| Cow::Owned(text.to_owned()));
                Ok(text.map_or_else(|| Shown::changed(bytes), Shown::new))
            }
        }
        deserializer.deserialize_option(ShownVisitor)
    }
}

/// The bytes as text, if they can be shown unchanged.
fn harmless(bytes: &[u8]) -> Option<&str> {
    let text = str::from_utf8(bytes).ok()?;
    let is_plain = decode::is_plain(bytes) || !text.contains(char::is_control);
    is_plain.then_some(text)
}

/// Maximum bytes of a text, enough for the 256 characters that a directory allows.
pub(super) const TEXT_MAX: usize = 1024;

/// Bytes of `…`, `~` and eight digits at the end of text that was cut.
const CUT_BYTES: usize = 12;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Notes, Property};
    use super::*;

    #[test]
    fn shown_text_by_table() {
        let changed = |start: &str, bytes: &[u8]| {
            let hash = digest::digest(&digest::SHA256, bytes);
            let hash = u32::from_be_bytes(hash.as_ref()[..4].try_into().unwrap());
            format!("{start}~{hash:08x}")
        };
        let long = "ä".repeat(TEXT_MAX / 2);
        let cut = changed(
            &format!("{}…", "ä".repeat((TEXT_MAX - CUT_BYTES) / 2)),
            format!("{long}b").as_bytes(),
        );
        let surrogate = b"Ann \xED\xA0\xBD";
        for (json, expected, cut, replaced) in [
            (r#""Ann""#.to_owned(), "Ann".to_owned(), 0, 0),
            (r#""\u00e4\ud83d\ude00""#.to_owned(), "ä😀".to_owned(), 0, 0),
            (
                "\"caf\u{e9} \u{a0}\"".to_owned(),
                "café \u{a0}".to_owned(),
                0,
                0,
            ),
            (
                r#""Ann \ud83d""#.to_owned(),
                changed("Ann \u{FFFD}", surrogate),
                0,
                1,
            ),
            (
                r#""a\u0000b\n""#.to_owned(),
                changed("a\u{FFFD}b\u{FFFD}", b"a\0b\n"),
                0,
                1,
            ),
            ("\"a\tb\"".to_owned(), changed("a\u{FFFD}b", b"a\tb"), 0, 1),
            (
                "\"a\u{85}\"".to_owned(),
                changed("a\u{FFFD}", "a\u{85}".as_bytes()),
                0,
                1,
            ),
            (format!("\"{long}\""), long.clone(), 0, 0),
            (format!("\"{long}b\""), cut, 1, 0),
        ] {
            let mut notes = Notes::default();
            let text: Shown<'_> = serde_json::from_slice(json.as_bytes()).expect(&json);
            assert_eq!(
                Property::new("name", &text).shown(&mut notes),
                expected,
                "{json}"
            );
            assert!(expected.len() <= TEXT_MAX);
            assert_eq!((notes.cut, notes.replaced), (cut, replaced), "{json}");
        }
        let read = |bytes: &[u8]| {
            let shown: Shown<'_> = serde_json::from_slice(bytes).unwrap();
            shown.text.into_owned()
        };
        assert_eq!(
            read(b"\"a\xFF\xFEb\""),
            changed("a\u{FFFD}b", b"a\xFF\xFEb")
        );
        assert_ne!(read(br#""Ann \ud83d""#), read(br#""Ann \ud83e""#));
        let [one, other] = ["a", "b"].map(|end| format!("\"{}{end}\"", "x".repeat(1 << 20)));
        assert_ne!(read(one.as_bytes()), read(other.as_bytes()));
    }
    /// Parts of a JSON string.
    const PARTS: [&[u8]; 18] = [
        b"Ann",
        b" ",
        "\u{e4}\u{fc}".as_bytes(),
        "\u{a0}\u{85}".as_bytes(),
        b"\t",
        b"\x7F",
        b"\xFF",
        br"\n",
        br"\/",
        br"\\",
        br#"\""#,
        br"\u00e4",
        br"\u00FC",
        br"\u0085",
        br"\u0000",
        br"\u4e2d",
        br"\ud83d",
        br"\ud83d\ude00",
    ];

    proptest! {
        #[test]
        fn text_of_a_page_reads_like_text_alone(
            texts in prop::collection::vec(prop::collection::vec(0..PARTS.len(), 0..4), 1..4),
            is_long: bool,
        ) {
            let mut texts: Vec<Vec<u8>> = texts
                .iter()
                .map(|parts| parts.iter().flat_map(|&part| PARTS[part]).copied().collect())
                .collect();
            if is_long {
                texts[0].extend([b'x'; TEXT_MAX]);
            }
            let texts: Vec<Vec<u8>> = texts
                .iter()
                .map(|text| [b"\"", &**text, b"\""].concat())
                .collect();
            let page = [br#"{"value":["#, &*texts.join(&b','), b"]}"].concat();
            let mut texts = texts.iter();
            let decoded = decode::decode(&page, 0, 9, &mut 0, |_, shown: Shown<'_>| {
                let alone: Shown<'_> = serde_json::from_slice(texts.next().unwrap()).unwrap();
                let is_same = shown.text == alone.text && shown.change == alone.change;
                is_same.then_some(()).ok_or((shown.text.into_owned(), alone.text.into_owned()))
            });
            prop_assert!(decoded.is_ok(), "{decoded:?}");
            prop_assert!(texts.next().is_none());
        }
    }
}
