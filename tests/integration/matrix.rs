//! Every fault at every moment, by one table: what a scrape, the counters and the log say, and that the next poll after it
//! is as if nothing had been.
//!
//! A cell is a fault of `table` at one of the moments below. What makes no sense is left out by a rule that says why. Each
//! cell also shows that its fault struck, since one that never does leaves all as well as one that is healed. The
//! connections of some faults are of TLS, whose CA is only taken from the environment, so the test is played once more in
//! a process of its own.

mod check;
mod play;
mod stage;
mod table;
mod variants;

use std::io::{Read as _, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use stage::Certificates;
use table::{End, Lasts, Row, What, rows};
use teams_pstn_exporter::report::ReportKind;
use teams_pstn_simulator::faults::When;

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
    /// During a scrape.
    Scrape,
    /// While the configuration is replaced.
    Reload,
    /// After the process gets the signal to stop.
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
        Token if row.token.is_none() => Some("it has no meaning for a request for a token"),
        _ if is_page && row.page.is_none() => Some("it befalls tokens only"),
        BetweenPolls if answers => Some("nothing is asked then, so nothing is answered"),
        MiddlePage | LastPage | MiddleWindow if matches!(row.what, What::Name(_)) => {
            Some("the page before has left its connection, and for that no name is looked up")
        }
        LastPage if row.what.is_of_the_link() => Some("no link is on the last page"),
        FirstPage if row.what.repeats() > 0 => Some("no page is before it that it could repeat"),
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
fn description_has_the_number_of_cells() {
    let table = rows();
    let cells = cells(&table).len();
    let text: Vec<&str> = include_str!("README.md").split_whitespace().collect();
    let text = text.join(" ");
    let summary = format!(
        "{} faults at {} moments, {cells} cells",
        table.len(),
        MOMENTS.len()
    );
    assert!(
        text.contains(&summary),
        "tests/integration/README.md does not say {summary:?}"
    );
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

/// Plays all cells and reports every one that fails, not only the first.
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

/// Makes a second of the paused clock take a real millisecond, and as long as a packet needs from one socket to another.
///
/// Otherwise ten minutes of it pass while a loaded system brings one packet to the next socket, of which there are four
/// on the way by TLS, and the peer that waits for it gives up. A packet that is on its way when the byte here sets out
/// has arrived when the byte has.
async fn pace() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut here = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut there, _) = listener.accept().unwrap();
    here.set_nodelay(true).unwrap();
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        here.write_all(&[0]).unwrap();
        there.read_exact(&mut [0]).unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl Cell<'_> {
    fn name(&self) -> String {
        format!("{} × {:?}", self.row.name, self.moment)
    }

    fn report(&self) -> ReportKind {
        match self.moment {
            Moment::MiddleWindow => ReportKind::CallLog,
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
            // The first has nothing to repeat.
            _ if self.row.what.repeats() > 0 => 2,
            _ => 1,
        }
    }

    /// True if the fault affects the request for a token.
    fn strikes_token(&self) -> bool {
        let first = matches!(self.row.what, What::Connections(_)) && self.moment == Moment::Start;
        self.moment == Moment::Token || self.row.page.is_none() || first
    }

    /// The outcome of the poll that the fault affects, or of the poll after the reload.
    fn end(&self) -> End {
        let heals = End {
            reason: None,
            retries: "",
            more_seconds: 0,
        };
        match self.moment {
            // It has come back before anything is asked.
            Moment::BetweenPolls if !matches!(self.row.what, What::Name(_)) => heals,
            Moment::Reload if self.row.lasts == Lasts::Once => heals,
            _ if self.strikes_token() => self.row.token.unwrap(),
            _ => self.row.page.unwrap(),
        }
    }
}

/// The variable that names the certificates that the daemon trusts.
const CA_FILE: &str = "SSL_CERT_FILE";

/// Tells the test that the variable is set.
const OWN_PROCESS: &str = "MATRIX_IN_ITS_OWN_PROCESS";
