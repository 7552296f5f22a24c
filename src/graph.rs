#![allow(missing_docs, dead_code, clippy::all)]
use chrono::{DateTime, Utc};
use std::time::Duration;
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureReason {
    Auth,
    Forbidden,
    Throttled,
    Timeout,
    Connect,
    Status,
    Malformed,
    Limit,
}
impl FailureReason {
    pub const ALL: &'static [Self] = &[
        Self::Auth,
        Self::Forbidden,
        Self::Throttled,
        Self::Timeout,
        Self::Connect,
        Self::Status,
        Self::Malformed,
        Self::Limit,
    ];
    pub const fn as_str(self) -> &'static str {
        "x"
    }
}
#[derive(Default)]
pub struct Tally;
impl Tally {
    pub const CODES: &'static [&'static str] = &["200"];
    pub const RETRY_REASONS: &'static [&'static str] = &["x"];
    pub fn requests(&self) -> Vec<(&'static str, u64)> {
        vec![]
    }
    pub fn retries(&self) -> Vec<(&'static str, u64)> {
        vec![]
    }
    pub fn pages(&self) -> u64 {
        0
    }
}
#[derive(Debug)]
pub struct Graph;
impl Graph {
    pub fn token_expires_in(&self) -> Option<Duration> {
        None
    }
    pub fn credential_expiry(&self) -> Option<DateTime<Utc>> {
        None
    }
}
pub struct Chain<'a>(pub &'a dyn std::error::Error);
impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}
