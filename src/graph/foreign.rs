//! Redaction of server text before log lines and web pages show it. Only words of a known form are shown, and
//! credentials are hidden even if the server encodes them.
//!
//! A server can repeat the credentials that it received: the bearer token, the client secret, an assertion. It can
//! encode them, split them, or put them into a field that has another purpose. No search can find every encoding. So a
//! word is shown only if it has the form of a word in ordinary error messages. The remaining text is compared with the
//! credentials themselves, because a credential can consist of ordinary words.

use std::borrow::Cow;
use std::collections::{HashSet, VecDeque};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use chrono::{NaiveDate, NaiveDateTime, NaiveTime};
use parking_lot::Mutex;
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;
use uuid::fmt::Hyphenated;
use uuid::{Uuid, Variant};
use zeroize::Zeroizing;

use crate::chain::one_line;

/// Credentials that are redacted in texts of a server.
#[derive(Debug, Default)]
pub(crate) struct Secrets {
    /// Credentials that never change, such as the password for the proxy.
    fixed: Vec<SecretString>,
    /// The credentials that were sent or received most recently.
    latest: Mutex<VecDeque<SecretString>>,
}

impl Secrets {
    /// Creates the set from secrets that never change.
    pub(crate) fn new(fixed: Vec<SecretString>) -> Self {
        Self {
            fixed,
            latest: Mutex::default(),
        }
    }

    /// Adds a credential. If there are more than [`SECRETS_MAX`], removes the oldest.
    pub(crate) fn add(&self, secret: &SecretString) {
        let mut secrets = self.latest.lock();
        secrets.retain(|known| known.expose_secret() != secret.expose_secret());
        if secrets.len() == SECRETS_MAX {
            secrets.pop_front();
        }
        secrets.push_back(secret.clone());
    }

    /// Returns an error code, if it is one ordinary word without a part of a credential.
    pub(crate) fn code(&self, text: &str) -> Option<String> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let is_code = is_identifier(text) && text.chars().all(is_part);
        (is_code && self.repeated(text).is_empty()).then(|| text.to_owned())
    }

    /// Returns a request id, if it is a UUID like Microsoft's ids, and if neither its digits nor its bytes contain a
    /// part of a credential.
    pub(crate) fn request_id(&self, text: &str) -> Option<String> {
        let id = Uuid::try_parse(text).ok()?;
        let digits = id.simple().to_string();
        let reversed: String = digits.chars().rev().collect();
        let digits = [digits.as_bytes(), reversed.as_bytes()];
        let latest = self.latest.lock();
        let mut secrets = self.fixed.iter().chain(latest.iter());
        let is_shown = id.get_variant() == Variant::RFC4122
            && !secrets.any(|secret| {
                let secret = secret.expose_secret();
                has_digits_of(digits, secret) || has_bytes_of(&id, secret)
            });
        is_shown.then(|| id.to_string())
    }

    /// Returns a message on one line of limited length, or `None` if the message is empty. [`REDACTED`] replaces mail
    /// addresses, telephone numbers, parts of credentials, and other words without an ordinary form.
    pub(crate) fn message(&self, text: &str) -> Option<String> {
        let text: Cow<'_, str> = if text.len() > READ_MAX {
            Cow::Owned(text.chars().take(READ_MAX).collect())
        } else {
            Cow::Borrowed(text)
        };
        let words: Vec<&str> = text
            .split(|c: char| c.is_whitespace() || c.is_control())
            .filter(|word| !word.is_empty())
            .collect();
        let mut shown = words.iter().map(|word| ordinary(word)).collect::<Vec<_>>();
        redact_numbers(&mut shown);
        let repeated = self.repeated(&line(&shown));
        for word in &mut shown {
            let repeats = |word: &str| {
                let folded = fold(word);
                repeated.iter().any(|part| folded.contains(part))
            };
            if word.as_deref().is_some_and(repeats) {
                *word = None;
            }
        }
        let line = line(&shown);
        // If the server split a credential into words, the line still contains it. So the whole line is redacted.
        let line = if self.repeated(&line).is_empty() {
            one_line(&line)
        } else {
            REDACTED.to_owned()
        };
        (!line.is_empty()).then_some(line)
    }

    /// Returns the parts of credentials that occur in `text`, forwards or backwards, after [`fold`]. A part is [`PART`]
    /// characters, or twice as many hexadecimal digits. A credential of fewer characters is a single part.
    fn repeated(&self, text: &str) -> HashSet<String> {
        let folded = fold(text);
        let reversed: String = folded.chars().rev().collect();
        let mut found = HashSet::new();
        let latest = self.latest.lock();
        for text in [&folded, &reversed] {
            let short: HashSet<&[u8]> = text.as_bytes().windows(PART).collect();
            let long: HashSet<&[u8]> = text.as_bytes().windows(2 * PART).collect();
            for secret in self.fixed.iter().chain(latest.iter()) {
                let secret = secret.expose_secret();
                let plain = Zeroizing::new(fold(secret));
                if (SHORTEST..PART).contains(&plain.len()) && text.contains(&**plain) {
                    found.insert(plain.to_string());
                }
                let twice = Zeroizing::new(BASE64_STANDARD_NO_PAD.encode(secret));
                let encoded = [secret, twice.as_str()].map(encoded);
                for spelling in encoded.as_flattened().iter().chain([&plain]) {
                    let parts = spelling.as_bytes().windows(PART);
                    found.extend(parts.filter(|part| short.contains(part)).map(as_text));
                }
                let parts = Zeroizing::new(hexadecimal(secret));
                let parts = parts.as_bytes().windows(2 * PART);
                found.extend(parts.filter(|part| long.contains(part)).map(as_text));
            }
        }
        if !found.is_empty() {
            // A part that was found in the reversed text is backwards in `text`, so the reverse of each part is added.
            let turned: Vec<String> = found.iter().map(|p| p.chars().rev().collect()).collect();
            found.extend(turned);
        }
        found
    }
}

