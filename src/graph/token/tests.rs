//! Tests of the token cache against a scripted token endpoint on loopback.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL;

use super::super::FailureReason;
use super::super::credential::{Credential, SecretSource};
use super::super::http::HttpOptions;
use super::super::managed_identity::{IMDS_HOST, ManagedIdentityEndpoint};
use super::super::testing::{Received, Reply, Server};
use super::*;

const SECRET: &str = "s3cret-of-a-known-value";

#[tokio::test]
async fn token_is_requested_once_and_renewed_before_it_expires() {
    let server = Server::start(|number, _| Reply::token(&format!("t{number}"), 3599)).await;
    let cache = cache(&server, secret());
    assert_eq!(cache.expires_in(), None);
    for _ in 0..3 {
        assert_eq!(token(&cache).await.expose(), "t0");
    }
    assert!(
        cache
            .expires_in()
            .is_some_and(|left| left.as_secs() >= 3590)
    );
    later(3290).await;
    assert_eq!(token(&cache).await.expose(), "t0");
    later(10).await;
    assert_eq!(token(&cache).await.expose(), "t1");
    let received = server.received();
    assert_eq!(received.len(), 2);
    let request = &received[0];
    assert_eq!(
        (request.method.as_str(), request.path.as_str()),
        ("POST", "/contoso.com/oauth2/v2.0/token")
    );
    for (field, value) in [
        ("grant_type", "client_credentials"),
        ("client_id", "client"),
        ("client_secret", SECRET),
        ("scope", "https://graph.microsoft.com/.default"),
    ] {
        assert_eq!(request.field(field).as_deref(), Some(value));
    }
}

#[tokio::test]
async fn lifetimes_by_table() {
    let now = Instant::now();
    for (lifetime, renewed) in [
        (3600, 3300),
        (600, 300),
        (599, 299),
        (60, 30),
        (0, 0),
        (86_400, 86_100),
        (u64::MAX, 86_100),
    ] {
        let token = AccessToken::new("t".into(), now, Duration::from_secs(lifetime)).unwrap();
        assert_eq!((token.renew_at - now).as_secs(), renewed);
    }
    for bad in ["", "a b", "a\r\nb", "ä"] {
        assert!(AccessToken::new(bad.into(), now, Duration::ZERO).is_none());
    }
}

#[tokio::test]
async fn token_without_lifetime_is_used_for_one_request() {
    let server = Server::start(|number, _| Reply::token(&format!("t{number}"), 0)).await;
    let cache = cache(&server, secret());
    assert_eq!(token(&cache).await.expose(), "t0");
    assert_eq!(token(&cache).await.expose(), "t1");
    assert_eq!(cache.expires_in(), None);
}

#[tokio::test]
async fn request_for_a_token_waits_until_the_credential_is_read() {
    let server = Server::start(|_, _| Reply::token("t", 3599)).await;
    let cache = cache(&server, secret());
    let TokenEndpoint::Tenant { reading, .. } = &cache.endpoint else {
        panic!("not a tenant");
    };
    let earlier = Arc::clone(reading).try_acquire_owned().unwrap();
    let (token, ()) = tokio::join!(token(&cache), async {
        tokio::task::yield_now().await;
        drop(earlier);
    });
    assert_eq!(token.expose(), "t");
    // If an earlier read never ends, the cache waits until the deadline.
    let cache = self::cache(&server, secret());
    if let TokenEndpoint::Tenant { reading, .. } = &cache.endpoint {
        reading.forget_permits(1);
    }
    let deadline = Instant::now() + Duration::from_millis(1);
    let error = cache.token(deadline).await;
    assert!(matches!(error, Err(TokenError::Timeout(_))));
}

#[tokio::test]
async fn many_callers_make_one_request() {
    let server = Server::start(|_, _| Reply::token("t", 3599)).await;
    let cache = Arc::new(cache(&server, secret()));
    let callers: Vec<_> = (0..50)
        .map(|_| {
            let cache = Arc::clone(&cache);
            tokio::spawn(async move { cache.token(soon()).await.unwrap() })
        })
        .collect();
    for caller in callers {
        assert_eq!(caller.await.unwrap().expose(), "t");
    }
    assert_eq!(server.received().len(), 1);
}

