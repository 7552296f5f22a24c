//! Basic authentication.
//!
//! Results are cached. So a scraper, which sends the same login with every request, costs only one bcrypt computation.
//! The cache has no passwords. It identifies a login by an HMAC over the user, the bcrypt hash, the password and their
//! lengths. Because of the lengths, two logins never have the same HMAC. Each process has a random HMAC key, so the
//! time of a comparison reveals nothing.
//!
//! A login that is not cached waits in a short queue. One computation runs at a time, on a thread that does not serve
//! requests. A computation blocks the next one until it ends, even if its client has disconnected. A cached login never
//! waits.
//!
//! A wrong password takes as long as an unknown user, whatever the bcrypt costs are. So the time does not reveal which
//! users exist.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::str::FromStr as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bcrypt::HashParts;
use hyper::header::HeaderValue;
use parking_lot::Mutex;
use ring::hmac;
use ring::rand::SystemRandom;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::{Semaphore, watch};
use zeroize::Zeroizing;

/// Users and the bcrypt hashes of their passwords.
pub(super) struct Users {
    hashes: HashMap<String, String>,
    /// The highest bcrypt cost of all hashes. The check of every wrong login takes as long as one bcrypt computation at
    /// this cost.
    cost_max: u32,
}

/// Error for a configured user who could never log in.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// The value is not a bcrypt hash.
    #[error(
        "the password of {0:?} is not a bcrypt hash; make one with: htpasswd -nBC 10 \"\" | tr -d ':\\n' (htpasswd is in the package apache2-utils)"
    )]
    Hash(String),
    /// Checking the hash would take too long.
    #[error(
        "the password of {0:?} has the bcrypt cost {1}, which takes too long; use at most {COST_MAX}"
    )]
    Cost(String, u32),
}

/// Checks logins and caches the results.
pub(super) struct Authenticator {
    key: hmac::Key,
    /// Permit for one bcrypt computation at a time. A computation keeps a core busy, and the other cores must serve
    /// requests.
    bcrypt_permit: Arc<Semaphore>,
    logins: Arc<Mutex<Logins>>,
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Admitted,
    Refused,
    /// The login was not checked, for example because the queue is full.
    Busy,
}

/// User and password of a request.
pub(super) struct Credentials {
    user: Zeroizing<Vec<u8>>,
    password: Zeroizing<Vec<u8>>,
}

/// The HMAC that identifies a login.
type Tag = [u8; 32];

/// Cached results, and the queue.
#[derive(Default)]
struct Logins {
    admitted: Recent,
    /// Refused logins have a list of their own, so that guesses do not displace admitted logins.
    refused: Recent,
    /// Logins that wait for their computation, or are being computed.
    pending: HashMap<Tag, Pending>,
}

/// The newest logins with the same result, newest last.
#[derive(Default)]
struct Recent(VecDeque<Tag>);

/// A login in the queue. Requests with the same login share one entry.
struct Pending {
    /// The client that sent the login first.
    client: IpAddr,
    result: watch::Sender<Option<bool>>,
}

/// One check of a login: the password, the hash to compare it with, and the costs of further computations if the
/// password is wrong.
struct Check {
    password: Zeroizing<Vec<u8>>,
    hash: String,
    known: bool,
    owed: std::ops::Range<u32>,
}

