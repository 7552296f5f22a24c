//! State of one connection: its requests, the progress of their responses, and its deadline.
//!
//! A connection has one deadline at any time. It is a deadline for the headers of a request ([`Limits::header_time`]),
//! for the end of a response ([`Limits::response`], or the scraper's shorter timeout), for a client that does not read
//! ([`Limits::stall`]), or for the next request ([`Limits::idle`]). The deadline is a number that requests change. One
//! timer per connection reads this number, so a request over HTTP/1 needs no timer of its own.
//!
//! Over HTTP/2 the client's flow control can stop a response while the connection is writable. Each stream therefore
//! has a deadline of its own, and a connection ends if all of its streams have stalled.

use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::debug;

#[expect(unused_imports, reason = "for the links of the documentation")]
use super::Limits;
use super::Shared;
use super::peer::Peer;

/// The state of one connection. Times are microseconds since `Shared::epoch`.
///
/// The connection, its byte stream and its responses share this state. Over HTTP/1 all of them live in one task, over
/// HTTP/2 in a few tasks.
pub(super) struct Activity {
    pub(super) shared: Arc<Shared>,
    /// Address of the client, or of the proxy in front of it.
    pub(super) client: IpAddr,
    pub(super) peer: Peer,
    /// True if requests must have a trusted `Host` (see `foreign`).
    pub(super) checks_host: bool,
    /// True for HTTP/2. Over HTTP/2 requests can overlap, and bytes that arrive between requests need not begin a
    /// request. They can be acknowledgements, for example.
    pub(super) is_http2: AtomicBool,
    /// Open requests.
    active: AtomicUsize,
    /// Open requests without a response yet. Such requests wait for the exporter, not for the client.
    unanswered: AtomicUsize,
    /// Open requests with a response that hyper has received in full, but may not have written in full yet.
    taken: AtomicUsize,
    /// Open scrapes.
    scrapes: AtomicUsize,
    /// True while the connection waits for the first byte of the next request.
    waiting: AtomicBool,
    /// True while the client does not read the response.
    stalled: AtomicBool,
    /// True if the client has been asked to open another connection for its next request.
    is_closing: AtomicBool,
    /// Time when the last open request ended; only valid while no request is open.
    idle_since: AtomicU64,
    /// Time when the oldest open request began.
    begun: AtomicU64,
    /// Time when bytes of a response were last written.
    progress: AtomicU64,
    deadline: AtomicU64,
    /// The deadline of the oldest open response.
    response_deadline: AtomicU64,
    /// The newest HTTP/2 request, until its stream is spawned.
    newest: Mutex<Option<Arc<Exchange>>>,
    /// Ends the connection at once.
    close: Notify,
    /// Ends the connection when its open requests have ended.
    graceful_close: Notify,
}

/// One request and its response.
pub(super) struct Exchange {
    activity: Arc<Activity>,
    /// Time when the response last made progress; [`NEVER`] while there is no response.
    progress: AtomicU64,
    /// True if the request counts as an open scrape.
    is_scrape: AtomicBool,
    abort: Notify,
}

/// Counts a request as open, from its headers until hyper has the last byte of the response.
pub(super) struct RequestGuard(Arc<Exchange>);

impl Activity {
    pub(super) fn new(shared: Arc<Shared>, client: IpAddr, checks_host: bool) -> Self {
        let now = micros(shared.epoch.elapsed());
        let header_time = micros(shared.state.limits.header_time);
        Self {
            shared,
            client,
            peer: Peer::default(),
            checks_host,
            is_http2: AtomicBool::new(false),
            active: AtomicUsize::new(0),
            unanswered: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
            scrapes: AtomicUsize::new(0),
            waiting: AtomicBool::new(false),
            stalled: AtomicBool::new(false),
            is_closing: AtomicBool::new(false),
            idle_since: AtomicU64::new(now),
            begun: AtomicU64::new(now),
            progress: AtomicU64::new(now),
            deadline: AtomicU64::new(now.saturating_add(header_time)),
            response_deadline: AtomicU64::new(0),
            newest: Mutex::new(None),
            close: Notify::new(),
            graceful_close: Notify::new(),
        }
    }

