//! What is answered to which request.

use std::convert::Infallible;
use std::fmt::Display;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
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
use super::activity::{Activity, Turn};
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

/// The part of a request that its answer depends on. Headers are dropped at once, for a request that waits must not hold
/// more than this.
struct Asked {
    route: Option<Route>,
    /// Whether the path can be requested with this method.
    allowed: bool,
    is_head: bool,
    version: Version,
    /// Why it is refused whoever sends it.
    forbidden: Option<&'static str>,
    format: (Format, &'static str),
    encoding: Encoding,
    /// The requested families, all if there are none.
    names: Vec<String>,
    /// Whether a reload is to fetch settled days again.
    refetch: bool,
}

type Answer = Response<ResponseBody>;

/// An answer that is there, or one that has to wait.
#[expect(
    clippy::large_enum_variant,
    reason = "a request has one for a moment, and a box would cost each request an allocation"
)]
pub(super) enum Answering {
    Now(Option<Answer>),
    Later(Pin<Box<dyn Future<Output = Answer> + Send>>),
}

impl Router {
    pub(super) const fn new(activity: Arc<Activity>) -> Self {
        Self { activity }
    }
}

impl hyper::service::Service<Request<Incoming>> for Router {
    type Response = Answer;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: Request<Incoming>) -> Answering {
        // The body is dropped unread: no request has one.
        let (request, _) = request.into_parts();
        let turn = self.activity.begin(patience(&request.headers));
        let shared = &self.activity.shared;
        let asked = Asked::new(&request, &self.activity);
        if let Some(message) = asked.forbidden {
            let answer = text(StatusCode::FORBIDDEN, message, turn);
            return Answering::Now(Some(asked.finish(answer, &self.activity)));
        }
        if let Some(web_config) = shared.site.web_config.clone() {
            let credentials = request.headers.get(AUTHORIZATION);
            let credentials = credentials.and_then(Credentials::parse);
            drop(request);
            let activity = Arc::clone(&self.activity);
            return Answering::Later(Box::pin(async move {
                let answer = guarded(&asked, credentials, &activity, &web_config, turn).await;
                asked.finish(answer, &activity)
            }));
        }
        if asked.route == Some(Route::Reload) {
            let activity = Arc::clone(&self.activity);
            return Answering::Later(Box::pin(async move {
                let answer = answer(&asked, &activity, turn).await;
                asked.finish(answer, &activity)
            }));
        }
        let answer = answer_now(&asked, &self.activity, turn);
        Answering::Now(Some(asked.finish(answer, &self.activity)))
    }
}

impl Asked {
    fn new(request: &Parts, activity: &Activity) -> Self {
        let headers = &request.headers;
        let route = Route::of(request.uri.path(), &activity.shared);
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
                // A probe learns nothing and may use any name.
                activity.checks_host && route != Some(Route::Healthy),
                &activity.shared.names,
            ),
            format: Format::negotiate(values(headers, ACCEPT)),
            encoding,
            names: request.uri.query().map_or_else(Vec::new, names),
            refetch: request.uri.query().is_some_and(has_refetch),
        }
    }

    /// The answer as it is sent. That to HEAD has the length that GET would have, and no body: hyper leaves the body out
    /// over HTTP/1 only. When slots are scarce, the client is asked not to keep its connection.
    fn finish(&self, mut answer: Answer, activity: &Activity) -> Answer {
        if activity.shared.slots.are_scarce() {
            answer = leave(self, activity, answer);
        }
        if let Some(length) = answer.body().size_hint().exact() {
            answer.headers_mut().insert(CONTENT_LENGTH, length.into());
        }
        if self.is_head {
            answer.body_mut().clear();
        }
        answer
    }
}

