//! Handling of a request: recorded in the journal, matched with faults, answered by its endpoint.

use std::future;

use chrono::{DateTime, Utc};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, DATE, HeaderName, HeaderValue,
    LOCATION, RETRY_AFTER, USER_AGENT, WWW_AUTHENTICATE,
};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use serde_json::Value;
use uuid::Uuid;

use super::body::{Body, gzip};
use super::faults::{ErrorBody, Fault, Occasion};
use super::journal::{self, Kind};
use super::{Shared, address, callrecords, entra};

/// A response before its transmission.
#[derive(PartialEq)]
pub(super) struct Reply {
    status: u16,
    content_type: &'static str,
    headers: Vec<(HeaderName, String)>,
    body: Vec<u8>,
}

/// The ids and time that Graph gives a request.
pub(super) struct Ids {
    pub(super) request: String,
    pub(super) client_request: String,
    pub(super) date: DateTime<Utc>,
}

/// Closes the connection without a response.
#[derive(Debug, thiserror::Error)]
#[error("a fault asked for no answer")]
pub(super) struct Unanswered;

/// An endpoint, by method and path.
enum Endpoint {
    Token { tenant: String },
    MachineIdentity,
    AppIdentity,
    Graph,
    None,
}

pub(super) async fn answer(
    shared: &Shared,
    request: Request<Incoming>,
) -> Result<Response<Body>, Unanswered> {
    let (parts, body) = request.into_parts();
    let query = parts.uri.query().unwrap_or_default();
    let endpoint = Endpoint::of(&parts.method, parts.uri.path());
    let is_graph = endpoint.kind() == Kind::Graph;
    let bearer = text(&parts.headers, &AUTHORIZATION)
        .and_then(|value| value.strip_prefix("Bearer "))
        .ok_or("Access token is empty.");
    let claims =
        bearer.and_then(|bearer| entra::read(bearer).ok_or("IDX14100: JWT is not well formed."));
    let tenant = match &endpoint {
        Endpoint::Token { tenant } => Some(tenant.clone()),
        _ => claims.as_ref().ok().map(|claims| claims.tenant_id.clone()),
    };
    let client_request_id = text(&parts.headers, &CLIENT_REQUEST_ID).map(str::to_owned);
    let (number, graph_number) = shared.journal.received(
        endpoint.kind(),
        journal::Request {
            method: parts.method.to_string(),
            path: parts.uri.to_string(),
            status: None,
            bearer: bearer.is_ok(),
            tenant: tenant.clone(),
            client_request_id: client_request_id.clone(),
            user_agent: text(&parts.headers, &USER_AGENT).map(str::to_owned),
        },
    );
    let page = is_graph.then(|| address::skip(query) / shared.page_size + 1);
    let fault = fault(
        shared,
        Occasion {
            page,
            tenant: tenant.as_deref(),
            path: &parts.uri.to_string(),
        },
        graph_number,
    );
    if matches!(fault, Some(Fault::RefuseConnection | Fault::StallHead)) {
        shared.journal.struck();
    }
    match fault {
        Some(Fault::RefuseConnection) => return Err(Unanswered),
        Some(Fault::StallHead) => future::pending().await,
        _ => {}
    }
    let request_id = Uuid::new_v4().to_string();
    let ids = Ids {
        client_request: client_request_id.unwrap_or_else(|| request_id.clone()),
        request: request_id,
        date: (shared.now)(),
    };
    let (reply, is_changed) = match instead(shared, is_graph, &ids, fault.as_ref()) {
        Some(reply) => (reply, true),
        None if is_graph => {
            let answer_with =
                |fault| callrecords::answer(shared, &parts.uri, claims.clone(), &ids, fault);
            let reply = answer_with(fault.as_ref());
            let is_changed = fault.is_some() && reply != answer_with(None);
            (reply, is_changed)
        }
        None => {
            let is_changed = fault == Some(Fault::ZeroLifetimeToken);
            let reply = endpoint.reply(shared, &parts, body, fault.as_ref());
            (reply.await?, is_changed)
        }
    };
    if is_changed || fault.as_ref().is_some_and(is_of_the_way) {
        shared.journal.struck();
    }
    let reply = if is_graph {
        reply.with_graph_headers(&ids)
    } else {
        reply
    };
    let compress = is_graph
        && text(&parts.headers, &ACCEPT_ENCODING).is_some_and(|codings| codings.contains("gzip"));
    let response = reply.into_response(ids.date, compress, fault);
    shared.journal.answered(number, response.status().as_u16());
    Ok(response)
}