    /// Begins a request. `scrape_timeout` is the timeout that the scraper sent, if any.
    pub(super) fn begin(self: &Arc<Self>, scrape_timeout: Option<Duration>) -> RequestGuard {
        self.unanswered.fetch_add(1, Relaxed);
        // Over HTTP/2 a later request does not change the deadline. Otherwise a client could keep a response open
        // forever by sending other requests.
        if self.active.fetch_add(1, Relaxed) == 0 {
            let response = self.shared.state.limits.response;
            let deadline = self.after(
                scrape_timeout.map_or(response, |scrape_timeout| scrape_timeout.min(response)),
            );
            self.response_deadline.store(deadline, Relaxed);
            self.deadline.store(deadline, Relaxed);
            self.begun.store(self.now(), Relaxed);
            self.progress.store(self.now(), Relaxed);
            self.waiting.store(false, Relaxed);
            self.stalled.store(false, Relaxed);
        }
        let exchange = Arc::new(Exchange {
            activity: self.clone(),
            progress: AtomicU64::new(NEVER),
            is_scrape: AtomicBool::new(false),
            abort: Notify::new(),
        });
        if self.is_http2.load(Relaxed) {
            *self.newest.lock() = Some(Arc::clone(&exchange));
        }
        RequestGuard(exchange)
    }

    /// Returns the request that has just begun, for the task of its stream.
    pub(super) fn take_newest(&self) -> Option<Arc<Exchange>> {
        self.newest.lock().take()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.active.load(Relaxed) == 0
    }

    /// Returns the connection's position in the order in which connections are closed when all slots are taken; `None`
    /// if it must not be closed now. Idle connections come first, then connections with responses that are not scrapes,
    /// then connections with stalled scrapes. Within each group, the oldest comes first.
    pub(super) fn close_order(&self) -> Option<(u8, u64)> {
        let (rank, since) = if self.is_idle() {
            (0, &self.idle_since)
        } else if self.unanswered.load(Relaxed) > 0 {
            return None;
        } else if self.scrapes.load(Relaxed) == 0 {
            (1, &self.begun)
        } else {
            (2, &self.progress)
        };
        let since = since.load(Relaxed);
        let close_grace = micros(self.shared.state.limits.close_grace);
        (since.saturating_add(close_grace) <= self.now()).then_some((rank, since))
    }

    /// Ends the connection at once.
    pub(super) fn close(&self) {
        self.close.notify_one();
    }

    pub(super) async fn closed(&self) {
        self.close.notified().await;
    }

    /// Asks an HTTP/2 client to open another connection for its next request. Over HTTP/1 a header of the response does
    /// this.
    pub(super) fn close_gracefully(&self) {
        self.graceful_close.notify_one();
    }

    pub(super) async fn graceful_close_requested(&self) {
        self.graceful_close.notified().await;
        self.is_closing.store(true, Relaxed);
        if self.is_idle() {
            let deadline = self.after(self.shared.state.limits.header_time);
            self.deadline.fetch_min(deadline, Relaxed);
        }
    }

    /// Records that bytes have been received.
    fn read(&self) {
        if self.waiting.swap(false, Relaxed) {
            let deadline = self.after(self.shared.state.limits.header_time);
            self.deadline.fetch_min(deadline, Relaxed);
            self.idle_since.store(self.now(), Relaxed);
        }
    }

    /// Records whether the client accepted bytes.
    fn wrote(&self, progress: bool) {
        if self.is_idle() {
            // The bytes are an HTTP/2 acknowledgement, or hyper's own rejection of a request. The deadline is already
            // set.
            return;
        }
        if progress {
            self.progress.store(self.now(), Relaxed);
        }
        if progress == self.stalled.load(Relaxed) {
            self.stalled.store(!progress, Relaxed);
            let response = self.response_deadline.load(Relaxed);
            let deadline = if progress {
                response
            } else {
                response.min(self.after(self.shared.state.limits.stall))
            };
            self.deadline.store(deadline, Relaxed);
        }
    }

