//! Reads the YAML tree into typed sections. Reading continues after an error, so that all errors are reported together.
//!
//! [`section!`] declares a section once. The known keys, their types and the JSON schema are all derived from the
//! fields of the section, so they cannot disagree.

use std::borrow::Cow;
use std::collections::HashMap;

use schemars::transform::Transform;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::ConfigErrors;
use crate::yaml::{Entry, Kind, Node, Value};

/// A type that can be read from a node.
pub(super) trait FromNode: Sized {
    /// Reads the node. Returns `None` after recording an error.
    fn from_node(node: Node, at: &str, errors: &mut ConfigErrors) -> Option<Self>;

    /// Returns the JSON schema of the values that [`FromNode::from_node`] accepts.
    fn schema(generator: &mut SchemaGenerator) -> Schema;
}

/// A type that is written as a scalar.
pub(super) trait Scalar: Sized {
    /// Name of the type with its article, as in “… is not a duration”.
    const EXPECTED: &'static str;
    /// Remedy for a value that is not of this type.
    const HINT: &'static str;
    /// The kinds of YAML scalars that the type accepts.
    const KINDS: &'static [Kind] = &[Kind::Text];
    /// True if messages quote the value. False if users may paste a secret here by mistake.
    const ECHO_VALUE: bool = true;
    /// True if the remedy for a number or a boolean is to put it in quotes.
    const HINT_QUOTES: bool = false;

    fn parse(text: &str) -> Result<Self, Wrong>;

    fn schema() -> Schema;
}

/// Reason why a scalar is invalid.
#[derive(Debug)]
pub(super) enum Wrong {
    /// The text does not have the form that [`Scalar::EXPECTED`] names.
    Kind,
    /// The text is invalid for another reason. The string has the cause and the remedy.
    Because(String),
}

/// The place of a value in the file, for messages.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) line: usize,
    /// The path of the key, such as `tenants[0].client_id`.
    pub(super) path: String,
}

/// The value of a key, or an item of a list.
#[derive(Default)]
pub(super) enum Field<T> {
    /// The key is missing.
    #[default]
    Missing,
    /// The value is invalid; the error was already recorded.
    Invalid(Place),
    Set(Place, T),
}

/// A section that also has a short form, in which the value of its most important key replaces the mapping.
pub(super) trait Abbreviated: FromNode {
    /// The type of the most important key.
    type Short: FromNode;

    /// Returns the section in which only the most important key is set.
    fn from_short(value: Field<Self::Short>) -> Self;
}

/// A section in its full or its short form.
pub(super) struct Either<S>(pub(super) S);

impl<S: Abbreviated> FromNode for Either<S> {
    fn from_node(node: Node, at: &str, errors: &mut ConfigErrors) -> Option<Self> {
        let section = if matches!(node.value, Value::Map(_)) {
            S::from_node(node, at, errors)?
        } else {
            S::from_short(Field::read_node(node, at.to_owned(), errors))
        };
        Some(Self(section))
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let forms = [S::Short::schema(generator), S::schema(generator)];
        json_schema!({ "anyOf": forms })
    }
}

/// Declares a section of the file: a mapping whose keys are the names of the fields. `= required(REMEDY)`
/// makes a missing key an error with this remedy.
macro_rules! section {
    ($(#[$meta:meta])* $name:ident {
        $($(#[$field_meta:meta])* $field:ident: $type:ty $(= required($remedy:expr))?,)*
    }) => {
        #[derive(Default, schemars::JsonSchema)]
        #[schemars(default, deny_unknown_fields)]
        #[schemars(transform = $crate::config::read::required(&[
            $($((stringify!($field), $remedy),)?)*
        ]))]
        $(#[$meta])*
        pub(super) struct $name {
            $($(#[$field_meta])* pub(super) $field: $crate::config::read::Field<$type>,)*
        }

        impl $crate::config::read::FromNode for $name {
            fn from_node(
                node: $crate::yaml::Node,
                at: &str,
                errors: &mut $crate::config::ConfigErrors,
            ) -> Option<Self> {
                let line = node.line;
                let mut section = Self::default();
                for entry in $crate::config::read::entries(node, at, errors)? {
                    match entry.key.as_str() {
                        $(stringify!($field) => {
                            section.$field = $crate::config::read::Field::from_entry(entry, at, errors);
                        })*
                        _ => $crate::config::read::unknown(&entry, at, &[$(stringify!($field)),*], errors),
                    }
                }
                $crate::config::read::check_required(
                    &[$($((stringify!($field), $remedy, section.$field.is_missing()),)?)*],
                    line,
                    at,
                    errors,
                );
                Some(section)
            }

            fn schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                generator.subschema_for::<Self>()
            }
        }
    };
}
pub(super) use section;

