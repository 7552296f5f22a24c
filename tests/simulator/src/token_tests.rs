//! Tests of each credential and each documented error of the token endpoints, over plain TCP.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::assertion::vectors::{ASSERTION, CERTIFICATE};
use super::tests::{
    CLIENT, REPORT, SECRET, TENANT, exchange, get, now, options, post_token, simulator, token,
};
use super::*;

#[tokio::test]
async fn token_errors_by_table() {
    let simulator = simulator(World::Rows { count: 1 }).await;
    simulator.change(TENANT, |tenant| {
        tenant.expired_secrets = vec!["old".to_owned()];
    });
    let scope = format!("{}/.default", simulator.url());
    let good = [
        ("grant_type", "client_credentials"),
        ("client_id", CLIENT),
        ("client_secret", SECRET),
        ("scope", &scope),
    ];
    let table = [
        (TENANT, "scope", scope.as_str(), 200, 0),
        ("unknown.example", "scope", &scope, 400, 90_002),
        ("contoso", "scope", &scope, 400, 900_023),
        (TENANT, "grant_type", "", 400, 900_144),
        (TENANT, "grant_type", "password", 400, 70_003),
        (TENANT, "client_id", "another", 400, 700_016),
        (TENANT, "scope", simulator.url(), 400, 1_002_012),
        (
            TENANT,
            "scope",
            "https://graph.example/.default",
            400,
            500_011,
        ),
        (TENANT, "client_secret", "wrong", 401, 7_000_215),
        (TENANT, "client_secret", "old", 401, 7_000_222),
    ];
    for (tenant, key, value, status, code) in table {
        let form = good.map(|(k, v)| (k, if k == key { value } else { v }));
        let answer = post_token(&simulator, tenant, &form).await;
        let body = answer.json();
        assert_eq!(answer.status, status, "{body}");
        if code == 0 {
            assert_eq!(
                (&body["token_type"], &body["expires_in"]),
                (&"Bearer".into(), &3_599.into())
            );
            continue;
        }
        assert_eq!(body["error_codes"], serde_json::json!([code]));
        let description = body["error_description"].as_str().unwrap();
        assert!(
            description.starts_with(&format!("AADSTS{code}: ")),
            "{description}"
        );
        for part in [
            "\r\nTrace ID: ",
            "\r\nCorrelation ID: ",
            "\r\nTimestamp: 2026-11-21 13:00:00Z",
        ] {
            assert!(description.contains(part), "{description}");
        }
        assert!(body["trace_id"].is_string() && body["correlation_id"].is_string());
    }
    let without_credential = [good[0], good[1], good[3]];
    let answer = post_token(&simulator, TENANT, &without_credential).await;
    assert_eq!(answer.json()["error_codes"], serde_json::json!([7_000_218]));
}

#[tokio::test]
async fn other_credentials_are_checked() {
    let simulator = simulator(World::Rows { count: 1 }).await;
    simulator.change(TENANT, |tenant| {
        tenant.federated_tokens = vec!["from.elsewhere.x".to_owned()];
        tenant.managed_identity = true;
        tenant.identity_header = Some("header".to_owned());
    });
    let scope = format!("{}/.default", simulator.url());
    for (assertion, code) in [
        ("from.elsewhere.x", None),
        ("from.another.x", Some(700_213)),
    ] {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", CLIENT),
            (
                "client_assertion_type",
                "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            ),
            ("client_assertion", assertion),
            ("scope", &scope),
        ];
        let body = post_token(&simulator, TENANT, &form).await.json();
        assert_eq!(body["error_codes"][0].as_u64(), code);
        assert_eq!(body["access_token"].is_string(), code.is_none());
    }
    let resource = format!("resource={}", simulator.url());
    let machine = "/metadata/identity/oauth2/token?api-version=2018-02-01";
    let app = "/msi/token?api-version=2019-08-01";
    for (path, header, status) in [
        (machine, "Metadata: true", 200),
        (machine, "Metadata: no", 400),
        (app, "Metadata: true", 401),
        (app, "X-IDENTITY-HEADER: header", 200),
        (
            "/msi/token?api-version=2018-02-01",
            "X-IDENTITY-HEADER: header",
            400,
        ),
    ] {
        let answer = exchange(&simulator, &format!("GET {path}&{resource}"), &[header], "").await;
        assert_eq!(answer.status, status, "{path} {header}");
        if status == 200 {
            let body = answer.json();
            let expires = (now().timestamp() + 3_599).to_string();
            assert_eq!(body["expires_on"], expires);
            let token = body["access_token"].as_str().unwrap();
            assert_eq!(get(&simulator, REPORT, token).await.status, 200);
        }
    }
}

#[tokio::test]
async fn assertion_is_valid_once() {
    let mut tenant = Tenant::new("contoso.com", "app", SECRET, World::Rows { count: 1 });
    tenant.certificates = vec![STANDARD.decode(CERTIFICATE).unwrap()];
    let simulator = Simulator::start(Options {
        origin: Some("https://login.example".to_owned()),
        tenants: vec![tenant],
        ..Options::new(|| DateTime::from_timestamp(1_700_000_060, 0).unwrap())
    })
    .await
    .unwrap();
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", "app"),
        (
            "client_assertion_type",
            "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        ),
        ("client_assertion", ASSERTION),
        ("scope", "https://login.example/.default"),
    ];
    let first = post_token(&simulator, "contoso.com", &form).await;
    assert_eq!(first.status, 200);
    let second = post_token(&simulator, "contoso.com", &form).await;
    assert_eq!(second.json()["error_codes"][0], 50_012);
}

#[tokio::test]
async fn tokens_expire_by_the_clock() {
    let seconds = Arc::new(std::sync::atomic::AtomicI64::new(0));
    let read = Arc::clone(&seconds);
    let simulator = Simulator::start(Options {
        tenants: options(World::Rows { count: 1 }).tenants,
        ..Options::new(move || {
            now() + chrono::TimeDelta::seconds(read.load(std::sync::atomic::Ordering::Relaxed))
        })
    })
    .await
    .unwrap();
    let token = token(&simulator).await;
    for (later, status) in [(3_598, 200), (3_599, 401)] {
        seconds.store(later, std::sync::atomic::Ordering::Relaxed);
        let answer = get(&simulator, REPORT, &token).await;
        assert_eq!(answer.status, status);
        let date = httpdate::parse_http_date(&answer.headers["date"]).unwrap();
        let expected = now() + chrono::TimeDelta::seconds(later);
        assert_eq!(DateTime::<Utc>::from(date), expected);
    }
}
