//! Every fault at every moment, by one table: what a scrape, the counters and the log say, and that the next poll after it
//! is as if nothing had been.
//!
//! A cell is a fault of `table` at one of the moments below. What makes no sense is left out by a rule that says why. The
//! connections of some faults are of TLS, whose CA is only taken from the environment, so the test is played once more in
//! a process of its own.

mod check;
mod stage;
mod table;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use teams_pstn_exporter::report::ReportKind;
use teams_pstn_exporter::simulator::faults::When;

use crate::harness::{Exporter, Log, Metrics};
use check::{SECONDS, numbers};
use stage::{Certificates, Stage};
use table::{End, Lasts, Row, What, rows};

/// When a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// In the first poll of all: there is nothing yet that could stay.
    Start,
    /// When a new token is asked for.
    Token,
    FirstPage,
    MiddlePage,
    LastPage,
    /// On the middle page of one window of a log, while other windows are asked for.
    MiddleWindow,
    BetweenPolls,
    /// While somebody scrapes.
    Scrape,
    /// While the configuration is replaced.
    Reload,
    /// While the process is told to stop.
    Shutdown,
}

const MOMENTS: [Moment; 10] = [
    Moment::Start,
    Moment::Token,
    Moment::FirstPage,
    Moment::MiddlePage,
    Moment::LastPage,
    Moment::MiddleWindow,
    Moment::BetweenPolls,
    Moment::Scrape,
    Moment::Reload,
    Moment::Shutdown,
];

/// Why a fault at a moment is no cell of the matrix.
fn left_out(row: &Row, moment: Moment) -> Option<&'static str> {
    use Moment::{BetweenPolls, FirstPage, LastPage, MiddlePage, MiddleWindow, Token};
    let is_page = matches!(moment, FirstPage | MiddlePage | LastPage | MiddleWindow);
    let answers = matches!(row.what, What::Answer(_) | What::Row { .. });
    match moment {
        _ if matches!(row.what, What::Name) && (is_page || moment == BetweenPolls) => {
            Some("a name is looked up for a new connection, and the first is made for the token")
        }
        Token if row.token.is_none() => Some("it has no meaning in the answer to a token request"),
        _ if is_page && row.page.is_none() => Some("it befalls tokens only"),
        BetweenPolls if answers => Some("nothing is asked then, so nothing is answered"),
        _ => None,
    }
}

struct Cell<'a> {
    row: &'a Row,
    moment: Moment,
}

fn cells(table: &[Row]) -> Vec<Cell<'_>> {
    table
        .iter()
        .flat_map(|row| MOMENTS.map(|moment| Cell { row, moment }))
        .filter(|cell| left_out(cell.row, cell.moment).is_none())
        .collect()
}

#[test]
fn the_readme_has_their_numbers() {
    let table = rows();
    let cells = cells(&table).len();
    let readme: Vec<&str> = include_str!("../../README.md").split_whitespace().collect();
    let readme = readme.join(" ");
    let told = format!(
        "{} faults at {} moments, {cells} cells",
        table.len(),
        MOMENTS.len()
    );
    assert!(readme.contains(&told), "README.md does not say {told:?}");
}

#[test]
fn every_fault_at_every_moment() {
    let table = rows();
    let cells = cells(&table);
    if std::env::var_os(OWN_PROCESS).is_some() {
        let ca_file = std::env::var_os(CA_FILE).unwrap();
        return play_all(&cells, &Certificates::new(Path::new(&ca_file)));
    }
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "matrix::every_fault_at_every_moment",
            "--nocapture",
        ])
        .env(OWN_PROCESS, "")
        .env(CA_FILE, folder.path().join("ca.pem"))
        .env("NO_PROXY", "*")
        .env_remove("SSL_CERT_DIR")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    assert!(text.contains("1 passed"), "it did not run: {text}");
}

