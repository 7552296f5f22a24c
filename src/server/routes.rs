//! Routes: maps requests to responses.

use std::convert::Infallible;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, Either, Ready, ready};
use hyper::body::Body as _;
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, ALLOW, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING,
    CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
    REFERRER_POLICY, RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode, Version};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Shared;
use super::activity::{Activity, RequestGuard};
use super::auth::{Credentials, Verdict};
use super::body::ResponseBody;
use super::foreign;
use super::page;
use super::web_config::WebConfig;
use crate::exposition::{Format, negotiate};
use crate::snapshot::Encoding;

/// Answers the requests of one connection.
pub(super) struct Router {
    activity: Arc<Activity>,
}

/// A path that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Metrics,
    Page,
    Healthy,
    Ready,
    Reload,
}

/// The part of a request that its response depends on. The headers are dropped early, because a request that waits must
/// hold as little memory as possible.
struct RequestInfo {
    route: Option<Route>,
    /// True if the path allows the method of the request.
    allowed: bool,
    is_head: bool,
    version: Version,
    /// The reason why [`foreign::refusal`] rejects the request, before its login is checked; `None` if it does not.
    forbidden: Option<&'static str>,
    format: (Format, &'static str),
    encoding: Encoding,
    /// The names of the requested metric families; empty for all.
    names: Vec<String>,
    /// True if a reload must fetch the final days of logs again.
    refetch: bool,
}

type HttpResponse = Response<ResponseBody>;

/// A response that is ready, or the boxed future of a response that has to wait. A ready response is not boxed, so
/// most requests cost no allocation for it.
type ResponseFuture = Either<
    Ready<Result<HttpResponse, Infallible>>,
    BoxFuture<'static, Result<HttpResponse, Infallible>>,
>;

impl Router {
    pub(super) const fn new(activity: Arc<Activity>) -> Self {
        Self { activity }
    }
}

impl hyper::service::Service<Request<Incoming>> for Router {
    type Response = HttpResponse;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn call(&self, request: Request<Incoming>) -> ResponseFuture {
        // The body is dropped unread, because no request needs one.
        let (request, _) = request.into_parts();
        let guard = self.activity.begin(scrape_timeout(&request.headers));
        let shared = &self.activity.shared;
        let info = RequestInfo::new(&request, &self.activity);
        if let Some(message) = info.forbidden {
            let response = text(StatusCode::FORBIDDEN, message, guard);
            return Either::Left(ready(Ok(info.finish(response, &self.activity))));
        }
        let web_config = shared.state.web_config.clone();
        if web_config.is_none() && info.route != Some(Route::Reload) {
            let response = respond_now(&info, &self.activity, guard);
            return Either::Left(ready(Ok(info.finish(response, &self.activity))));
        }
        let credentials = web_config.as_ref().and(request.headers.get(AUTHORIZATION));
        let credentials = credentials.and_then(Credentials::parse);
        drop(request);
        let activity = Arc::clone(&self.activity);
        Either::Right(Box::pin(async move {
            let response = match web_config {
                Some(web_config) => {
                    guarded(&info, credentials, &activity, &web_config, guard).await
                }
                None => respond(&info, &activity, guard).await,
            };
            Ok(info.finish(response, &activity))
        }))
    }
}

impl RequestInfo {
    fn new(request: &Parts, activity: &Activity) -> Self {
        let headers = &request.headers;
        let route = Route::find(request.uri.path(), &activity.shared);
        let query = request.uri.query().unwrap_or_default();
        let encoding = if negotiate::accepts_gzip(values(headers, ACCEPT_ENCODING)) {
            Encoding::Gzip
        } else {
            Encoding::Identity
        };
        Self {
            route,
            allowed: route.is_none_or(|route| route.allows(&request.method)),
            is_head: request.method == Method::HEAD,
            version: request.version,
            forbidden: foreign::refusal(
                request,
                route == Some(Route::Reload),
                // A health check reveals nothing, so its `Host` may be any name.
                activity.checks_host && route != Some(Route::Healthy),
                &activity.shared.names,
            ),
            format: Format::negotiate(values(headers, ACCEPT)),
            encoding,
            names: names(query),
            refetch: query
                .split('&')
                .any(|parameter| parameter == "refetch=true"),
        }
    }

