//! Redaction of credentials in every spelling, and texts of Microsoft that must stay unchanged.

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use proptest::prelude::*;
use proptest::sample::select;

use super::super::address::known_origin;
use super::*;

fn secrets(of: &[&str]) -> Secrets {
    let secrets = Secrets::default();
    for secret in of {
        secrets.add(&(*secret).into());
    }
    secrets
}

#[test]
fn messages_by_table() {
    let secrets = secrets(&["s3cret-of~a.known", "OnlyLettersAndMore.OfThem", "a1B2"]);
    for (text, shown) in [
        ("", None),
        (" \r\n", None),
        ("Expression\r\nexpected", Some("Expression expected")),
        (
            "Insufficient privileges to complete the operation.",
            Some("Insufficient privileges to complete the operation."),
        ),
        (
            "AADSTS700027: The certificate with identifier was not found. [Reason - The key was not found., Thumbprint of \
             key used by client: 'A8F0B1D2C3E4F5A6B7C8D9E0F1A2B3C4D5E6F7A8']",
            Some(
                "AADSTS700027: The certificate with identifier was not found. [Reason - The key was not found., Thumbprint \
                 of key used by client: 'A8F0B1D2C3E4F5A6B7C8D9E0F1A2B3C4D5E6F7A8']",
            ),
        ),
        (
            "Trace ID: 255d1aef-8c98-452f-ac51-23d051240864 Timestamp: 2016-01-09 02:02:12Z",
            Some("Trace ID: 255d1aef-8c98-452f-ac51-23d051240864 Timestamp: 2016-01-09 02:02:12Z"),
        ),
        (
            "see https://go.microsoft.com/fwlink/?linkid=1 or https://evil.example/",
            Some("see https://go.microsoft.com or [redacted]"),
        ),
        // People and telephone numbers.
        ("call +49 151 2345678 now", Some("call [redacted] now")),
        ("call 030 / 123456.", Some("call [redacted]")),
        ("call (030)123-4567", Some("call [redacted]")),
        ("adele@contoso.com is out", Some("[redacted] is out")),
        ("in 429 of 1000 requests", Some("in 429 of 1000 requests")),
        // Credentials, whole, in part, cut up, of letters only, and backwards.
        ("got s3cret-of~a.known", Some("got [redacted]")),
        ("got Bearer s3cret-of", Some("got Bearer [redacted]")),
        ("s3c ret -of ~a.k nown", Some("[redacted]")),
        ("got onlylettersandmore", Some("got [redacted]")),
        ("got erOmdnAsretteL", Some("got [redacted]")),
        ("got a1b2 it", Some("got [redacted] it")),
        ("s3cret-of~a.known", Some("[redacted]")),
    ] {
        assert_eq!(secrets.message(text).as_deref(), shown, "{text}");
    }
}

#[test]
fn fixed_forms_by_table() {
    let id = "255d1aef-8c98-452f-ac51-23d051240864";
    let secrets = secrets(&["OnlyLettersAndMore", id]);
    for other in [
        "fb3d2015-bc17-4bb9-bb85-30c5cf1aaaa7",
        // Its first eight bytes are printable, as those of one random id in a thousand.
        "42866a2d-6e6f-4c6b-9c42-b80c6c835273",
    ] {
        assert_eq!(secrets.request_id(other).as_deref(), Some(other));
    }
    for not_one in [
        id,
        // Eight bytes of the other credential, at three places.
        "4f6e6c79-4c65-4474-9b85-30c5cf1aaaa7",
        "fb3d2015-bc17-4bb9-b465-7273416e644d",
        "fb3d2015-bc4c-4574-b465-727341aaaaaa",
        "r-1",
        "Bearer x",
        "6f6e6c79-6c65-4474-8572-73616e646d6f",
        "",
    ] {
        assert_eq!(secrets.request_id(not_one), None, "{not_one}");
    }
    for (text, shown) in [
        ("Authorization_RequestDenied", true),
        ("InvalidAuthenticationToken", true),
        ("9508", true),
        ("only.letters.and", false),
        ("has a blank", false),
        ("a%2Db", false),
        ("", false),
    ] {
        assert_eq!(secrets.code(text).is_some(), shown, "{text}");
    }
    for (text, shown) in [
        (
            "Sat, 21 Nov 2026 13:02:00 GMT",
            Some("Sat, 21 Nov 2026 13:02:00 GMT"),
        ),
        ("2026-11-21T13:02:00", Some("2026-11-21T13:02:00Z")),
        ("OnlyLettersAndMore", None),
    ] {
        assert_eq!(date(text).as_deref(), shown);
    }
    for (text, shown) in [
        ("text/html; charset=utf-8", "text/html"),
        ("Application/JSON", "application/json"),
        ("text/OnlyLettersAndMore", "of another type"),
    ] {
        assert_eq!(content_type(text), shown);
    }
    for (url, shown) in [
        (
            "https://graph.microsoft.us/beta/x",
            "https://graph.microsoft.us",
        ),
        ("http://127.0.0.2:81/x", "http://127.0.0.2:81"),
        ("https://onlylettersandmore.evil.example/x", "another host"),
    ] {
        assert_eq!(known_origin(&url.parse().unwrap()), shown);
    }
}

