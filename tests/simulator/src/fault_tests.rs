//! Tests of each fault over plain TCP. The next request succeeds.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::faults::ErrorBody;
use super::tests::{Answer, REPORT, TENANT, get, good_form, post_token, simulator, token};
use super::*;

#[tokio::test]
async fn faults_instead_of_a_page() {
    check(Fault::status(503), |a| {
        a.status == 503 && a.json()["error"]["code"] == "ServiceUnavailable"
    })
    .await;
    check(Fault::status_with(502, ErrorBody::Html), |a| {
        a.status == 502 && a.headers["content-type"].starts_with("text/html")
    })
    .await;
    check(Fault::throttle("-5"), |a| {
        a.status == 429
            && a.headers["retry-after"] == "-5"
            && a.json()["error"]["code"] == "TooManyRequests"
    })
    .await;
    check(Fault::RefuseConnection, |a| a.status == 0).await;
    check(Fault::CutBody, |a| {
        a.status == 200 && !a.is_complete && !a.body.is_empty()
    })
    .await;
    check(Fault::ExpireToken, |a| {
        a.status == 401 && a.headers.contains_key("www-authenticate")
    })
    .await;
    check(Fault::EmptyForbidden, |a| {
        a.status == 403 && a.json()["error"]["message"] == ""
    })
    .await;
    check(Fault::Html, |a| {
        a.status == 200 && a.body.starts_with(b"<!DOCTYPE")
    })
    .await;
    check(Fault::NotJson, |a| {
        a.status == 200 && serde_json::from_slice::<serde_json::Value>(&a.body).is_err()
    })
    .await;
    check(Fault::GzipBomb(50_000_000), |a| {
        a.headers["content-encoding"] == "gzip" && a.body.len() < 500_000
    })
    .await;
    check(Fault::DeepNesting(500), |a| {
        String::from_utf8_lossy(&a.body).matches('[').count() == 501
    })
    .await;
    check(Fault::Redirect("https://evil.example/".into()), |a| {
        a.status == 302 && a.headers["location"] == "https://evil.example/"
    })
    .await;
}

#[tokio::test]
async fn faults_of_a_page() {
    check(
        Fault::SlowDrip {
            bytes: 100_000,
            pause: Duration::from_millis(1),
        },
        |a| a.json()["@odata.count"] == 1_000,
    )
    .await;
    check(
        Fault::ForeignNextLink("https://evil.example/".into()),
        |a| a.json()["@odata.nextLink"] == "https://evil.example/",
    )
    .await;
    check(Fault::LoopingNextLink, |a| {
        a.next_link().ends_with("?$skip=1000")
    })
    .await;
    check(Fault::RelativeNextLink, |a| {
        a.next_link().starts_with("/beta/communications/")
    })
    .await;
    check(Fault::NextLinkSpelling("@odata.NextLink".into()), |a| {
        a.json()["@odata.NextLink"].is_string() && a.json()["@odata.nextLink"].is_null()
    })
    .await;
    check(Fault::WrongContentType("text/plain".into()), |a| {
        a.headers["content-type"] == "text/plain" && a.json()["@odata.count"] == 1_000
    })
    .await;
    check(Fault::HugePage(3_000_000), |a| {
        a.body.len() > 3_000_000 && a.json()["@odata.count"] == 1_000
    })
    .await;
    check(Fault::DuplicateKeys, |a| {
        let row = String::from_utf8_lossy(&a.body)
            .matches("\"totalCallCharge\":")
            .count();
        row == 2_000
    })
    .await;
    check(
        Fault::BadRow {
            at: 3,
            json: "{\"totalCallCharge\":1e400}".into(),
        },
        |a| {
            a.body
                .windows(30)
                .any(|bytes| bytes.starts_with(b"{\"totalCallCharge\":1e400}"))
        },
    )
    .await;
    check(Fault::InvalidUtf8, |a| {
        std::str::from_utf8(&a.body).is_err()
    })
    .await;
    check(Fault::RepeatRows(10), |a| {
        a.json()["@odata.count"] == 1_010
            && a.json()["value"][10]["userPrincipalName"] == "user0001000@contoso.com"
    })
    .await;
}

