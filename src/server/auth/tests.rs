//! Logins: verdicts, queue, cache, and cost.

use super::*;

#[test]
fn every_wrong_login_costs_the_same_whatever_the_mix_of_costs() {
    for costs in [&[4, 6, 5][..], &[4], &[4, 4, 7], &[7, 4]] {
        let named = costs.iter().enumerate().map(|(index, cost)| {
            let user = index.to_string();
            (user, hash("secret", *cost))
        });
        let users = Users::new(named.collect()).unwrap();
        let max = *costs.iter().max().unwrap();
        let unknown = ["", "eve", "\u{fffd}"].map(str::to_owned);
        for user in (0..costs.len())
            .map(|index| index.to_string())
            .chain(unknown)
        {
            let check = users.check(login(&user, "wrong"));
            let own = cost(&check.hash).unwrap();
            let rounds: u32 = check.owed.clone().map(|cost| 1 << cost).sum();
            assert_eq!(rounds + (1 << own), 1 << max, "{user} of {costs:?}");
            assert!(!check.run());
            for cost in check.owed {
                assert_eq!(super::cost(&decoy(cost)), Some(cost));
            }
        }
    }
}

/// The queue becomes full, because another computation holds the permit.
#[tokio::test]
async fn the_queue_is_bounded_and_cached_logins_bypass_it() {
    let (authenticator, users) = authenticator();
    let client = |index: usize| IpAddr::from([192, 0, 2, u8::try_from(index).unwrap()]);
    let good = || Some(login("a", "good"));
    assert_eq!(
        authenticator.check(&users, good(), client(1)).await,
        Verdict::Admitted
    );
    let bcrypt_permit = authenticator.bcrypt_permit.acquire().await.unwrap();
    let mut waiting = Vec::new();
    for index in 0..QUEUE_MAX {
        let guess = Some(login("a", &index.to_string()));
        let client = client(index / QUEUE_OF_CLIENT_MAX);
        waiting.push(Box::pin(authenticator.check(&users, guess, client)));
        assert!(is_pending(waiting.last_mut().unwrap()).await);
    }
    for index in [0, 1, 2] {
        let guess = Some(login("a", "another"));
        assert_eq!(
            authenticator.check(&users, guess, client(index)).await,
            Verdict::Busy
        );
    }
    assert_eq!(
        authenticator.check(&users, good(), client(0)).await,
        Verdict::Admitted
    );
    // One client cannot take the whole queue.
    waiting.truncate(QUEUE_OF_CLIENT_MAX);
    until(|| authenticator.logins.lock().pending.len() == QUEUE_OF_CLIENT_MAX).await;
    let mut other = Box::pin(authenticator.check(&users, Some(login("b", "first")), client(0)));
    assert!(!is_pending(&mut other).await, "its share is taken");
    let mut other = Box::pin(authenticator.check(&users, Some(login("b", "first")), client(9)));
    assert!(is_pending(&mut other).await);
    drop(bcrypt_permit);
    assert_eq!(other.await, Verdict::Refused);
}

#[tokio::test]
async fn requests_with_the_same_login_share_one_computation() {
    let (authenticator, users) = authenticator();
    let client = IpAddr::from([192, 0, 2, 1]);
    let bcrypt_permit = authenticator.bcrypt_permit.acquire().await.unwrap();
    let mut waiting: Vec<_> = (0..WAITING_MAX)
        .map(|_| Box::pin(authenticator.check(&users, Some(login("a", "good")), client)))
        .collect();
    for waiting in &mut waiting {
        assert!(is_pending(waiting).await);
    }
    assert_eq!(authenticator.logins.lock().pending.len(), 1);
    let one_more = authenticator.check(&users, Some(login("a", "good")), client);
    assert_eq!(one_more.await, Verdict::Busy);
    drop(bcrypt_permit);
    for waiting in waiting {
        assert_eq!(waiting.await, Verdict::Admitted);
    }
}

