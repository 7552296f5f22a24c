//! Serves one connection. Ends the connection when its deadline has passed or another connection needs its slot.
//!
//! hyper's own header timeout is not used, because it includes the idle time between two scrapes.

use std::net::{IpAddr, Ipv4Addr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Poll, ready};

use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_rustls::TlsAcceptor;
use tracing::debug;

use super::Shared;
use super::activity::{Activity, Observed};
use super::routes::Router;
use super::tls::HTTP2;

/// Serves the connection until one side ends it, its deadline has passed, or the server stops and the last response is
/// written.
pub(super) async fn serve(
    stream: TcpStream,
    checks_host: bool,
    shared: Arc<Shared>,
    stopped: watch::Receiver<bool>,
) {
    let client = stream
        .peer_addr()
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |client| client.ip());
    let activity = Arc::new(Activity::new(shared.clone(), client, checks_host));
    let _open = shared.slots.enter(activity.clone());
    tokio::select! {
        biased;
        () = serve_stream(stream, activity.clone(), stopped) => {}
        () = overdue(&activity) => debug!("a client was too slow"),
        () = activity.closed() => debug!("a connection was closed, because it stalled or another one needed its slot"),
    }
}

/// Waits until the deadline of the connection has passed.
async fn overdue(activity: &Activity) {
    let mut timer = pin!(sleep_until(activity.deadline()));
    std::future::poll_fn(|cx| {
        // A deadline that is now earlier needs a new timer at once. If the deadline is now later, the timer is reset
        // when it fires.
        if activity.deadline() < timer.deadline() {
            timer.as_mut().reset(activity.deadline());
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if activity.deadline() <= Instant::now() {
                return Poll::Ready(());
            }
            timer.as_mut().reset(activity.deadline());
        }
    })
    .await;
}

async fn serve_stream(
    stream: TcpStream,
    activity: Arc<Activity>,
    mut stopped: watch::Receiver<bool>,
) {
    let state = &activity.shared.state;
    let tls = match &state.web_config {
        Some(web_config) => {
            let settings = web_config.current(state.limits.web_config_age).await;
            settings.tls.clone()
        }
        None => None,
    };
    let Some(tls) = tls else {
        return serve_http1(stream, activity, stopped).await;
    };
    let handshake = tokio::select! {
        handshake = TlsAcceptor::from(tls.server.clone()).accept(stream) => handshake,
        _ = stopped.wait_for(|stopped| *stopped) => return,
    };
    let stream = match handshake {
        Ok(stream) => stream,
        Err(error) => {
            activity.shared.failures.log(&error, activity.client);
            return;
        }
    };
    let connection = stream.get_ref().1;
    let is_http2 = connection.alpn_protocol() == Some(HTTP2);
    activity.peer.record_handshake(connection, tls);
    if is_http2 {
        serve_http2(stream, activity, stopped).await;
    } else {
        serve_http1(stream, activity, stopped).await;
    }
}

async fn serve_http1(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    activity: Arc<Activity>,
    mut stopped: watch::Receiver<bool>,
) {
    let stream = TokioIo::new(Observed::new(stream, activity.clone()));
    let connection = http1::Builder::new()
        .max_buf_size(activity.shared.state.limits.header_size)
        .serve_connection(stream, Router::new(activity.clone()));
    let mut connection = pin!(connection);
    tokio::select! {
        biased;
        ended = connection.as_mut() => return log_end(ended),
        _ = stopped.wait_for(|stopped| *stopped) => {}
    }
    // Drops an idle connection, because hyper's graceful shutdown would wait for the first request of a new connection.
    if !activity.is_idle() {
        connection.as_mut().graceful_shutdown();
        log_end(connection.await);
    }
}

async fn serve_http2(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    activity: Arc<Activity>,
    mut stopped: watch::Receiver<bool>,
) {
    activity.is_http2.store(true, Relaxed);
    let header_size = activity.shared.state.limits.header_size;
    let stream = TokioIo::new(Observed::new(stream, activity.clone()));
    let connection = http2::Builder::new(Streams(activity.clone()))
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(header_size).unwrap_or(u32::MAX))
        .initial_connection_window_size(REQUEST_BODY_MAX)
        .initial_stream_window_size(REQUEST_BODY_MAX)
        .max_send_buf_size(SEND_BUFFER_MAX)
        .serve_connection(stream, Router::new(activity.clone()));
    let mut connection = pin!(connection);
    tokio::select! {
        biased;
        ended = connection.as_mut() => return log_end(ended),
        _ = stopped.wait_for(|stopped| *stopped) => {}
        () = activity.graceful_close_requested() => {}
    }
    connection.as_mut().graceful_shutdown();
    log_end(connection.await);
}

/// Spawns the streams of an HTTP/2 connection, each with the time limit of its request.
#[derive(Clone)]
struct Streams(Arc<Activity>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        // hyper spawns a stream right after it calls the router, so the stream belongs to the newest request.
        match self.0.take_newest() {
            Some(exchange) => drop(tokio::spawn(exchange.run(stream))),
            None => drop(tokio::spawn(stream)),
        }
    }
}

fn log_end(ended: Result<(), hyper::Error>) {
    if let Err(error) = ended {
        debug!(
            error = &error as &dyn std::error::Error,
            "a connection broke"
        );
    }
}

/// Maximum number of parallel requests on one HTTP/2 connection. Scrapers send one at a time, browsers a few.
const STREAMS_MAX: u32 = 16;

/// Maximum bytes of request bodies that a client may send. No request needs a body, so this is just the initial window
/// that HTTP/2 prescribes.
const REQUEST_BODY_MAX: u32 = 65_535;

/// Maximum bytes of one response that hyper buffers until the client has room for them. A larger buffer would only take
/// memory.
const SEND_BUFFER_MAX: usize = 64 * 1024;
