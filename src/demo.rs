//! `demo`: the same daemon against the built-in simulator, on loopback, with no account and nothing to ask.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use secrecy::SecretString;

use crate::config::{Budget, Config};
use crate::daemon::Load;
use crate::period::Clock;
use crate::report::ReportKind;
use teams_pstn_simulator::faults::Spontaneous;
use teams_pstn_simulator::scenario::Scenario;
use teams_pstn_simulator::world::World;
use teams_pstn_simulator::{Options, Simulator, Tenant};

/// A running simulator of a believable company.
#[derive(Debug)]
pub struct Demo {
    simulator: Simulator,
}

impl Demo {
    /// Starts the simulator on a free port of loopback.
    ///
    /// # Errors
    /// Where loopback cannot be listened on.
    pub async fn start(clock: Clock) -> io::Result<Self> {
        let world = World::company(Scenario::default());
        let simulator = Simulator::start(Options {
            tenants: vec![Tenant::new(TENANT, CLIENT, SECRET, world)],
            spontaneous: Some(Spontaneous {
                seed: 1,
                throttle_one_in: 20,
                expire_one_in: 50,
            }),
            ..Options::new(move || clock.now())
        })
        .await?;
        Ok(Self { simulator })
    }

    /// The configuration by which the daemon asks the simulator.
    pub fn load(&self) -> Load {
        let url: url::Url = self
            .simulator
            .url()
            .parse()
            .expect("the simulator's own URL");
        Box::new(move || {
            let secret = SecretString::from(SECRET);
            let mut config = Config::single(url.clone(), url.clone(), secret, INTERVAL);
            config.reports = ReportKind::ALL.to_vec();
            config.budgets = vec![
                budget("dial-out", ReportKind::Dialout, 20_000),
                budget("calls", ReportKind::PstnCalls, 2_000),
            ];
            Ok(config)
        })
    }

    /// Prints what to look at, for who has just started it.
    #[expect(clippy::print_stdout, reason = "this is what the subcommand prints")]
    pub fn invite(&self, addresses: &[SocketAddr]) {
        let base = addresses
            .first()
            .map_or_else(String::new, |address| format!("http://{address}"));
        println!(
            "\
A simulated tenant is being polled every {} seconds; its calls cost more by the minute.
All five reports are on; with a configuration of your own it is dialout, until you name others.

  {base}/          what has been spent, by whom, and how the polls go
  {base}/metrics   what Prometheus scrapes

  curl -s {base}/metrics | grep -m 5 '^teams_pstn_dialout_charge'

Now and then the simulator answers 429 or 401, as Microsoft Graph does: watch teams_pstn_graph_retries_total.
Stop with Ctrl-C.",
            INTERVAL.as_secs()
        );
    }
}

/// A budget of US dollars for everyone.
fn budget(name: &str, report: ReportKind, amount: u32) -> Budget {
    Budget {
        name: name.to_owned(),
        currency: "USD".to_owned(),
        amount: amount.into(),
        report,
        tenant: None,
        user: None,
        usage_location: None,
        destination_context: None,
    }
}

const TENANT: &str = "11111111-2222-3333-4444-555555555555";
const CLIENT: &str = "66666666-7777-8888-9999-000000000000";
const SECRET: &str = "not-a-secret";

/// Short, so that there is something to see.
const INTERVAL: Duration = Duration::from_secs(5);
