//! Malformed pages: when one is requested again, and its error message.

use super::super::stats::RequestStats;
use super::super::testing::Reply;
use super::super::{FailureReason, retry::RetryReason};
use super::{TOKEN, client, graph, page, read};
use crate::chain::Chain;

const ID: &str = "5b7c1e2a-33f0-4a52-8d0e-2f6b9c1d7e10";
const HALF: &str = r#"{"value":[{"id":"b"},{"id":"#;
const IN_STREAM: &str =
    r#"{"value":[{"id":"b"}{"error":{"code":"TooManyRequests","message":"wait"}}"#;
const BESIDE: &str =
    r#"{"value":[{"id":"b"}],"error":{"code":"ServiceUnavailable","message":"partition 3"}}"#;

#[tokio::test]
async fn page_that_is_not_whole_is_requested_again_and_counts_once() {
    for body in [
        "",
        "{",
        HALF,
        IN_STREAM,
        BESIDE,
        r#"{"value":[{"id":"b"}]} {"error":{"code":"c"}}"#,
        r#"{"error":{"code":"c"}}"#,
    ] {
        for broken in [0, 1] {
            let server = graph(move |number, _| match number {
                number if number == broken => Reply::json(200, body),
                number if number == usize::from(broken == 0) => {
                    Reply::json(200, page(&["a", "b"], Some("/next")))
                }
                _ => Reply::json(200, page(&["c"], None)),
            })
            .await;
            let stats = RequestStats::default();
            // Either the first or the second page is broken.
            let rows = read(&client(&server), &stats).await.unwrap();
            assert_eq!(rows, "1a 2b 3c ", "{body}");
            assert_eq!((stats.pages(), stats.rows()), (2, 3), "{body}");
            assert_eq!(stats.retries(RetryReason::Body), 1, "{body}");
        }
    }
}

#[tokio::test]
async fn each_flaw_has_its_remedy() {
    let token_echoed = format!(r#"{{"value":[],"error":{{"message":"for {TOKEN}"}}}}"#);
    for (body, requests, message, remedy) in [
        ("<html>", 1, "expected value", "login page"),
        ("value: none", 1, "expected value", "login page"),
        ("", 3, "EOF", "breaks off"),
        (HALF, 3, "row 2 is malformed", "breaks off"),
        (
            r#"{"value":[{"id":"a"}]}x"#,
            3,
            "trailing characters",
            "breaks off",
        ),
        (
            r#"{"value":[{"id":NaN}]}"#,
            1,
            "row 1 is malformed",
            "newest exporter",
        ),
        (
            IN_STREAM,
            3,
            "TooManyRequests: wait",
            "failure at Microsoft",
        ),
        (
            BESIDE,
            3,
            "ServiceUnavailable: partition 3",
            "failure at Microsoft",
        ),
        (
            r#"{"value":[],"error":"no"}"#,
            3,
            "no code: no",
            "failure at Microsoft",
        ),
        (&token_echoed, 3, "for ", "failure at Microsoft"),
        (
            r#"{"value":[{"id":5}]}"#,
            1,
            "row 1 is malformed",
            "newest exporter",
        ),
        (
            r#"{"value":[{"name":"a"}]}"#,
            1,
            "missing field",
            "newest exporter",
        ),
        (
            r#"{"value":null}"#,
            1,
            "an array of rows",
            "newest exporter",
        ),
        (r#"{"rows":[]}"#, 1, "missing field", "newest exporter"),
        (
            r#"{"value":[],"value":[]}"#,
            1,
            "duplicate field",
            "newest exporter",
        ),
        ("[]", 1, "a page", "newest exporter"),
        (
            r#"{"value":[],"@odata.nextLink":"https://graph.example/x"}"#,
            1,
            "leads to another host",
            "rewrite links",
        ),
        (
            r#"{"value":[],"@odata.nextLink":"/n"}"#,
            2,
            "was read already",
            "whole query",
        ),
    ] {
        let reply = body.to_owned();
        let server = graph(move |_, _| {
            let headers = vec![("request-id", ID.to_owned())];
            Reply::Full(200, headers, reply.clone())
        })
        .await;
        let error = read(&client(&server), &RequestStats::default())
            .await
            .unwrap_err();
        let text = Chain(&error).to_string();
        assert_eq!(error.reason(), FailureReason::Malformed, "{body}: {text}");
        assert!(
            text.contains(message) && text.contains(ID) && !text.contains(TOKEN),
            "{body}: {text}"
        );
        assert!(
            error.remedy().unwrap().contains(remedy),
            "{body}: {error:?}"
        );
        assert_eq!(super::reports(&server).len(), requests, "{body}");
    }
}

#[tokio::test]
async fn error_in_a_page_names_its_own_request_id() {
    let body = r#"{"value":[],"error":{"code":"c","innerError":{"request-id":"0a9c2c2e-6a39-4a5c-9f0e-7d2f4a1b8c3d"}}}"#;
    let server = graph(move |_, _| Reply::json(200, body)).await;
    let error = read(&client(&server), &RequestStats::default())
        .await
        .unwrap_err();
    assert!(
        Chain(&error)
            .to_string()
            .contains("0a9c2c2e-6a39-4a5c-9f0e-7d2f4a1b8c3d"),
        "{error:?}"
    );
}
