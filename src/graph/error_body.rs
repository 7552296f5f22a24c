//! Error objects in JSON, in the body of an error response or within a page. Graph, Entra and gateways in front of them
//! send such objects.
//!
//! The documented form is `{"error":{"code","message","innerError":{"request-id","date"}}}`. Older `OData` services and
//! gateways write keys in another case, the message as an object with `value`, or the error as text. This module reads
//! all of these forms. See <https://learn.microsoft.com/graph/errors>.
//!
//! This module does not decide if a request is retried.

use serde::Deserialize as _;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::foreign::{self, Secrets};

/// An error object. Every part may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ErrorBody {
    pub(crate) code: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) request_id: Option<String>,
    pub(crate) date: Option<String>,
}

impl ErrorBody {
    /// Reads the body of an error response.
    pub(crate) fn parse(body: &[u8]) -> Option<Self> {
        let object = lenient(without_bom(body))?;
        let (_, error) = object.as_object()?.iter().find(|(key, _)| is_error(key))?;
        Some(Self::read(error))
    }

    /// Reads the value of a page's member `error`. Returns `None` if it is null, which does not count as an error.
    pub(crate) fn member(raw: &RawValue) -> Option<Self> {
        let raw = raw.get();
        match lenient(raw.as_bytes()) {
            Some(Value::Null) => None,
            Some(error) => Some(Self::read(&error)),
            None => Some(Self::default()),
        }
    }

    /// Finds the error that a server wrote into a page when the server could not continue the page.
    pub(crate) fn in_broken_page(body: &[u8]) -> Option<Self> {
        const KEY: &[u8] = b"error\"";
        // The last occurrence of the key, because the rows come before the error.
        let at = body.windows(KEY.len()).rposition(|bytes| bytes == KEY)?;
        let rest = body[at + KEY.len()..].trim_ascii_start();
        let value = rest.strip_prefix(b":")?;
        let raw = <&RawValue>::deserialize(&mut serde_json::Deserializer::from_slice(value));
        Self::member(raw.ok()?)
    }

    /// Returns the parts that can be shown, see [`foreign`]. If `hides_people` is true, replaces the message by a fixed
    /// text.
    pub(crate) fn shown(&self, secrets: &Secrets, hides_people: bool) -> Self {
        let message = self.message.as_deref();
        let message = message.and_then(|text| secrets.message(text));
        Self {
            code: self.code.as_deref().and_then(|text| secrets.code(text)),
            message: message.map(|text| {
                if hides_people {
                    HIDDEN.to_owned()
                } else {
                    text
                }
            }),
            request_id: self
                .request_id
                .as_deref()
                .and_then(|text| secrets.request_id(text)),
            date: self.date.as_deref().and_then(foreign::date),
        }
    }

    fn read(error: &Value) -> Self {
        let Value::Object(error) = error else {
            return Self {
                message: text(error),
                ..Self::default()
            };
        };
        let message = match member(error, &["message"]) {
            Some(Value::Object(message)) => member(message, &["value"]).and_then(text),
            message => message.and_then(text),
        };
        let inner = member(error, &["innererror"]).and_then(Value::as_object);
        let within = |names: &[&str]| {
            let places = inner.into_iter().chain([error]);
            places
                .filter_map(|place| member(place, names))
                .find_map(text)
        };
        Self {
            code: member(error, &["code"]).and_then(text),
            message,
            request_id: within(&["request-id", "requestid"]),
            date: within(&["date"]),
        }
    }
}

/// Returns the bytes without the byte order mark that some gateways send before JSON.
pub(crate) fn without_bom(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body)
}

/// Returns true if a JSON key is `error`, in upper or lower case and with any prefix such as `@odata.` or `odata.`.
pub(crate) fn is_error(key: &str) -> bool {
    last_segment(key).eq_ignore_ascii_case("error")
}

/// Returns the part of a JSON key after its `OData` prefixes.
pub(crate) fn last_segment(key: &str) -> &str {
    key.rsplit(['.', '@', ':']).next().unwrap_or(key)
}