#[tokio::test]
async fn token_faults_by_table() {
    let check = async |fault: Fault, such: fn(&Answer) -> bool| {
        let simulator = simulator(World::Rows { count: 1 }).await;
        simulator.push_fault(When::token().tenant(TENANT), fault.clone());
        let answer = post_token(&simulator, TENANT, &good_form(&simulator)).await;
        assert!(such(&answer), "{fault:?}: {}", answer.status);
        assert_eq!(simulator.counts().struck, 1, "{fault:?}");
        assert_eq!(
            post_token(&simulator, TENANT, &good_form(&simulator))
                .await
                .status,
            200
        );
    };
    check(Fault::TokenError(53_003), |a| {
        a.json()["error_codes"][0] == 53_003
    })
    .await;
    check(Fault::TokenError(90_033), |a| a.status == 503).await;
    check(Fault::ZeroLifetimeToken, |a| a.json()["expires_in"] == 0).await;
    check(Fault::status(500), |a| {
        a.status == 500 && a.json()["error"].is_string()
    })
    .await;
    check(Fault::throttle("2"), |a| a.headers["retry-after"] == "2").await;
    check(Fault::CutBody, |a| !a.is_complete).await;
    check(Fault::RefuseConnection, |a| a.status == 0).await;
}

#[tokio::test]
async fn fault_without_meaning_for_a_request_has_no_effect() {
    let check = async |when: When, fault: Fault| {
        let simulator = simulator(World::Rows { count: 2_500 }).await;
        simulator.push_fault(when, fault.clone());
        let token = token(&simulator).await;
        let last = REPORT
            .replace("fromDateTime", "from")
            .replace("toDateTime", "to")
            + "?$skip=2000";
        for page in [REPORT, &last] {
            assert_eq!(get(&simulator, page, &token).await.status, 200);
        }
        assert!(simulator.shared.faults().is_empty(), "{fault:?} waits");
        assert_eq!(simulator.counts().struck, 0, "{fault:?}");
    };
    // There is no link on the last page, and nothing before the first.
    check(When::page(3), Fault::RelativeNextLink).await;
    check(
        When::page(3),
        Fault::NextLinkSpelling("@odata.NextLink".into()),
    )
    .await;
    check(When::page(1), Fault::RepeatRows(10)).await;
    check(When::page(1), Fault::TokenError(53_003)).await;
    check(When::page(1), Fault::ZeroLifetimeToken).await;
    for fault in [Fault::ExpireToken, Fault::EmptyForbidden] {
        check(When::token(), fault).await;
    }
    for fault in [Fault::DuplicateKeys, Fault::LoopingNextLink] {
        check(When::token(), fault).await;
    }
}

#[tokio::test]
async fn stalls_end_with_the_client() {
    for fault in [Fault::StallHead, Fault::StallBody] {
        let simulator = simulator(World::Rows { count: 10 }).await;
        let token = token(&simulator).await;
        simulator.push_fault(When::graph().always(), fault.clone());
        let mut connection = TcpStream::connect(simulator.address()).await.unwrap();
        let request =
            format!("GET {REPORT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n");
        connection.write_all(request.as_bytes()).await.unwrap();
        simulator.wait_for_requests(2).await;
        if fault == Fault::StallBody {
            let mut begin = [0; 600];
            connection.read_exact(&mut begin).await.unwrap();
            assert!(begin.starts_with(b"HTTP/1.1 200 OK\r\n"));
        }
        drop(connection);
        // Only the simulator, its accept loop and connections hold this.
        while Arc::strong_count(&simulator.shared) > 2 {
            tokio::task::yield_now().await;
        }
        simulator.clear_faults();
        assert_eq!(get(&simulator, REPORT, &token).await.status, 200);
        assert_eq!(simulator.counts().struck, 1, "{fault:?}");
    }
}

/// The fault affects the second page of three.
async fn check(fault: Fault, such: fn(&Answer) -> bool) {
    let simulator = simulator(World::Rows { count: 2_500 }).await;
    let token = token(&simulator).await;
    simulator.push_fault(When::page(2), fault.clone());
    assert_eq!(get(&simulator, REPORT, &token).await.status, 200);
    let second = REPORT
        .replace("fromDateTime", "from")
        .replace("toDateTime", "to")
        + "?$skip=1000";
    let answer = get(&simulator, &second, &token).await;
    assert!(
        such(&answer),
        "{fault:?}: {} {:?}",
        answer.status,
        answer.headers
    );
    assert_eq!(simulator.counts().struck, 1, "{fault:?}");
    let healed = get(&simulator, &second, &token).await;
    assert_eq!(healed.json()["@odata.count"], 1_000);
}
