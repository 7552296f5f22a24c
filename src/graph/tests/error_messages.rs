//! Error messages: what they must contain (request-id, remedy) and must never contain (token, secret).

use std::sync::{Arc, Mutex};

use base64::Engine as _;

use super::super::testing::{Reply, Server};
use super::super::{FailureReason, RequestStats};
use super::{PATIENCE, SECRET, TOKEN, client, client_of, graph, page, read};
use crate::chain::Chain;

/// A response that repeats a credential: a status, headers and a body.
type Place = fn(&str) -> (u16, Vec<(&'static str, String)>, String);

/// Responses of Graph. The token endpoint sends the first four too.
const PLACES: [(&str, Place); 13] = [
    ("x-ms-request-id", |it| {
        (
            400,
            vec![("x-ms-request-id", it.to_owned())],
            "{}".to_owned(),
        )
    }),
    ("content-type", |it| {
        (
            403,
            vec![("content-type", format!("text/{it}"))],
            "x".to_owned(),
        )
    }),
    ("content-type, 200", |it| {
        (
            200,
            vec![("content-type", format!("text/{it}"))],
            "x".to_owned(),
        )
    }),
    ("location", |it| {
        (
            302,
            vec![("location", format!("https://{it}/{it}"))],
            it.to_owned(),
        )
    }),
    ("request-id", |it| {
        (403, vec![("request-id", it.to_owned())], "{}".to_owned())
    }),
    ("request-id, 200", |it| {
        (
            200,
            vec![("request-id", it.to_owned())],
            "{\"value\":3}".to_owned(),
        )
    }),
    ("date", |it| {
        (403, vec![("date", it.to_owned())], "x".to_owned())
    }),
    ("code", |it| {
        (
            403,
            vec![],
            format!(r#"{{"error":{{"code":"{it}","message":""}}}}"#),
        )
    }),
    ("message, retried", |it| {
        (
            503,
            vec![],
            format!(r#"{{"error":{{"code":"c","message":"{it}"}}}}"#),
        )
    }),
    ("innerError", |it| {
        let inner = format!(r#"{{"request-id":"{it}","date":"{it}"}}"#);
        (
            401,
            vec![],
            format!(r#"{{"error":{{"code":"c","message":"m","innerError":{inner}}}}}"#),
        )
    }),
    ("nextLink", |it| {
        (
            200,
            vec![],
            page(&[], Some(&format!("https://{it}.example/"))),
        )
    }),
    ("path of nextLink", |it| {
        (200, vec![], page(&[], Some(&format!("/{it}"))))
    }),
    ("value", |it| {
        (200, vec![], format!(r#"{{"value":"{it}"}}"#))
    }),
];

/// Error bodies of a token endpoint.
const DESCRIPTIONS: [(&str, Place); 3] = [
    ("error", |it| {
        (
            503,
            vec![],
            format!(r#"{{"error":"{it}","error_codes":[1]}}"#),
        )
    }),
    ("description", |it| {
        let description = format!("AADSTS1: had client_secret={it}&a=b");
        (
            400,
            vec![],
            format!(r#"{{"error":"e","error_description":"{description}"}}"#),
        )
    }),
    ("ids", |it| {
        (
            400,
            vec![],
            format!(r#"{{"trace_id":"{it}","correlation_id":"{it}"}}"#),
        )
    }),
];

/// Spellings of a credential: unchanged, encoded in two ways, and reversed.
const SPELLINGS: [fn(&str) -> String; 4] = [
    str::to_owned,
    |text| text.to_uppercase().replace('-', "%2D"),
    |text| base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(format!(":{text}")),
    |text| text.chars().rev().collect(),
];

#[tokio::test]
async fn no_log_line_at_any_level_has_what_a_server_sends_back() {
    let log = Log::default();
    let guard = log.listen();
    for spelling in SPELLINGS {
        for (name, place) in PLACES {
            let server = graph(move |_, request| {
                let token = request
                    .header("authorization")
                    .unwrap()
                    .strip_prefix("Bearer ");
                let (status, headers, body) = place(&spelling(token.unwrap()));
                Reply::Full(status, headers, body)
            })
            .await;
            let error = read(&client(&server), &RequestStats::default())
                .await
                .unwrap_err();
            tracing::warn!(error = %Chain(&error), debug = ?error, "failed");
            log.check(name, &spelling(TOKEN));
        }
        for (name, place) in PLACES[..4].iter().chain(&DESCRIPTIONS) {
            let server = Server::start(move |_, request| {
                let (status, headers, body) =
                    place(&spelling(&request.field("client_secret").unwrap()));
                Reply::Full(status, headers, body)
            })
            .await;
            let error = read(&client(&server), &RequestStats::default())
                .await
                .unwrap_err();
            tracing::warn!(error = %Chain(&error), debug = ?error, "failed");
            log.check(name, &spelling(SECRET));
        }
    }
    drop(guard);
    let text = log.text();
    assert!(text.contains("asked Graph") && text.contains("retrying the token request"));
}

#[tokio::test]
async fn an_earlier_token_is_not_shown_either() {
    let tokens = Server::start(|number, _| Reply::token(&format!("{TOKEN}-{number}"), 3599)).await;
    let mut first = None;
    let server = Server::start(move |_, request| {
        let token = request.header("authorization").unwrap().to_owned();
        let first = first.get_or_insert(token.clone());
        let status = if *first == token { 401 } else { 403 };
        let body = format!(r#"{{"error":{{"code":"c","message":"before it was {first} here"}}}}"#);
        Reply::json(status, body)
    })
    .await;
    let graph = client_of(&server.url, &tokens.url, PATIENCE);
    let error = read(&graph, &RequestStats::default()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "Graph answered 403 c: before it was Bearer [redacted] here (request-id unknown, date unknown)"
    );
}

#[tokio::test]
async fn messages_of_graph_name_people_only_if_labels_do() {
    for (hides, shown) in [
        (false, "user Adele Vance [redacted] at [redacted] is gone"),
        (true, "[not shown, because labels.user hides names]"),
    ] {
        let server = graph(|_, _| {
            let message = "user Adele Vance (adele@contoso.com) at +49 30 1234567 is gone";
            let body = format!(r#"{{"error":{{"code":"c","message":"{message}"}}}}"#);
            Reply::json(404, body)
        })
        .await;
        let mut graph = client(&server);
        graph.hides_people = hides;
        let error = read(&graph, &RequestStats::default()).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("Graph answered 404 c: {shown} (request-id unknown, date unknown)")
        );
    }
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

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Collects the log of this thread until the guard is dropped.
    fn listen(&self) -> (tracing::subscriber::DefaultGuard, tracing::Dispatch) {
        let writer = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_writer(move || writer.clone())
            .finish();
        // With a single subscriber in the process, the first thread that reaches a log line decides for all threads if the
        // line is enabled. With two subscribers, tracing asks both.
        let second = tracing::Dispatch::new(tracing_subscriber::registry());
        (tracing::subscriber::set_default(subscriber), second)
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// Fails if twelve characters of `credential` are in the log.
    fn check(&self, name: &str, credential: &str) {
        let text = self.text().to_lowercase();
        let credential: Vec<char> = credential.to_lowercase().chars().collect();
        for part in credential.windows(12).map(String::from_iter) {
            assert!(!text.contains(&part), "{name}: {part} in {text}");
        }
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
