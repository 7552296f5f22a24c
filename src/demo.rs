//! `demo`: runs the daemon against the built-in simulator, on loopback. The command needs no account.

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
use crate::report::department::Departments;
use crate::report::pool::Pool;
use teams_pstn_simulator::company::Company;
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
    /// Starts the simulator on a free loopback port.
    pub async fn start(clock: Clock) -> io::Result<Self> {
        let cycle_day = cycle_day(clock.now());
        let world = World::company(SEED, PEOPLE);
        let simulator = Simulator::start(Options {
            tenants: vec![Tenant::new(TENANT, CLIENT, SECRET, world)],
            random_faults: Some(RandomFaults {
                seed: 1,
                after: CALM,
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

    /// Returns the loader of a configuration that polls the simulator, with the settings of `file` if there is one.
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
        "All reports are on, with budgets, pools of included minutes, and departments. Your own configuration polls only dialout
unless it lists more. The billing period of the demo ends in a few days. Included minutes are counted in the calendar month."
    };
    let mut urls = String::new();
    for &address in addresses {
        let base = format!("  {scheme}://{}", reachable(address));
        if path != "/" {
            let people =
                "for people: budgets, included minutes, spend, top users, state of the polls";
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

/// Returns the address for a browser on this machine. If the server listens on all interfaces (`0.0.0.0` or `[::]`),
/// that is `localhost`, because a browser cannot open such an address.
fn reachable(address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        format!("localhost:{}", address.port())
    } else {
        address.to_string()
    }
}

/// Returns the loader of a demo configuration without a simulator. It finds errors in `file` before anything starts.
pub fn unconnected(file: Option<PathBuf>) -> Load {
    let url = "http://127.0.0.1/".to_owned();
    load(url, CycleDay::default(), file)
}

fn load(url: String, cycle_day: CycleDay, file: Option<PathBuf>) -> Load {
    Box::new(move || {
        let secret = SecretString::from(SECRET);
        let mut config = Config::single(&url, secret, INTERVAL);
        config.poll.log_interval = LOG_INTERVAL;
        config.billing.cycle_day = cycle_day;
        config.reports = ReportKind::ALL.iter().map(|&kind| kind.into()).collect();
        config.budgets = vec![
            Budget::new("dial-out", DIALOUT_BUDGET),
            Budget {
                report: ReportKind::CallLog,
                ..Budget::new("calls", CALLS_BUDGET)
            },
        ];
        config.pools = vec![
            pool("us-calling", "US", US_MINUTES),
            pool("uk-calling", "GB", UK_MINUTES),
        ];
        config.departments = Some(departments(&Company::new(SEED, PEOPLE)).into());
        match &file {
            Some(path) => Config::load_over(path, Some(&config)),
            None => Ok(config),
        }
    })
}

/// Returns the day of the month on which the billing periods of the demo start. The day is chosen so that the current
/// period ends in a few days. So most of a budget is spent, whenever the demo runs.
fn cycle_day(now: DateTime<Utc>) -> CycleDay {
    let end = now + LEFT;
    // A period cannot start after the 28th, so a later day is replaced by the first.
    CycleDay::try_from(u64::from(end.day())).unwrap_or_default()
}

/// Returns a pool with the domestic minutes of a calling plan in one country.
fn pool(name: &str, location: &str, minutes: i64) -> Pool {
    Pool {
        usage_location: vec![location.to_owned()],
        destination_context: Some("Domestic".to_owned()),
        ..Pool::new(name, &["MCOPSTN1"], minutes * 60)
    }
}

/// Returns the departments of the simulated users. Every tenth user has none, like a user who has joined recently.
fn departments(company: &Company) -> Departments {
    let mut file = "user,department\n".to_owned();
    for (user, department) in company.users().zip(DEPARTMENTS.iter().cycle()) {
        if let Some(department) = department {
            file.extend([&*user.principal_name, ",", *department, "\n"]);
        }
    }
    Departments::parse(file.as_bytes()).expect("no user is in the file twice")
}

const SEED: u64 = 1;
const PEOPLE: u32 = 400;

const TENANT: &str = "11111111-2222-3333-4444-555555555555";
const CLIENT: &str = "66666666-7777-8888-9999-000000000000";
const SECRET: &str = "not-a-secret";

/// Poll interval of aggregated reports. It is short, so that a user sees figures change.
const INTERVAL: Duration = Duration::from_secs(5);

/// Poll interval of logs, longer than [`INTERVAL`]. In the first interval, the exporter must fetch all days of a log
/// and then its previous period.
const LOG_INTERVAL: Duration = Duration::from_secs(20);

/// Number of requests before the simulator answers with the first fault. The first polls of all reports and of the
/// previous period send fewer requests, so they succeed.
const CALM: u64 = 500;

/// Time from the start of the demo to the end of its billing period. No period can start on the 29th, 30th or 31st, so
/// the time can be up to three days longer.
const LEFT: TimeDelta = TimeDelta::days(4);

/// Budget in US dollars: a little more than the company has spent on dial-out calls when the demo starts.
const DIALOUT_BUDGET: u32 = 1_000;

/// The departments of ten users; `None` for a user without a department. The list is repeated for the other users.
const DEPARTMENTS: [Option<&str>; 10] = [
    Some("Sales"),
    Some("Support"),
    Some("Sales"),
    Some("Engineering"),
    Some("Support"),
    Some("Sales"),
    Some("Finance"),
    Some("Support"),
    Some("Legal"),
    None,
];

/// Included minutes of 10 licences in the United States: about as many as the company uses in a month.
const US_MINUTES: i64 = 10 * 3_000;

/// Included minutes of 20 licences in the United Kingdom: about twice as many as the company uses in a month.
const UK_MINUTES: i64 = 20 * 1_200;

/// Budget in US dollars: about as much as the company spends on all of its calls.
const CALLS_BUDGET: u32 = 2_000;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use teams_pstn_simulator::log::Logs;
    use teams_pstn_simulator::people::User;

    use super::*;
    use crate::period::BillingPeriod;
    use crate::report::pool;

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
    fn budgets_are_mostly_used_on_any_day_and_a_pool_at_the_end_of_a_month() {
        let logs = Logs::of(&Arc::new(Company::new(SEED, PEOPLE)));
        let config = unconnected(None)().unwrap();
        for day in [0, 47, 365, 731, 1_000] {
            let now = DateTime::UNIX_EPOCH + TimeDelta::days(20_400 + day);
            let period = BillingPeriod::containing(now, cycle_day(now));
            let sums = logs.calls.expected(period.start()..period.end(), now);
            let month = BillingPeriod::containing(now, CycleDay::default());
            let end = month.end() + TimeDelta::days(2);
            let sums_of_month = logs.calls.expected(month.start()..month.end(), end);
            let used = |pool: &Pool| -> i64 {
                let by = sums_of_month.by(&pool::LABELS);
                let covered = by
                    .iter()
                    .filter(|(labels, _)| pool.covers([0, 1, 2, 3].map(|at| labels[at].as_str())));
                covered
                    .map(|(_, amounts)| i64::try_from(amounts.seconds).unwrap())
                    .sum()
            };
            let shares: Vec<i64> = config
                .pools
                .iter()
                .map(|pool| 100 * used(pool) / pool.seconds)
                .collect();
            let [us, uk] = shares[..] else {
                panic!("{shares:?}")
            };
            assert!(
                (75..125).contains(&us) && (45..80).contains(&uk),
                "{now}: {shares:?}"
            );
            let spent = |call_types: &[&str]| -> i128 {
                let by = sums.by(&["currency", "call_type"]);
                let selected = by.iter().filter(|(labels, _)| {
                    labels[0] == "USD"
                        && (call_types.is_empty() || call_types.contains(&labels[1].as_str()))
                });
                selected.map(|(_, amounts)| amounts.charge / 10_000).sum()
            };
            for (spent, amount) in [
                (spent(&["conf_out"]), DIALOUT_BUDGET),
                (spent(&[]), CALLS_BUDGET),
            ] {
                let percent = 100 * spent / i128::from(amount);
                assert!(
                    (65..125).contains(&percent),
                    "{now}: {percent} % of {amount}"
                );
            }
        }
    }

    #[test]
    fn one_person_in_ten_has_no_department() {
        let company = Company::new(SEED, PEOPLE);
        let departments = departments(&company);
        let of = |user: &User| {
            departments
                .name(departments.of(&user.principal_name, ""))
                .to_owned()
        };
        let mut counts = BTreeMap::new();
        for user in company.users() {
            *counts.entry(of(user)).or_insert(0) += 1;
        }
        let expected = [
            ("Engineering", 40),
            ("Finance", 40),
            ("Legal", 40),
            ("Sales", 120),
            ("Support", 120),
            ("unmapped", 40),
        ];
        assert!(
            counts
                .iter()
                .map(|(name, count)| (name.as_str(), *count))
                .eq(expected),
            "{counts:?}"
        );
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
