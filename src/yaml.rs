//! A YAML document as a tree whose nodes have line numbers.
//!
//! The tree is built from the events of the parser instead of through serde, because serde stops at the first error and
//! reads `500.10` as a float. Scalars keep their literal text, and the core schema of YAML 1.2 decides their kind.
//! Anchors, aliases and tags are rejected: no setting needs them, and with aliases a small file becomes a large tree.

mod deserialize;

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput};

pub(crate) use deserialize::{ReadError, read};

/// Errors with their lines.
pub(crate) type Errors = Vec<(Option<usize>, String)>;

/// A value and its first line.
pub(crate) struct Node {
    pub(crate) line: usize,
    pub(crate) value: Value,
}

/// The value of a node.
pub(crate) enum Value {
    Null,
    Scalar(Kind, String),
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// Invalid; the error was already recorded.
    Invalid,
}

/// One key of a mapping, with its value. The tree may have duplicate keys. The reader of the mapping reports them,
/// because it knows the path of the mapping.
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) line: usize,
    pub(crate) node: Node,
}

/// The kind of a scalar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Number,
    Bool,
}

/// Parses a document. Returns `None` if the document is empty, or after recording a syntax error.
pub(crate) fn parse(text: &str, errors: &mut Errors) -> Option<Node> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let options = granit_parser::options! {
        emit_comments: false,
        emit_unresolved_aliases: true,
    };
    let mut builder = Builder {
        events: Parser::new_from_str_with_options(text, options),
        errors,
    };
    match builder.document() {
        Ok(root) => root,
        Err(error) => {
            errors.push((
                Some(error.marker().line()),
                format!(
                    "not YAML at column {}: {}; mind the indentation, the space after a colon and the quotes",
                    error.marker().col() + 1,
                    error.info()
                ),
            ));
            None
        }
    }
}

impl Value {
    /// Returns the kind of the value, for messages.
    pub(crate) fn called(&self) -> &'static str {
        match self {
            Self::Null | Self::Invalid => "nothing",
            Self::Scalar(Kind::Text, _) => "text",
            Self::Scalar(Kind::Number, _) => "a number",
            Self::Scalar(Kind::Bool, _) => "true or false",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

/// Returns true if the text is a decimal number of the core schema. Hexadecimal numbers and infinity count as text.
pub(crate) fn is_number(text: &str) -> bool {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = unsigned
        .split_once(['e', 'E'])
        .map_or((unsigned, None), |(mantissa, exponent)| {
            (mantissa, Some(exponent))
        });
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent_fits = exponent.is_none_or(|exponent| {
        let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !exponent.is_empty() && digits(exponent)
    });
    digits(whole) && digits(fraction) && whole.len() + fraction.len() > 0 && exponent_fits
}

/// Builds the tree from the parser's events. The parser limits the depth of nesting.
struct Builder<'input, 'errors> {
    events: Parser<'input, StrInput<'input>>,
    errors: &'errors mut Errors,
}

impl<'input> Builder<'input, '_> {
    fn document(&mut self) -> Result<Option<Node>, ScanError> {
        let mut root = None;
        while let Some((event, span)) = self.next()? {
            match event {
                Event::StreamEnd => break,
                Event::DocumentStart(..) if root.is_some() => {
                    let what =
                        "a second document begins; remove the line `---` and everything after it";
                    self.error(span.start.line(), what);
                    break;
                }
                Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
                event => root = Some(self.node(event, span)?),
            }
        }
        Ok(root.filter(|node| !matches!(node.value, Value::Null)))
    }

    fn node(&mut self, event: Event<'input>, span: Span) -> Result<Node, ScanError> {
        let line = span.start.line();
        let plain = self.is_plain(&event, line);
        let value = match event {
            Event::Scalar(text, style, ..) => scalar(&text, style),
            Event::SequenceStart(..) => Value::List(self.list()?),
            Event::MappingStart(..) => self.map()?.map_or(Value::Invalid, Value::Map),
            _ => Value::Invalid,
        };
        Ok(Node {
            line,
            value: if plain { value } else { Value::Invalid },
        })
    }

    /// Returns true if the event has no anchor, alias or tag. Otherwise records an error.
    fn is_plain(&mut self, event: &Event<'_>, line: usize) -> bool {
        let refused = if let Event::Alias(_) | Event::UnresolvedAlias(_) = event {
            "an alias is not supported; write the value itself"
        } else if event.anchor_id().is_some_and(|id| id > 0) {
            "an anchor is not supported; remove the word that begins with `&`"
        } else if event.tag().is_some() {
            "a tag is not supported; remove the word that begins with `!`"
        } else {
            return true;
        };
        self.error(line, refused);
        false
    }

    fn list(&mut self) -> Result<Vec<Node>, ScanError> {
        let mut list = Vec::new();
        while let Some((event, span)) = self.next()? {
            if matches!(event, Event::SequenceEnd) {
                break;
            }
            list.push(self.node(event, span)?);
        }
        Ok(list)
    }

    /// Reads the entries of a mapping. Returns `None` if the mapping merges another one with `<<`, because the keys of
    /// the other mapping would be reported as missing.
    fn map(&mut self) -> Result<Option<Vec<Entry>>, ScanError> {
        let mut map = Vec::new();
        let mut merges = false;
        while let Some((event, span)) = self.next()? {
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let key = match &event {
                Event::Scalar(text, ..) => Some(text.clone().into_owned()),
                _ => None,
            };
            let place = self.node(event, span)?;
            let Some((event, span)) = self.next()? else {
                break;
            };
            if key.as_deref() == Some("<<") {
                merges = true;
                self.error(place.line, MERGE);
                // Removes the errors in the value, because the value cannot be used anyway.
                let count = self.errors.len();
                self.node(event, span)?;
                self.errors.truncate(count);
                continue;
            }
            let node = self.node(event, span)?;
            match key {
                Some(key) => map.push(Entry {
                    key,
                    line: place.line,
                    node,
                }),
                None => self.error(place.line, "a key must be a word; remove this key"),
            }
        }
        Ok((!merges).then_some(map))
    }

    fn error(&mut self, line: usize, what: &str) {
        self.errors.push((Some(line), what.to_owned()));
    }

    fn next(&mut self) -> Result<Option<(Event<'input>, Span)>, ScanError> {
        self.events.next_event().transpose()
    }
}

const MERGE: &str = "`<<` is not supported; copy the keys of the other mapping here";

fn scalar(text: &str, style: ScalarStyle) -> Value {
    let kind = match text {
        _ if style != ScalarStyle::Plain => Kind::Text,
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => Kind::Bool,
        _ if is_number(text) => Kind::Number,
        _ => Kind::Text,
    };
    Value::Scalar(kind, text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_by_table() {
        for (text, good) in [
            ("0", true),
            ("-12", true),
            ("+1.50", true),
            (".5", true),
            ("5.", true),
            ("1e+06", true),
            ("1E6", true),
            ("", false),
            (".", false),
            ("-", false),
            ("1e", false),
            ("e1", false),
            ("1_000", false),
            ("0x1f", false),
            (".inf", false),
            ("1.2.3", false),
            ("٣", false),
        ] {
            assert_eq!(is_number(text), good, "{text:?}");
        }
    }
}
