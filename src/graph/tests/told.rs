//! What is said of a failure, and what never is.

use std::sync::{Arc, Mutex};

use super::super::testing::{Received, Reply};
use super::super::{Chain, FailureReason, Tally};
use super::{SECRET, TOKEN, client, graph, read};

#[tokio::test]
async fn logs_hold_the_request_id_and_no_secret() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    // With a single subscriber in the process, tracing would let whichever thread comes to a log line first decide for
    // all threads whether anyone listens; with two it asks both.
    let second = tracing::Dispatch::new(tracing_subscriber::registry());
    let guard = tracing::subscriber::set_default(subscriber);
    let echo = |status, request: &Received| {
        let echoed = request.header("authorization").unwrap();
        let headers = vec![("request-id", "r-42".to_owned())];
        let body = format!(r#"{{"error":{{"code":"c","message":"{echoed}"}}}}"#);
        Reply::Full(status, headers, body)
    };
    let server = graph(move |number, request| match number {
        0 => echo(503, request),
        1 => echo(401, request),
        _ => echo(403, request),
    })
    .await;
    let error = read(&client(&server), &Tally::default()).await.unwrap_err();
    tracing::warn!(error = %Chain(&error), debug = ?error, "failed");
    drop((guard, second));
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("r-42") && text.contains("asked Graph") && text.contains("[redacted]"));
    assert!(!text.contains(TOKEN) && !text.contains(SECRET), "{text}");
}

#[test]
fn reasons_have_their_labels() {
    let labels = FailureReason::ALL.map(FailureReason::as_str);
    let expected = [
        "auth",
        "forbidden",
        "throttled",
        "timeout",
        "connect",
        "status",
        "malformed",
        "limit",
    ];
    assert_eq!(labels, expected);
}

#[test]
fn a_chain_is_one_line_without_repetition() {
    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Level {
        text: &'static str,
        source: Option<Box<Level>>,
    }

    let level = |text, source: Option<Level>| Level {
        text,
        source: source.map(Box::new),
    };
    let error = level(
        "cannot poll\nnow",
        Some(level(
            "no answer: connection refused",
            Some(level(
                "connection refused",
                Some(level("os error 111", None)),
            )),
        )),
    );
    assert_eq!(
        Chain(&error).to_string(),
        "cannot poll now: no answer: connection refused: os error 111"
    );
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
