//! Many polls of ever new users in a short time, and how much memory the process has after each month of them.
//!
//! `soak-polls 10000` polls the dial-out report and the log of calls so many times each, once an hour: more than a year of
//! changing periods, and of users who come and go. Timers go by tokio's paused clock, which moves when nothing else can, and
//! the clock of the wall goes faster still, for in an hour of timers what the exporter tells of itself is published 3,600
//! times. The simulator lives in the same process, so its memory counts too. It ends with an error where the last month
//! took more than the second.

#![expect(clippy::print_stdout, reason = "who started it reads the figures")]

use std::collections::VecDeque;
use std::error::Error;
use std::fs;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Timelike as _, Utc};
use secrecy::SecretString;
use teams_pstn_exporter::allocator;
use teams_pstn_exporter::config::Config;
use teams_pstn_exporter::daemon::{Daemon, Options};
use teams_pstn_exporter::period::Clock;
use teams_pstn_exporter::report::ReportKind;
use teams_pstn_exporter::server::{Bound, Listen, TelemetryPath};
use teams_pstn_exporter::signals::Hangups;
use teams_pstn_exporter::snapshot::Subscriber;
use teams_pstn_exporter::systemd::Systemd;
use teams_pstn_simulator::calls::Call;
use teams_pstn_simulator::log::Logs;
use teams_pstn_simulator::world::{Charge, Table, World};
use teams_pstn_simulator::{self as simulator, Simulator, Tenant};
use tokio::time::Instant;

fn main() -> Result<(), Box<dyn Error>> {
    // As the program does, which this is to tell something about.
    allocator::fix_thresholds();
    let polls = std::env::args().nth(1).ok_or("how many polls?")?.parse()?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()?
        .block_on(run(polls))
}

async fn run(polls: u32) -> Result<(), Box<dyn Error>> {
    let clock = clock()?;
    let mut company = Company::new();
    company.go_on(clock.now());
    let now = clock.clone();
    let simulator = Simulator::start(simulator::Options {
        tenants: vec![Tenant {
            logs: company.logs.clone(),
            ..Tenant::new(TENANT, CLIENT, SECRET, World::Table(company.table.clone()))
        }],
        token_lifetime: TOKEN_LIFETIME,
        // Else the journal would grow over the first two thousand polls.
        requests_kept: 0,
        ..simulator::Options::new(move || now.now())
    })
    .await?;
    let (daemon, mut subscriber) = daemon(&simulator, &clock)?;
    let running = tokio::spawn(daemon.run(Hangups::never(), std::future::pending()));

    let mut peaks = Vec::new();
    let mut peak = 0;
    for poll in 1..=polls {
        next(&mut subscriber).await?;
        peak = peak.max(resident()?);
        if poll % MARK == 0 {
            println!(
                "polls {poll} of each report, by then it is {}: {peak} KiB",
                clock.now().date_naive()
            );
            peaks.push(std::mem::take(&mut peak));
        }
        company.go_on(clock.now());
    }
    running.abort();
    // The first month fills what is kept of one.
    let [_, second, .., last] = peaks[..] else {
        return Err("too few polls to compare".into());
    };
    let growth = last.saturating_sub(second);
    println!("growth from the second of these to the last: {growth} KiB");
    if growth > GROWTH_MAX {
        return Err(format!("more than {GROWTH_MAX} KiB").into());
    }
    Ok(())
}

/// An hour for each interval of the timers, from a day on.
fn clock() -> Result<Clock, Box<dyn Error>> {
    let begin: DateTime<Utc> = "2026-11-21T12:00:00Z".parse()?;
    let epoch = Instant::now();
    Ok(Clock::new(move || begin + epoch.elapsed() * HASTE))
}

