//! `--tenants.shard`: distribution of the tenants of a configuration over several exporters.
//!
//! Every exporter reads the whole configuration and computes the same result without contact to the others. The
//! distribution starts with one shard that has all tenants, and adds the other shards one by one. Each added shard
//! takes the tenants with the highest hashes from every earlier shard, until all shares are even. So sizes differ by
//! one at most, and no tenant moves except to the added shard. A hash alone (modulo N or rendezvous hashing) would be
//! uneven: with 1,000 tenants on 16 shards, the standard deviation of the sizes would be 12 % of the mean.
//!
//! The result depends only on the names of the tenants, not on the order or the keys of the configuration. A change of
//! the algorithm would move tenants in every installation.

use std::fmt;
use std::str::FromStr;

use ring::digest::{SHA256, digest};

use super::{Config, ConfigErrors};

/// One of several exporters that share the tenants of a configuration, written as `INDEX/COUNT`. The index starts at 0,
/// as that of Kubernetes pods does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Below `count`.
    index: u32,
    /// From 1 to [`SHARDS_MAX`].
    count: u32,
}

/// Error for a text that is not a [`Shard`].
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is not INDEX/COUNT, such as 0/3, 1/3 and 2/3 for three exporters{hint}")]
pub struct ShardError {
    text: String,
    hint: &'static str,
}

impl Shard {
    /// The only shard, which has all tenants.
    pub const WHOLE: Self = Self { index: 0, count: 1 };
}

impl Config {
    /// Keeps only the tenants of the shard. A shard can have no tenants.
    pub fn sharded(mut self, shard: Shard) -> Result<Self, ConfigErrors> {
        if shard == Shard::WHOLE {
            return Ok(self);
        }
        let names: Option<Vec<&str>> = self.tenants.iter().map(|t| t.name.as_deref()).collect();
        let Some(names) = names else {
            let mut errors = ConfigErrors::new("--tenants.shard".to_owned());
            errors.push(
                None,
                "there is one tenant and it has no name, so there is nothing to share; leave the flag out, or name the \
                 tenant in the configuration file",
            );
            return errors.into_result(None);
        };
        let mut shards = assign(&names, shard.count).into_iter();
        self.tenants.retain(|_| shards.next() == Some(shard.index));
        Ok(self)
    }
}

impl FromStr for Shard {
    type Err = ShardError;

    fn from_str(text: &str) -> Result<Self, ShardError> {
        let digits = |part: &str| {
            let plain = part.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| part.parse().ok()).flatten()
        };
        let parts = text.split_once('/');
        let hint = match parts.and_then(|(index, count)| digits(index).zip(digits(count))) {
            None => "",
            Some((_, count)) if count == 0 || count > SHARDS_MAX => "; there are 1 to 256 of them",
            Some((index, count)) if index >= count => "; they are counted from 0",
            Some((index, count)) => return Ok(Self { index, count }),
        };
        let text = text.to_owned();
        Err(ShardError { text, hint })
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

/// Returns the shard of each name. All names must differ.
fn assign(names: &[&str], count: u32) -> Vec<u32> {
    let mut shards: Vec<Vec<usize>> = vec![(0..names.len()).collect()];
    for new in 1..count {
        let after = new as usize + 1;
        let share = names.len() / after;
        // The number of shards that keep one tenant more than `share`.
        let mut larger = names.len() % after;
        let mut moved = Vec::with_capacity(share);
        for shard in &mut shards {
            let stay = if larger > 0 && shard.len() > share {
                larger -= 1;
                share + 1
            } else {
                share
            };
            shard.sort_by_cached_key(|&tenant| (hash(new, names[tenant]), names[tenant]));
            moved.extend(shard.drain(stay..));
        }
        shards.push(moved);
    }
    let mut assigned = vec![0; names.len()];
    for (shard, tenants) in (0..).zip(shards) {
        for tenant in tenants {
            assigned[tenant] = shard;
        }
    }
    assigned
}

/// Returns a hash that is the same on every machine and in every version. It orders the names differently for every
/// shard.
fn hash(shard: u32, name: &str) -> u64 {
    let digest = digest(&SHA256, &[&shard.to_be_bytes(), name.as_bytes()].concat());
    let first = digest.as_ref()[..8].try_into().expect("SHA-256 is longer");
    u64::from_be_bytes(first)
}

/// Maximum number of shards. It is more than enough, because one exporter can poll a thousand tenants, and a
/// configuration file has some thousands at most.
const SHARDS_MAX: u32 = 256;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::hash_set;
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    /// Returns the names of a thousand tenants.
    fn thousand() -> Vec<String> {
        (0..1_000)
            .map(|number| format!("tenant-{number}"))
            .collect()
    }

