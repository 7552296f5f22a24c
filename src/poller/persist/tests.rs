//! Writes to a disk that hangs or fails.

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use tempfile::TempDir;
use tokio::sync::Semaphore;

use super::*;
use crate::config::Config;
use crate::exposition::{Format, write_registry_family};
use crate::memory::MemoryPool;
use crate::period::Clock;
use crate::poller::Poller;
use crate::snapshot::Publisher;
use crate::tenant;

#[tokio::test(start_paused = true)]
#[expect(
    clippy::await_holding_lock,
    reason = "a write hangs as long as the test holds the lock of its state"
)]
async fn hung_disk_blocks_neither_polls_nor_scrapes() {
    let site = Site::new();
    let (dialout, sms) = (site.complete(0), site.complete(1));
    site.poller.save(sms);
    let hanging = sms.lock();
    until(|| site.writer().progress.current.lock().is_writing).await;
    tokio::time::advance(WRITE_TIME).await;
    until(|| site.counted() == [0, 1]).await;
    // Scrapes and polls need this lock.
    assert!(dialout.try_lock().is_some());
    site.poller.save(dialout);
    assert_eq!(site.counted(), [0, 2], "not queued while the disk hangs");
    drop(hanging);
    until(|| !site.writer().progress.is_late.load(Ordering::Relaxed)).await;
    assert_eq!(
        site.counted(),
        [1, 2],
        "the first file is in place after all"
    );
    site.poller.save(dialout);
    until(|| site.counted() == [2, 2]).await;
    assert_eq!(site.files(), ["a.dialout.state", "a.sms.state"]);
}

#[tokio::test]
async fn failed_write_is_counted_and_repeated() {
    let site = Site::new();
    let state = site.complete(0);
    // A folder at the path of the state file, because no file can replace a folder.
    let in_the_way = site.folder.path().join("a.dialout.state");
    std::fs::create_dir(&in_the_way).unwrap();
    site.poller.save(state);
    until(|| site.counted() == [0, 1]).await;
    std::fs::remove_dir(&in_the_way).unwrap();
    site.poller.save(state);
    until(|| site.counted() == [1, 1]).await;
    assert!(state.lock().take_unsaved().is_none(), "it is saved");
}

#[tokio::test]
async fn retired_state_is_not_written() {
    let site = Site::new();
    let (dialout, sms) = (site.complete(0), site.complete(1));
    site.poller.save(dialout);
    dialout.lock().retired = true;
    site.poller.save(sms);
    until(|| site.counted() == [1, 0]).await;
    assert_eq!(site.files(), ["a.sms.state"]);
}

#[tokio::test]
#[expect(
    clippy::await_holding_lock,
    reason = "a write hangs as long as the test holds the lock of its state"
)]
async fn wait_is_over_with_the_write_under_way() {
    let site = Site::new();
    assert!(site.writer().wait(Duration::ZERO), "nothing is written");
    let state = site.complete(0);
    site.poller.save(state);
    let hanging = state.lock();
    until(|| site.writer().progress.current.lock().is_writing).await;
    assert!(!site.writer().wait(Duration::ZERO));
    drop(hanging);
    assert!(site.writer().wait(Duration::from_mins(1)));
    assert_eq!(site.files(), ["a.dialout.state"]);
}

#[tokio::test]
async fn writes_beyond_the_queue_fail() {
    let site = Site::new();
    // The writer task does not run before the test waits.
    for _ in 0..QUEUE_MAX {
        site.poller.save(site.complete(0));
    }
    assert_eq!(site.counted(), [0, 0]);
    site.poller.save(site.complete(0));
    assert_eq!(site.counted(), [0, 1]);
}

/// A poller of two reports with a folder for state files. It sends no request.
struct Site {
    folder: TempDir,
    poller: Poller,
    /// The writer task.
    _tasks: JoinSet<()>,
}

impl Site {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let interval = Duration::from_mins(1);
        let secret = SecretString::from("not-a-secret");
        let mut config = Config::single("http://127.0.0.1/", secret, interval);
        config.storage = Some(folder.path().to_owned());
        config.reports = vec![ReportKind::Dialout.into(), ReportKind::Sms.into()];
        let clock = Clock::new(|| time("2026-11-21T12:30:00Z"));
        let telemetry = Arc::new(Telemetry::new(clock.now()));
        let http = tenant::http(&config).unwrap();
        let graph = tenant::graph(&http, &clock, &config, &config.tenants[0]).unwrap();
        let mut tasks = JoinSet::new();
        let runtime = Handle::current();
        let shared = Shared {
            publisher: Arc::new(Publisher::new(Arc::clone(&telemetry))),
            telemetry,
            clock,
            memory: MemoryPool::for_process(None),
            permits: Arc::new(Semaphore::new(1)),
            under_way: Arc::new(Semaphore::new(1)),
            writer: Writer::start(&mut tasks, &runtime),
            runtime,
            previous: false,
        };
        let mut plan = tenant::plan(&config, &config.tenants[0]);
        plan.storage.as_mut().unwrap().name = "a".to_owned();
        Self {
            folder,
            poller: Poller::new(Arc::new(plan), graph, shared, &[]),
            _tasks: tasks,
        }
    }

    fn writer(&self) -> &Writer {
        &self.poller.shared.writer
    }

    /// One of the reports after a complete poll.
    fn complete(&self, report: usize) -> &SharedState {
        let state = &self.poller.states[report];
        state.lock().health.last_success = Some(time("2026-11-21T12:00:00Z"));
        state.lock().is_unsaved = true;
        state
    }

    /// Files that were written, and those that were not.
    fn counted(&self) -> [u64; 2] {
        let mut text = Vec::new();
        for family in self.poller.shared.telemetry.gather() {
            write_registry_family(&family, Format::Text, None, &mut text);
        }
        let text = String::from_utf8(text).unwrap();
        ["written", "write_failed"].map(|outcome| {
            let sample = format!("teams_pstn_storage_files_total{{outcome=\"{outcome}\"}} ");
            let line = text.lines().find_map(|line| line.strip_prefix(&sample));
            line.unwrap().parse().unwrap()
        })
    }

    /// The names in the folder, sorted.
    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        let name = |entry: std::io::Result<std::fs::DirEntry>| {
            entry.unwrap().file_name().into_string().unwrap()
        };
        let mut names: Vec<String> = entries.map(name).collect();
        names.sort();
        names
    }
}

/// Lets other tasks run until this is true.
async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::task::yield_now().await;
    }
}

fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}