#[tokio::test]
async fn old_token_stays_in_use_while_renewal_fails() {
    let server = Server::start(|number, _| match number {
        0 => Reply::token("old", 3599),
        3 => Reply::token("new", 3599),
        _ => Reply::json(500, ""),
    })
    .await;
    let cache = cache(&server, secret());
    assert_eq!(token(&cache).await.expose(), "old");
    later(3400).await;
    for _ in 0..3 {
        assert_eq!(token(&cache).await.expose(), "old");
    }
    assert_eq!(server.received().len(), 2, "one attempt, then a pause");
    later(61).await;
    assert_eq!(token(&cache).await.expose(), "old");
    later(61).await;
    assert_eq!(token(&cache).await.expose(), "new");
    assert_eq!(server.received().len(), 4);
}

#[tokio::test]
async fn failure_is_returned_if_no_token_is_left() {
    let server = Server::start(|number, _| match number {
        0 => Reply::token("old", 3599),
        _ => refusal(7_000_222),
    })
    .await;
    let cache = cache(&server, secret());
    token(&cache).await;
    later(3600).await;
    let error = cache.token(soon()).await.unwrap_err();
    assert_eq!(error.reason(), FailureReason::Auth);
    assert!(error.remedy().unwrap().contains("expired"));
    assert!(error.to_string().contains("AADSTS7000222"), "{error}");
    assert_eq!(
        server.received().len(),
        2,
        "what is known to be final is not retried"
    );
}

#[tokio::test]
async fn old_token_is_not_used_after_its_expiry() {
    let server = Server::start(|number, _| match number {
        0 => Reply::token("old", 3599),
        1 => Reply::json(500, ""),
        _ => Reply::token("new", 3599),
    })
    .await;
    let cache = cache(&server, secret());
    token(&cache).await;
    later(3580).await;
    assert_eq!(token(&cache).await.expose(), "old");
    later(20).await;
    assert_eq!(token(&cache).await.expose(), "new", "within the pause");
}

#[tokio::test]
async fn old_token_that_expires_during_a_renewal_is_not_used() {
    let (asked, was_asked) = tokio::sync::oneshot::channel();
    let mut asked = Some(asked);
    let server = Server::start(move |number, _| match number {
        0 => Reply::token("old", 3599),
        1 => {
            asked.take().unwrap().send(()).unwrap();
            Reply::Stall
        }
        _ => Reply::token("new", 3599),
    })
    .await;
    let cache = cache(&server, secret());
    token(&cache).await;
    later(3590).await;
    let deadline = soon() + Duration::from_secs(10);
    let (new, ()) = tokio::join!(cache.token(deadline), async {
        was_asked.await.unwrap();
        later(10).await;
    });
    assert_eq!(new.unwrap().expose(), "new");
}

#[tokio::test]
async fn only_the_cached_token_is_invalidated_and_any_is_cleared() {
    let server = Server::start(|number, _| Reply::token(&format!("t{number}"), 3599)).await;
    let cache = cache(&server, secret());
    let first = token(&cache).await;
    cache.invalidate(&first);
    let second = token(&cache).await;
    assert_eq!(second.expose(), "t1");
    cache.invalidate(&first);
    assert_eq!(token(&cache).await.expose(), "t1");
    cache.clear();
    assert_eq!(token(&cache).await.expose(), "t2");
}

