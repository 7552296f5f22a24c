//! The text formats of Prometheus: the only place that knows them.

pub mod negotiate;

/// A text format that a scraper may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Prometheus text format 0.0.4.
    Text,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}
