//! Which reports there are, and how one is collected.

use std::fmt;

/// The reports of Microsoft Graph that can be exported. Closed: a new report is one variant here and one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ReportKind {
    /// `getPstnOnlineMeetingDialoutReport`.
    Dialout,
}

impl ReportKind {
    /// Every report, in the order in which they are exposed.
    pub const ALL: &'static [Self] = &[Self::Dialout];

    /// The value of the label `report`, the name in the configuration and the prefix of the report's families.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dialout => "dialout",
        }
    }
}

impl fmt::Display for ReportKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
