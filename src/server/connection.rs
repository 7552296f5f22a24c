//! One connection: drives it, and ends it when its deadline is over.
//!
//! A connection has one deadline at any time, and what it is depends on whose turn it is: the client's to send the
//! headers of a request ([`Limits::header_time`]), ours to answer ([`Limits::response`], or less where the scraper says
//! so), the client's to read ([`Limits::stall`]), or nobody's ([`Limits::idle`]). The deadline is a number that the
//! turns move; one timer looks at it, so that a request costs no timer of its own.
//!
//! hyper's own time-out for headers is not used: it counts the idle time between two scrapes too.

use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_rustls::TlsAcceptor;
use tracing::debug;

#[expect(unused_imports, reason = "for the links of the documentation")]
use super::Limits;
use super::Shared;
use super::peer::Peer;
use super::routes::Router;
use super::tls::HTTP2;

/// Serves the connection until one side ends it, the server is stopped and its last response is written, or its
/// deadline is over.
pub(super) async fn serve(
    stream: TcpStream,
    checks_host: bool,
    shared: Arc<Shared>,
    stopped: watch::Receiver<bool>,
) {
    let client = stream
        .peer_addr()
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |client| client.ip());
    let pulse = Arc::new(Pulse::new(shared, client, checks_host));
    let mut conversation = pin!(converse(stream, pulse.clone(), stopped));
    let mut timer = pin!(sleep_until(pulse.deadline()));
    std::future::poll_fn(|cx| {
        if conversation.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        // A deadline that moved away is noticed when the timer fires; only one that moved nearer needs it set.
        if pulse.deadline() < timer.deadline() {
            timer.as_mut().reset(pulse.deadline());
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if pulse.deadline() <= Instant::now() {
                debug!("a client was too slow");
                return Poll::Ready(());
            }
            timer.as_mut().reset(pulse.deadline());
        }
    })
    .await;
}

async fn converse(stream: TcpStream, pulse: Arc<Pulse>, stopped: watch::Receiver<bool>) {
    let site = &pulse.shared.site;
    let tls = match &site.web_config {
        Some(web_config) => {
            let settings = web_config.current(site.limits.web_config_age).await;
            settings.tls.clone()
        }
        None => None,
    };
    let Some(tls) = tls else {
        return speak_http1(stream, pulse, stopped).await;
    };
    let handshake = tokio::select! {
        handshake = TlsAcceptor::from(tls.server.clone()).accept(stream) => handshake,
        () = end_wanted(&pulse, stopped.clone()) => return,
    };
    let stream = match handshake {
        Ok(stream) => stream,
        Err(error) => {
            debug!(%error, "a TLS handshake failed");
            return;
        }
    };
    let connection = stream.get_ref().1;
    let is_http2 = connection.alpn_protocol() == Some(HTTP2);
    pulse.peer.shook_hands(connection, tls);
    if is_http2 {
        speak_http2(stream, pulse, stopped).await;
    } else {
        speak_http1(stream, pulse, stopped).await;
    }
}

async fn speak_http1(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    pulse: Arc<Pulse>,
    stopped: watch::Receiver<bool>,
) {
    let stream = TokioIo::new(Felt::new(stream, pulse.clone()));
    let connection = http1::Builder::new()
        .max_buf_size(pulse.shared.site.limits.header_size)
        .serve_connection(stream, Router::new(pulse.clone()));
    let mut connection = pin!(connection);
    tokio::select! {
        biased;
        ended = connection.as_mut() => return log_end(ended),
        () = end_wanted(&pulse, stopped) => {}
    }
    // hyper would wait for the first request of a connection that has not had one.
    if !pulse.is_idle() {
        connection.as_mut().graceful_shutdown();
        log_end(connection.await);
    }
}

