//! Typical errors in paths and ids: a pasted secret, an unexpanded `~` or variable, and braces around a GUID.
//!
//! A message shows a path only if it does not look like a secret, because sometimes a secret is pasted instead of the
//! path of its file.

use std::path::Path;

use uuid::Uuid;

/// Returns why a text is not the path of a file, and the remedy. `None` if the text can be a path.
pub(super) fn no_path(written: &str) -> Option<&'static str> {
    let forms = [
        (
            "~",
            "`~` is not expanded; write the full path, beginning with `/`",
        ),
        (
            "$",
            "variables are not expanded; write the full path, beginning with `/`",
        ),
        (
            "%d",
            "`%d` is expanded in unit files of systemd only; write /run/credentials/UNIT/NAME",
        ),
        ("file:", "this is a URL; write the path without `file://`"),
    ];
    let form = forms.iter().find(|(start, _)| written.starts_with(start));
    match form {
        Some((_, what)) if written.contains('/') => Some(what),
        _ if looks_like_secret(written) => Some(
            "this looks like a secret or its id, not like the path of a file; write the value of the secret into a file and give the path of that file",
        ),
        _ => None,
    }
}

/// Returns the absolute path for a message, followed by a colon and a space. Empty if the path may be a secret.
pub(super) fn shown(path: &Path) -> String {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    match path.to_str() {
        Some(text) if !looks_like_secret(text) => format!("{text}: "),
        _ => String::new(),
    }
}

/// Returns true if a text may be a secret, a token, a key or an id instead of a path.
fn looks_like_secret(text: &str) -> bool {
    text.split('/').any(|part| {
        let is_ordinary = |c: char| c.is_alphanumeric() || "._-@:, ()".contains(c);
        !part.chars().all(is_ordinary) || has_random_part(part)
    }) || Uuid::try_parse(text).is_ok()
}

/// Returns true if the text has a run of letters and digits that looks random.
fn has_random_part(text: &str) -> bool {
    let runs = text.split(|c: char| !c.is_ascii_alphanumeric());
    runs.into_iter().any(|run| {
        let has = |kind: fn(&u8) -> bool| run.bytes().any(|byte| kind(&byte));
        let digits = has(u8::is_ascii_digit);
        let (lower, upper) = (has(u8::is_ascii_lowercase), has(u8::is_ascii_uppercase));
        run.len() >= RANDOM_MIN && digits && lower && upper
            || run.len() >= RANDOM_HEX_MIN && (digits || lower && upper)
    })
}

/// Returns the remedy for a text that is nearly a GUID: it has extra characters around it, or no hyphens. `None` if the
/// text does not resemble a GUID.
pub(super) fn no_guid(written: &str) -> Option<&'static str> {
    if written.starts_with(['$', '%']) || written.contains("{{") {
        return Some("variables are not expanded in this file; write the GUID itself");
    }
    let is_edge = |c: char| c.is_whitespace() || "{}()[]\"'<>".contains(c);
    let inner = written.trim_matches(is_edge);
    let inner = inner.strip_prefix("urn:uuid:").unwrap_or(inner);
    if Uuid::try_parse(inner).is_err() {
        None
    } else if inner.len() != written.len() {
        Some("remove the braces, quotes or blanks around the GUID")
    } else {
        Some("a GUID has hyphens; write it as 8-4-4-4-12 digits, as the portal shows it")
    }
}

/// Minimum length of a random-looking run that has digits, lower-case letters and upper-case letters. Such runs in file
/// names, for example `Contoso2026`, are shorter.
const RANDOM_MIN: usize = 12;

/// Minimum length of a random-looking run that has digits, or letters of both cases. A key in hexadecimal digits is
/// longer, so it is detected.
const RANDOM_HEX_MIN: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_by_table() {
        for (written, expected) in [
            ("secret", None),
            ("/etc/teams-pstn-exporter/client_secret.txt", None),
            ("../11111111-2222-3333-4444-555555555555/cert.pem", None),
            ("/var/run/secrets/azure/tokens/azure-identity-token", None),
            ("/run/..2026_11_29_08_30_00.123456789/key", None),
            ("/etc/größe (alt)/secret", None),
            ("~/secret", Some("`~` is not expanded")),
            ("~exporter/secret", Some("`~` is not expanded")),
            ("$HOME/secret", Some("variables are not")),
            ("${CREDENTIALS_DIRECTORY}/secret", Some("variables are not")),
            ("%d/secret", Some("unit files")),
            ("file:///etc/secret", Some("without `file://`")),
            (
                "abc8Q~aBcDeFgHiJkLmNoPqRsTuVwXyZ01234567",
                Some("looks like a secret"),
            ),
            ("~bc8Q", Some("looks like a secret")),
            ("11111111-2222-3333-4444-555555555555", Some("its id")),
            (
                "eyJ0eXAiOiJKV1QiLCJub25jZSI6IkF.eyJhdWQiOiJodHRw.x",
                Some("looks like"),
            ),
            (
                "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822c",
                Some("looks like"),
            ),
            ("-----BEGIN CERTIFICATE-----\nMIID", Some("looks like")),
            ("p4ss+word=", Some("looks like")),
        ] {
            let what = no_path(written);
            assert_eq!(what.is_some(), expected.is_some(), "{written}: {what:?}");
            assert!(
                what.unwrap_or_default()
                    .contains(expected.unwrap_or_default()),
                "{written}: {what:?}"
            );
        }
        assert_eq!(shown(Path::new("/etc/secret")), "/etc/secret: ");
        assert!(shown(Path::new("secret")).ends_with("/secret: "));
        assert_eq!(shown(Path::new("/etc/abc8Q~aBcDeFgH")), "");
    }

    #[test]
    fn guids_by_table() {
        let id = "1111aaaa-2222-3333-4444-555555555555";
        for (written, expected) in [
            (format!("{{{id}}}"), Some("around the GUID")),
            (format!("({id})"), Some("around the GUID")),
            (format!("\"{id}\""), Some("around the GUID")),
            (format!(" {id}"), Some("around the GUID")),
            (format!("urn:uuid:{id}"), Some("around the GUID")),
            (id.replace('-', ""), Some("has hyphens")),
            ("${TENANT_ID}".to_owned(), Some("variables")),
            ("{{ tenant }}".to_owned(), Some("variables")),
            ("contoso".to_owned(), None),
        ] {
            let what = no_guid(&written);
            assert_eq!(what.is_some(), expected.is_some(), "{written}: {what:?}");
            assert!(
                what.unwrap_or_default()
                    .contains(expected.unwrap_or_default()),
                "{written}"
            );
        }
    }
}