    fn of(names: &[String], count: u32) -> Vec<u32> {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assign(&names, count)
    }

    fn sizes(assigned: &[u32], count: u32) -> Vec<usize> {
        let size = |shard| assigned.iter().filter(|one| **one == shard).count();
        (0..count).map(size).collect()
    }

    /// Returns the number of tenants whose shard has changed.
    fn moved(before: &[u32], after: &[u32]) -> usize {
        before
            .iter()
            .zip(after)
            .filter(|(old, new)| old != new)
            .count()
    }

    /// Checks that sizes differ by one at most, and that an added shard only moves its own tenants.
    fn check(names: &[String], count: u32) {
        let (before, after) = (of(names, count), of(names, count + 1));
        let even = names.len() / count as usize;
        for size in sizes(&before, count) {
            assert!(
                size == even || size == even + 1,
                "{size} of {}",
                names.len()
            );
        }
        assert_eq!(moved(&before, &after), names.len() / (count as usize + 1));
        for (old, new) in before.iter().zip(&after) {
            assert!(old == new || *new == count, "from {old} to {new}");
        }
    }

    #[test]
    fn a_thousand_tenants_are_spread_evenly_and_a_new_shard_moves_its_share() {
        let names = thousand();
        for count in 1..=16 {
            check(&names, count);
        }
    }

    /// Few tenants move. A distribution by position modulo the number of shards would move almost all.
    #[test]
    fn one_tenant_more_moves_few_others() {
        let mut names = thousand();
        for count in [2, 4, 8, 16] {
            let before = of(&names, count);
            for number in 0..5 {
                names.push(format!("newcomer-{number}"));
                let moved = moved(&before, &of(&names, count));
                assert!(moved <= 3 * count as usize, "{moved} of {count} shards");
                names.pop();
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn assignment_ignores_the_order_of_names(
            names in hash_set("[a-z]{1,3}", 0..60),
            count in 1_u32..20,
            from in any::<Index>(),
        ) {
            let mut names: Vec<String> = names.into_iter().collect();
            check(&names, count);
            let before: BTreeSet<_> = names.clone().into_iter().zip(of(&names, count)).collect();
            if !names.is_empty() {
                let middle = from.index(names.len());
                names.rotate_left(middle);
            }
            names.reverse();
            let after: BTreeSet<_> = names.clone().into_iter().zip(of(&names, count)).collect();
            prop_assert_eq!(before, after);
        }
    }

    /// If this test fails, an update would move tenants in every installation.
    #[test]
    fn the_assignment_is_the_same_in_every_version() {
        let names: Vec<String> = [
            "contoso",
            "fabrikam",
            "northwind",
            "adatum",
            "litware",
            "tailspin",
        ]
        .map(str::to_owned)
        .to_vec();
        assert_eq!(of(&names, 3), [1, 0, 1, 2, 2, 0]);
    }

    #[test]
    fn flags_by_table() {
        for (text, end) in [
            ("0/1", None),
            ("15/16", None),
            ("255/256", None),
            ("1/1", Some("counted from 0")),
            ("3/2", Some("counted from 0")),
            ("0/0", Some("1 to 256 of them")),
            ("0/257", Some("1 to 256 of them")),
            ("", Some("three exporters")),
            ("1", Some("three exporters")),
            ("/2", Some("three exporters")),
            ("1/", Some("three exporters")),
            ("+1/2", Some("three exporters")),
            ("-1/2", Some("three exporters")),
            (" 1/2", Some("three exporters")),
            ("1/2/3", Some("three exporters")),
            ("0/4294967296", Some("three exporters")),
        ] {
            match (text.parse::<Shard>(), end) {
                (Ok(shard), None) => assert_eq!(shard.to_string(), text),
                (Err(error), Some(end)) => assert!(error.to_string().ends_with(end), "{error}"),
                (parsed, _) => panic!("{text}: {parsed:?}"),
            }
        }
    }
}