/// Returns true if the hexadecimal digits of an id contain a part of the folded secret. This runs for every page and
/// every secret, so it reads the secret once and compares only runs of at least [`PART`] hexadecimal digits.
fn has_digits_of(digits: [&[u8]; 2], secret: &str) -> bool {
    let mut last = Zeroizing::new([0; PART]);
    let mut in_a_row = 0;
    let mut folded = secret.bytes().filter(u8::is_ascii_alphanumeric);
    folded.any(|byte| {
        if !byte.is_ascii_hexdigit() {
            in_a_row = 0;
            return false;
        }
        in_a_row += 1;
        last.rotate_left(1);
        last[PART - 1] = byte.to_ascii_lowercase();
        let mut parts = digits.iter().flat_map(|digits| digits.windows(PART));
        in_a_row >= PART && parts.any(|part| part == *last)
    })
}

/// Returns true if the secret contains eight adjacent bytes of the id. Ignores case, and the bits of the
/// id that state its version and variant, because they are fixed.
fn has_bytes_of(id: &Uuid, secret: &str) -> bool {
    let fixed_bits = |at: usize| match at {
        6 => 0xF0,
        8 => 0xC0,
        _ => 0x20,
    };
    let bytes = id.as_bytes();
    let is_ascii = secret.is_ascii();
    // Most ids have no eight adjacent bytes that can be ASCII. An ASCII secret is not read for such an id.
    let can_match = |start: &usize| {
        let mut places = *start..start + PART;
        !is_ascii || places.all(|at| bytes[at] & !fixed_bits(at) < 0x80)
    };
    let mut starts = (0..=bytes.len() - PART).filter(can_match);
    starts.any(|start| {
        let mut parts = secret.as_bytes().windows(PART);
        parts.any(|part| {
            let mut pairs = (start..).zip(part);
            pairs.all(|(at, byte)| (bytes[at] ^ byte) & !(fixed_bits(at) | 0x20) == 0)
        })
    })
}

