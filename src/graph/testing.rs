//! A scripted server on loopback, for the tests of this module. It shares no code with the client.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::address::RootUrl;
use super::credential::{Credential, SecretSource};
use super::http::{HttpClient, HttpOptions};
use super::retry::RetryPolicy;
use super::token::{TokenCache, TokenOptions};
use super::{Graph, Limits};

pub(crate) const SECRET: &str = "s3cret-of-a-known-value";
pub(crate) const TOKEN: &str = "t0ken-of-a-known-value";

/// Longer than any deadline in these tests.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A scripted server. It stops with the test's runtime.
pub(crate) struct Server {
    pub(crate) url: String,
    received: Arc<Mutex<Vec<Received>>>,
}

/// A request. Its header names are in lower case.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

/// The reply to a request.
pub(crate) enum Reply {
    /// Status, additional headers, body.
    Full(u16, Vec<(&'static str, String)>, String),
    /// Status 200 and half of a body.
    Cut,
    /// No response, forever.
    Stall,
    /// Connection closed without a response.
    Hangup,
}

impl Server {
    /// Starts a server that calls `script` with each request and its number, from 0.
    pub(crate) async fn start(
        mut script: impl FnMut(usize, &Received) -> Reply + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let received = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&received);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let Some(request) = read(&mut stream).await else {
                    continue;
                };
                let number = {
                    let mut log = log.lock().unwrap();
                    log.push(request.clone());
                    log.len() - 1
                };
                let reply = script(number, &request);
                tokio::spawn(answer(stream, reply));
            }
        });
        Self { url, received }
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(known, _)| known == name)?;
        Some(value)
    }

    /// Value of a field of the form in the body.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        url::form_urlencoded::parse(self.body.as_bytes())
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.into_owned())
    }
}

impl Reply {
    pub(crate) fn json(status: u16, body: impl Into<String>) -> Self {
        let headers = vec![("content-type", "application/json".to_owned())];
        Self::Full(status, headers, body.into())
    }

    pub(crate) fn token(token: &str, expires_in: u32) -> Self {
        let body = format!(
            r#"{{"token_type":"Bearer","expires_in":{expires_in},"access_token":"{token}"}}"#
        );
        Self::json(200, body)
    }
}

/// A server that issues the token [`TOKEN`], and replies to the other requests as `script` says.
pub(crate) async fn graph(
    mut script: impl FnMut(usize, &Received) -> Reply + Send + 'static,
) -> Server {
    let mut number = 0;
    Server::start(move |_, request| {
        if request.path == "/contoso.com/oauth2/v2.0/token" {
            return Reply::token(TOKEN, 3599);
        }
        number += 1;
        script(number - 1, request)
    })
    .await
}

pub(crate) fn client(server: &Server) -> Graph {
    client_of(&server.url, &server.url, PATIENCE)
}

/// A client of the Graph server at `root`. It gets its token from `authority`.
pub(crate) fn client_of(root: &str, authority: &str, read_timeout: Duration) -> Graph {
    let http = HttpClient::new(&HttpOptions {
        read_timeout,
        proxies: false,
        plain_only: true,
        ..HttpOptions::default()
    })
    .unwrap();
    let root: RootUrl = root.parse().unwrap();
    let retry = RetryPolicy {
        attempts: 3,
        delay_base: Duration::from_millis(1),
        ..RetryPolicy::default()
    };
    let options = TokenOptions {
        authority: authority.parse().unwrap(),
        tenant_id: "contoso.com".to_owned(),
        client_id: Some("client".to_owned()),
        scope: root.scope(),
        credential: Credential::Secret(SecretSource::Inline(SECRET.into())),
    };
    let now = || "2026-11-21T13:00:00Z".parse().unwrap();
    let tokens = TokenCache::new(http.clone(), options, retry, now).unwrap();
    let limits = Limits {
        body_bytes: 4096,
        pages: 7,
        rows: 10,
    };
    Graph::new(http, root, tokens, limits, retry)
}

async fn read(stream: &mut TcpStream) -> Option<Received> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).unwrap();
    let mut lines = head.lines();
    let mut start = lines.next().unwrap().split(' ').map(str::to_owned);
    let headers: Vec<(String, String)> = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let mut request = Received {
        method: start.next().unwrap(),
        path: start.next().unwrap(),
        headers,
        body: String::new(),
    };
    let length: usize = request
        .header("content-length")
        .map_or(0, |length| length.parse().unwrap());
    while bytes.len() < head_end + 4 + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    request.body = String::from_utf8(bytes[head_end + 4..].to_vec()).unwrap();
    Some(request)
}

async fn answer(mut stream: TcpStream, reply: Reply) {
    let text = match reply {
        Reply::Full(status, headers, body) => {
            let mut head = format!(
                "HTTP/1.1 {status} Status\r\nconnection: close\r\ncontent-length: {}\r\n",
                body.len()
            );
            for (name, value) in headers {
                head.extend([name, ": ", &value, "\r\n"]);
            }
            format!("{head}\r\n{body}")
        }
        Reply::Cut => "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{\"value\":[".to_owned(),
        Reply::Stall => return std::future::pending().await,
        Reply::Hangup => return,
    };
    let _written = stream.write_all(text.as_bytes()).await;
    let _closed = stream.shutdown().await;
}