#[tokio::test]
async fn a_login_without_a_waiting_client_is_not_computed() {
    let (authenticator, users) = authenticator();
    let client = IpAddr::from([192, 0, 2, 1]);
    let bcrypt_permit = authenticator.bcrypt_permit.acquire().await.unwrap();
    let mut abandoned = Box::pin(authenticator.check(&users, Some(login("a", "x")), client));
    assert!(is_pending(&mut abandoned).await);
    drop(abandoned);
    until(|| authenticator.logins.lock().pending.is_empty()).await;
    drop(bcrypt_permit);
    until(|| authenticator.bcrypt_permit.available_permits() == 1).await;
    assert!(authenticator.logins.lock().refused.0.is_empty());
}

/// A computation cannot be stopped, so the next one waits even if the first client is gone.
#[tokio::test]
async fn an_abandoned_computation_keeps_its_permit() {
    let (authenticator, _) = authenticator();
    let users = Users::new([("a".to_owned(), hash("good", 9))].into()).unwrap();
    let client = IpAddr::from([192, 0, 2, 1]);
    let mut abandoned = Box::pin(authenticator.check(&users, Some(login("a", "x")), client));
    assert!(is_pending(&mut abandoned).await);
    until(|| authenticator.bcrypt_permit.available_permits() == 0).await;
    drop(abandoned);
    let next = authenticator
        .check(&users, Some(login("a", "y")), client)
        .await;
    assert_eq!(next, Verdict::Refused);
    until(|| authenticator.logins.lock().refused.0.len() == 2).await;
    let tag = |password| authenticator.tag(b"a", &users.check(login("a", password)));
    let refused = authenticator.logins.lock().refused.0.clone();
    assert_eq!(refused, [tag("x"), tag("y")], "one after the other");
}

fn authenticator() -> (Authenticator, Users) {
    let users = [("a", "good"), ("b", "other")]
        .map(|(user, password)| (user.to_owned(), hash(password, 4)));
    (Authenticator::new(), Users::new(users.into()).unwrap())
}

fn login(user: &str, password: &str) -> Credentials {
    Credentials {
        user: Zeroizing::new(user.as_bytes().to_vec()),
        password: Zeroizing::new(password.as_bytes().to_vec()),
    }
}

async fn is_pending(future: &mut (impl Future + Unpin)) -> bool {
    futures_util::future::poll_immediate(future).await.is_none()
}

async fn until(such: impl Fn() -> bool) {
    while !such() {
        tokio::task::yield_now().await;
    }
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
async fn the_cache_distinguishes_logins() {
    let authenticator = Authenticator::new();
    let users = Users::new([("a".to_owned(), hash("b:c", 4))].into()).unwrap();
    let client = IpAddr::from([192, 0, 2, 1]);
    for _ in 0..2 {
        for (user, password, verdict) in [
            ("a", "b:c", Verdict::Admitted),
            ("a", "b", Verdict::Refused),
            ("a", "b:cd", Verdict::Refused),
            ("b", "c", Verdict::Refused),
            ("", "a:b:c", Verdict::Refused),
            ("a", "", Verdict::Refused),
        ] {
            let login = Some(login(user, password));
            assert_eq!(
                authenticator.check(&users, login, client).await,
                verdict,
                "{user}:{password}"
            );
        }
    }
    assert_eq!(
        authenticator.check(&users, None, client).await,
        Verdict::Refused
    );
    // A new hash needs a new check.
    let users = Users::new([("a".to_owned(), hash("new", 4))].into()).unwrap();
    let login = Some(login("a", "b:c"));
    assert_eq!(
        authenticator.check(&users, login, client).await,
        Verdict::Refused
    );
}

#[test]
fn the_cache_is_bounded() {
    let mut recent = Recent::default();
    for index in 0..300_u64 {
        let mut tag = [0; 32];
        tag[..8].copy_from_slice(&index.to_be_bytes());
        recent.insert(tag);
    }
    assert_eq!(recent.0.len(), RECENT_MAX);
}

fn hash(password: &str, cost: u32) -> SecretString {
    secret(&bcrypt::hash(password, cost).unwrap())
}

fn secret(text: &str) -> SecretString {
    text.into()
}
