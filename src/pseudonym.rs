//! `pseudonym`: the label that a person has on `/metrics`, for whoever holds the key.

use std::io::{self, Write};

use crate::config::Config;
use crate::poller::FleetError;
use crate::poller::setup::naming;
use crate::report::labels::Naming;

/// Why there is nothing to print.
#[derive(Debug, thiserror::Error)]
pub enum PseudonymError {
    /// People have their names.
    #[error(
        "the configuration does not use pseudonyms; set labels.user to pseudonym and labels.pseudonym_key_file, and name the file by --config.file"
    )]
    Unused,
    /// The key is not there.
    #[error("cannot use pseudonyms")]
    Key(#[from] FleetError),
    /// Nobody reads what is written.
    #[error("cannot write the pseudonyms")]
    Write(#[from] io::Error),
}

/// Writes one line a user: the user as given, a tab, and the pseudonym by the configuration's key.
///
/// A user is a user principal name, in any case, or the object id of somebody who has none.
pub fn write(
    config: &Config,
    users: &[String],
    out: &mut impl Write,
) -> Result<(), PseudonymError> {
    let Naming::Pseudonym(pseudonyms) = naming(config)? else {
        return Err(PseudonymError::Unused);
    };
    for user in users {
        writeln!(out, "{user}\t{}", pseudonyms.of(user))?;
    }
    Ok(out.flush()?)
}