#[tokio::test]
async fn temporary_errors_are_retried_and_secrets_never_shown() {
    let server = Server::start(|number, _| match number {
        0 => Reply::Hangup,
        1 => refusal(90_033),
        2 => Reply::Full(429, vec![("retry-after", "0".to_owned())], String::new()),
        3 => Reply::Cut,
        4 => Reply::json(200, r#"{"token_type":"Bearer","access_tok"#),
        5 => Reply::token("t0ken", 3599),
        _ => Reply::json(
            400,
            format!(r#"{{"error":"e","error_description":"{SECRET} is\r\nwrong"}}"#),
        ),
    })
    .await;
    let cache = cache(&server, secret());
    let granted = token(&cache).await;
    cache.invalidate(&granted);
    let error = cache.token(soon()).await.unwrap_err();
    assert!(error.to_string().ends_with("400: e: [redacted] is wrong"));
    assert!(!format!("{error:?} {cache:?} {granted:?}").contains(SECRET));
    assert!(!format!("{granted:?}").contains("t0ken"));
    assert!(format!("{cache:?}").starts_with("TokenCache { endpoint: "));
    assert!(granted.authorization().is_sensitive());
}

#[tokio::test]
async fn remedy_is_about_the_network_if_the_endpoint_does_not_answer() {
    let gone = Server::start(|_, _| Reply::Hangup).await.url.clone();
    let gone = gone.replace("127.0.0.1", "127.0.0.9");
    for (host, remedy) in [
        ("login.microsoftonline.com", "check name resolution"),
        (IMDS_HOST, "no managed identity"),
    ] {
        let source = http().client.get(&gone).send().await.unwrap_err();
        let error = TokenError::Transport(host.to_owned(), source);
        assert!(error.remedy().unwrap().starts_with(remedy), "{error:?}");
        assert_eq!(error.reason(), FailureReason::Connect);
    }
    let broken = Server::start(|_, _| Reply::Hangup).await;
    let source = http().client.get(&broken.url).send().await.unwrap_err();
    let error = TokenError::Transport("login.microsoftonline.com".to_owned(), source);
    assert_eq!(error.remedy(), None);
}

#[tokio::test]
async fn malformed_tokens_by_table() {
    use FailureReason::{Auth, Malformed, Status};
    for (reply, expected, reason) in [
        (Reply::json(200, "{}"), "access_token", Malformed),
        (
            Reply::json(200, "<html>"),
            "not JSON (Content-Type: application/json)",
            Malformed,
        ),
        (
            Reply::Full(200, Vec::new(), "<html>".to_owned()),
            "not JSON (Content-Type: none)",
            Malformed,
        ),
        (Reply::token("a b", 5), "header", Malformed),
        (
            Reply::json(200, r#"{"access_token":"t","expires_in":-5}"#),
            "lifetime",
            Malformed,
        ),
        (
            Reply::json(200, r#"{"access_token":"t"}"#),
            "lifetime",
            Malformed,
        ),
        (
            Reply::json(
                200,
                r#"{"access_token":"t","expires_in":5,"token_type":"mac"}"#,
            ),
            "Bearer",
            Malformed,
        ),
        (
            Reply::json(
                200,
                "\u{feff}{\"error\":\"e\",\"error_description\":\"AADSTS7000222: \\ud83d\"}",
            ),
            "the token endpoint answered 200: e: AADSTS7000222",
            Auth,
        ),
        (Reply::json(200, " ".repeat(100_000)), "bytes", Malformed),
        (
            Reply::Full(
                302,
                vec![("location", "http://evil".to_owned())],
                String::new(),
            ),
            "302",
            Status,
        ),
    ] {
        let mut reply = Some(reply);
        let server = Server::start(move |_, _| reply.take().unwrap_or(Reply::Stall)).await;
        let error = cache(&server, secret()).token(soon()).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.reason(), reason, "{error}");
    }
}

#[tokio::test]
async fn response_that_always_breaks_off_has_its_own_remedy() {
    let server = Server::start(|number, _| match number {
        0 => Reply::json(200, ""),
        _ => Reply::json(200, r#"{"access_token":"t"#),
    })
    .await;
    let error = cache(&server, secret()).token(soon()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "127.0.0.1 sent a response that breaks off"
    );
    assert_eq!(error.reason(), FailureReason::Malformed);
    assert!(
        error
            .remedy()
            .unwrap()
            .contains("breaks off even after retries")
    );
    assert_eq!(server.received().len(), 5);
}

#[tokio::test]
async fn a_stalled_endpoint_ends_with_the_deadline() {
    let server = Server::start(|_, _| Reply::Stall).await;
    let cache = cache(&server, secret());
    let deadline = Instant::now() + Duration::from_millis(50);
    let error = cache.token(deadline).await.unwrap_err();
    assert_eq!(error.reason(), FailureReason::Timeout);
    assert_eq!(
        error.to_string(),
        "no response from 127.0.0.1 within the time of the poll"
    );
}

#[tokio::test]
async fn files_are_re_read_and_the_certificate_expiry_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let server = Server::start(|_, _| Reply::token("t", 0)).await;

    std::fs::write(path("secret"), "one\n").unwrap();
    let by_secret = cache(
        &server,
        Credential::Secret(SecretSource::File(path("secret"))),
    );
    token(&by_secret).await;
    std::fs::write(path("secret"), "two\n").unwrap();
    token(&by_secret).await;
    assert_eq!(by_secret.credential_expiry(), None);

    std::fs::write(path("federated"), "a.b.c\n").unwrap();
    let by_file = cache(&server, Credential::FederatedTokenFile(path("federated")));
    token(&by_file).await;

    super::super::assertion::tests::make_certificate(folder.path());
    let by_certificate = cache(
        &server,
        Credential::Certificate {
            certificate: path("cert.pem"),
            key: Some(path("key.pem")),
        },
    );
    assert_eq!(by_certificate.credential_expiry(), None);
    token(&by_certificate).await;
    assert!(by_certificate.credential_expiry().is_some());

    let sent = |field: &str| -> Vec<Option<String>> {
        let received = server.received();
        received
            .iter()
            .map(|request| request.field(field))
            .collect()
    };
    let secrets = sent("client_secret");
    assert_eq!(
        (secrets[0].as_deref(), secrets[1].as_deref()),
        (Some("one"), Some("two"))
    );
    let assertions = sent("client_assertion");
    assert_eq!(assertions[2].as_deref(), Some("a.b.c"));
    let claims = assertions[3].as_deref().unwrap().split('.').nth(1).unwrap();
    let claims = String::from_utf8(BASE64URL.decode(claims).unwrap()).unwrap();
    let audience = format!("{}/contoso.com/oauth2/v2.0/token", server.url);
    assert!(
        claims.contains(&format!(r#""aud":"{audience}""#)),
        "{claims}"
    );

    std::fs::remove_file(path("secret")).unwrap();
    let error = by_secret.token(soon()).await.unwrap_err();
    assert_eq!(error.reason(), FailureReason::Auth);
    assert!(
        Chain(&error).to_string().contains("cannot read /"),
        "{}",
        Chain(&error)
    );
}

#[tokio::test]
async fn managed_identity_requests_use_get() {
    let reply = |number: usize, _: &Received| {
        if number == 0 {
            let echo =
                r#"{"error":"invalid_request","error_description":"identity-header is bad"}"#;
            return Reply::json(400, echo);
        }
        let end = wall_clock().timestamp() + 1800;
        let body = format!(r#"{{"access_token":"t","expires_on":"{end}","token_type":"Bearer"}}"#);
        Reply::json(200, body)
    };
    let server = Server::start(reply).await;
    let url = server.url.clone();
    let endpoint = ManagedIdentityEndpoint::from_environment(|name| match name {
        "IDENTITY_ENDPOINT" => Some(format!("{url}/msi/token")),
        "IDENTITY_HEADER" => Some("identity-header".to_owned()),
        _ => None,
    });
    let cache = cache(&server, Credential::ManagedIdentity(endpoint.unwrap()));
    let error = cache.token(soon()).await.unwrap_err();
    assert!(error.remedy().unwrap().contains("identity"), "{error}");
    assert!(error.to_string().ends_with("[redacted] is bad"), "{error}");
    token(&cache).await;
    assert!(
        cache
            .expires_in()
            .is_some_and(|left| left.as_secs().abs_diff(1800) < 10)
    );
    let request = &server.received()[1];
    assert_eq!(request.method, "GET");
    assert_eq!(request.header("x-identity-header"), Some("identity-header"));
    assert_eq!(
        request.path,
        "/msi/token?api-version=2019-08-01&resource=https%3A%2F%2Fgraph.microsoft.com&client_id=client"
    );
}

/// Each reply starts the endpoint's minute. After it, the failure counts as one of the connection.
#[tokio::test(start_paused = true)]
async fn a_managed_identity_that_is_not_ready_is_asked_for_70_seconds() {
    for status in [404, 410, 429, 500, 502, 503, 504, 599] {
        for ready_after in [Some(70), None] {
            let begun = Instant::now();
            let server = Server::start(move |_, _| {
                let ready = ready_after.is_some_and(|seconds| begun.elapsed().as_secs() >= seconds);
                if ready {
                    Reply::token("t", 3599)
                } else {
                    Reply::json(status, r#"{"error":"gone"}"#)
                }
            })
            .await;
            let endpoint = ManagedIdentityEndpoint::virtual_machine(server.url.parse().unwrap());
            let options = options(&server, Credential::ManagedIdentity(endpoint));
            let cache = TokenCache::new(http(), options, RetryPolicy::default(), wall_clock);
            let deadline = begun + Duration::from_mins(5);
            let token = cache.unwrap().token(deadline).await;
            let seconds = begun.elapsed().as_secs();
            assert!((70..=80).contains(&seconds), "{status}: {seconds} s");
            assert!((8..20).contains(&server.received().len()), "{status}");
            match (token, ready_after) {
                (Ok(_), Some(_)) => {}
                (Err(error), None) => {
                    assert_eq!(error.reason(), FailureReason::Connect, "{error}");
                    let remedy = error.remedy().unwrap();
                    assert!(remedy.contains("not ready"), "{remedy}");
                }
                (token, _) => panic!("{status}, {ready_after:?}: {token:?}"),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_managed_identity_that_is_not_ready_is_given_up_at_the_deadline() {
    let server = Server::start(|_, _| Reply::json(410, "")).await;
    let endpoint = ManagedIdentityEndpoint::virtual_machine(server.url.parse().unwrap());
    let cache = cache(&server, Credential::ManagedIdentity(endpoint));
    let begun = Instant::now();
    let error = cache
        .token(begun + Duration::from_secs(5))
        .await
        .unwrap_err();
    assert_eq!(error.reason(), FailureReason::Connect);
    assert!(begun.elapsed() <= Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn no_request_is_sent_while_the_token_endpoint_throttles() {
    let server = Server::start(|number, _| match number {
        0..20 => Reply::Full(429, vec![("retry-after", "5".to_owned())], String::new()),
        20 => Reply::Full(503, vec![("retry-after", "900".to_owned())], String::new()),
        _ => Reply::token("t", 3599),
    })
    .await;
    let cache = cache(&server, secret());
    let begun = Instant::now();
    let deadline = begun + Duration::from_mins(5);
    let error = cache.token(deadline).await.unwrap_err();
    assert_eq!(error.reason(), FailureReason::Status, "{error}");
    assert!(
        begun.elapsed() >= Duration::from_secs(100),
        "20 waits of 5 s"
    );
    let error = cache.token(Instant::now() + Duration::from_mins(5)).await;
    let error = Chain(&error.unwrap_err()).to_string();
    assert!(
        error.contains("answered 503 and all requests must wait for another"),
        "{error}"
    );
    assert_eq!(server.received().len(), 21, "none before its time");
    token_by(&cache, Duration::from_mins(20)).await;
    assert_eq!(server.received().len(), 22);
}

#[test]
fn roles_are_a_hint() {
    let roles = |payload: &str| {
        let jwt = format!("e30.{}.sig", BASE64URL.encode(payload));
        let token = AccessToken::new(jwt.into(), Instant::now(), Duration::ZERO).unwrap();
        token.roles()
    };
    let read = "CallRecord-PstnCalls.Read.All";
    assert_eq!(
        roles(&format!(r#"{{"aud":"x","roles":["{read}"]}}"#)),
        Some(vec![read.to_owned()])
    );
    assert_eq!(roles("{}"), Some(Vec::new()));
    assert_eq!(roles("garbage"), None);
    let opaque = AccessToken::new("opaque".into(), Instant::now(), Duration::ZERO).unwrap();
    assert_eq!(opaque.roles(), None);
}

#[tokio::test]
async fn insufficient_options_are_rejected() {
    let server = Server::start(|_, _| Reply::Stall).await;
    for (tenant, client) in [
        ("", Some("c")),
        ("a/../b", Some("c")),
        ("..", Some("c")),
        ("t", None),
    ] {
        let mut options = options(&server, secret());
        tenant.clone_into(&mut options.tenant_id);
        options.client_id = client.map(str::to_owned);
        assert!(TokenCache::new(http(), options, RetryPolicy::default(), wall_clock).is_err());
    }
}

async fn token_by(cache: &TokenCache, patience: Duration) -> Arc<AccessToken> {
    cache.token(Instant::now() + patience).await.unwrap()
}

fn cache(server: &Server, credential: Credential) -> TokenCache {
    let retry = RetryPolicy {
        delay_base: Duration::from_millis(1),
        ..RetryPolicy::default()
    };
    TokenCache::new(http(), options(server, credential), retry, wall_clock).unwrap()
}

fn options(server: &Server, credential: Credential) -> TokenOptions {
    TokenOptions {
        authority: server.url.parse().unwrap(),
        tenant_id: "contoso.com".to_owned(),
        client_id: Some("client".to_owned()),
        scope: "https://graph.microsoft.com/.default".to_owned(),
        credential,
    }
}

fn http() -> HttpClient {
    HttpClient::new(&HttpOptions {
        proxies: false,
        plain_only: true,
        ..HttpOptions::default()
    })
    .unwrap()
}

fn secret() -> Credential {
    Credential::Secret(SecretSource::Inline(SECRET.into()))
}

fn refusal(code: u32) -> Reply {
    let body =
        format!(r#"{{"error":"e","error_description":"AADSTS{code}: no","error_codes":[{code}]}}"#);
    Reply::json(400, body)
}

fn wall_clock() -> DateTime<Utc> {
    "2026-11-21T13:00:00Z".parse().unwrap()
}

async fn token(cache: &TokenCache) -> Arc<AccessToken> {
    cache.token(soon()).await.unwrap()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// Advances tokio's clock, then resumes it so that sockets work.
async fn later(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}