    /// Completes the response. The response to HEAD states the length of the response to GET, but has no body. The
    /// body is removed here, because hyper omits it only over HTTP/1. When connection slots are scarce, the response
    /// asks the client to close its connection.
    fn finish(&self, mut response: HttpResponse, activity: &Activity) -> HttpResponse {
        if activity.shared.slots.are_scarce() {
            response = close_after(self, activity, response);
        }
        if let Some(length) = response.body().size_hint().exact() {
            response.headers_mut().insert(CONTENT_LENGTH, length.into());
        }
        if self.is_head {
            response.body_mut().clear();
        }
        response
    }
}

impl Route {
    fn find(path: &str, shared: &Shared) -> Option<Self> {
        // The telemetry path comes first: if it is `/`, there is no page.
        match path {
            path if path == shared.state.telemetry_path.0 => Some(Self::Metrics),
            "/" => Some(Self::Page),
            "/-/healthy" => Some(Self::Healthy),
            "/-/ready" => Some(Self::Ready),
            "/-/reload" if shared.state.reload.is_some() => Some(Self::Reload),
            _ => None,
        }
    }

    fn allows(self, method: &Method) -> bool {
        match self {
            Self::Reload => method == Method::POST,
            _ => method == Method::GET || method == Method::HEAD,
        }
    }
}

/// Checks the client certificate, the rate limit and the login against the web configuration file, and then responds.
async fn guarded(
    info: &RequestInfo,
    credentials: Option<Credentials>,
    activity: &Activity,
    web_config: &WebConfig,
    guard: RequestGuard,
) -> HttpResponse {
    let (shared, peer) = (&*activity.shared, &activity.peer);
    let settings = web_config.current(shared.state.limits.web_config_age).await;
    if !peer.certificate_is_allowed(settings.tls.as_ref(), &shared.state.clock) {
        let message = "the client certificate is no longer allowed\n";
        return close_after(info, activity, text(StatusCode::FORBIDDEN, message, guard));
    }
    // Probes need no password, as users of the exporter-toolkit have requested for years. They have no rate limit
    // either.
    let open = matches!(info.route, Some(Route::Healthy | Route::Ready));
    let rate = settings.rate.as_ref().filter(|_| !open);
    let mut response = if rate.is_some_and(|rate| !rate.allows(Instant::now())) {
        let message = "too many requests, see rate_limit in the web configuration\n";
        text(StatusCode::TOO_MANY_REQUESTS, message, guard)
    } else if open {
        respond(info, activity, guard).await
    } else {
        let login = peer.login(credentials.as_ref());
        let verdict = shared
            .authenticator
            .check(&settings.users, credentials, activity.client);
        match verdict.await {
            Verdict::Admitted => {
                peer.admit(login);
                respond(info, activity, guard).await
            }
            Verdict::Refused => {
                let mut response = text(StatusCode::UNAUTHORIZED, "unauthorized\n", guard);
                set_header(&mut response, WWW_AUTHENTICATE, "Basic");
                if peer.was_admitted(login) {
                    response = close_after(info, activity, response);
                }
                response
            }
            Verdict::Busy => busy(
                "too many logins are being checked; try again later\n",
                guard,
            ),
        }
    };
    for (name, value) in &settings.headers {
        response.headers_mut().insert(name, value.clone());
    }
    response
}

/// Makes this response the last one of its connection.
fn close_after(
    info: &RequestInfo,
    activity: &Activity,
    mut response: HttpResponse,
) -> HttpResponse {
    if info.version < Version::HTTP_2 {
        set_header(&mut response, CONNECTION, "close");
    } else {
        activity.close_gracefully();
    }
    response
}

async fn respond(info: &RequestInfo, activity: &Activity, guard: RequestGuard) -> HttpResponse {
    match info.route {
        Some(Route::Reload) if info.allowed => reload(&activity.shared, info.refetch, guard).await,
        _ => respond_now(info, activity, guard),
    }
}

/// Responds to a request that does not have to wait.
fn respond_now(info: &RequestInfo, activity: &Activity, guard: RequestGuard) -> HttpResponse {
    let shared = &activity.shared;
    match info.route {
        None => text(StatusCode::NOT_FOUND, "not found\n", guard),
        Some(route) if !info.allowed => refuse_method(route, guard),
        Some(Route::Metrics) => metrics(info, activity, guard),
        Some(Route::Page) => page(shared, guard),
        Some(Route::Healthy) => text(StatusCode::OK, "healthy\n", guard),
        Some(Route::Ready) => readiness(shared, guard),
        Some(Route::Reload) => unreachable!("a reload has to wait"),
    }
}

fn metrics(info: &RequestInfo, activity: &Activity, guard: RequestGuard) -> HttpResponse {
    let shared = &activity.shared;
    if !guard.scrape() {
        let message = format!(
            "{} scrapes are under way, which is the limit; try again later\n",
            shared.state.requests_max
        );
        let response = text(StatusCode::SERVICE_UNAVAILABLE, message, guard);
        // Closes the connection, so that a client with many requests in one packet leaves slots for other clients.
        return close_after(info, activity, response);
    }
    let (format, content_type) = info.format;
    let snapshot = shared.state.subscriber.latest();
    let body = snapshot.body(format, info.encoding, &info.names);
    let mut response = Response::new(ResponseBody::prepared(body, guard));
    set_header(&mut response, CONTENT_TYPE, content_type);
    if info.encoding == Encoding::Gzip {
        set_header(&mut response, CONTENT_ENCODING, "gzip");
    }
    response
}

fn page(shared: &Shared, guard: RequestGuard) -> HttpResponse {
    let Shared { state, .. } = shared;
    let snapshot = state.subscriber.latest();
    let web_config_error = state.web_config.as_ref().and_then(WebConfig::reload_error);
    let now = state.clock.now();
    let html = shared
        .page
        .get(&snapshot, now, web_config_error, |web_config_error| {
            page::render(&page::PageContext {
                states: snapshot.states(),
                now,
                unready: snapshot.ready().err().as_deref(),
                refused_reload: snapshot.refused_reload(),
                web_config_error,
                telemetry_path: &state.telemetry_path.0,
            })
        });
    let mut response = text(StatusCode::OK, html, guard);
    set_header(&mut response, CONTENT_TYPE, "text/html; charset=utf-8");
    set_header(&mut response, CONTENT_SECURITY_POLICY, PAGE_POLICY);
    set_header(&mut response, CACHE_CONTROL, "no-store");
    set_header(&mut response, REFERRER_POLICY, "no-referrer");
    response
}

fn readiness(shared: &Shared, guard: RequestGuard) -> HttpResponse {
    match shared.state.subscriber.latest().ready() {
        Ok(None) => text(StatusCode::OK, "ready\n", guard),
        Ok(Some(expired)) => text(StatusCode::OK, format!("ready; {expired}\n"), guard),
        Err(reason) => text(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not ready: {reason}\n"),
            guard,
        ),
    }
}

async fn reload(shared: &Shared, refetch: bool, guard: RequestGuard) -> HttpResponse {
    let Ok(_waiting) = shared.reloads.try_acquire() else {
        return busy("many requests wait for a reload; try again later\n", guard);
    };
    let outcome = async {
        let requests = shared.state.reload.as_ref()?;
        let (reply, outcome) = oneshot::channel();
        requests.send(super::Reload { refetch, reply }).await.ok()?;
        outcome.await.ok()
    };
    match outcome.await {
        Some(Ok(())) => text(StatusCode::OK, "reloaded\n", guard),
        Some(Err(error)) => failure(&error, guard),
        None => failure(&"the exporter is shutting down", guard),
    }
}

fn failure(error: &dyn Display, guard: RequestGuard) -> HttpResponse {
    text(
        StatusCode::INTERNAL_SERVER_ERROR,
        format!("cannot reload: {error}\n"),
        guard,
    )
}

fn refuse_method(route: Route, guard: RequestGuard) -> HttpResponse {
    let status = StatusCode::METHOD_NOT_ALLOWED;
    let mut response = text(status, "method not allowed\n", guard);
    let allowed = match route {
        Route::Reload => "POST",
        _ => "GET, HEAD",
    };
    set_header(&mut response, ALLOW, allowed);
    response
}

/// Rejects the request with 429, because a queue is full.
fn busy(message: &'static str, guard: RequestGuard) -> HttpResponse {
    let mut response = text(StatusCode::TOO_MANY_REQUESTS, message, guard);
    set_header(&mut response, RETRY_AFTER, RETRY_SECONDS);
    response
}

fn text(status: StatusCode, message: impl Into<Bytes>, guard: RequestGuard) -> HttpResponse {
    let mut response = Response::new(ResponseBody::whole(message, guard));
    *response.status_mut() = status;
    set_header(&mut response, CONTENT_TYPE, "text/plain; charset=utf-8");
    set_header(&mut response, X_CONTENT_TYPE_OPTIONS, "nosniff");
    response
}

fn set_header(response: &mut HttpResponse, name: HeaderName, value: &'static str) {
    let value = HeaderValue::from_static(value);
    response.headers_mut().insert(name, value);
}

/// Returns all values of a header, except for values that are not ASCII text.
fn values(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
}

/// Returns the requested families. The query has the form of promhttp: `?name[]=a&name[]=b`.
fn names(query: &str) -> Vec<String> {
    url::form_urlencoded::parse(query.as_bytes())
        .filter(|(key, _)| key == "name[]")
        .map(|(_, name)| name.into_owned())
        .collect()
}

fn scrape_timeout(headers: &HeaderMap) -> Option<Duration> {
    let seconds: f64 = headers.get(SCRAPE_TIMEOUT)?.to_str().ok()?.parse().ok()?;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|scrape_timeout| !scrape_timeout.is_zero())
}

