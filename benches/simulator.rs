//! The fake Graph as a process of its own, so that its time and memory are not the exporter's.
//!
//! `simulator <tenants> <rows> <folder>` writes `<folder>/exporter.yml` for so many tenants of so many rows each, with the
//! secret's file beside it, prints its URL, and serves until its input ends.
//!
//! `simulator <tenants> <rows> <folder> <calls> <from> <until>` also has so many calls in the log of each tenant, spread
//! evenly between the two dates, and prints after the URL what those add up to by currency that have arrived by now:
//! rows, seconds, and charges in ten-thousandths. Its clock is three days ahead then, so that calls have arrived until today,
//! and what they add up to does not change while it is measured.

#![expect(clippy::print_stdout, reason = "who started it reads the URL")]

use std::error::Error;
use std::fmt::Write as _;
use std::io::Read as _;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use teams_pstn_exporter::period::Clock;
use teams_pstn_simulator::company::Company;
use teams_pstn_simulator::log::Logs;
use teams_pstn_simulator::world::World;
use teams_pstn_simulator::{Options, Simulator, Tenant};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (tenants, count, folder, calls) = match arguments.as_slice() {
        [tenants, rows, folder] => (tenants.parse()?, rows.parse()?, folder, None),
        [tenants, rows, folder, calls, from, until] => {
            let period = beginning(from)?..beginning(until)?;
            let calls = Some((calls.parse()?, period));
            (tenants.parse()?, rows.parse()?, folder, calls)
        }
        _ => {
            let usage = "usage: simulator <tenants> <rows> <folder> [<calls> <from> <until>]";
            return Err(usage.into());
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let ahead = calls.as_ref().map_or(TimeDelta::zero(), |_| ALL_ARRIVED);
    let now = {
        let clock = Clock::system();
        move || clock.now() + ahead
    };
    let logs = logs(calls.clone());
    runtime.block_on(async {
        let simulator = Simulator::start(Options {
            tenants: (0..tenants)
                .map(|number| tenant(number, count, &logs))
                .collect(),
            token_lifetime: 86_400,
            ..Options::new(now.clone())
        })
        .await?;
        write_config(Path::new(folder), simulator.url(), tenants)?;
        println!("{}", simulator.url());
        if let Some((_, period)) = calls {
            print_sums(&logs, period, now());
        }
        tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
        simulator.stop().await;
        Ok(())
    })
}

type Calls = (u64, Range<DateTime<Utc>>);

fn logs(calls: Option<Calls>) -> Logs {
    calls.map_or_else(Logs::default, |(rows, period)| {
        let company = Arc::new(Company::new(1, 400));
        Logs::of_calls(&company, rows, period)
    })
}

fn beginning(date: &str) -> Result<DateTime<Utc>, Box<dyn Error>> {
    let date: NaiveDate = date.parse()?;
    Ok(date.and_time(NaiveTime::MIN).and_utc())
}

fn print_sums(logs: &Logs, period: Range<DateTime<Utc>>, now: DateTime<Utc>) {
    let sums = logs.calls.expected(period, now);
    for (currency, sum) in sums.by(&["currency"]) {
        println!(
            "{} {} {} {} {}",
            currency.concat(),
            sum.rows,
            sum.seconds,
            sum.charge,
            sum.connection_charge
        );
    }
}

fn tenant(number: usize, count: usize, logs: &Logs) -> Tenant {
    Tenant {
        logs: logs.clone(),
        ..Tenant::new(&tenant_id(number), CLIENT, SECRET, World::Rows { count })
    }
}

fn tenant_id(number: usize) -> String {
    format!("11111111-2222-3333-4444-{number:012}")
}

/// The interval is the exporter's shortest, and no series is aggregated.
fn write_config(folder: &Path, url: &str, tenants: usize) -> Result<(), Box<dyn Error>> {
    let interval = std::env::var("POLL_INTERVAL").unwrap_or_else(|_| "1s".to_owned());
    let mut config = format!(
        "poll:\n  interval: {interval}\n  timeout: 1m\nlabels:\n  max_series: 10000000\ntenants:\n"
    );
    for number in 0..tenants {
        // One tenant needs no name, and then there is no label tenant, as in most installations.
        let name = match tenants {
            1 => String::new(),
            _ => format!("name: tenant-{number:04}\n    "),
        };
        write!(
            config,
            "  - {name}tenant_id: {}\n    client_id: {CLIENT}\n    client_secret_file: secret\n    \
             graph_url: {url}\n    authority_url: {url}\n",
            tenant_id(number)
        )?;
    }
    std::fs::write(folder.join("secret"), SECRET)?;
    std::fs::write(folder.join("exporter.yml"), config)?;
    Ok(())
}

const CLIENT: &str = "66666666-7777-8888-9999-000000000000";
const SECRET: &str = "not-a-secret";

/// More than the 48 hours that a call is late at the most.
const ALL_ARRIVED: TimeDelta = TimeDelta::days(3);