/// The fault of a request: one from the queue, else a random one.
fn fault(shared: &Shared, occasion: Occasion<'_>, graph_number: u64) -> Option<Fault> {
    let waiting = shared.faults().take(occasion);
    if let Some(Fault::Unreliable(service)) = waiting {
        let tenant = occasion.tenant.unwrap_or_default();
        let now = (shared.now)();
        return shared.throttled().fault(service, tenant, graph_number, now);
    }
    waiting.or_else(|| {
        occasion
            .page
            .and(shared.random_faults)
            .and_then(|random_faults| random_faults.fault(graph_number))
    })
}

/// The response of a fault that replaces the endpoint's.
fn instead(shared: &Shared, is_graph: bool, ids: &Ids, fault: Option<&Fault>) -> Option<Reply> {
    let graph_error = |status, code: &str, message: &str| {
        is_graph.then(|| callrecords::error(status, code, message, ids))
    };
    match fault? {
        Fault::Status {
            status,
            body,
            retry_after,
        } => {
            let reply = match body {
                ErrorBody::Empty => Reply::new(*status, "text/plain", Vec::new()),
                ErrorBody::Html => Reply::html(*status),
                ErrorBody::Json if is_graph => callrecords::status(*status, ids),
                ErrorBody::Json => entra::error(shared, 90_033, "A transient error has occurred.")
                    .with_status(*status),
            };
            Some(match retry_after {
                Some(value) => reply.with(RETRY_AFTER, value),
                None => reply,
            })
        }
        Fault::Literal { status, json } => {
            Some(Reply::new(*status, JSON, json.clone().into_bytes()))
        }
        Fault::ExpireToken => graph_error(
            401,
            "InvalidAuthenticationToken",
            "Lifetime validation failed, the token is expired.",
        ),
        Fault::EmptyForbidden => graph_error(403, "Forbidden", ""),
        Fault::TokenError(code) => (!is_graph).then(|| {
            entra::error(
                shared,
                *code,
                "This error was requested from the simulator.",
            )
        }),
        Fault::Html => Some(Reply::html(200)),
        Fault::NotJson => Some(Reply::new(200, JSON, b"value: none\n".to_vec())),
        Fault::DeepNesting(depth) => {
            let depth = usize::try_from(*depth).expect("at least 32 bits");
            let page = format!(
                "{{\"value\":[{{\"deep\":{}{}}}]}}",
                "[".repeat(depth),
                "]".repeat(depth)
            );
            Some(Reply::new(200, JSON, page.into_bytes()))
        }
        Fault::Redirect(url) => Some(Reply::new(302, "text/plain", Vec::new()).with(LOCATION, url)),
        _ => None,
    }
}

/// Returns true if the fault changes the transmission of any response.
const fn is_of_the_way(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::StallBody
            | Fault::CutBody
            | Fault::SlowDrip { .. }
            | Fault::HugePage(_)
            | Fault::GzipBomb(_)
            | Fault::WrongContentType(_)
    )
}

impl Endpoint {
    fn of(method: &Method, path: &str) -> Self {
        let tenant = path
            .strip_prefix('/')
            .and_then(|path| path.strip_suffix("/oauth2/v2.0/token"));
        match (method, path, tenant) {
            (&Method::POST, _, Some(tenant)) => Self::Token {
                tenant: tenant.to_owned(),
            },
            (&Method::GET, "/metadata/identity/oauth2/token", _) => Self::MachineIdentity,
            (&Method::GET, "/msi/token", _) => Self::AppIdentity,
            (&Method::GET, _, None) if path.starts_with("/beta/") || path.starts_with("/v1.0/") => {
                Self::Graph
            }
            _ => Self::None,
        }
    }

