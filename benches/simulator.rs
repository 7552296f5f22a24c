//! The fake Graph as a process of its own, so that its time and memory are not the exporter's.
//!
//! `simulator <tenants> <rows> <folder>` writes `<folder>/exporter.yml` for so many tenants of so many rows each, with the
//! secret's file beside it, prints its URL, and serves until its input ends.

#![expect(clippy::print_stdout, reason = "who started it reads the URL")]

use std::error::Error;
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::Path;

use teams_pstn_exporter::period::Clock;
use teams_pstn_exporter::simulator::world::World;
use teams_pstn_exporter::simulator::{Options, Simulator, Tenant};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [tenants, rows, folder] = arguments.as_slice() else {
        return Err("usage: simulator <tenants> <rows> <folder>".into());
    };
    let (tenants, count) = (tenants.parse()?, rows.parse()?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let clock = Clock::system();
    runtime.block_on(async {
        let simulator = Simulator::start(Options {
            tenants: (0..tenants).map(|number| tenant(number, count)).collect(),
            token_lifetime: 86_400,
            ..Options::new(move || clock.now())
        })
        .await?;
        write_config(Path::new(folder), simulator.url(), tenants)?;
        println!("{}", simulator.url());
        tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
        simulator.stop().await;
        Ok(())
    })
}

fn tenant(number: usize, count: usize) -> Tenant {
    Tenant::new(&tenant_id(number), CLIENT, SECRET, World::Rows { count })
}

fn tenant_id(number: usize) -> String {
    format!("11111111-2222-3333-4444-{number:012}")
}

/// The interval is the exporter's shortest, and no series is folded.
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
