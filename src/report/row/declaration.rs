//! The declaration of a row, and how its properties are found by their names.
//!
//! Serde's derive is not used, because its code returns each row by value through several functions. These copies took
//! a tenth of the time for a page.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use super::PropertyName;

/// Declares the type `Row` of a report with the properties that Graph documents, in Graph's order. For a log, also
/// declares the labels of a row.
///
/// The declaration has the name of a property in snake case; Graph writes it in camel case. The kind of a property is
/// `Text`, `Shown`, `Number` or `Option<bool>`. A property without a kind is not read. A property may be null or
/// missing. Properties that are not declared are ignored. Each property with a kind is also a method that returns a
/// `Property`, the value with its name. The names of all declared properties become the constant `PROPERTIES`. Every
/// row has a person. The method `person` returns the id and the names of this person.
///
/// Labels are declared in the order of their names, each with its exposed name and an expression for its value. They
/// become the constant `LABELS` and the method `labels`, which adds empty labels up to the number of labels of a
/// record.
macro_rules! row {
    (
        $(#[$doc:meta])*
        Row<'a> { $($property:ident $(: $kind:ty)?,)* }
        $(labels($row:ident, $notes:ident) { $($label:ident: $value:expr,)* })?
    ) => {
        $(#[$doc])*
        #[derive(Default)]
        pub struct Row<'a> {
            $($($property: $kind,)?)*
        }

        impl<'a> Row<'a> {
            const PROPERTIES: &'static [&'static str] = &[$(stringify!($property)),*];

            $($(fn $property(&self) -> $crate::report::row::Property<'_, $kind> {
                $crate::report::row::Property::new(stringify!($property), &self.$property)
            })?)*

            /// Id, user principal name and display name of the person; each may be empty.
            fn person(
                &self,
                notes: &mut $crate::report::row::Notes,
            ) -> Result<[&str; 3], $crate::report::row::RowError> {
                let names = [self.user_principal_name(), self.user_display_name()];
                let [principal_name, display_name] = names.map(|name| name.shown(notes));
                Ok([self.user_id().text()?, principal_name, display_name])
            }
        }

        impl<'de: 'a, 'a> serde::Deserialize<'de> for Row<'a> {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::report::row::read(deserializer)
            }
        }

        impl<'de: 'a, 'a> $crate::report::row::Properties<'de> for Row<'a> {
            const PROPERTIES: &'static [&'static str] = Self::PROPERTIES;

            fn position(key: &str) -> usize {
                let mut position = 0;
                $(
                    let (length, name) = const { $crate::report::row::camel_case(stringify!($property)) };
                    if *key.as_bytes() == name[..length] {
                        return position;
                    }
                    position += 1;
                )*
                position
            }

            fn read<A: serde::de::MapAccess<'de>>(&mut self, position: usize, map: &mut A) -> Result<bool, A::Error> {
                let mut positions = 0..;
                $(if positions.next() == Some(position) {
                    $(
                        self.$property = map.next_value::<$kind>()?;
                        return Ok(true);
                    )?
                })*
                Ok(false)
            }
        }

        $(impl Row<'_> {
            const LABELS: &'static [&'static str] = &[$(stringify!($label)),*];

            fn labels<'r, const MAX: usize>(
                &'r self,
                $notes: &mut $crate::report::row::Notes,
            ) -> Result<[std::borrow::Cow<'r, str>; MAX], $crate::report::row::RowError> {
                let $row = self;
                Ok($crate::report::row::padded([$(std::borrow::Cow::from($value)),*]))
            }
        })?
    };
}

pub(crate) use row;

/// Access to the properties of a row by their position in the declaration.
pub(crate) trait Properties<'de>: Default {
    /// The names of the properties in snake case.
    const PROPERTIES: &'static [&'static str];

    /// The position of the property with this key, or the number of properties if no property has this key.
    fn position(key: &str) -> usize;

    /// Reads the value of the property at `position`. If the property has no kind, returns false and does not read the
    /// value.
    fn read<A: MapAccess<'de>>(&mut self, position: usize, map: &mut A) -> Result<bool, A::Error>;
}

pub(crate) fn read<'de, R: Properties<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<R, D::Error> {
    let mut row = R::default();
    deserializer.deserialize_map(RowVisitor(&mut row))?;
    Ok(row)
}

/// The length and the bytes of the name of a property in camel case, as Graph writes it.
pub(crate) const fn camel_case(snake_case: &str) -> (usize, [u8; NAME_MAX]) {
    let snake_case = snake_case.as_bytes();
    let (mut length, mut name, mut index) = (0, [0; NAME_MAX], 0);
    while index < snake_case.len() {
        let is_start = snake_case[index] == b'_';
        if is_start {
            index += 1;
        }
        name[length] = if is_start {
            snake_case[index].to_ascii_uppercase()
        } else {
            snake_case[index]
        };
        length += 1;
        index += 1;
    }
    (length, name)
}

struct RowVisitor<'r, R>(&'r mut R);

impl<'de, R: Properties<'de>> Visitor<'de> for RowVisitor<'_, R> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a row, which is an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        // `seen` has a bit for each property, and one bit for all other keys.
        const { assert!(R::PROPERTIES.len() < 64) };
        let mut seen = 0_u64;
        while let Some(position) = map.next_key_seed(Key::<R>(PhantomData))? {
            if !self.0.read(position, &mut map)? {
                map.next_value::<IgnoredAny>()?;
            } else if seen >> position & 1 == 1 {
                let name = PropertyName::new(R::PROPERTIES[position]);
                return Err(A::Error::custom(format_args!("duplicate field `{name}`")));
            }
            seen |= 1 << position;
        }
        Ok(())
    }
}

/// Reads a key as the position of its property.
struct Key<R>(PhantomData<R>);

impl<'de, R: Properties<'de>> DeserializeSeed<'de> for Key<R> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, key: D) -> Result<usize, D::Error> {
        key.deserialize_identifier(self)
    }
}

impl<'de, R: Properties<'de>> Visitor<'de> for Key<R> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a property")
    }

    #[inline]
    fn visit_str<E>(self, key: &str) -> Result<usize, E> {
        Ok(R::position(key))
    }
}

/// Maximum length of the name of a property in bytes.
const NAME_MAX: usize = 40;

#[cfg(test)]
mod tests {
    use crate::report::{call_log, direct_routing};

    #[test]
    fn rows_by_table() {
        for (json, expected) in [
            ("{}", "ok"),
            (r#"{"x":{"userId":1},"":[],"user_id":1}"#, "ok"),
            (r#"{"callId":"a","callId":1,"duration":null}"#, "ok"),
            (r#"{"userId":1}"#, "expected text"),
            (
                r#"{"userId":"a","id":"","userId":"b"}"#,
                "duplicate field `userId`",
            ),
            (
                r#"{"connectionCharge":1,"connectionCharge":1}"#,
                "duplicate field `connectionCharge`",
            ),
            ("[]", "expected a row, which is an object"),
            ("null", "expected a row, which is an object"),
            (r#"{"id":"a""#, "EOF"),
        ] {
            let row: Result<call_log::Row<'_>, _> = serde_json::from_str(json);
            let row = row.map_or_else(|error| error.to_string(), |_| "ok".to_owned());
            assert!(row.contains(expected), "{json}: {row}");
        }
        let long = r#"{"trunkFullyQualifiedDomainName":1}"#;
        assert!(serde_json::from_str::<direct_routing::Row<'_>>(long).is_err());
    }
}
