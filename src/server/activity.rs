//! What one connection is doing: its requests, how far their responses are, and its deadline.
//!
//! A connection has one deadline at any time: for the client to send the headers of a request
//! ([`Limits::header_time`]), for the response ([`Limits::response`], or less if the scraper says so), for the client to
//! read ([`Limits::stall`]), or for its next request ([`Limits::idle`]). The deadline is a number that requests move. One
//! timer looks at it, so that a request over HTTP/1 costs no timer of its own.
//!
//! Over HTTP/2 the client's flow control can stop a response while the connection is writable. Each stream therefore has a
//! deadline of its own, and a connection ends with the last of its streams that stalled.

use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

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
/// Shared by the connection, its stream and its responses, which all live in one task, or, over HTTP/2, in a few.
#[derive(Debug)]
pub(super) struct Activity {
    pub(super) shared: Arc<Shared>,
    /// Address of the client, or of the proxy before it.
    pub(super) client: IpAddr,
    pub(super) peer: Peer,
    /// Whether the names that requests have for the server are checked, see `foreign`.
    pub(super) checks_host: bool,
    /// HTTP/2: requests overlap, and between them come bytes that begin none, such as acknowledgements.
    pub(super) is_http2: AtomicBool,
    /// Requests that are being answered.
    active: AtomicUsize,
    /// Of those, the ones without an answer yet: they wait for the exporter, not for the client.
    unanswered: AtomicUsize,
    /// Of those, the ones whose last byte hyper has taken but perhaps not written.
    taken: AtomicUsize,
    /// Of those, the scrapes.
    scrapes: AtomicUsize,
    /// No byte of the next request has come.
    waiting: AtomicBool,
    /// The client does not read what the exporter writes.
    stalled: AtomicBool,
    /// The client has been asked to open another connection for its next request.
    is_leaving: AtomicBool,
    /// Since when no request is under way, if none is.
    idle_since: AtomicU64,
    /// When the oldest request under way began.
    begun: AtomicU64,
    /// When bytes of a response were last written.
    progress: AtomicU64,
    deadline: AtomicU64,
    /// The deadline of the oldest response under way.
    response_deadline: AtomicU64,
    /// The newest request, until its stream is spawned.
    newest: Mutex<Option<Arc<Exchange>>>,
    /// Ends the connection at once.
    close: Notify,
    /// Ends the connection after the requests under way.
    leave: Notify,
}

/// One request and its response.
#[derive(Debug)]
pub(super) struct Exchange {
    activity: Arc<Activity>,
    /// When the response last took a step; [`NEVER`] while there is none.
    progress: AtomicU64,
    /// Whether it is among the scrapes under way.
    is_scrape: AtomicBool,
    abort: Notify,
}

/// One request, from its headers until hyper has taken the last byte of the response.
#[derive(Debug)]
pub(super) struct Turn(Arc<Exchange>);

/// The order in which connections are closed when all slots are taken: idle ones, then those with other responses than
/// scrapes, then those whose scrapes stall; of each kind, the oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Claim(u8, u64);

