//! `pseudonym`: prints the pseudonyms that users have on `/metrics`. The command needs the configured key.

use std::io::{self, Write};

use crate::config::Config;
use crate::report::labels::UserLabel;

/// Errors of the command.
#[derive(Debug, thiserror::Error)]
pub enum PseudonymError {
    /// No user label is set to pseudonym.
    #[error(
        "the configuration does not use pseudonyms; set labels.user to pseudonym and labels.pseudonym_key_file, and pass the file with --config.file"
    )]
    Unused,
    /// The output cannot be written.
    #[error("cannot write the pseudonyms")]
    Write(#[from] io::Error),
}

/// Writes one line per user: the user as given, a tab, and the pseudonym, computed with the configured key.
///
/// A user is a user principal name in upper or lower case, or the object id of a user without such a name.
pub(crate) fn write(
    config: &Config,
    users: &[String],
    out: &mut impl Write,
) -> Result<(), PseudonymError> {
    let pseudonyms = config.user_labels().find_map(|label| match label {
        UserLabel::Pseudonym(pseudonyms) => Some(pseudonyms),
        _ => None,
    });
    let pseudonyms = pseudonyms.ok_or(PseudonymError::Unused)?;
    for user in users {
        writeln!(out, "{user}\t{}", pseudonyms.of(user))?;
    }
    Ok(out.flush()?)
}