/// Every cell that fails is told, not only the first.
fn play_all(cells: &[Cell<'_>], certificates: &Certificates) {
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(Vec::new());
    // Most of a cell is waiting, see `pace`.
    let threads = 4 * std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        while let Some(cell) = cells.get(next.fetch_add(1, Ordering::Relaxed)) {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .start_paused(true)
                .build()
                .unwrap();
            let played = catch_unwind(AssertUnwindSafe(|| {
                runtime.spawn(pace());
                runtime.block_on(cell.play(certificates));
            }));
            if played.is_err() {
                failed.lock().unwrap().push(cell.name());
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    assert_eq!(failed.into_inner().unwrap(), [""; 0]);
}

/// Makes a second of the paused clock take a real millisecond. Else ten minutes of it pass while a loaded system brings one
/// packet from one socket to the next, of which there are four on the way by TLS, and whoever waits for it gives up.
async fn pace() {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl Cell<'_> {
    fn name(&self) -> String {
        format!("{} × {:?}", self.row.name, self.moment)
    }

    async fn play(&self, certificates: &Certificates) {
        let Self { row, moment } = *self;
        let name = self.name();
        let log = Log::capture();
        let token_lifetime = if self.strikes_token() && moment != Moment::Start {
            // Over at the second poll.
            30
        } else {
            A_DAY
        };
        let stage = Stage::set(&row.what, self.report(), token_lifetime, certificates).await;
        let (mut exporter, before) = if moment == Moment::Start {
            stage.prepare(row, self.report(), self.when());
            if matches!(row.what, What::Name | What::Connections(_)) {
                stage.strike(row);
            }
            (stage.start(), None)
        } else {
            let mut exporter = stage.start();
            // On a machine under load the paused clock may outrun a handshake; what counts begins with a poll that succeeds.
            let mut before = exporter.first_poll().await;
            if self.of(&before, "up") != "1" {
                before = exporter.next_success().await;
            }
            assert_eq!(self.seconds(&before), SECONDS, "{name}");
            (exporter, Some(before))
        };
        log.take();
        if moment == Moment::Shutdown {
            self.shut_down(&stage, exporter, before.as_ref().unwrap(), &log)
                .await;
            stage.repair(row);
            exporter = stage.start();
        } else {
            self.fail(&stage, &mut exporter, before.as_ref()).await;
            // Before the next poll may have begun.
            let logged = log.take();
            self.check(before.as_ref(), &exporter.scrape().await, &logged);
            if moment == Moment::Start {
                let ready = exporter.get("/-/ready").await.status;
                assert_eq!(ready == 200, self.end().reason.is_none(), "{name}");
            }
            if let What::Clock { to, .. } = row.what {
                self.check_next_period(&mut exporter, to).await;
            }
            stage.repair(row);
            if matches!(row.what, What::Name) {
                stage.reload(&exporter).await;
            }
        }
        let after = exporter.next_success().await;
        assert_eq!(self.of(&after, "up"), "1", "{name}");
        assert_eq!(self.seconds(&after), SECONDS, "{name}");
        if let Some(before) = before {
            assert_eq!(numbers(&after), numbers(&before), "{name}");
        }
        exporter.stop().await;
    }

    /// Lets it strike, and waits for the poll that it strikes.
    async fn fail(&self, stage: &Stage, exporter: &mut Exporter, before: Option<&Metrics>) {
        let Self { row, moment } = *self;
        let old = attempt(exporter);
        // So that whatever is tried from now on has begun later.
        tokio::time::advance(Duration::from_millis(1)).await;
        match moment {
            Moment::Start => {
                if matches!(row.what, What::Clock { .. }) {
                    self.asked(stage, 0).await;
                    stage.strike(row);
                }
            }
            Moment::BetweenPolls => {
                stage.strike(row);
                if !matches!(row.what, What::Clock { .. }) {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    stage.repair(row);
                }
            }
            _ => {
                let asked = stage.simulator.requests().len();
                stage.prepare(row, self.report(), self.when());
                if matches!(row.what, What::Clock { .. } | What::Connections(_))
                    || matches!(moment, Moment::Scrape | Moment::Reload)
                {
                    self.asked(stage, asked).await;
                }
                stage.strike(row);
                if moment == Moment::Reload {
                    return self.reload(stage, exporter, before.unwrap()).await;
                }
                if matches!(row.what, What::Name) {
                    stage.reload(exporter).await;
                }
                if moment == Moment::Scrape {
                    let scraped = exporter.scrape().await;
                    self.check_numbers(before, &scraped);
                }
            }
        }
        exporter
            .until(|snapshot| snapshot.states()[0].last_attempt != old)
            .await;
    }

    /// Replaces the configuration, so that the poll under way is broken off, and waits for one by the new.
    async fn reload(&self, stage: &Stage, exporter: &mut Exporter, before: &Metrics) {
        stage.config.lock().unwrap().poll.interval += Duration::from_secs(1);
        // Later than any poll of the old configuration has begun.
        tokio::time::advance(Duration::from_millis(1)).await;
        let reloaded = stage.time.now();
        stage.reload(exporter).await;
        self.check_numbers(Some(before), &exporter.scrape().await);
        let soon = reloaded + TimeDelta::minutes(10);
        exporter
            .until(|snapshot| {
                let attempt = snapshot.states()[0].last_attempt;
                attempt.is_some_and(|attempt| (reloaded..soon).contains(&attempt))
            })
            .await;
    }

    /// Ends well and soon, whatever is under way.
    async fn shut_down(&self, stage: &Stage, exporter: Exporter, before: &Metrics, log: &Log) {
        let Self { row, .. } = *self;
        let asked = stage.simulator.requests().len();
        stage.prepare(row, self.report(), self.when());
        self.asked(stage, asked).await;
        stage.strike(row);
        if matches!(row.what, What::Name) {
            stage.reload(&exporter).await;
        }
        self.check_numbers(Some(before), &exporter.scrape().await);
        let stopped = tokio::time::timeout(Duration::from_mins(1), exporter.stop()).await;
        assert!(stopped.is_ok(), "{} does not end", self.name());
        let logged = log.take();
        assert!(
            logged.contains("message=stopped"),
            "{}: {logged}",
            self.name()
        );
        assert!(!logged.contains("level=error"), "{}: {logged}", self.name());
    }

    /// Waits until the request that it strikes was received.
    async fn asked(&self, stage: &Stage, before: usize) {
        let page = match self.page() {
            1 => "fromDateTime=".to_owned(),
            page => format!("skip={}", (page - 1) * 2),
        };
        let token = self.strikes_token();
        let is = |path: &str| {
            if token {
                path.ends_with("/token")
            } else {
                path.contains(&page)
            }
        };
        let simulator = &stage.simulator;
        let such = |_: &_| {
            simulator.requests()[before..]
                .iter()
                .any(|request| is(&request.path))
        };
        simulator.wait_until(such).await;
    }

    fn report(&self) -> ReportKind {
        match self.moment {
            Moment::MiddleWindow => ReportKind::PstnCalls,
            _ => ReportKind::Dialout,
        }
    }

    fn when(&self) -> When {
        if self.strikes_token() {
            When::token()
        } else {
            When::page(self.page())
        }
    }

    fn page(&self) -> usize {
        match self.moment {
            Moment::MiddlePage | Moment::MiddleWindow => 2,
            Moment::LastPage => 3,
            _ => 1,
        }
    }

    /// Whether it befalls the request for a token.
    fn strikes_token(&self) -> bool {
        let first = matches!(self.row.what, What::Connections(_)) && self.moment == Moment::Start;
        self.moment == Moment::Token || self.row.page.is_none() || first
    }

    /// What becomes of the poll that it strikes, or of that after the reload.
    fn end(&self) -> End {
        let heals = End {
            reason: None,
            retries: "",
            more_seconds: 0,
        };
        match self.moment {
            Moment::BetweenPolls => heals,
            Moment::Reload if self.row.lasts == Lasts::Once => heals,
            _ if self.strikes_token() => self.row.token.unwrap(),
            _ => self.row.page.unwrap(),
        }
    }
}

fn attempt(exporter: &Exporter) -> Option<DateTime<Utc>> {
    exporter.subscriber.latest().states()[0].last_attempt
}

/// Longer than any clock is set here.
const A_DAY: u32 = 86_400;

/// By which variable the daemon is told whom to trust.
const CA_FILE: &str = "SSL_CERT_FILE";

/// Tells the test that the variable is set.
const OWN_PROCESS: &str = "MATRIX_IN_ITS_OWN_PROCESS";