/// Parses JSON. If that fails, replaces invalid UTF-8 and surrogate escapes and tries again, because a server can cut a
/// text within a character.
pub(crate) fn lenient(json: &[u8]) -> Option<Value> {
    if json.len() > BYTES_MAX {
        return None;
    }
    serde_json::from_slice(json).ok().or_else(|| {
        let mut json = String::from_utf8_lossy(json).into_owned().into_bytes();
        for at in 0..json.len().saturating_sub(5) {
            if let [
                b'\\',
                b'u',
                b'd' | b'D',
                b'8'..=b'9' | b'a'..=b'f' | b'A'..=b'F',
                _,
                _,
            ] = json[at..at + 6]
            {
                json[at + 2..at + 6].copy_from_slice(b"fffd");
            }
        }
        serde_json::from_slice(&json).ok()
    })
}

fn member<'v>(object: &'v Map<String, Value>, names: &[&str]) -> Option<&'v Value> {
    let known = |key: &String| names.iter().any(|name| key.eq_ignore_ascii_case(name));
    object
        .iter()
        .find_map(|(key, value)| known(key).then_some(value))
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Replaces a message if labels hide the names of people. A name in the message cannot be distinguished from other
/// words by its form, so the whole message is hidden.
const HIDDEN: &str = "[not shown, because labels.user hides names]";

/// Maximum bytes of an error object that is parsed. A real error object has a few hundred bytes, and a parsed value
/// takes many times the memory of its text.
const BYTES_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_objects_by_table() {
        let full = ["c", "m", "r", "d"];
        for (json, expected) in [
            (
                r#"{"error":{"code":"c","message":"m","innerError":{"request-id":"r","date":"d"}}}"#,
                full,
            ),
            (
                r#"{"error":{"code":"c","message":"m","innererror":{"request-id":"r","date":"d"}}}"#,
                full,
            ),
            (
                r#"{"Error":{"Code":"c","Message":"m","InnerError":{"Request-Id":"r","Date":"d"}}}"#,
                full,
            ),
            (
                r#"{"@odata.error":{"code":"c","message":{"lang":"en","value":"m"},"requestId":"r","date":"d"}}"#,
                full,
            ),
            (
                r#"{"odata.error":{"code":"c","message":"m","innerError":{},"request-id":"r","date":"d"}}"#,
                full,
            ),
            (
                "\u{feff}{\"error\":{\"code\":\"c\",\"message\":\"m\"}}",
                ["c", "m", "", ""],
            ),
            (r#"{"error":{"code":5,"message":null}}"#, ["5", "", "", ""]),
            (r#"{"error":"m"}"#, ["", "m", "", ""]),
            (
                r#"{"error":{"code":"c","message":"cut \ud83d"}}"#,
                ["c", "cut \u{fffd}", "", ""],
            ),
        ] {
            let error = ErrorBody::parse(json.as_bytes()).expect(json);
            let parts = [error.code, error.message, error.request_id, error.date];
            assert_eq!(parts.map(Option::unwrap_or_default), expected, "{json}");
        }
        for json in ["", "{}", "[]", r#"{"errors":[]}"#, "<html>", r#"{"error":"#] {
            assert_eq!(ErrorBody::parse(json.as_bytes()), None, "{json}");
        }
        let long = format!(r#"{{"error":"{}"}}"#, "x".repeat(BYTES_MAX));
        assert_eq!(ErrorBody::parse(long.as_bytes()), None);
    }

    #[test]
    fn error_in_a_broken_page_is_found() {
        let code = |body: &str| ErrorBody::in_broken_page(body.as_bytes())?.code;
        for (body, expected) in [
            (
                r#"{"value":[{"a":1}{"error":{"code":"TooManyRequests"}}"#,
                Some("TooManyRequests"),
            ),
            (r#"{"value":[{"error":{"code":"a"}},{"a":"#, Some("a")),
            (
                r#"{"value":[{"a":1},  "@odata.error" : {"code":"b"}"#,
                Some("b"),
            ),
            (r#"{"value":[{"a":1},{"error":{"code":"#, None),
            (r#"{"value":[{"a":1},"error":null"#, None),
            (r#"{"value":[{"a":"error"#, None),
            ("", None),
        ] {
            assert_eq!(code(body).as_deref(), expected, "{body}");
        }
    }
}