fn daemon(simulator: &Simulator, clock: &Clock) -> Result<(Daemon, Subscriber), Box<dyn Error>> {
    let mut config = Config::single(simulator.url(), SecretString::from(SECRET), INTERVAL);
    config.reports = vec![ReportKind::Dialout.into(), ReportKind::CallLog.into()];
    let bound = Bound::bind(&Listen::Addresses(vec!["127.0.0.1:0".parse()?]))?;
    let options = Options {
        telemetry_path: TelemetryPath::default(),
        requests_max: 40,
        web_config: None,
        clock: clock.clone(),
        polls: tokio::runtime::Handle::current(),
        previous: true,
        systemd: Systemd::default(),
    };
    let daemon = Daemon::start(bound, options, Box::new(move || Ok(config.clone())))?;
    let subscriber = daemon.subscribe();
    Ok((daemon, subscriber))
}

/// Waits until both reports were polled once more, and for good.
async fn next(subscriber: &mut Subscriber) -> Result<(), Box<dyn Error>> {
    let tried = |subscriber: &Subscriber| -> Vec<_> {
        let latest = subscriber.latest();
        let states = latest.states().iter();
        states.map(|state| state.last_attempt).collect()
    };
    let before = tried(subscriber);
    while before
        .iter()
        .zip(tried(subscriber))
        .any(|(before, now)| *before == now)
    {
        if !subscriber.changed().await {
            return Err("the daemon is gone".into());
        }
    }
    match subscriber
        .latest()
        .states()
        .iter()
        .find_map(|state| state.failure.clone())
    {
        Some(failure) => Err(failure.message.into()),
        None => Ok(()),
    }
}

/// People who dial out and call in one hour only, and then never again.
struct Company {
    table: Table,
    logs: Logs,
    calls: VecDeque<Call>,
    people: u32,
}

impl Company {
    fn new() -> Self {
        Self {
            table: Table::default(),
            logs: Logs::default(),
            calls: VecDeque::new(),
            people: 0,
        }
    }

    /// An hour passes.
    fn go_on(&mut self, now: DateTime<Utc>) {
        let first = self.people;
        self.people += ROWS;
        self.table.set_rows((first..self.people).map(row));
        if now.hour().is_multiple_of(HOURS_BETWEEN_CALLS) {
            self.calls.push_back(Call {
                charge: Some(Charge(1_230)),
                ..Call::at(first, now)
            });
        }
        let too_old = |call: &Call| call.start < now - ASKED_FOR;
        while self.calls.front().is_some_and(too_old) {
            self.calls.pop_front();
        }
        self.logs.calls.set(self.calls.iter().cloned().collect());
    }
}

fn row(number: u32) -> String {
    format!(
        r#"{{"userId":"id-{number}","userPrincipalName":"user{number}@contoso.com","userDisplayName":"User {number}","usageLocation":"US","destinationContext":"International","currency":"USD","totalCalls":1,"totalCallCharge":0.{number},"totalCallSeconds":60}}"#
    )
}

/// Resident memory in KiB.
fn resident() -> Result<u64, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.ok_or("no VmRSS")?.parse()?)
}

/// By timers: enough for a loaded machine to poll before the paused clock gets there, a second a step.
const INTERVAL: Duration = Duration::from_secs(2);

/// By how much the clock of the wall is faster, so that an interval is an hour.
const HASTE: u32 = 1_800;

/// Longer than all of it, since the two clocks disagree on when a token expires.
const TOKEN_LIFETIME: u32 = 1_000_000_000;

/// Polls between two figures: 31 days and six hours, so that each has the end of a month in it.
const MARK: u32 = 750;

/// Dial-out rows in each poll, of users that no other poll has.
const ROWS: u32 = 50;

/// A caller each, who calls once: 250 in a month, so that a debug build has the time.
const HOURS_BETWEEN_CALLS: u32 = 3;

/// Longer than any day of the log stays open.
const ASKED_FOR: TimeDelta = TimeDelta::days(5);

/// The random growth of the allocator, in steps of a megabyte or two. If the users of eight thousand polls were kept by
/// mistake, with nothing but their names, the growth would be twice as much.
const GROWTH_MAX: u64 = 8 * 1_024;

const TENANT: &str = "11111111-2222-3333-4444-555555555555";
const CLIENT: &str = "66666666-7777-8888-9999-000000000000";
const SECRET: &str = "not-a-secret";