async fn speak_http2(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    pulse: Arc<Pulse>,
    stopped: watch::Receiver<bool>,
) {
    pulse.many_at_once.store(true, Relaxed);
    let header_size = pulse.shared.site.limits.header_size;
    let stream = TokioIo::new(Felt::new(stream, pulse.clone()));
    let connection = http2::Builder::new(TokioExecutor::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(header_size).unwrap_or(u32::MAX))
        .serve_connection(stream, Router::new(pulse.clone()));
    let mut connection = pin!(connection);
    tokio::select! {
        biased;
        ended = connection.as_mut() => return log_end(ended),
        () = end_wanted(&pulse, stopped) => {}
        // HTTP/1 has a header for this.
        () = pulse.peer.refused() => {}
    }
    connection.as_mut().graceful_shutdown();
    log_end(connection.await);
}

/// Waits until the server stops, or until others want the place of this connection and it has no claim to it.
async fn end_wanted(pulse: &Pulse, mut stopped: watch::Receiver<bool>) {
    let crowded = async {
        loop {
            pulse.shared.crowded.notified().await;
            if pulse.may_be_closed() {
                return;
            }
        }
    };
    tokio::select! {
        _ = stopped.wait_for(|stopped| *stopped) => {}
        () = crowded => {}
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

/// The state of one connection: whose turn it is, and until when.
///
/// Shared by the connection, its stream and its responses, which all live in one task, or, over HTTP/2, in a few.
#[derive(Debug)]
pub(super) struct Pulse {
    pub(super) shared: Arc<Shared>,
    /// Address of the client, or of the proxy before it.
    pub(super) client: IpAddr,
    pub(super) peer: Peer,
    /// Whether the names that requests have for the server are checked, see `host`.
    pub(super) checks_host: bool,
    /// Requests that are being answered.
    active: AtomicUsize,
    /// Of those, the ones whose last byte hyper has taken but perhaps not written.
    taken: AtomicUsize,
    /// Permits for scrapes that are held.
    scrapes: AtomicUsize,
    /// Of those, the ones that are given back with the next flush.
    scrapes_taken: AtomicUsize,
    /// HTTP/2: requests overlap, and between them come bytes that begin none, such as acknowledgements.
    many_at_once: AtomicBool,
    /// No byte of the next request has come.
    waiting: AtomicBool,
    /// The client does not read what we write.
    stalled: AtomicBool,
    /// Since when no request is under way, if none is; in microseconds since `shared.epoch`.
    idle_since: AtomicU64,
    /// Likewise.
    deadline: AtomicU64,
    /// The deadline of the oldest response under way, likewise.
    response_deadline: AtomicU64,
}

/// One request's turn, from its headers until hyper has taken the last byte of the response.
#[derive(Debug)]
pub(super) struct Turn {
    pulse: Arc<Pulse>,
    /// Holds a permit for a scrape.
    scrape: bool,
}

impl Pulse {
    fn new(shared: Arc<Shared>, client: IpAddr, checks_host: bool) -> Self {
        let pulse = Self {
            shared,
            client,
            peer: Peer::default(),
            checks_host,
            active: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
            scrapes: AtomicUsize::new(0),
            scrapes_taken: AtomicUsize::new(0),
            many_at_once: AtomicBool::new(false),
            waiting: AtomicBool::new(false),
            stalled: AtomicBool::new(false),
            idle_since: AtomicU64::new(0),
            deadline: AtomicU64::new(0),
            response_deadline: AtomicU64::new(0),
        };
        let deadline = pulse.after(pulse.shared.site.limits.header_time);
        pulse.deadline.store(deadline, Relaxed);
        pulse.idle_since.store(pulse.after(Duration::ZERO), Relaxed);
        pulse
    }

    /// Begins a turn. The scraper leaves after `patience`.
    pub(super) fn begin(self: &Arc<Self>, patience: Option<Duration>) -> Turn {
        // Over HTTP/2 a later request does not move the deadline: else a client could hold a response for ever by
        // asking for others.
        if self.active.fetch_add(1, Relaxed) == 0 {
            let response = self.shared.site.limits.response;
            let deadline = self.after(patience.map_or(response, |patience| patience.min(response)));
            self.response_deadline.store(deadline, Relaxed);
            self.deadline.store(deadline, Relaxed);
            self.waiting.store(false, Relaxed);
            self.stalled.store(false, Relaxed);
        }
        Turn {
            pulse: self.clone(),
            scrape: false,
        }
    }

    fn is_idle(&self) -> bool {
        self.active.load(Relaxed) == 0
    }

    /// Where others wait for its place: it has asked for nothing for long enough.
    fn may_be_closed(&self) -> bool {
        let idle_since = Duration::from_micros(self.idle_since.load(Relaxed));
        let idle = (self.shared.epoch + idle_since).elapsed();
        self.is_idle() && idle >= self.shared.site.limits.courtesy
    }

    /// Bytes came in.
    fn read(&self) {
        if self.waiting.swap(false, Relaxed) {
            let deadline = self.after(self.shared.site.limits.header_time);
            self.deadline.fetch_min(deadline, Relaxed);
            self.idle_since.store(self.after(Duration::ZERO), Relaxed);
        }
    }

    /// The client did, or did not, take bytes.
    fn wrote(&self, progress: bool) {
        if self.is_idle() {
            // An acknowledgement of HTTP/2, or hyper's own refusal of a request: the deadline is set already.
            return;
        }
        if progress == self.stalled.load(Relaxed) {
            self.stalled.store(!progress, Relaxed);
            let response = self.response_deadline.load(Relaxed);
            let deadline = if progress {
                response
            } else {
                response.min(self.after(self.shared.site.limits.stall))
            };
            self.deadline.store(deadline, Relaxed);
        }
    }

    /// Everything that was taken is written.
    fn flushed(&self) {
        let taken = self.taken.swap(0, Relaxed);
        if taken == 0 {
            return;
        }
        self.give_back(self.scrapes_taken.swap(0, Relaxed));
        if self.active.fetch_sub(taken, Relaxed) == taken {
            let deadline = self.after(self.shared.site.limits.idle);
            self.deadline.store(deadline, Relaxed);
            self.idle_since.store(self.after(Duration::ZERO), Relaxed);
            let many_at_once = self.many_at_once.load(Relaxed);
            self.waiting.store(!many_at_once, Relaxed);
        }
    }

    fn give_back(&self, scrapes: usize) {
        self.scrapes.fetch_sub(scrapes, Relaxed);
        self.shared.scrapes.add_permits(scrapes);
    }

    fn deadline(&self) -> Instant {
        self.shared.epoch + Duration::from_micros(self.deadline.load(Relaxed))
    }

    fn after(&self, time: Duration) -> u64 {
        let since = self.shared.epoch.elapsed() + time;
        u64::try_from(since.as_micros()).expect("no process runs for half a million years")
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.give_back(self.scrapes.load(Relaxed));
    }
}

impl Turn {
    /// Takes a permit for a scrape, and holds it until the response is written; false where there is none left.
    pub(super) fn scrape(&mut self) -> bool {
        match self.pulse.shared.scrapes.try_acquire() {
            Ok(permit) => {
                permit.forget();
                self.pulse.scrapes.fetch_add(1, Relaxed);
                self.scrape = true;
                true
            }
            Err(_) => false,
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.scrape {
            self.pulse.scrapes_taken.fetch_add(1, Relaxed);
        }
        self.pulse.taken.fetch_add(1, Relaxed);
    }
}

/// A stream whose pulse is felt.
struct Felt<S> {
    stream: S,
    pulse: Arc<Pulse>,
}

impl<S> Felt<S> {
    const fn new(stream: S, pulse: Arc<Pulse>) -> Self {
        Self { stream, pulse }
    }

    fn felt(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.pulse.wrote(written.is_ready());
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Felt<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.pulse.read();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Felt<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.felt(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.felt(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.pulse.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Requests at once on one connection of HTTP/2: scrapers send one, browsers a few.
const STREAMS_MAX: u32 = 16;
