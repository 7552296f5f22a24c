//! Random faults of a demo, the same in each run.

use super::faults::Fault;
use super::rng::mixed;

/// Random faults, like in the demo. They depend only on the seed and the number of earlier requests.
///
/// Two consecutive requests never fail, so that a retry always succeeds.
#[derive(Clone, Copy, Debug)]
pub struct RandomFaults {
    /// Seed of the random numbers.
    pub seed: u64,
    /// Requests to Graph before the first fault.
    pub after: u64,
    /// One of this many requests to Graph gets a 429 with `Retry-After: 1`; none if it is less than 2.
    pub throttle_one_in: u32,
    /// One of this many requests to Graph has an expired token; none if it is less than 2.
    pub expire_one_in: u32,
}

impl RandomFaults {
    /// The fault of the request to Graph with this number, if any.
    pub(super) fn fault(self, number: u64) -> Option<Fault> {
        let number = number.checked_sub(self.after)?;
        let due = self.due(number)?;
        // Two blocks of different length can select adjacent requests. Then the second fault waits for its next block.
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
        let random_faults = RandomFaults {
            seed: 7,
            after: 100,
            throttle_one_in: 5,
            expire_one_in: 7,
        };
        let faults: Vec<_> = (0..10_000)
            .map(|number| random_faults.fault(number))
            .collect();
        assert!(faults[..100].iter().all(Option::is_none));
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
                .map(|number| random_faults.fault(number))
                .collect::<Vec<_>>()
        );
    }
}