/// Returns a date from a header or an error body, if it is valid. The date is formatted again, so that no other text
/// passes.
pub(crate) fn date(text: &str) -> Option<String> {
    httpdate::parse_http_date(text)
        .map(httpdate::fmt_http_date)
        .ok()
        .or_else(|| {
            let text = text.trim_end_matches('Z');
            let date = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S").ok()?;
            Some(date.format("%Y-%m-%dT%H:%M:%SZ").to_string())
        })
}

/// Returns the content type, if services, proxies and portals commonly send it. Otherwise returns a fixed text.
pub(crate) fn content_type(text: &str) -> &'static str {
    let essence = text.split(';').next().unwrap_or_default().trim();
    CONTENT_TYPES
        .into_iter()
        .find(|known| known.eq_ignore_ascii_case(essence))
        .unwrap_or("of another type")
}

/// Returns the part of a word that can be shown, or `None` if the word has no known form.
fn ordinary(word: &str) -> Option<String> {
    let core = word.trim_matches(|c: char| PUNCTUATION.contains(c));
    let is_mark = word.len() <= MARK_MAX && !has_letters_or_digits(word);
    if is_mark || is_identifier(core) || is_fixed_form(core) {
        return Some(word.to_owned());
    }
    let url = Url::parse(core).ok()?;
    let name = url.domain()?;
    let is_microsofts = |domain: &str| {
        name.strip_suffix(domain)
            .is_some_and(|start| start.is_empty() || start.ends_with('.'))
    };
    if url.scheme() != "https" || !MICROSOFTS.into_iter().any(is_microsofts) {
        return None;
    }
    // Only the origin is shown, because the rest of a URL can be any text.
    let is_short = name.split('.').all(is_identifier);
    is_short.then(|| word.replace(core, &url.origin().ascii_serialization()))
}

/// Returns true for a word of letters only, and for a short word of letters and digits.
fn is_identifier(word: &str) -> bool {
    let is_mark = |c: char| "._-/'".contains(c);
    let is_part =
        |c: char| is_mark(c) || c.is_ascii_alphabetic() || word.len() < PART && c.is_ascii_digit();
    let marks = word.chars().filter(|&c| is_mark(c)).count();
    word.len() <= WORD_MAX && 2 * marks < word.len() && word.chars().all(is_part)
}

fn has_letters_or_digits(word: &str) -> bool {
    word.contains(|c: char| c.is_ascii_alphanumeric())
}