impl Users {
    pub(super) fn new(users: BTreeMap<String, SecretString>) -> Result<Self, UserError> {
        let mut cost_max = COST_MIN;
        let mut hashes = HashMap::new();
        for (user, hash) in users {
            let cost = match cost(hash.expose_secret()) {
                Some(cost) if cost >= COST_MIN => cost,
                _ => return Err(UserError::Hash(user)),
            };
            if cost > COST_MAX {
                return Err(UserError::Cost(user, cost));
            }
            cost_max = cost_max.max(cost);
            hashes.insert(user, hash.expose_secret().to_owned());
        }
        Ok(Self { hashes, cost_max })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    fn check(&self, credentials: Credentials) -> Check {
        let user = std::str::from_utf8(&credentials.user).ok();
        let known = user.and_then(|user| self.hashes.get(user));
        let hash = known.map_or_else(|| decoy(self.cost_max), Clone::clone);
        let own_cost = cost(&hash).unwrap_or(self.cost_max);
        Check {
            password: credentials.password,
            hash,
            known: known.is_some(),
            owed: own_cost..self.cost_max,
        }
    }
}

impl Check {
    /// Returns true if the password is right. A wrong password always takes as long as one computation at the highest
    /// cost of all users, `h`. The password is checked at the user's own cost, `c`. If it is wrong, one more
    /// computation follows at each of the costs from `c` to `h - 1`. Each step of the cost doubles the time, so the
    /// total is 2^c + (2^c + … + 2^(h-1)) = 2^h.
    fn run(&self) -> bool {
        let matches = self.known && self.matches(&self.hash);
        if !matches {
            if !self.known {
                self.matches(&self.hash);
            }
            for cost in self.owed.clone() {
                self.matches(&decoy(cost));
            }
        }
        matches
    }

    fn matches(&self, hash: &str) -> bool {
        bcrypt::verify(&*self.password, hash).unwrap_or(false)
    }
}

impl Authenticator {
    pub(super) fn new() -> Self {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .expect("the system has random numbers");
        Self {
            key,
            bcrypt_permit: Arc::new(Semaphore::new(1)),
            logins: Arc::default(),
        }
    }

    /// Checks the login of a request from `client`. Waits only if the login is not cached and the queue has room for
    /// the request. Otherwise answers at once.
    pub(super) async fn check(
        &self,
        users: &Users,
        credentials: Option<Credentials>,
        client: IpAddr,
    ) -> Verdict {
        if users.is_empty() {
            return Verdict::Admitted;
        }
        let Some(credentials) = credentials else {
            return Verdict::Refused;
        };
        let user = credentials.user.clone();
        let check = users.check(credentials);
        let tag = self.tag(&user, &check);
        let mut result = {
            let mut logins = self.logins.lock();
            if let Some(verdict) = logins.known(&tag) {
                return verdict;
            }
            let Some(result) = logins.join(&tag).or_else(|| {
                let result = logins.enqueue(tag, client)?;
                let (bcrypt_permit, logins) =
                    (Arc::clone(&self.bcrypt_permit), Arc::clone(&self.logins));
                tokio::spawn(compute(bcrypt_permit, logins, tag, result.clone(), check));
                Some(result.subscribe())
            }) else {
                return Verdict::Busy;
            };
            result
        };
        let admitted = result.wait_for(Option::is_some).await;
        match admitted.ok().and_then(|admitted| *admitted) {
            Some(true) => Verdict::Admitted,
            Some(false) => Verdict::Refused,
            // The computation was dropped, for example because the process ends.
            None => Verdict::Busy,
        }
    }