/// Adds the required keys of a section to its JSON schema. The remedies are ignored. They are passed because
/// [`section!`] recognizes a required key by its remedy.
pub(super) fn required(keys: &[(&str, &str)]) -> impl Transform {
    move |schema: &mut Schema| {
        if !keys.is_empty() {
            let keys = keys.iter().map(|(key, _)| *key).collect();
            schema.insert("required".to_owned(), keys);
        }
    }
}

/// Records an error for each missing key. An item has a required key, its remedy, and true if the key is missing.
pub(super) fn check_required(
    keys: &[(&str, &str, bool)],
    line: usize,
    at: &str,
    errors: &mut ConfigErrors,
) {
    for (key, remedy, _) in keys.iter().filter(|(.., is_missing)| *is_missing) {
        errors.push(line, format!("{at}: no {key}; {remedy}"));
    }
}

/// Returns the entries of a mapping without duplicate keys, and records an error for each duplicate.
pub(super) fn entries(node: Node, at: &str, errors: &mut ConfigErrors) -> Option<Vec<Entry>> {
    let Value::Map(mut entries) = node.value else {
        let remedy = "write its keys below it, indented, each as `key: value`";
        wrong_type(&node, at, "a mapping", remedy, errors);
        return None;
    };
    let mut first: HashMap<String, usize> = HashMap::new();
    entries.retain(|entry| {
        let Some(line) = first.insert(entry.key.clone(), entry.line) else {
            return true;
        };
        let text = format!(
            "{}: already given on line {line}; remove one of them",
            path_of(at, &entry.key)
        );
        errors.push(entry.line, text);
        false
    });
    Some(entries)
}

/// Records an error for an unknown key.
pub(super) fn unknown(entry: &Entry, at: &str, known: &[&str], errors: &mut ConfigErrors) {
    // The error about the value (an anchor, an alias, a tag or `<<`) was already recorded. The key gets no second
    // error, because often an unknown key exists only to define an anchor.
    if matches!(entry.node.value, Value::Invalid) {
        return;
    }
    let secret = SECRETS.contains(&&*entry.key) && known.contains(&SECRET_FILE);
    let what = match nearest(&entry.key, known) {
        _ if secret => format!(
            "this file must not contain secrets; write the secret into a file that only the exporter's user can read, and set {SECRET_FILE} to the path of that file"
        ),
        Some(known) => format!("unknown key; did you mean {known}?"),
        None => format!("unknown key; known here: {}", known.join(", ")),
    };
    errors.push(entry.line, format!("{}: {what}", path_of(at, &entry.key)));
}

/// Parses one of a fixed set of words.
pub(super) fn one_of<T: Clone>(text: &str, choices: &[(&str, T)]) -> Result<T, Wrong> {
    if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == text) {
        return Ok(choice.clone());
    }
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    Err(Wrong::Because(match nearest(text, &names) {
        Some(name) => format!("unknown value {}; did you mean {name}?", quote_value(text)),
        None => format!(
            "unknown value {}; choose from {}",
            quote_value(text),
            names.join(", ")
        ),
    }))
}

/// Returns the path of a key for messages, such as `tenants[0].client_id`.
fn path_of(at: &str, key: &str) -> String {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let key: Cow<'_, str> = if key.len() <= QUOTED_MAX && key.chars().all(word) {
        key.into()
    } else {
        quote_value(key).into()
    };
    if at.is_empty() {
        key.into_owned()
    } else {
        format!("{at}.{key}")
    }
}

impl<T> Field<T> {
    /// Returns the place, if the key is present.
    pub(super) fn place(&self) -> Option<&Place> {
        match self {
            Self::Missing => None,
            Self::Invalid(place) | Self::Set(place, _) => Some(place),
        }
    }

    pub(super) fn line(&self) -> Option<usize> {
        self.place().map(|place| place.line)
    }

    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Missing)
    }

    /// Returns the place and the value, if the value is valid.
    pub(super) fn set(self) -> Option<(Place, T)> {
        match self {
            Self::Set(place, value) => Some((place, value)),
            _ => None,
        }
    }

    /// The value, if it is valid.
    pub(super) fn value(self) -> Option<T> {
        self.set().map(|(_, value)| value)
    }

    pub(super) fn as_ref(&self) -> Option<&T> {
        match self {
            Self::Set(_, value) => Some(value),
            _ => None,
        }
    }
}

impl<T: FromNode> Field<T> {
    pub(super) fn from_entry(entry: Entry, at: &str, errors: &mut ConfigErrors) -> Self {
        let mut node = entry.node;
        // For a list or a mapping, errors name the line of its first item, which is more exact than the line of the
        // key.
        if !matches!(node.value, Value::List(_) | Value::Map(_)) {
            node.line = entry.line;
        }
        Self::read_node(node, path_of(at, &entry.key), errors)
    }

