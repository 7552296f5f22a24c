//! Requests for a page: token, retries, and classification of responses.

use chrono::{DateTime, Utc};
use reqwest::StatusCode;
use reqwest::header::{ACCEPT, AUTHORIZATION};
use tokio::time::Instant;

use super::address::NextLink;
use super::errors::GraphError;
use super::http::{BodyError, classify, content_type, date, header, read_body, retry_after_of};
use super::retry::{FailureKind, RetryReason};
use super::stats::RequestStats;
use super::token::AccessToken;
use super::{Error, Graph, log_seconds};
use crate::chain::Chain;
use crate::memory::Reservation;

/// Facts about a page and its response. An error of the page states them together with the cause.
#[derive(Clone, Debug)]
pub(crate) struct About {
    /// Number of the page, from 1.
    pub(crate) page: u64,
    /// Graph's id of the request.
    pub(crate) request_id: Option<String>,
    pub(crate) content_type: &'static str,
    /// The time of the response by the server's clock.
    pub(crate) date: Option<DateTime<Utc>>,
}

impl Graph {
    /// Requests page number `page`, and returns its body. Retries a failed request according to the policy. After a
    /// 401, retries once with a new token.
    pub(crate) async fn ask(
        &self,
        link: &NextLink,
        page: u64,
        deadline: Instant,
        stats: &RequestStats,
        memory: &mut Reservation,
    ) -> Result<(Vec<u8>, About), Error> {
        let mut attempt = 0;
        let mut renewed = false;
        loop {
            let pass = self.throttle.enter(deadline).await?;
            let token = self.tokens.token(deadline).await?;
            let error = match self.ask_once(link, page, &token, stats, memory).await {
                Ok(answered) => {
                    pass.answered();
                    return Ok(answered);
                }
                Err(error) => error,
            };
            if matches!(&error, Error::Status(answer) if answer.status == 401) {
                self.tokens.invalidate(&token);
                if renewed {
                    return Err(error);
                }
                renewed = true;
                stats.count_retry(RetryReason::Auth);
                continue;
            }
            let (kind, retry_after) = match &error {
                Error::Transport { source, .. } => (classify(source), None),
                Error::Status(answer) => (FailureKind::Status(answer.status), answer.retry_after),
                _ => return Err(error),
            };
            let wait = pass.failed(&self.retry, &mut attempt, kind, retry_after, deadline);
            let (Some(after), Some(reason)) = (wait, kind.retry_reason()) else {
                return Err(error);
            };
            tracing::debug!(error = %Chain(&error), page, attempt, after_seconds = log_seconds(after), "asking Graph again");
            stats.count_retry(reason);
            tokio::time::sleep(after).await;
        }
    }

    async fn ask_once(
        &self,
        link: &NextLink,
        page: u64,
        token: &AccessToken,
        stats: &RequestStats,
        memory: &mut Reservation,
    ) -> Result<(Vec<u8>, About), Error> {
        let asked_at = Instant::now();
        // Counts the request with its status when a response arrives. If this future fails or is dropped earlier,
        // counts a request without a response.
        let count = CountOnDrop {
            stats,
            status: None,
        };
        let transport = |source: reqwest::Error, request_id: Option<&String>| Error::Transport {
            host: self.root.host().to_owned(),
            request_id: request_id.cloned(),
            source: source.without_url(),
        };
        let sent = self
            .http
            .client
            .get(link.url().clone())
            .header(AUTHORIZATION, token.authorization())
            .header(ACCEPT, "application/json")
            .header("client-request-id", uuid::Uuid::new_v4().to_string())
            .send()
            .await;
        let mut response = sent.map_err(|error| transport(error, None))?;
        let status = response.status();
        count.answered(status.as_u16());
        let about = About {
            page,
            request_id: header(&response, "request-id")
                .and_then(|id| self.tokens.secrets().request_id(id)),
            content_type: content_type(&response),
            date: date(&response),
        };
        tracing::debug!(
            // Logs only the path of the first page. The server chooses the later paths, so they can be any text.
            path = (page == 1).then(|| link.url().path()),
            page,
            status = status.as_u16(),
            request_id = about.request_id,
            duration_ms = asked_at.elapsed().as_millis(),
            "asked Graph"
        );
        if status != StatusCode::OK {
            let mut body = Vec::new();
            let read = read_body(&mut body, &mut response, ERROR_BODY_MAX, |_| Ok(())).await;
            // If the body of an error response cannot be read, the error is reported without it.
            let body = read.map_or(&[][..], |()| &body);
            let wait = retry_after_of(&response, self.tokens.now());
            let secrets = self.tokens.secrets();
            let answer = GraphError::new(&response, body, wait, secrets, self.hides_people);
            return Err(Error::Status(Box::new(answer)));
        }
        let mut body = Vec::new();
        let max = self.limits.body_bytes;
        match read_body(&mut body, &mut response, max, |bytes| memory.resize(bytes)).await {
            Ok(()) => Ok((body, about)),
            Err(BodyError::Memory(error)) => Err(error.into()),
            Err(BodyError::Transport(error)) => Err(transport(error, about.request_id.as_ref())),
            Err(BodyError::TooLong) => Err(Error::limit(page, "bytes", max as u64, Some(&about))),
        }
    }
}

struct CountOnDrop<'a> {
    stats: &'a RequestStats,
    status: Option<u16>,
}

impl CountOnDrop<'_> {
    fn answered(mut self, status: u16) {
        self.status = Some(status);
    }
}

impl Drop for CountOnDrop<'_> {
    fn drop(&mut self) {
        self.stats.count_request(self.status);
    }
}

/// Maximum bytes of an error response. Graph's error responses have some hundred bytes. A gateway's page can be longer,
/// and is then ignored.
const ERROR_BODY_MAX: usize = 64 << 10;