/// Content security policy of the page, which has its style inline and loads nothing.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Value of `Retry-After` in seconds. The queues are so short that they have room again within a second or two.
const RETRY_SECONDS: &str = "1";

/// The scrape timeout, which Prometheus and VictoriaMetrics send with every scrape.
const SCRAPE_TIMEOUT: HeaderName = HeaderName::from_static("x-prometheus-scrape-timeout-seconds");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scrape_timeouts_by_table() {
        for (value, millis) in [
            ("10", Some(10_000)),
            ("0.5", Some(500)),
            ("1e1", Some(10_000)),
            ("0", None),
            ("-1", None),
            ("NaN", None),
            ("inf", None),
            ("1e300", None),
            ("soon", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(SCRAPE_TIMEOUT, HeaderValue::from_static(value));
            assert_eq!(
                scrape_timeout(&headers),
                millis.map(Duration::from_millis),
                "{value}"
            );
        }
        assert_eq!(scrape_timeout(&HeaderMap::new()), None);
    }

    #[test]
    fn names_by_table() {
        for (query, expected) in [
            ("", &[][..]),
            ("name[]=a&name[]=b", &["a", "b"]),
            ("name%5B%5D=a", &["a"]),
            ("name=a&other[]=b", &[]),
            ("name[]=", &[""]),
            ("&&=&name[]=%ff", &["\u{fffd}"]),
        ] {
            assert_eq!(names(query), expected, "{query}");
        }
    }
}