    fn read_node(node: Node, path: String, errors: &mut ConfigErrors) -> Self {
        let line = node.line;
        match T::from_node(node, &path, errors) {
            Some(value) => Self::Set(Place { line, path }, value),
            None => Self::Invalid(Place { line, path }),
        }
    }
}

impl<T: FromNode> JsonSchema for Field<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Field".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::schema(generator)
    }
}

impl<T: FromNode> FromNode for Vec<Field<T>> {
    fn from_node(node: Node, at: &str, errors: &mut ConfigErrors) -> Option<Self> {
        let Value::List(items) = node.value else {
            let remedy = "write one item per line, each after a dash";
            wrong_type(&node, at, "a list", remedy, errors);
            return None;
        };
        let read = |(index, item)| Field::read_node(item, format!("{at}[{index}]"), errors);
        Some(items.into_iter().enumerate().map(read).collect())
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let items = T::schema(generator);
        json_schema!({ "type": "array", "items": items })
    }
}

impl<T: Scalar> FromNode for T {
    fn from_node(node: Node, at: &str, errors: &mut ConfigErrors) -> Option<Self> {
        let text = match &node.value {
            Value::Scalar(kind, text) if T::KINDS.contains(kind) => text,
            Value::Scalar(..) if T::HINT_QUOTES => {
                wrong_type(&node, at, "text", "put it in quotes", errors);
                return None;
            }
            value => {
                match in_braces(value).map(|text| T::parse(&text)) {
                    Some(Err(Wrong::Because(what))) => {
                        errors.push(node.line, format!("{at}: {what}"));
                    }
                    _ => wrong_type(&node, at, T::EXPECTED, T::HINT, errors),
                }
                return None;
            }
        };
        let what = match T::parse(text) {
            Ok(value) => return Some(value),
            Err(wrong) => wrong.message::<T>(text),
        };
        errors.push(node.line, format!("{at}: {what}"));
        None
    }

    fn schema(_generator: &mut SchemaGenerator) -> Schema {
        <T as Scalar>::schema()
    }
}

impl Wrong {
    /// Returns the message about the invalid `text`.
    pub(super) fn message<T: Scalar>(self, text: &str) -> String {
        match self {
            Self::Kind if T::ECHO_VALUE => {
                format!("{} is not {}; {}", quote_value(text), T::EXPECTED, T::HINT)
            }
            Self::Kind => format!("the value is not {}; {}", T::EXPECTED, T::HINT),
            Self::Because(what) => what,
        }
    }
}

/// Returns the original text if it was written in braces, which YAML reads as a mapping with one key.
fn in_braces(value: &Value) -> Option<String> {
    let Value::Map(entries) = value else {
        return None;
    };
    match &entries[..] {
        [entry] if matches!(entry.node.value, Value::Null) => Some(format!("{{{}}}", entry.key)),
        _ => None,
    }
}

fn wrong_type(node: &Node, at: &str, what: &str, remedy: &str, errors: &mut ConfigErrors) {
    let at = if at.is_empty() { "the file" } else { at };
    let text = match node.value {
        Value::Invalid => return,
        Value::Null => format!("{at}: no value; {remedy}, or remove it"),
        _ => format!("{at}: {} is not {what}; {remedy}", node.value.called()),
    };
    errors.push(node.line, text);
}

/// Returns the value in quotes, with control characters escaped. A long value is truncated.
pub(super) fn quote_value(text: &str) -> String {
    let cut: String = text.chars().take(QUOTED_MAX).collect();
    let dots = if cut.len() < text.len() { "…" } else { "" };
    format!("{:?}", cut + dots)
}

/// Returns the known name that is most similar, if it is similar enough.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let name: String = name.chars().take(QUOTED_MAX).collect();
    let name = name.to_ascii_lowercase().replace('-', "_");
    known
        .iter()
        .map(|known| {
            let likeness = strsim::jaro_winkler(&name, &known.replace('-', "_"));
            (likeness, *known)
        })
        .filter(|(likeness, _)| *likeness > LIKENESS_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known)
}

/// Unsupported keys under which users often write the secret itself.
const SECRETS: [&str; 4] = ["client_secret", "client_secret_value", "secret", "password"];
const SECRET_FILE: &str = "client_secret_file";

/// Maximum characters of a quoted value, so that a message fits on a line of a terminal.
const QUOTED_MAX: usize = 60;

/// Minimum similarity of a typing error to a known name; found by experiment.
const LIKENESS_MIN: f64 = 0.85;
