//! Faults of a demo, by chance that is the same each time.

use super::dice::mixed;
use super::faults::Fault;

/// Faults that come without being asked for, as in a demo: the same for the same number of requests before.
///
/// Never two in a row, so that a client that tries again always gets on.
#[derive(Clone, Copy, Debug)]
pub struct Spontaneous {
    /// Another seed, other moments.
    pub seed: u64,
    /// One of so many requests to Graph gets a 429 with `Retry-After: 1`; none where it is less than 2.
    pub throttle_one_in: u32,
    /// One of so many requests to Graph finds its token expired; none where it is less than 2.
    pub expire_one_in: u32,
}

impl Spontaneous {
    /// What befalls the request to Graph with this number.
    pub(super) fn fault(self, number: u64) -> Option<Fault> {
        let due = self.due(number)?;
        // Two blocks of different length can fall on neighbours: the second waits for its next block.
        let neighbour = number.checked_sub(1).and_then(|before| self.due(before));
        neighbour.is_none().then_some(due)
    }

    fn due(self, number: u64) -> Option<Fault> {
        let falls = |one_in: u32, salt: u64| {
            let one_in = u64::from(one_in);
            one_in >= 2
                && number % one_in == mixed(self.seed ^ mixed(number / one_in + salt)) % one_in
        };
        if falls(self.throttle_one_in, 1 << 40) {
            Some(Fault::throttle("1"))
        } else if falls(self.expire_one_in, 2 << 40) {
            Some(Fault::ExpireToken)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spontaneous_faults_never_come_twice_in_a_row() {
        let spontaneous = Spontaneous {
            seed: 7,
            throttle_one_in: 5,
            expire_one_in: 7,
        };
        let faults: Vec<_> = (0..10_000)
            .map(|number| spontaneous.fault(number))
            .collect();
        assert!(
            faults
                .windows(2)
                .all(|pair| pair[0].is_none() || pair[1].is_none())
        );
        assert!(
            faults
                .iter()
                .flatten()
                .filter(|fault| **fault == Fault::ExpireToken)
                .count()
                > 500
        );
        assert!(
            faults
                .iter()
                .flatten()
                .filter(|fault| **fault != Fault::ExpireToken)
                .count()
                > 1_000
        );
        assert_eq!(
            faults,
            (0..10_000)
                .map(|number| spontaneous.fault(number))
                .collect::<Vec<_>>()
        );
    }
}
