//! From the tree to typed sections, going on after a mistake so that all of them are told at once.
//!
//! A section is declared once, by [`section!`]: from its fields come the keys that are known, the types they are read as
//! and the JSON schema. So the three cannot disagree.

use std::borrow::Cow;
use std::collections::HashMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::Mistakes;
use super::node::{Entry, Kind, Node, Value};

/// What can be read from a node.
pub(super) trait Read: Sized {
    /// Reads it; none where that is not possible, which has then been told.
    fn read(node: Node, at: &str, told: &mut Mistakes) -> Option<Self>;

    /// The JSON schema of what [`Read::read`] accepts.
    fn schema(generator: &mut SchemaGenerator) -> Schema;
}

/// What is written as one word or text.
pub(super) trait Scalar: Sized {
    /// With its article, as in “… is not a duration”.
    const WHAT: &'static str;
    /// What to do where it is not.
    const REMEDY: &'static str;
    /// The kinds that are accepted.
    const KINDS: &'static [Kind] = &[Kind::Text];
    /// Whether a message may repeat the value; not where a secret is easily pasted by mistake.
    const REPEATED: bool = true;
    /// Whether a number may have been meant, which quotes would make a text.
    const QUOTABLE: bool = false;

    fn parse(text: &str) -> Result<Self, Wrong>;

    fn schema() -> Schema;
}

/// Why a scalar is wrong.
#[derive(Debug)]
pub(super) enum Wrong {
    /// It is not what [`Scalar::WHAT`] says.
    Kind,
    /// It is, but not a good one: what is wrong and what to do.
    Because(String),
}

/// The value of a key, or an item of a list.
#[derive(Default)]
pub(super) enum Field<T> {
    /// The key is not there.
    #[default]
    Absent,
    /// It is there on this line, with a mistake that has been told.
    Bad(usize),
    /// It is there on this line.
    Good(usize, T),
}

/// Declares a section of the file: a mapping whose keys are the names of the fields.
macro_rules! section {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* }) => {
        #[derive(Default, schemars::JsonSchema)]
        #[schemars(default, deny_unknown_fields)]
        $(#[$meta])*
        pub(super) struct $name {
            $($(#[$field_meta])* pub(super) $field: $crate::config::read::Field<$type>,)*
        }

        impl $crate::config::read::Read for $name {
            fn read(
                node: $crate::config::node::Node,
                at: &str,
                told: &mut $crate::config::Mistakes,
            ) -> Option<Self> {
                let mut section = Self::default();
                for entry in $crate::config::read::entries(node, at, told)? {
                    match entry.key.as_str() {
                        $(stringify!($field) => {
                            section.$field = $crate::config::read::Field::of(entry, at, told);
                        })*
                        _ => $crate::config::read::unknown(&entry, at, &[$(stringify!($field)),*], told),
                    }
                }
                Some(section)
            }

            fn schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                generator.subschema_for::<Self>()
            }
        }
    };
}
pub(super) use section;

/// The entries of a mapping, each key once.
pub(super) fn entries(node: Node, at: &str, told: &mut Mistakes) -> Option<Vec<Entry>> {
    let Value::Map(mut entries) = node.value else {
        let remedy = "write its keys below it, indented, each as `key: value`";
        wrong_type(&node, at, "a mapping", remedy, told);
        return None;
    };
    let mut first: HashMap<String, usize> = HashMap::new();
    entries.retain(|entry| {
        let Some(line) = first.insert(entry.key.clone(), entry.line) else {
            return true;
        };
        let text = format!(
            "{}: already given on line {line}; remove one of them",
            place(at, &entry.key)
        );
        told.tell(entry.line, text);
        false
    });
    Some(entries)
}

/// Tells of a key that is not known here.
pub(super) fn unknown(entry: &Entry, at: &str, known: &[&str], told: &mut Mistakes) {
    // An anchor or an alias there has been told, and the key is only its place.
    if matches!(entry.node.value, Value::Refused) {
        return;
    }
    let secret = SECRETS.contains(&&*entry.key) && known.contains(&SECRET_FILE);
    let remedy = match nearest(&entry.key, known) {
        _ if secret => format!(
            "a secret has no place in this file; write it into a file that only the exporter's user can read, and give the path of that as {SECRET_FILE}"
        ),
        Some(known) => format!("did you mean {known}?"),
        None => format!("known here: {}", known.join(", ")),
    };
    told.tell(
        entry.line,
        if secret {
            format!("{}: {remedy}", place(at, &entry.key))
        } else {
            format!("{}: unknown key; {remedy}", place(at, &entry.key))
        },
    );
}

/// Parses one of a closed set of words.
pub(super) fn one_of<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, Wrong> {
    if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == text) {
        return Ok(*choice);
    }
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    Err(Wrong::Because(match nearest(text, &names) {
        Some(name) => format!("unknown value {}; did you mean {name}?", repeated(text)),
        None => format!(
            "unknown value {}; choose from {}",
            repeated(text),
            names.join(", ")
        ),
    }))
}

/// Where a key is, as messages name it: `tenants[0].client_id`.
pub(super) fn place(at: &str, key: &str) -> String {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let key: Cow<'_, str> = if key.len() <= REPEATED_MAX && key.chars().all(word) {
        key.into()
    } else {
        repeated(key).into()
    };
    if at.is_empty() {
        key.into_owned()
    } else {
        format!("{at}.{key}")
    }
}

