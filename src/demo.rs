//! `demo`: the same daemon against the built-in simulator, on loopback. It needs no account.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Datelike as _, TimeDelta, Utc};
use secrecy::SecretString;

use crate::config::Config;
use crate::config::args::Args;
use crate::daemon::Load;
use crate::period::{Clock, CycleDay};
use crate::report::ReportKind;
use crate::report::budget::Budget;
use crate::report::threshold::Threshold;
use teams_pstn_simulator::faults::RandomFaults;
use teams_pstn_simulator::world::World;
use teams_pstn_simulator::{Options, Simulator, Tenant};

/// A running simulator of a realistic company.
#[derive(Debug)]
pub struct Demo {
    simulator: Simulator,
    cycle_day: CycleDay,
}

impl Demo {
    /// Starts the simulator on a free port of loopback.
    pub async fn start(clock: Clock) -> io::Result<Self> {
        let cycle_day = cycle_day(clock.now());
        let world = World::company(SEED, PEOPLE);
        let simulator = Simulator::start(Options {
            tenants: vec![Tenant::new(TENANT, CLIENT, SECRET, world)],
            random_faults: Some(RandomFaults {
                seed: 1,
                throttle_one_in: 20,
                expire_one_in: 50,
            }),
            ..Options::new(move || clock.now())
        })
        .await?;
        Ok(Self {
            simulator,
            cycle_day,
        })
    }

    /// The configuration that leads to the simulator, with the settings of a file if there is one.
    pub fn load(&self, file: Option<PathBuf>) -> Load {
        load(self.simulator.url().to_owned(), self.cycle_day, file)
    }
}

/// Prints the addresses of the demo, for the person who has just started it.
#[expect(clippy::print_stdout, reason = "this is what the subcommand prints")]
pub fn invite(addresses: &[SocketAddr], tls: bool, args: &Args) {
    println!("{}", invitation(addresses, tls, args));
}

fn invitation(addresses: &[SocketAddr], tls: bool, args: &Args) -> String {
    let (scheme, curl) = if tls {
        ("https", "curl -sk")
    } else {
        ("http", "curl -s")
    };
    let path = args.telemetry_path.as_str();
    let configuration = if args.config_file.is_some() {
        "Your configuration file is used for everything but the tenants."
    } else {
        "All reports are on. Your own configuration polls only dialout unless it lists more."
    };
    let mut urls = String::new();
    for &address in addresses {
        let base = format!("  {scheme}://{}", reachable(address));
        if path != "/" {
            let people = "for people: budgets, spend, top users, state of the polls";
            urls.extend([&base, "/  ", people, "\n"]);
        }
        urls.extend([&base, path, "  for Prometheus\n"]);
    }
    let first = addresses.first().copied().map(reachable);
    let first = first.unwrap_or_default();
    format!(
        "A simulated tenant is polled every few seconds. Its calls cost more every few minutes.
{configuration}

{urls}
  {curl} {scheme}://{first}{path} | grep -m 5 '^teams_pstn_dialout_charge'

Now and then the simulator answers 429 or 401, as Microsoft Graph does: see teams_pstn_graph_retries_total.
Only warnings and errors are logged; --log.level=info logs every poll.
Stop with Ctrl-C.
"
    )
}

/// The address for a browser on this machine, which cannot open the address of all interfaces.
fn reachable(address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        format!("localhost:{}", address.port())
    } else {
        address.to_string()
    }
}

/// The configuration of a demo whose simulator does not run yet, to find mistakes in the file before anything starts.
pub fn unconnected(file: Option<PathBuf>) -> Load {
    let url = "http://127.0.0.1/".to_owned();
    load(url, CycleDay::default(), file)
}

fn load(url: String, cycle_day: CycleDay, file: Option<PathBuf>) -> Load {
    Box::new(move || {
        let secret = SecretString::from(SECRET);
        let mut config = Config::single(&url, secret, INTERVAL);
        config.billing.cycle_day = cycle_day;
        config.reports = ReportKind::ALL.iter().map(|&kind| kind.into()).collect();
        config.budgets = vec![
            budget("dial-out", ReportKind::Dialout, DIALOUT_BUDGET),
            budget("calls", ReportKind::CallLog, CALLS_BUDGET),
        ];
        match &file {
            Some(path) => Config::load_over(path, Some(&config)),
            None => Ok(config),
        }
    })
}

/// The day on which the billing period of the demo starts. It lets the current period end in a few days, so that at any
/// time most of a budget is spent.
fn cycle_day(now: DateTime<Utc>) -> CycleDay {
    let end = now + LEFT;
    // No period starts on the 29th or later: then the next month starts it.
    CycleDay::try_from(u64::from(end.day())).unwrap_or_default()
}

/// A budget of US dollars for everyone.
fn budget(name: &str, report: ReportKind, amount: u32) -> Budget {
    Budget {
        name: name.to_owned(),
        currency: "USD".to_owned(),
        amount: amount.into(),
        thresholds: Threshold::defaults(),
        report,
        tenant: None,
        user: None,
        department: None,
        usage_location: None,
        destination_context: None,
    }
}

const SEED: u64 = 1;
const PEOPLE: u32 = 400;

const TENANT: &str = "11111111-2222-3333-4444-555555555555";
const CLIENT: &str = "66666666-7777-8888-9999-000000000000";
const SECRET: &str = "not-a-secret";

/// Short, so that there is something to see.
const INTERVAL: Duration = Duration::from_secs(5);

/// From the start of the demo to the end of its billing period, or up to three days more.
const LEFT: TimeDelta = TimeDelta::days(4);

/// US dollars: a little more than the company spends on dial-out calls in such a period so far.
const DIALOUT_BUDGET: u32 = 1_000;

/// US dollars: about as much as the company spends on all of its calls.
const CALLS_BUDGET: u32 = 2_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::period::BillingPeriod;

    #[test]
    fn invitations_by_table() {
        let all = |tls, path, addresses: &[&str]| {
            let addresses: Vec<SocketAddr> = addresses.iter().map(|a| a.parse().unwrap()).collect();
            let args = Args::from_words(["x", "--web.telemetry-path", path]).unwrap();
            invitation(&addresses, tls, &args)
        };
        for (text, urls) in [
            (
                all(false, "/metrics", &["127.0.0.1:41234"]),
                &[
                    "http://127.0.0.1:41234/  ",
                    "-s http://127.0.0.1:41234/metrics |",
                ][..],
            ),
            (
                all(true, "/m", &["[::]:10053", "[::1]:7", "0.0.0.0:8"]),
                &[
                    "https://localhost:10053/  ",
                    "-sk https://localhost:10053/m |",
                    "https://[::1]:7/m  ",
                    "https://localhost:8/m  ",
                ],
            ),
            (
                all(false, "/", &["10.0.0.1:1"]),
                &["http://10.0.0.1:1/  for Prom"],
            ),
        ] {
            for url in urls {
                assert!(text.contains(url), "{url} in {text}");
            }
            assert!(
                !text.contains("for people") || !text.contains("10.0.0.1"),
                "{text}"
            );
        }
    }

    #[test]
    fn most_of_the_period_has_elapsed_on_any_day() {
        for day in 0..4 * 366 {
            let now = DateTime::UNIX_EPOCH + TimeDelta::days(20_000 + day);
            let period = BillingPeriod::containing(now, cycle_day(now));
            let (elapsed, left) = (now - period.start(), period.end() - now);
            assert!(elapsed >= TimeDelta::days(23), "{now}: {elapsed}");
            assert!(left >= TimeDelta::days(3), "{now}: {left}");
        }
    }
}