/// The encodings that a server can use for a text.
const SPELLINGS: [fn(&str) -> String; 19] = [
    str::to_owned,
    |text| text.to_uppercase(),
    |text| text.to_lowercase(),
    |text| text.chars().rev().collect(),
    |text| each(text, |byte| format!("%{byte:02X}")),
    |text| each(text, |byte| format!("%25{byte:02x}")),
    |text| url::form_urlencoded::byte_serialize(text.as_bytes()).collect(),
    hexadecimal,
    |text| BASE64_STANDARD.encode(text),
    |text| BASE64_URL_SAFE_NO_PAD.encode(format!("x{text}")),
    |text| BASE64_STANDARD.encode(format!("xy{text}z")),
    |text| BASE64_STANDARD.encode(BASE64_STANDARD.encode(text)),
    |text| each(text, |byte| format!("\\u{byte:04x}")),
    |text| each(text, |byte| format!("&#{byte};")),
    |text| text.chars().flat_map(|c| [c, '\u{200b}']).collect(),
    |text| text.chars().flat_map(|c| [c, ' ']).collect(),
    in_words,
    |text| in_words(&BASE64_STANDARD.encode(format!("x{text}"))),
    |text| in_words(&hexadecimal(text)),
];

fn each(text: &str, spelled: fn(u8) -> String) -> String {
    text.bytes().map(spelled).collect::<Vec<_>>().concat()
}

fn in_words(text: &str) -> String {
    let words = text.as_bytes().chunks(6).map(as_text);
    words.collect::<Vec<_>>().join("\n")
}

fn credentials() -> impl Strategy<Value = String> {
    let jwt = "eyJ[A-Za-z0-9_-]{20,60}\\.[A-Za-z0-9_-]{20,60}\\.[A-Za-z0-9_-]{20,60}";
    prop_oneof![
        "[A-Za-z0-9~._-]{12,60}",
        "[A-Za-z]{12,60}",
        "[!-~]{12,60}",
        jwt
    ]
}

#[test]
fn credentials_encoded_twice_as_letters_only_are_redacted() {
    let credential = "0A_D-A-D~A0-";
    let twice = BASE64_STANDARD.encode(BASE64_STANDARD.encode(credential));
    let twice = twice.trim_end_matches('=');
    assert_eq!(twice, "TUVGZlJDMUJMVVIrUVRBdA");
    let secrets = secrets(&[credential]);
    for text in [twice.to_owned(), format!("https://{twice}.microsoft.com/")] {
        assert_eq!(secrets.message(&text).as_deref(), Some(REDACTED), "{text}");
    }
}

proptest! {
    /// No usable part of a credential is shown in the spelling that the server chose, in any field.
    #[test]
    fn no_spelling_of_a_credential_is_shown(
        credential in credentials(),
        spelling in select(&SPELLINGS[..]),
        cut in 0..100_usize,
    ) {
        let spelled = spelling(&credential);
        let secrets = secrets(&[&credential]);
        let text = format!("The request had {spelled} in it");
        let text: String = text.chars().skip(cut % 20).collect();
        let shown = [
            secrets.message(&text),
            secrets.message(&spelled),
            secrets.code(&spelled),
            secrets.request_id(&spelled),
            date(&spelled),
            Some(content_type(&format!("text/{spelled}")).to_owned()),
            format!("https://{spelled}.example/").parse().ok().map(|url| known_origin(&url)),
            format!("https://{}.microsoft.com/", fold(&spelled)).parse().ok().map(|url: Url| {
                secrets.message(url.as_str()).unwrap_or_default()
            }),
        ];
        let spelled = fold(&spelled);
        for shown in shown.iter().flatten().map(|shown| fold(shown)) {
            for part in spelled.as_bytes().windows(16).map(as_text) {
                prop_assert!(!shown.contains(&part), "{part:?} in {shown:?}");
            }
        }
    }
}