/// Returns true for an id, a code of the identity platform, a date or time, or the thumbprint of a certificate.
fn is_fixed_form(word: &str) -> bool {
    let is_code = |word: &str| {
        let number = word.strip_prefix("AADSTS");
        number.is_some_and(|n| n.len() <= 8 && n.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let is_thumbprint =
        |word: &str| [40, 64].contains(&word.len()) && word.bytes().all(|b| b.is_ascii_hexdigit());
    let time = word.trim_end_matches('Z');
    word.parse::<Hyphenated>().is_ok()
        || is_code(word)
        || is_thumbprint(word)
        || NaiveDate::parse_from_str(word, "%Y-%m-%d").is_ok()
        || NaiveTime::parse_from_str(time, "%H:%M:%S").is_ok()
        || NaiveDateTime::parse_from_str(time, "%Y-%m-%dT%H:%M:%S").is_ok()
}

/// Redacts adjacent words of digits if they can be one telephone number.
fn redact_numbers(words: &mut [Option<String>]) {
    let digits = |word: &Option<String>| {
        let word = word.as_deref().unwrap_or_default();
        let core = word.trim_matches(|c: char| PUNCTUATION.contains(c));
        let is_number = core
            .chars()
            .all(|c| c.is_ascii_digit() || "-./".contains(c));
        let count = core.bytes().filter(u8::is_ascii_digit).count();
        if is_number && NaiveDate::parse_from_str(core, "%Y-%m-%d").is_err() {
            count
        } else {
            0
        }
    };
    let is_between = |word: &Option<String>| !word.as_deref().is_some_and(has_letters_or_digits);
    let mut start = 0;
    while start < words.len() {
        let group = words[start..]
            .iter()
            .take_while(|word| digits(word) > 0 || is_between(word));
        let end = start + group.count();
        if words[start..end].iter().map(digits).sum::<usize>() >= TELEPHONE_DIGITS {
            words[start..end].fill(None);
        }
        start = end.max(start + 1);
    }
}

/// Joins words to one line. Adjacent redacted words become one [`REDACTED`].
fn line(words: &[Option<String>]) -> String {
    let mut words: Vec<&str> = words
        .iter()
        .map(|word| word.as_deref().unwrap_or(REDACTED))
        .collect();
    words.dedup_by(|word, before| *word == REDACTED && *before == REDACTED);
    words.join(" ")
}

/// Returns the letters and digits of a text in lower case. They stay the same if a server splits the text.
fn fold(text: &str) -> String {
    let marks = text.replace(REDACTED, "");
    let folded = marks.chars().filter(char::is_ascii_alphanumeric);
    folded.map(|c| c.to_ascii_lowercase()).collect()
}

/// Returns the folded Base64 of a secret for all three offsets in a longer text: after 0, 1 and 2 other bytes. The
/// offset changes the encoding. Characters that depend on the other bytes are omitted.
fn encoded(secret: &str) -> [Zeroizing<String>; 3] {
    [0, 1, 2].map(|before| {
        let bytes = Zeroizing::new([&b"\0\0"[..before], secret.as_bytes()].concat());
        let text = Zeroizing::new(BASE64_STANDARD_NO_PAD.encode(&*bytes));
        let own = text.len().min([0, 2, 3][before])..text.len();
        Zeroizing::new(fold(&text[own]))
    })
}

fn hexadecimal(secret: &str) -> String {
    let nibbles = secret.bytes().flat_map(|byte| [byte >> 4, byte & 15]);
    let digits = nibbles.map(|nibble| char::from_digit(nibble.into(), 16));
    digits.map(|digit| digit.expect("four bits")).collect()
}

fn as_text(part: &[u8]) -> String {
    String::from_utf8_lossy(part).into_owned()
}

/// Replaces text that is not shown.
pub(crate) const REDACTED: &str = "[redacted]";

/// Maximum number of recent credentials that are redacted, in addition to the fixed ones. This is enough for eight
/// token requests, each with its token and its secret or assertion.
const SECRETS_MAX: usize = 16;

/// Number of adjacent characters of a credential that count as a repetition of it. Fewer characters can match by
/// chance.
const PART: usize = 8;

/// Minimum characters of a credential that is redacted. A shorter credential would match in any text, and no service
/// issues one.
const SHORTEST: usize = 4;

/// Maximum bytes of a message that are examined. A log line shows fewer.
const READ_MAX: usize = 2 << 10;

/// Maximum bytes of a word: enough for names of permissions and properties.
const WORD_MAX: usize = 40;

/// Minimum digits of a telephone number. Shorter numbers are dialled only within a site.
const TELEPHONE_DIGITS: usize = 7;

/// Maximum bytes of a word without letters and digits, such as a dash.
const MARK_MAX: usize = 3;

/// Characters that surround words in English text.
const PUNCTUATION: &str = ".,:;!?'\"()[]{}<>-–…`";

/// The Microsoft domains that error messages refer to.
const MICROSOFTS: [&str; 6] = [
    "microsoft.com",
    "microsoft.us",
    "microsoftonline.com",
    "microsoftonline.us",
    "windows.net",
    "aka.ms",
];

const CONTENT_TYPES: [&str; 9] = [
    "application/json",
    "application/problem+json",
    "application/octet-stream",
    "application/xml",
    "application/xhtml+xml",
    "text/html",
    "text/plain",
    "text/xml",
    "multipart/mixed",
];

#[cfg(test)]
mod tests;