impl Route {
    fn of(path: &str, shared: &Shared) -> Option<Self> {
        // The telemetry path first: where it is `/`, the page yields.
        match path {
            path if path == shared.site.telemetry_path.0 => Some(Self::Metrics),
            "/" => Some(Self::Page),
            "/-/healthy" => Some(Self::Healthy),
            "/-/ready" => Some(Self::Ready),
            "/-/reload" if shared.site.reload.is_some() => Some(Self::Reload),
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

impl Future for Answering {
    type Output = Result<Answer, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Now(answer) => Poll::Ready(Ok(answer
                .take()
                .expect("a future is not polled after it was ready"))),
            Self::Later(answer) => answer.as_mut().poll(cx).map(Ok),
        }
    }
}

/// With the settings of the web configuration file.
async fn guarded(
    asked: &Asked,
    credentials: Option<Credentials>,
    activity: &Activity,
    web_config: &WebConfig,
    turn: Turn,
) -> Answer {
    let (shared, peer) = (&*activity.shared, &activity.peer);
    let settings = web_config.current(shared.site.limits.web_config_age).await;
    if !peer.certificate_is_allowed(settings.tls.as_ref(), &shared.site.clock) {
        let message = "the client certificate is no longer allowed\n";
        return leave(asked, activity, text(StatusCode::FORBIDDEN, message, turn));
    }
    // Probes have no password, and users of the toolkit have long asked for this.
    let open = matches!(asked.route, Some(Route::Healthy | Route::Ready));
    let rate = settings.rate.as_ref().filter(|_| !open);
    let mut answer = if rate.is_some_and(|rate| !rate.allows(Instant::now())) {
        text(
            StatusCode::TOO_MANY_REQUESTS,
            "too many requests, see rate_limit in the web configuration\n",
            turn,
        )
    } else if open {
        answer(asked, activity, turn).await
    } else {
        let login = peer.login(credentials.as_ref());
        let verdict = shared
            .gate
            .check(&settings.users, credentials, activity.client);
        match verdict.await {
            Verdict::Admitted => {
                peer.admit(login);
                answer(asked, activity, turn).await
            }
            Verdict::Refused => {
                let mut answer = text(StatusCode::UNAUTHORIZED, "unauthorized\n", turn);
                let challenge = HeaderValue::from_static("Basic");
                answer.headers_mut().insert(WWW_AUTHENTICATE, challenge);
                if peer.was_admitted(login) {
                    answer = leave(asked, activity, answer);
                }
                answer
            }
            Verdict::Busy => busy("too many logins are being checked; try again later\n", turn),
        }
    };
    for (name, value) in &settings.headers {
        answer.headers_mut().insert(name, value.clone());
    }
    answer
}

/// The answer as the last one of its connection.
fn leave(asked: &Asked, activity: &Activity, mut answer: Answer) -> Answer {
    if asked.version < Version::HTTP_2 {
        let close = HeaderValue::from_static("close");
        answer.headers_mut().insert(CONNECTION, close);
    } else {
        activity.leave();
    }
    answer
}

async fn answer(asked: &Asked, activity: &Activity, turn: Turn) -> Answer {
    match asked.route {
        Some(Route::Reload) if asked.allowed => reload(&activity.shared, asked.refetch, turn).await,
        _ => answer_now(asked, activity, turn),
    }
}

/// Everything that waits for nothing.
fn answer_now(asked: &Asked, activity: &Activity, turn: Turn) -> Answer {
    let shared = &activity.shared;
    match asked.route {
        None => text(StatusCode::NOT_FOUND, "not found\n", turn),
        Some(route) if !asked.allowed => refuse_method(route, turn),
        Some(Route::Metrics) => metrics(asked, activity, turn),
        Some(Route::Page) => page(shared, turn),
        Some(Route::Healthy) => text(StatusCode::OK, "healthy\n", turn),
        Some(Route::Ready) => ready(shared, turn),
        Some(Route::Reload) => unreachable!("a reload is waited for"),
    }
}

fn metrics(asked: &Asked, activity: &Activity, turn: Turn) -> Answer {
    let shared = &activity.shared;
    if !turn.scrape() {
        let message = format!(
            "{} scrapes are under way, which is the limit; try again later\n",
            shared.site.requests_max
        );
        let answer = text(StatusCode::SERVICE_UNAVAILABLE, message, turn);
        // Else a client could try again many times in one packet, and leave others no chance.
        return leave(asked, activity, answer);
    }
    let (format, content_type) = asked.format;
    let snapshot = shared.site.subscriber.latest();
    let body = snapshot.body(format, asked.encoding, &asked.names);
    let mut answer = Response::new(ResponseBody::prepared(body, turn));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if asked.encoding == Encoding::Gzip {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    answer
}

fn page(shared: &Shared, turn: Turn) -> Answer {
    let Shared { site, .. } = shared;
    let snapshot = site.subscriber.latest();
    let complaint = site.web_config.as_ref().and_then(WebConfig::complaint);
    let now = site.clock.now();
    let html = shared.page.get(&snapshot, now, complaint, |complaint| {
        page::render(&page::View {
            states: snapshot.states(),
            now,
            about: &site.about,
            unready: snapshot.ready().err().as_deref(),
            refused_reload: snapshot.refused_reload(),
            complaint,
            telemetry_path: &site.telemetry_path.0,
        })
    });
    let mut answer = text(StatusCode::OK, html, turn);
    let headers = answer.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, PAGE_POLICY),
        (CACHE_CONTROL, "no-store"),
        (REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}

fn ready(shared: &Shared, turn: Turn) -> Answer {
    match shared.site.subscriber.latest().ready() {
        Ok(None) => text(StatusCode::OK, "ready\n", turn),
        Ok(Some(expired)) => text(StatusCode::OK, format!("ready; {expired}\n"), turn),
        Err(reason) => text(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not ready: {reason}\n"),
            turn,
        ),
    }
}

fn has_refetch(query: &str) -> bool {
    query
        .split('&')
        .any(|parameter| parameter == "refetch=true")
}

async fn reload(shared: &Shared, refetch: bool, turn: Turn) -> Answer {
    let Ok(_waiting) = shared.reloads.try_acquire() else {
        return busy("many requests wait for a reload; try again later\n", turn);
    };
    let outcome = async {
        let wishes = shared.site.reload.as_ref()?;
        let (answer, outcome) = oneshot::channel();
        wishes.send(super::Reload { refetch, answer }).await.ok()?;
        outcome.await.ok()
    };
    match outcome.await {
        Some(Ok(())) => text(StatusCode::OK, "reloaded\n", turn),
        Some(Err(error)) => failure(&error, turn),
        None => failure(&"the program is ending", turn),
    }
}

fn failure(error: &dyn Display, turn: Turn) -> Answer {
    text(
        StatusCode::INTERNAL_SERVER_ERROR,
        format!("cannot reload: {error}\n"),
        turn,
    )
}

fn refuse_method(route: Route, turn: Turn) -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n", turn);
    let allowed = if route == Route::Reload {
        "POST"
    } else {
        "GET, HEAD"
    };
    answer
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}

/// Refuses for now, because a queue is full.
fn busy(message: &'static str, turn: Turn) -> Answer {
    let mut answer = text(StatusCode::TOO_MANY_REQUESTS, message, turn);
    let headers = answer.headers_mut();
    headers.insert(RETRY_AFTER, HeaderValue::from_static(RETRY_SECONDS));
    answer
}

fn text(status: StatusCode, message: impl Into<Bytes>, turn: Turn) -> Answer {
    let mut answer = Response::new(ResponseBody::whole(message, turn));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

/// All values of a header that are text.
fn values(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
}

/// The families that are asked for, as promhttp has it: `?name[]=a&name[]=b`.
fn names(query: &str) -> Vec<String> {
    url::form_urlencoded::parse(query.as_bytes())
        .filter(|(key, _)| key == "name[]")
        .map(|(_, name)| name.into_owned())
        .collect()
}

/// How long the scraper waits for the response, where it says so.
fn patience(headers: &HeaderMap) -> Option<Duration> {
    let seconds: f64 = headers.get(SCRAPE_TIMEOUT)?.to_str().ok()?.parse().ok()?;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|patience| !patience.is_zero())
}

/// The page has its style within, and nothing else from anywhere.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What `Retry-After` says: the queues are so short that they have room again within a second or two.
const RETRY_SECONDS: &str = "1";

/// Sent by Prometheus and VictoriaMetrics with every scrape.
const SCRAPE_TIMEOUT: HeaderName = HeaderName::from_static("x-prometheus-scrape-timeout-seconds");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_by_table() {
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
                patience(&headers),
                millis.map(Duration::from_millis),
                "{value}"
            );
        }
        assert_eq!(patience(&HeaderMap::new()), None);
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
