//! The simulator of Microsoft Graph as a process of its own, so that a script can start it, stop it, start it again on
//! its port, and let its tenants spend.
//!
//! `simulator 127.0.0.1:0 TENANT_ID=table OTHER_ID=company` serves a tenant of a table that starts empty, and one of a
//! whole company; `=team` is a company of two. Each line on stdin sets a table: `{"tenant": "TENANT_ID", "rows": [{…}, …]}`.
//! The lines before an empty one are done before it listens. It prints its URL, and a line for every table set; it ends with
//! its stdin. `origin=URL` is what it calls itself in links and tokens, if a proxy is in between.

use std::collections::HashMap;
use std::error::Error;
use std::io::{BufRead, Write};

use serde::Deserialize;
use serde_json::value::RawValue;
use teams_pstn_exporter::period::Clock;
use teams_pstn_simulator::world::{Table, World};
use teams_pstn_simulator::{Options, Simulator, Tenant};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let listen = args.next().ok_or("no address")?.parse()?;
    let mut tables: HashMap<String, Table> = HashMap::new();
    let mut tenants = Vec::new();
    let mut origin = None;
    for (number, arg) in args.enumerate() {
        let (tenant_id, world) = arg.split_once('=').ok_or("no =")?;
        if tenant_id == "origin" {
            origin = Some(world.to_owned());
            continue;
        }
        let world = match world {
            "company" => World::company(number as u64, 40),
            "team" => World::company(number as u64, 2),
            "table" => World::Table(tables.entry(tenant_id.to_owned()).or_default().clone()),
            other => return Err(format!("no world {other}").into()),
        };
        tenants.push(Tenant::new(tenant_id, CLIENT, SECRET, world));
    }

    let mut lines = std::io::stdin().lock().lines();
    for line in lines.by_ref() {
        let line = line?;
        if line.is_empty() {
            break;
        }
        set(&tables, &line)?;
    }

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let clock = Clock::system();
    let simulator = runtime.block_on(Simulator::start(Options {
        listen,
        tenants,
        origin,
        ..Options::new(move || clock.now())
    }))?;
    say(&format!("http://{}", simulator.address()))?;
    for line in lines {
        set(&tables, &line?)?;
        say("set")?;
    }
    runtime.block_on(simulator.stop());
    Ok(())
}

/// Charges keep their digits: rows are passed on letter by letter.
#[derive(Deserialize)]
struct Order<'a> {
    tenant: String,
    #[serde(borrow)]
    rows: Vec<&'a RawValue>,
}

fn set(tables: &HashMap<String, Table>, line: &str) -> Result<(), Box<dyn Error>> {
    let order: Order = serde_json::from_str(line)?;
    let table = tables.get(&order.tenant).ok_or("no such table")?;
    table.set_rows(order.rows.into_iter().map(RawValue::get));
    Ok(())
}

fn say(what: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{what}")?;
    out.flush()
}

const CLIENT: &str = "66666666-7777-8888-9999-000000000000";
const SECRET: &str = "not-a-secret";