    /// Records that hyper has written all bytes that it had, which ends the requests in `taken`.
    fn flushed(&self) {
        let taken = self.taken.swap(0, Relaxed);
        if taken != 0 && self.active.fetch_sub(taken, Relaxed) == taken {
            let limits = &self.shared.state.limits;
            let idle = if self.is_closing.load(Relaxed) {
                limits.header_time
            } else {
                limits.idle
            };
            self.deadline.store(self.after(idle), Relaxed);
            self.idle_since.store(self.now(), Relaxed);
            let is_http2 = self.is_http2.load(Relaxed);
            self.waiting.store(!is_http2, Relaxed);
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.instant(self.deadline.load(Relaxed))
    }

    fn instant(&self, since: u64) -> Instant {
        self.shared.epoch + Duration::from_micros(since)
    }

    fn now(&self) -> u64 {
        micros(self.shared.epoch.elapsed())
    }

    fn after(&self, time: Duration) -> u64 {
        self.now().saturating_add(micros(time))
    }
}

impl Exchange {
    /// Runs the stream of this request, and resets the stream if its response makes no progress. If no other stream is
    /// open, the connection has stalled and is ended too.
    pub(super) async fn run(self: Arc<Self>, stream: impl Future<Output = ()>) {
        let activity = Arc::clone(&self.activity);
        // The inner future owns the stream. So the stream is dropped, which resets it, before the open streams are
        // counted.
        let finished = async move {
            tokio::select! {
                biased;
                () = stream => true,
                () = self.abort.notified() => false,
                () = self.stalled() => false,
            }
        }
        .await;
        if !finished {
            debug!("a stream made no progress and was reset");
            if activity.active.load(Relaxed) <= activity.taken.load(Relaxed) {
                activity.close();
            }
        }
    }

    /// Waits until the response has made no progress for [`Limits::stall`].
    async fn stalled(&self) {
        let limit = self.activity.shared.state.limits.stall;
        loop {
            let progress = self.progress.load(Relaxed);
            let end = if progress == NEVER {
                Instant::now() + limit
            } else {
                self.activity.instant(progress) + limit
            };
            if end <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(end).await;
        }
    }

    /// Returns when the response last made progress.
    pub(super) fn last_progress(&self) -> u64 {
        if self.activity.is_http2.load(Relaxed) {
            self.progress.load(Relaxed)
        } else {
            self.activity.progress.load(Relaxed)
        }
    }

    /// Ends the response.
    pub(super) fn abort(&self) {
        if self.activity.is_http2.load(Relaxed) {
            self.abort.notify_one();
        } else {
            self.activity.close();
        }
    }

    fn answered(&self) {
        if self.progress.swap(self.activity.now(), Relaxed) == NEVER {
            self.activity.unanswered.fetch_sub(1, Relaxed);
        }
    }
}

impl RequestGuard {
    /// Begins a scrape, which lasts until hyper has the whole response. Returns false if too many scrapes are open.
    pub(super) fn scrape(&self) -> bool {
        let activity = &self.0.activity;
        let admitted = activity.shared.scrapes.begin(&self.0, activity.now());
        if admitted {
            self.0.is_scrape.store(true, Relaxed);
            activity.scrapes.fetch_add(1, Relaxed);
        }
        admitted
    }

    /// Records progress of the response. The first call records that there is a response.
    pub(super) fn step(&self) {
        self.0.answered();
        let activity = &self.0.activity;
        activity.progress.store(activity.now(), Relaxed);
    }

    pub(super) fn is_http2(&self) -> bool {
        self.0.activity.is_http2.load(Relaxed)
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        let activity = &self.0.activity;
        self.0.answered();
        if self.0.is_scrape.load(Relaxed) {
            activity.shared.scrapes.end(&self.0);
            activity.scrapes.fetch_sub(1, Relaxed);
        }
        activity.taken.fetch_add(1, Relaxed);
    }
}

/// A stream of bytes that reports to the connection's [`Activity`].
pub(super) struct Observed<S> {
    stream: S,
    activity: Arc<Activity>,
}

impl<S> Observed<S> {
    pub(super) const fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self { stream, activity }
    }

    fn wrote(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.activity.wrote(written.is_ready());
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Observed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.activity.read();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Observed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.activity.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The progress of a response that does not exist yet.
const NEVER: u64 = u64::MAX;