impl<T> Field<T> {
    /// The line, where the key is there.
    pub(super) fn line(&self) -> Option<usize> {
        match self {
            Self::Absent => None,
            Self::Bad(line) | Self::Good(line, _) => Some(*line),
        }
    }

    /// Whether the key is not there, neither well nor badly.
    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    /// The line and the value, where it is good.
    pub(super) fn good(self) -> Option<(usize, T)> {
        match self {
            Self::Good(line, value) => Some((line, value)),
            _ => None,
        }
    }

    /// The value, where it is good.
    pub(super) fn value(self) -> Option<T> {
        self.good().map(|(_, value)| value)
    }

    /// The value, where it is good.
    pub(super) fn as_ref(&self) -> Option<&T> {
        match self {
            Self::Good(_, value) => Some(value),
            _ => None,
        }
    }
}

impl<T: Read> Field<T> {
    pub(super) fn of(entry: Entry, at: &str, told: &mut Mistakes) -> Self {
        let mut node = entry.node;
        // The line of a list or a mapping is that of its first line, which says more than the line of its key.
        if !matches!(node.value, Value::List(_) | Value::Map(_)) {
            node.line = entry.line;
        }
        Self::from_node(node, &place(at, &entry.key), told)
    }

    fn from_node(node: Node, at: &str, told: &mut Mistakes) -> Self {
        let line = node.line;
        match T::read(node, at, told) {
            Some(value) => Self::Good(line, value),
            None => Self::Bad(line),
        }
    }
}

impl<T: Read> JsonSchema for Field<T> {
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

impl<T: Read> Read for Vec<Field<T>> {
    fn read(node: Node, at: &str, told: &mut Mistakes) -> Option<Self> {
        let Value::List(items) = node.value else {
            let remedy = "write one item per line, each after a dash";
            wrong_type(&node, at, "a list", remedy, told);
            return None;
        };
        Some(
            items
                .into_iter()
                .enumerate()
                .map(|(index, item)| Field::from_node(item, &format!("{at}[{index}]"), told))
                .collect(),
        )
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let items = T::schema(generator);
        json_schema!({ "type": "array", "items": items })
    }
}

impl<T: Scalar> Read for T {
    fn read(node: Node, at: &str, told: &mut Mistakes) -> Option<Self> {
        let text = match &node.value {
            Value::Scalar(kind, text) if T::KINDS.contains(kind) => text,
            Value::Scalar(..) if T::QUOTABLE => {
                wrong_type(&node, at, "text", "put it in quotes", told);
                return None;
            }
            value => {
                match in_braces(value).map(|text| T::parse(&text)) {
                    Some(Err(Wrong::Because(what))) => {
                        told.tell(node.line, format!("{at}: {what}"));
                    }
                    _ => wrong_type(&node, at, T::WHAT, T::REMEDY, told),
                }
                return None;
            }
        };
        let what = match T::parse(text) {
            Ok(value) => return Some(value),
            Err(wrong) => wrong.told_of::<T>(text),
        };
        told.tell(node.line, format!("{at}: {what}"));
        None
    }

    fn schema(_generator: &mut SchemaGenerator) -> Schema {
        <T as Scalar>::schema()
    }
}

impl Wrong {
    /// The message about `text`.
    pub(super) fn told_of<T: Scalar>(self, text: &str) -> String {
        match self {
            Self::Kind if T::REPEATED => {
                format!("{} is not {}; {}", repeated(text), T::WHAT, T::REMEDY)
            }
            Self::Kind => format!("the value is not {}; {}", T::WHAT, T::REMEDY),
            Self::Because(what) => what,
        }
    }
}

/// What was meant to be text in braces, which YAML reads as a mapping with one key.
fn in_braces(value: &Value) -> Option<String> {
    match value {
        Value::Map(entries) => match entries.as_slice() {
            [entry] if matches!(entry.node.value, Value::Null) => {
                Some(format!("{{{}}}", entry.key))
            }
            _ => None,
        },
        _ => None,
    }
}

fn wrong_type(node: &Node, at: &str, what: &str, remedy: &str, told: &mut Mistakes) {
    let at = if at.is_empty() { "the file" } else { at };
    let text = match node.value {
        Value::Refused => return,
        Value::Null => format!("{at}: no value; {remedy}, or remove it"),
        _ => format!("{at}: {} is not {what}; {remedy}", node.value.called()),
    };
    told.tell(node.line, text);
}

/// A value in quotes, control characters escaped, cut where it is long.
pub(super) fn repeated(text: &str) -> String {
    let cut: String = text.chars().take(REPEATED_MAX).collect();
    let dots = if cut.len() < text.len() { "…" } else { "" };
    format!("{:?}", cut + dots)
}

/// The known name that was probably meant.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let name: String = name.chars().take(REPEATED_MAX).collect();
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

/// Keys under which people look for the secret itself, and the one that there is.
const SECRETS: [&str; 4] = ["client_secret", "client_secret_value", "secret", "password"];
const SECRET_FILE: &str = "client_secret_file";

/// A message is one line of a terminal, not a copy of the file.
const REPEATED_MAX: usize = 60;

/// From here on two names look like a slip of the keyboard; found by trying.
const LIKENESS_MIN: f64 = 0.85;