    /// The headers of endpoints other than Graph's.
    async fn reply(
        self,
        shared: &Shared,
        parts: &Parts,
        body: Incoming,
        fault: Option<&Fault>,
    ) -> Result<Reply, Unanswered> {
        let query = parts.uri.query().unwrap_or_default();
        let lifetime = match fault {
            Some(Fault::ZeroLifetimeToken) => 0,
            _ => shared.token_lifetime,
        };
        Ok(match self {
            Self::Token { tenant } => {
                let form = Limited::new(body, FORM_BYTES_MAX);
                let form = form.collect().await.map_err(|_| Unanswered)?.to_bytes();
                let is_form = text(&parts.headers, &CONTENT_TYPE)
                    .is_some_and(|value| value.starts_with("application/x-www-form-urlencoded"));
                entra::token(shared, &tenant, if is_form { &form } else { b"" }, lifetime)
            }
            Self::MachineIdentity => {
                entra::machine_identity(shared, &parts.headers, query, lifetime)
            }
            Self::AppIdentity => entra::app_identity(shared, &parts.headers, query, lifetime),
            Self::Graph | Self::None => Reply::new(404, "text/plain", Vec::new()),
        })
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Token { .. } | Self::MachineIdentity | Self::AppIdentity => Kind::Token,
            Self::Graph => Kind::Graph,
            Self::None => Kind::Other,
        }
    }
}

impl Reply {
    pub(super) fn new(status: u16, content_type: &'static str, body: Vec<u8>) -> Self {
        Self {
            status,
            content_type,
            headers: Vec::new(),
            body,
        }
    }

    pub(super) fn json(status: u16, value: &Value) -> Self {
        Self::new(status, JSON, value.to_string().into_bytes())
    }

    fn html(status: u16) -> Self {
        let page = "<!DOCTYPE html>\r\n<html><head><title>Service Unavailable</title></head>\r\n<body><h2>Our services \
                    aren't available right now</h2></body></html>\r\n";
        Self::new(status, "text/html; charset=utf-8", page.as_bytes().to_vec())
    }

    pub(super) fn with(mut self, name: HeaderName, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    fn with_status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    /// Adds the headers that Graph sends with every response.
    fn with_graph_headers(self, ids: &Ids) -> Self {
        let is_unauthorized = self.status == 401;
        let reply = self
            .with(HeaderName::from_static("request-id"), &ids.request)
            .with(CLIENT_REQUEST_ID, &ids.client_request)
            .with(
                HeaderName::from_static("x-ms-ags-diagnostic"),
                "{\"ServerInfo\":{\"DataCenter\":\"West Europe\",\"Slice\":\"E\",\"Ring\":\"5\",\"ScaleUnit\":\"001\",\
                 \"RoleInstance\":\"SIMULATOR\"}}",
            );
        if is_unauthorized {
            reply.with(
                WWW_AUTHENTICATE,
                "Bearer realm=\"\", error=\"invalid_token\"",
            )
        } else {
            reply
        }
    }

    fn into_response(
        self,
        date: DateTime<Utc>,
        compress: bool,
        fault: Option<Fault>,
    ) -> Response<Body> {
        let mut headers = HeaderMap::new();
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        // From the simulator's clock, which can differ from the HTTP library's.
        if let Ok(date) = HeaderValue::from_str(&httpdate::fmt_http_date(date.into())) {
            headers.insert(DATE, date);
        }
        let is_huge = matches!(fault, Some(Fault::GzipBomb(_) | Fault::HugePage(_)));
        let bytes = if compress && !is_huge && !self.body.is_empty() {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            gzip(&self.body)
        } else {
            self.body
        };
        let body = match fault {
            Some(Fault::StallBody) => Body::stalling(&bytes),
            Some(Fault::CutBody) => Body::cut(&bytes),
            Some(Fault::SlowDrip {
                bytes: piece,
                pause,
            }) => Body::dripping(&bytes, piece, pause),
            Some(Fault::HugePage(length)) => Body::huge(&bytes, length),
            Some(Fault::GzipBomb(length)) => {
                headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                Body::gzip_bomb(length)
            }
            Some(Fault::WrongContentType(content_type)) => {
                if let Ok(content_type) = HeaderValue::from_str(&content_type) {
                    headers.insert(CONTENT_TYPE, content_type);
                }
                Body::whole(bytes)
            }
            _ => Body::whole(bytes),
        };
        let mut response = Response::new(body);
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        *response.headers_mut() = headers;
        response
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

pub(super) const JSON: &str = "application/json;odata.metadata=minimal;odata.streaming=true;IEEE754Compatible=false;charset=utf-8";

const CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("client-request-id");

/// A token request has a few fields and an assertion.
const FORM_BYTES_MAX: usize = 64 * 1024;
