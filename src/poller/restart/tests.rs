//! Writes to a disk that hangs.

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use tempfile::TempDir;
use tokio::sync::Semaphore;

use super::*;
use crate::config::Config;
use crate::exposition::{Format, write_registry_family};
use crate::period::{Clock, CycleDay};
use crate::poller::Shared;
use crate::report::labels::UserLabel;
use crate::snapshot::Publisher;
use crate::storage::Identity;
use crate::telemetry::Telemetry;
use crate::tenant;

/// Number of parallel writes.
const WRITES: u32 = 2;

#[tokio::test(start_paused = true)]
async fn a_poll_goes_on_while_all_writes_hang() {
    let folder = TempDir::new().unwrap();
    let poller = poller(&folder);
    let state = complete(&poller, "2026-11-21T12:00:00Z");
    let writes = Arc::clone(&poller.shared.writes);
    let hanging = writes.acquire_many(WRITES).await.unwrap();
    poller.keep(&state).await;
    poller.keep(&state).await;
    assert_eq!(counted(&poller), [0, 2]);
    drop(hanging);
    poller.keep(&state).await;
    assert_eq!(counted(&poller), [1, 2]);
    // A saved state is not written again.
    poller.keep(&state).await;
    assert_eq!(counted(&poller), [1, 2]);
}

#[tokio::test(start_paused = true)]
#[expect(
    clippy::await_holding_lock,
    reason = "a thread with a hung rename would hold it too"
)]
async fn a_hung_rename_blocks_neither_polls_nor_scrapes() {
    let folder = TempDir::new().unwrap();
    let poller = poller(&folder);
    let state = complete(&poller, "2026-11-21T12:00:00Z");
    let placing = Arc::clone(&lock(&state).file.placing);
    let hanging = placing.lock().unwrap();
    tokio::join!(poller.keep(&state), tokio::time::advance(WRITE_TIME));
    assert_eq!(counted(&poller), [0, 1]);
    // The serve and poll paths take this lock.
    assert!(state.try_lock().is_ok());
    poller.expire(&state);
    complete(&poller, "2026-11-21T12:01:00Z");
    // While one write hangs, a poll is not held up by another.
    poller.keep(&state).await;
    assert_eq!(counted(&poller), [0, 2]);
    drop(hanging);
    all_written(&poller).await;
    assert_eq!(counted(&poller), [1, 2], "the file is in place after all");
    poller.keep(&state).await;
    assert_eq!(counted(&poller), [2, 2]);
    let file = poller.plan.file(ReportKind::Dialout).unwrap();
    let kept = file.read(|_| None).unwrap().unwrap();
    assert_eq!(kept.last_success, Some(time("2026-11-21T12:01:00Z")));
}

#[tokio::test(start_paused = true)]
#[expect(
    clippy::await_holding_lock,
    reason = "a thread with a hung rename would hold it too"
)]
async fn a_write_whose_poll_a_reload_breaks_off_is_counted_and_tried_again() {
    let folder = TempDir::new().unwrap();
    let poller = poller(&folder);
    let state = complete(&poller, "2026-11-21T12:00:00Z");
    let placing = Arc::clone(&lock(&state).file.placing);
    let hanging = placing.lock().unwrap();
    let breaking_off = async {};
    tokio::select! {
        biased;
        () = poller.keep(&state) => panic!("it hangs"),
        () = breaking_off => {}
    }
    // No file can take its place.
    let in_the_way = folder.path().join("a.dialout.state");
    std::fs::create_dir(&in_the_way).unwrap();
    drop(hanging);
    all_written(&poller).await;
    assert_eq!(counted(&poller), [0, 1]);
    std::fs::remove_dir(&in_the_way).unwrap();
    poller.keep(&state).await;
    assert_eq!(counted(&poller), [1, 1]);
}

#[test]
fn a_file_being_put_in_place_blocks_only_wait_for_files() {
    let state = ReportState::new(ReportKind::Dialout, DateTime::default());
    let placing = Arc::clone(&lock(&state).file.placing);
    let wanted = ReportState::is_wanted(&state, &placing);
    assert!(wanted.is_some());
    assert!(state.try_lock().is_ok());
    assert!(placing.try_lock().is_err(), "`wait_for_files` takes it");
    drop(wanted);
    ReportState::retire(std::slice::from_ref(&state));
    assert!(ReportState::is_wanted(&state, &placing).is_none());
    ReportState::wait_for_files(&[state]);
}

/// A poller of one report with this storage folder. It sends no request.
fn poller(folder: &TempDir) -> Poller {
    let interval = Duration::from_mins(1);
    let secret = SecretString::from("not-a-secret");
    let config = Config::single("http://127.0.0.1/", secret, interval);
    let clock = Clock::new(|| time("2026-11-21T12:30:00Z"));
    let telemetry = Arc::new(Telemetry::new(clock.now()));
    let http = tenant::http(&config).unwrap();
    let graph = tenant::graph(&http, &clock, &config, &config.tenants[0]).unwrap();
    let shared = Shared {
        publisher: Arc::new(Publisher::new(Arc::clone(&telemetry))),
        telemetry,
        clock,
        runtime: tokio::runtime::Handle::current(),
        permits: Arc::new(Semaphore::new(1)),
        under_way: Arc::new(Semaphore::new(1)),
        writes: Arc::new(Semaphore::new(WRITES as usize)),
        previous: false,
    };
    let identity = Identity {
        naming: "none".to_owned(),
        shows_names: false,
        numbers: "contoso".to_owned(),
        columns: Vec::new(),
    };
    let plan = Plan {
        tenant: None,
        interval,
        phase: interval,
        timeout: interval,
        cycle_day: CycleDay::default(),
        reports: vec![ReportKind::Dialout],
        user_label: UserLabel::None,
        series_max: 10,
        budgets: Vec::new(),
        credential_expiry: None,
        max_age: None,
        storage: Some(Storage {
            folder: folder.path().to_owned(),
            name: "a".to_owned(),
            identity,
        }),
    };
    Poller::new(Arc::new(plan), graph, shared, &[])
}

/// The poller's report after a poll of that time.
fn complete(poller: &Poller, at: &str) -> SharedState {
    let state = Arc::clone(&poller.states[0]);
    lock(&state).health.last_success = Some(time(at));
    lock(&state).file.unsaved = true;
    state
}

/// Waits until every write is over.
async fn all_written(poller: &Poller) {
    drop(poller.shared.writes.acquire_many(WRITES).await.unwrap());
}

/// Files that were written, and those that were not.
fn counted(poller: &Poller) -> [u64; 2] {
    let mut text = Vec::new();
    for family in poller.shared.telemetry.gather() {
        write_registry_family(&family, Format::Text, None, &mut text);
    }
    let text = String::from_utf8(text).unwrap();
    ["written", "write_failed"].map(|outcome| {
        let sample = format!("teams_pstn_storage_files_total{{outcome=\"{outcome}\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&sample));
        line.unwrap().parse().unwrap()
    })
}

fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}
