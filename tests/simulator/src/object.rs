//! JSON objects, field by field in the order of the documentation.

use std::fmt::{Display, Write as _};

use chrono::{DateTime, Datelike as _, Timelike as _, Utc};
use uuid::Uuid;

use super::people::User;

/// Writer of an object.
pub(super) struct Object(String);

impl Object {
    pub(super) fn new() -> Self {
        let mut text = String::with_capacity(CAPACITY);
        text.push('{');
        Self(text)
    }

    pub(super) fn text(self, name: &str, value: Option<&str>) -> Self {
        match value {
            None => self.plain(name, "null"),
            // Escaping is expensive and rarely needed.
            Some(value)
                if value
                    .bytes()
                    .all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') =>
            {
                self.plain(name, format_args!("\"{value}\""))
            }
            Some(value) => {
                let quoted = serde_json::to_string(value).expect("a text is always JSON");
                self.plain(name, quoted)
            }
        }
    }

    /// A number, a Boolean, or JSON text.
    pub(super) fn plain(mut self, name: &str, value: impl Display) -> Self {
        let comma = if self.0.len() > 1 { "," } else { "" };
        write!(self.0, "{comma}\"{name}\":{value}").expect("memory takes all");
        self
    }

    pub(super) fn number(self, name: &str, value: Option<impl Display>) -> Self {
        match value {
            None => self.plain(name, "null"),
            Some(value) => self.plain(name, value),
        }
    }

    pub(super) fn time(self, name: &str, time: DateTime<Utc>) -> Self {
        self.plain(
            name,
            format_args!(
                "\"{:04}-{:02}-{:02}T{:02}:{:02}:{:02}{}Z\"",
                time.year(),
                time.month(),
                time.day(),
                time.hour(),
                time.minute(),
                time.second(),
                Decimals(time.nanosecond())
            ),
        )
    }

    /// The three fields that name a user.
    pub(super) fn user(self, user: Option<&User>) -> Self {
        self.text("userId", user.map(|user| &*user.id))
            .text("userPrincipalName", user.map(|user| &*user.principal_name))
            .text("userDisplayName", user.map(|user| &*user.display_name))
    }

    /// The administrative units of a row.
    pub(super) fn units(self, units: &[Uuid]) -> Self {
        let units: Vec<String> = units
            .iter()
            .map(|unit| format!("{{\"id\":\"{unit}\"}}"))
            .collect();
        self.plain(
            "administrativeUnitInfos",
            format_args!("[{}]", units.join(",")),
        )
    }

    pub(super) fn close(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

/// The seven decimals without trailing zeros.
struct Decimals(u32);

impl Display for Decimals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut decimals = self.0 / 100;
        if decimals == 0 {
            return Ok(());
        }
        let mut width = 7;
        while decimals.is_multiple_of(10) {
            decimals /= 10;
            width -= 1;
        }
        write!(f, ".{decimals:0width$}")
    }
}

/// Slightly longer than a row of the widest log.
const CAPACITY: usize = 1_400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_by_table() {
        for (object, expected) in [
            (Object::new(), "{}"),
            (
                Object::new().text("a", Some("b")).text("c", None),
                r#"{"a":"b","c":null}"#,
            ),
            (Object::new().text("a", Some("\"\\\n")), r#"{"a":"\"\\\n"}"#),
            (
                Object::new().number("a", Some(7)).number("b", None::<u32>),
                r#"{"a":7,"b":null}"#,
            ),
            (
                Object::new().units(&[Uuid::nil()]),
                r#"{"administrativeUnitInfos":[{"id":"00000000-0000-0000-0000-000000000000"}]}"#,
            ),
        ] {
            assert_eq!(object.close(), expected);
        }
    }

    #[test]
    fn times_have_no_trailing_zeros() {
        for time in [
            "2019-11-01T00:00:08.2589935Z",
            "2019-11-01T00:00:25.105Z",
            "2019-11-01T00:00:25.0000001Z",
            "2019-11-01T00:00:25Z",
            "0001-01-01T00:00:00Z",
        ] {
            assert_eq!(
                Object::new().time("t", time.parse().unwrap()).close(),
                format!("{{\"t\":\"{time}\"}}")
            );
        }
    }
}
