//! Reads the tree into a type by serde.

use std::collections::HashSet;
use std::fmt::Display;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{
    DeserializeOwned, Deserializer, Error, Expected, IntoDeserializer, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;

use super::{Entry, Kind, Node, Value, parse};

/// The first error of a document. It shows no values, because a value may be a secret.
#[derive(Debug, thiserror::Error)]
#[error("line {}: {what}", .line.unwrap_or(1))]
pub struct ReadError {
    line: Option<usize>,
    what: String,
}

/// Reads a document. Returns `None` if it is empty.
pub(crate) fn read<T: DeserializeOwned>(text: &str) -> Result<Option<T>, ReadError> {
    let mut errors = Vec::new();
    let root = parse(text, &mut errors);
    match errors.into_iter().next() {
        Some((line, what)) => Err(ReadError { line, what }),
        None => root.map(T::deserialize).transpose(),
    }
}

impl ReadError {
    /// Sets the line of the error, unless the line of a nested value has already been set.
    fn on_line(mut self, line: usize) -> Self {
        self.line.get_or_insert(line);
        self
    }
}

impl Error for ReadError {
    fn custom<T: Display>(what: T) -> Self {
        let what = what.to_string();
        Self { line: None, what }
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::custom(format_args!("the value is not {expected}"))
    }

    fn invalid_value(value: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(value, expected)
    }
}

impl<'de> Deserializer<'de> for Node {
    type Error = ReadError;

    /// Reads a scalar of any kind, such as a number, as the text that the file contains.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let value = match self.value {
            Value::Null | Value::Invalid => visitor.visit_unit(),
            Value::Scalar(_, text) => visitor.visit_string(text),
            Value::List(items) => visitor.visit_seq(SeqDeserializer::new(items.into_iter())),
            Value::Map(entries) => {
                check_repeated(&entries)?;
                visitor.visit_map(MapDeserializer::new(entries.into_iter().map(pair)))
            }
        };
        value.map_err(|error| error.on_line(self.line))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    /// Reads the booleans of YAML 1.1, such as `yes` and `off`, because Prometheus' exporter-toolkit accepts them.
    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let word = match &self.value {
            Value::Scalar(_, text) => text.to_ascii_lowercase(),
            _ => String::new(),
        };
        match &*word {
            "true" | "yes" | "on" | "y" => visitor.visit_bool(true),
            "false" | "no" | "off" | "n" => visitor.visit_bool(false),
            _ => Err(ReadError::custom("the value is not true or false").on_line(self.line)),
        }
    }

    /// Rejects a list. Serde's derive would read the items as fields by their position, and leave missing fields at
    /// their defaults, so `[]` would switch off TLS.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match self.value {
            Value::List(_) => {
                Err(ReadError::invalid_type(Unexpected::Seq, &visitor).on_line(self.line))
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let number = match self.value {
            Value::Scalar(Kind::Number, text) => text.parse().ok(),
            _ => None,
        };
        let error = "the value is not a whole number from 0 to 4294967295";
        let number = number.ok_or_else(|| ReadError::custom(error).on_line(self.line));
        visitor.visit_u32(number?)
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct newtype_struct seq
        tuple tuple_struct map enum identifier ignored_any
    }
}

impl IntoDeserializer<'_, ReadError> for Node {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// The key and the value, each with its line.
fn pair(entry: Entry) -> (Node, Node) {
    let key = Node {
        line: entry.line,
        value: Value::Scalar(Kind::Text, entry.key),
    };
    (key, entry.node)
}

fn check_repeated(entries: &[Entry]) -> Result<(), ReadError> {
    let mut keys = HashSet::new();
    match entries.iter().find(|entry| !keys.insert(&entry.key)) {
        Some(entry) => {
            let what = format!("{:?} is given twice; remove one of them", entry.key);
            Err(ReadError::custom(what).on_line(entry.line))
        }
        None => Ok(()),
    }
}