impl Activity {
    pub(super) fn new(shared: Arc<Shared>, client: IpAddr, checks_host: bool) -> Self {
        let now = micros(shared.epoch.elapsed());
        let header_time = micros(shared.site.limits.header_time);
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
            is_leaving: AtomicBool::new(false),
            idle_since: AtomicU64::new(now),
            begun: AtomicU64::new(now),
            progress: AtomicU64::new(now),
            deadline: AtomicU64::new(now.saturating_add(header_time)),
            response_deadline: AtomicU64::new(0),
            newest: Mutex::new(None),
            close: Notify::new(),
            leave: Notify::new(),
        }
    }

    /// Begins a request. The scraper leaves after `patience`.
    pub(super) fn begin(self: &Arc<Self>, patience: Option<Duration>) -> Turn {
        self.unanswered.fetch_add(1, Relaxed);
        // Over HTTP/2 a later request does not move the deadline: else a client could hold a response for ever by
        // asking for others.
        if self.active.fetch_add(1, Relaxed) == 0 {
            let response = self.shared.site.limits.response;
            let deadline = self.after(patience.map_or(response, |patience| patience.min(response)));
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
            *self.newest() = Some(Arc::clone(&exchange));
        }
        Turn(exchange)
    }

    /// The request that has just begun, for the task that is spawned for its stream.
    pub(super) fn take_newest(&self) -> Option<Arc<Exchange>> {
        self.newest().take()
    }

    fn newest(&self) -> std::sync::MutexGuard<'_, Option<Arc<Exchange>>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.active.load(Relaxed) == 0
    }

    /// Its place in the order in which connections are closed, if it may be closed now.
    pub(super) fn claim(&self) -> Option<Claim> {
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
        let courtesy = micros(self.shared.site.limits.courtesy);
        (since.saturating_add(courtesy) <= self.now()).then_some(Claim(rank, since))
    }

    /// Ends the connection at once.
    pub(super) fn close(&self) {
        self.close.notify_one();
    }

    pub(super) async fn closed(&self) {
        self.close.notified().await;
    }

    /// Asks the client to open another connection for its next request; over HTTP/1 the answer itself says so.
    pub(super) fn leave(&self) {
        self.leave.notify_one();
    }

    pub(super) async fn left(&self) {
        self.leave.notified().await;
        self.is_leaving.store(true, Relaxed);
        if self.is_idle() {
            let deadline = self.after(self.shared.site.limits.header_time);
            self.deadline.fetch_min(deadline, Relaxed);
        }
    }

    /// Bytes came in.
    fn read(&self) {
        if self.waiting.swap(false, Relaxed) {
            let deadline = self.after(self.shared.site.limits.header_time);
            self.deadline.fetch_min(deadline, Relaxed);
            self.idle_since.store(self.now(), Relaxed);
        }
    }

    /// The client did, or did not, take bytes.
    fn wrote(&self, progress: bool) {
        if self.is_idle() {
            // An acknowledgement of HTTP/2, or hyper's own refusal of a request: the deadline is set already.
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
                response.min(self.after(self.shared.site.limits.stall))
            };
            self.deadline.store(deadline, Relaxed);
        }
    }

    /// Everything that was taken is written.
    fn flushed(&self) {
        let taken = self.taken.swap(0, Relaxed);
        if taken != 0 && self.active.fetch_sub(taken, Relaxed) == taken {
            let limits = &self.shared.site.limits;
            let idle = if self.is_leaving.load(Relaxed) {
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
    /// Runs the stream of this request, and resets it if its response makes no progress. If no other stream of the
    /// connection is under way then, all of them have stalled, and the connection ends.
    pub(super) async fn run(self: Arc<Self>, stream: impl Future<Output = ()>) {
        let activity = Arc::clone(&self.activity);
        // The stream is in the inner future, so that it is dropped, and with it reset, before the others are counted.
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
        let limit = self.activity.shared.site.limits.stall;
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

    /// Since when the response has made no progress.
    pub(super) fn waits_since(&self) -> u64 {
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

impl Turn {
    /// Begins a scrape, which lasts until hyper has taken the response; false if there are too many.
    pub(super) fn scrape(&self) -> bool {
        let activity = &self.0.activity;
        let admitted = activity.shared.scrapes.begin(&self.0, activity.now());
        if admitted {
            self.0.is_scrape.store(true, Relaxed);
            activity.scrapes.fetch_add(1, Relaxed);
        }
        admitted
    }

    /// The response has taken a step, the first when it exists.
    pub(super) fn step(&self) {
        self.0.answered();
        self.0
            .activity
            .progress
            .store(self.0.activity.now(), Relaxed);
    }

    pub(super) fn is_http2(&self) -> bool {
        self.0.activity.is_http2.load(Relaxed)
    }
}

impl Drop for Turn {
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
