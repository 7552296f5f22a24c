//! Basic authentication: who is let in.
//!
//! A wrong password and an unknown user cost the same one bcrypt, and only one is computed at a time, away from the
//! threads that serve. What it said is remembered, so that scrapers, who say the same every time, cost none. The memory
//! holds no passwords: its keys are HMACs under a key of this process, over parts whose lengths are written down, so
//! that no two credentials look the same, and how long a comparison takes tells nothing.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::str::FromStr as _;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bcrypt::HashParts;
use hyper::header::HeaderValue;
use ring::hmac;
use ring::rand::SystemRandom;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::web_config::Secret;

/// Users and the bcrypt hashes of their passwords.
pub(super) struct Users {
    hashes: HashMap<String, String>,
    /// Stands in for the hash of an unknown user: as costly as the costliest of the others.
    decoy: String,
}

/// A user who cannot be let in.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// What stands for the password is no bcrypt hash.
    #[error(
        "the password of {0:?} is not a bcrypt hash; make one with: htpasswd -nBC 10 \"\" | tr -d ':\\n' (htpasswd is in the package apache2-utils)"
    )]
    Hash(String),
    /// The hash would take too long.
    #[error(
        "the password of {user:?} has the bcrypt cost {cost}; up to {COST_MAX} is computed in bearable time"
    )]
    Cost {
        /// Who.
        user: String,
        /// The binary logarithm of the rounds.
        cost: u32,
    },
}

/// Lets in, or does not, and remembers.
pub(super) struct Gate {
    key: hmac::Key,
    /// bcrypt is made to keep a core busy: one at a time leaves the others for serving.
    turn: Semaphore,
    admitted: Mutex<Memory>,
    /// Apart from the admitted, so that guesses do not displace them.
    refused: Mutex<Memory>,
}

/// What was found out about credentials, newest last.
struct Memory(VecDeque<[u8; 32]>);

/// A user and a password, as the client says.
struct Credentials {
    user: Zeroizing<Vec<u8>>,
    password: Zeroizing<Vec<u8>>,
}

impl Users {
    pub(super) fn new(users: BTreeMap<String, Secret>) -> Result<Self, UserError> {
        let mut cost_max = COST_MIN;
        let mut hashes = HashMap::new();
        for (user, hash) in users {
            let cost = match HashParts::from_str(hash.expose()) {
                Ok(parts) if parts.get_cost() >= COST_MIN => parts.get_cost(),
                _ => return Err(UserError::Hash(user)),
            };
            if cost > COST_MAX {
                return Err(UserError::Cost { user, cost });
            }
            cost_max = cost_max.max(cost);
            hashes.insert(user, hash.expose().to_owned());
        }
        Ok(Self {
            hashes,
            // Nobody knows a password for it, and nobody would be let in with it.
            decoy: format!(
                "$2b${cost_max:02}$......................iEPZ0rV4IWZmLvBgdLzWhdB9.Nyw62."
            ),
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Users({})", self.hashes.len())
    }
}

impl Gate {
    pub(super) fn new() -> Self {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .expect("the system has random numbers");
        Self {
            key,
            turn: Semaphore::new(1),
            admitted: Mutex::new(Memory(VecDeque::new())),
            refused: Mutex::new(Memory(VecDeque::new())),
        }
    }

    /// Whether the bearer of this `Authorization` is one of the users.
    pub(super) async fn admits(&self, users: &Users, authorization: Option<&HeaderValue>) -> bool {
        if users.is_empty() {
            return true;
        }
        let Some(credentials) = authorization.and_then(Credentials::parse) else {
            return false;
        };
        let known = std::str::from_utf8(&credentials.user)
            .ok()
            .and_then(|user| users.hashes.get(user));
        let hash = known.unwrap_or(&users.decoy);
        let tag = self.tag(&credentials, hash);
        if let Some(verdict) = self.remembered(&tag) {
            return verdict && known.is_some();
        }
        let _turn = self
            .turn
            .acquire()
            .await
            .expect("the semaphore of the gate is never closed");
        // Another request may have asked the same in the meantime.
        if let Some(verdict) = self.remembered(&tag) {
            return verdict && known.is_some();
        }
        let (hash, password) = (hash.clone(), credentials.password);
        let matches = tokio::task::spawn_blocking(move || bcrypt::verify(&*password, &hash))
            .await
            .expect("bcrypt does not panic")
            .unwrap_or(false);
        let verdict = matches && known.is_some();
        let memory = if verdict {
            &self.admitted
        } else {
            &self.refused
        };
        Memory::lock(memory).keep(tag);
        verdict
    }

    fn remembered(&self, tag: &[u8; 32]) -> Option<bool> {
        if Memory::lock(&self.admitted).0.contains(tag) {
            Some(true)
        } else if Memory::lock(&self.refused).0.contains(tag) {
            Some(false)
        } else {
            None
        }
    }

    fn tag(&self, credentials: &Credentials, hash: &str) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [&credentials.user, hash.as_bytes(), &credentials.password] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        context
            .sign()
            .as_ref()
            .try_into()
            .expect("HMAC-SHA256 has 32 bytes")
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gate")
    }
}

impl Memory {
    fn lock(memory: &Mutex<Self>) -> std::sync::MutexGuard<'_, Self> {
        memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&mut self, tag: [u8; 32]) {
        if self.0.len() == MEMORY_MAX {
            self.0.pop_front();
        }
        self.0.push_back(tag);
    }
}