    fn tag(&self, user: &[u8], check: &Check) -> Tag {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [user, check.hash.as_bytes(), &check.password] {
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

/// Waits for the permit and then computes the result, unless all clients disconnect while it waits. A running
/// computation cannot be stopped. It holds the permit until it ends, so that no other computation runs beside it, even
/// if its clients have disconnected.
async fn compute(
    bcrypt_permit: Arc<Semaphore>,
    logins: Arc<Mutex<Logins>>,
    tag: Tag,
    result: watch::Sender<Option<bool>>,
    check: Check,
) {
    let mut permit = None;
    while permit.is_none() {
        tokio::select! {
            biased;
            acquired = Arc::clone(&bcrypt_permit).acquire_owned() => permit = acquired.ok(),
            () = result.closed() => {}
        }
        let mut logins = logins.lock();
        // Checked under the lock, because another request may have joined in the meantime.
        if result.is_closed() {
            logins.pending.remove(&tag);
            return;
        }
    }
    let computed = tokio::task::spawn_blocking(move || {
        let matches = check.run();
        drop(permit);
        matches
    });
    let matches = computed.await.unwrap_or(false);
    let mut logins = logins.lock();
    logins.pending.remove(&tag);
    if matches {
        logins.admitted.insert(tag);
    } else {
        logins.refused.insert(tag);
    }
    drop(logins);
    result.send_replace(Some(matches));
}

impl Logins {
    fn known(&self, tag: &Tag) -> Option<Verdict> {
        if self.admitted.0.contains(tag) {
            Some(Verdict::Admitted)
        } else if self.refused.0.contains(tag) {
            Some(Verdict::Refused)
        } else {
            None
        }
    }

    /// Joins the requests that wait for this login. Returns `None` if the login is not in the queue, or if too many
    /// requests wait.
    fn join(&self, tag: &Tag) -> Option<watch::Receiver<Option<bool>>> {
        let waiting: usize = self
            .pending
            .values()
            .map(|pending| pending.result.receiver_count())
            .sum();
        let pending = self.pending.get(tag)?;
        (waiting < WAITING_MAX).then(|| pending.result.subscribe())
    }

    /// Adds a login that is not in the queue. Returns `None` if there is no room for this client.
    fn enqueue(&mut self, tag: Tag, client: IpAddr) -> Option<watch::Sender<Option<bool>>> {
        let of_client = |pending: &&Pending| pending.client == client;
        let own = self.pending.values().filter(of_client).count();
        if self.pending.len() >= QUEUE_MAX
            || own >= QUEUE_OF_CLIENT_MAX
            || self.pending.contains_key(&tag)
        {
            return None;
        }
        let result = watch::Sender::new(None);
        let pending = Pending {
            client,
            result: result.clone(),
        };
        self.pending.insert(tag, pending);
        Some(result)
    }
}

fn cost(hash: &str) -> Option<u32> {
    let parts = HashParts::from_str(hash).ok()?;
    Some(parts.get_cost())
}

/// Returns a hash that belongs to no known password.
fn decoy(cost: u32) -> String {
    format!("$2b${cost:02}$......................iEPZ0rV4IWZmLvBgdLzWhdB9.Nyw62.")
}

impl Recent {
    fn insert(&mut self, tag: Tag) {
        if self.0.len() == RECENT_MAX {
            self.0.pop_front();
        }
        self.0.push_back(tag);
    }
}

impl Credentials {
    /// Returns a hash of the login, computed with the keys of the caller.
    pub(super) fn hash(&self, keys: &RandomState) -> u64 {
        keys.hash_one((&*self.user, &*self.password))
    }

    /// Parses a header for Basic authentication (RFC 7617). Returns `None` for any other scheme.
    pub(super) fn parse(authorization: &HeaderValue) -> Option<Self> {
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

/// The lowest cost of bcrypt.
const COST_MIN: u32 = 4;

/// The highest cost that is accepted. It takes one core a minute and a half. The highest cost of bcrypt, 31, would take
/// two days.
const COST_MAX: u32 = 20;

/// Maximum number of cached logins in each of two lists: admitted and refused. A server has far fewer users. Each list
/// takes some 3 KiB.
const RECENT_MAX: usize = 100;

/// Maximum number of different logins in the queue. At cost 12 each login takes a quarter of a second, so the last one
/// waits two seconds. A scrape can wait so long.
const QUEUE_MAX: usize = 8;

/// Maximum number of queued logins from one address. So a client that guesses passwords leaves room for others.
const QUEUE_OF_CLIENT_MAX: usize = 4;

/// Maximum number of requests that wait for the logins in the queue. It is limited, because each waiting request holds
/// a connection. It is larger than the queue, because several scrapers may start at once with the same login.
const WAITING_MAX: usize = 64;

#[cfg(test)]
mod tests;