impl Credentials {
    /// RFC 7617; `None` where it is something else.
    fn parse(authorization: &HeaderValue) -> Option<Self> {
        let (scheme, encoded) = authorization.to_str().ok()?.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("Basic") {
            return None;
        }
        let decoded = Zeroizing::new(STANDARD.decode(encoded.trim()).ok()?);
        let colon = decoded.iter().position(|byte| *byte == b':')?;
        Some(Self {
            user: Zeroizing::new(decoded[..colon].to_vec()),
            password: Zeroizing::new(decoded[colon + 1..].to_vec()),
        })
    }
}

/// The least cost that bcrypt knows.
const COST_MIN: u32 = 4;

/// The greatest cost that is let pass: a minute and a half of one core. 31, the greatest that bcrypt knows, is two days.
const COST_MAX: u32 = 20;

/// Verdicts that are remembered, of each kind: far more than a server has users, some 3 KiB.
const MEMORY_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_decoy_is_a_hash_of_the_greatest_cost() {
        let users = [("a", 4), ("b", 6), ("c", 5)]
            .map(|(user, cost)| (user.to_owned(), hash("secret", cost)));
        let users = Users::new(users.into()).unwrap();
        let parts = HashParts::from_str(&users.decoy).unwrap();
        assert_eq!(parts.get_cost(), 6);
        assert!(!bcrypt::verify("secret", &users.decoy).unwrap());
    }

    #[test]
    fn hashes_by_table() {
        for (hash, good) in [
            (
                "$2y$04$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi",
                true,
            ),
            (
                "$2b$20$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi",
                true,
            ),
            (
                "$2b$21$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi",
                false,
            ),
            (
                "$2b$03$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi",
                false,
            ),
            (
                "$2b$04$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeS",
                false,
            ),
            ("secret", false),
            ("", false),
        ] {
            let users = BTreeMap::from([("a".to_owned(), secret(hash))]);
            assert_eq!(Users::new(users).is_ok(), good, "{hash}");
        }
    }

    #[test]
    fn credentials_by_table() {
        for (header, expected) in [
            ("Basic YTpi", Some(("a", "b"))),
            ("basic YTpi", Some(("a", "b"))),
            ("Basic YTpiOmM=", Some(("a", "b:c"))),
            ("Basic Og==", Some(("", ""))),
            ("Basic YWI=", None),
            ("Basic ", None),
            ("Basic", None),
            ("Basic ***", None),
            ("Bearer YTpi", None),
        ] {
            let parsed = Credentials::parse(&HeaderValue::from_static(header));
            let parsed = parsed.as_ref().map(|credentials| {
                let text = |bytes| std::str::from_utf8(bytes).unwrap();
                (text(&credentials.user), text(&credentials.password))
            });
            assert_eq!(parsed, expected, "{header}");
        }
    }

    #[tokio::test]
    async fn the_memory_tells_credentials_apart() {
        let gate = Gate::new();
        let users = Users::new([("a".to_owned(), hash("b:c", 4))].into()).unwrap();
        for _ in 0..2 {
            for (credentials, good) in [
                ("a:b:c", true),
                ("a:b", false),
                ("a:b:cd", false),
                ("b:c", false),
                (":a:b:c", false),
                ("a:", false),
            ] {
                let header = format!("Basic {}", STANDARD.encode(credentials));
                let header = HeaderValue::from_str(&header).unwrap();
                assert_eq!(
                    gate.admits(&users, Some(&header)).await,
                    good,
                    "{credentials}"
                );
            }
        }
        assert!(!gate.admits(&users, None).await);
        // Another hash, another verdict.
        let users = Users::new([("a".to_owned(), hash("new", 4))].into()).unwrap();
        let header = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode("a:b:c"))).unwrap();
        assert!(!gate.admits(&users, Some(&header)).await);
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut memory = Memory(VecDeque::new());
        for index in 0..300_u64 {
            let mut tag = [0; 32];
            tag[..8].copy_from_slice(&index.to_be_bytes());
            memory.keep(tag);
        }
        assert_eq!(memory.0.len(), MEMORY_MAX);
    }

    fn hash(password: &str, cost: u32) -> Secret {
        secret(&bcrypt::hash(password, cost).unwrap())
    }

    fn secret(text: &str) -> Secret {
        serde_json::from_value(serde_json::Value::from(text)).unwrap()
    }
}
