//! The environment of a cell of the matrix: a simulator, a front with TLS that can break its connections, a daemon.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::SecretString;
use teams_pstn_exporter::config::Config;
use teams_pstn_exporter::report::ReportKind;
use teams_pstn_exporter::report::labels::UserLabel;
use teams_pstn_simulator::calls::Call;
use teams_pstn_simulator::faults::{Fault, When};
use teams_pstn_simulator::world::{Table, World};
use teams_pstn_simulator::{self as simulator, Simulator};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::table::{Broken, Host, Lasts, Row, What};
use crate::support::{CLIENT, Exporter, INTERVAL, SECRET, TENANT, Time, row, tls_acceptor};

/// All that a cell needs, each of its own.
pub(super) struct Stage {
    pub(super) simulator: Simulator,
    pub(super) time: Time,
    /// As the next reload reads it.
    pub(super) config: Arc<Mutex<Config>>,
    front: Option<Front>,
    /// Entra as it knows Graph by the name that is gone, which tokens are for.
    entra: Option<Simulator>,
}

/// Speaks TLS in front of the simulator.
struct Front {
    broken: watch::Sender<Option<Broken>>,
    /// How many connections that stood were cut.
    cut: watch::Receiver<usize>,
}

/// The certificates of the front: one that the daemon trusts, and one that it does not.
#[derive(Clone)]
pub(super) struct Certificates {
    trusted: TlsAcceptor,
    stranger: TlsAcceptor,
}

impl Stage {
    /// Five rows of either report in pages of two, so that there is a first, a middle and a last one.
    pub(super) async fn set(
        fault: &What,
        report: ReportKind,
        token_lifetime: u32,
        certificates: &Certificates,
    ) -> Self {
        let (now, day) = match fault {
            What::Clock { from, .. } => (*from, &from[..10]),
            _ => (NOON, MIDDLE_DAY),
        };
        let time = Time::at(now);
        let listener = match fault {
            What::Connections(_) => Some(TcpListener::bind("127.0.0.1:0").await.unwrap()),
            _ => None,
        };
        let address = listener.as_ref().map(|front| front.local_addr().unwrap());
        let simulate = async |origin| {
            let rows = (1..=5).map(|number| row(&format!("user{number}"), "1.25"));
            let world = World::Table(Table::new(rows));
            let tenant = simulator::Tenant::new(TENANT, CLIENT, SECRET, world);
            tenant.logs.calls.set(calls(day));
            let clock = time.clock();
            let options = simulator::Options {
                tenants: vec![tenant],
                page_size: 2,
                token_lifetime,
                origin,
                ..simulator::Options::new(move || clock.now())
            };
            Simulator::start(options).await.unwrap()
        };
        let origin = address.map(|address| format!("https://localhost:{}", address.port()));
        let simulator = simulate(origin).await;
        let entra = match fault {
            What::Name(_) => Some(simulate(Some(NOWHERE.to_owned())).await),
            _ => None,
        };
        let secret = SecretString::from(SECRET);
        let mut config = Config::single(simulator.url(), secret, INTERVAL);
        config.reports = vec![report.into()];
        if matches!(fault, What::Row { .. }) {
            // So that what one row more counts comes into the same sum.
            config.labels.user = UserLabel::None;
        }
        let front =
            listener.map(|listener| Front::start(listener, simulator.address(), certificates));
        let stage = Self {
            simulator,
            time,
            config: Arc::new(Mutex::new(config)),
            front,
            entra,
        };
        if matches!(fault, What::Name(_)) {
            stage.name_hosts(None);
        }
        stage
    }

    pub(super) fn start(&self) -> Exporter {
        let config = Arc::clone(&self.config);
        let load = move || Ok(config.lock().unwrap().clone());
        Exporter::start(Box::new(load), &self.time)
    }

    /// Lets the fault wait for the request that is meant.
    pub(super) fn prepare(&self, row: &Row, report: ReportKind, when: When) {
        let lasting = match row.lasts {
            Lasts::Once => when.clone(),
            Lasts::Always => when.clone().always(),
        };
        match &row.what {
            What::Answer(fault) => self.simulator.push_fault(lasting, fault.clone()),
            What::Row { dialout, call } => {
                let json = match report {
                    ReportKind::Dialout => *dialout,
                    _ => *call,
                };
                let (at, json) = (1, json.to_owned());
                self.simulator
                    .push_fault(lasting, Fault::BadRow { at, json });
            }
            // So that the request still waits when all that stands is cut, or the name goes.
            What::Connections(_) | What::Name(_) => {
                self.simulator.push_fault(when, Fault::StallHead);
            }
            What::Clock { .. } => {}
        }
    }

    /// Applies a fault that happens at the moment itself and not to a request.
    pub(super) fn strike(&self, row: &Row) {
        match &row.what {
            What::Clock { to, .. } => self.time.set(to),
            What::Name(gone) => self.name_hosts(Some(*gone)),
            What::Connections(broken) => self.set_broken(Some(*broken)),
            What::Answer(_) | What::Row { .. } => {}
        }
    }

    /// All is well again.
    pub(super) fn repair(&self, row: &Row) {
        self.simulator.clear_faults();
        self.set_broken(None);
        match &row.what {
            What::Clock { from, .. } => self.time.set(from),
            What::Name(_) => self.name_hosts(None),
            _ => {}
        }
    }

    /// Waits until established connections are cut, if the fault breaks connections.
    pub(super) async fn cut(&self) {
        if let Some(front) = &self.front {
            let mut cut = front.cut.clone();
            cut.wait_for(|cut| *cut > 0).await.unwrap();
        }
    }

    /// Waits until there is a token for Graph by the name that is gone.
    pub(super) async fn asked_for_nowhere(&self) {
        let entra = self.entra.as_ref().unwrap();
        entra.wait_until(|counts| counts.token > 0).await;
    }

    fn set_broken(&self, broken: Option<Broken>) {
        if let Some(front) = &self.front {
            front.broken.send_replace(broken);
        }
    }

    /// Entra has another name than Graph, and either may be gone.
    fn name_hosts(&self, gone: Option<Host>) {
        let local = |simulator: &Simulator| {
            let port = simulator.address().port();
            format!("http://localhost:{port}")
        };
        let graph = self.simulator.url().to_owned();
        let nowhere = NOWHERE.to_owned();
        let (authority, graph) = match gone {
            None => (local(&self.simulator), graph),
            Some(Host::Entra) => (nowhere, graph),
            Some(Host::Graph) => (local(self.entra.as_ref().unwrap()), nowhere),
        };
        let tenant = &mut self.config.lock().unwrap().tenants[0];
        tenant.authority_url = Some(authority.parse().unwrap());
        tenant.graph_url = Some(graph.parse().unwrap());
    }
}

impl Front {
    fn start(listener: TcpListener, behind: SocketAddr, certificates: &Certificates) -> Self {
        let (broken, changes) = watch::channel(None);
        let (count, cut) = watch::channel(0);
        tokio::spawn(serve(
            listener,
            behind,
            certificates.clone(),
            changes,
            count,
        ));
        Self { broken, cut }
    }
}

/// Serves until the sender of changes is dropped, which also cuts the established connections.
async fn serve(
    listener: TcpListener,
    behind: SocketAddr,
    certificates: Certificates,
    mut changes: watch::Receiver<Option<Broken>>,
    cut: watch::Sender<usize>,
) {
    let address = listener.local_addr().unwrap();
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        let broken = *changes.borrow_and_update();
        if broken.is_some() {
            // Those that have ended by themselves are not cut.
            while connections.try_join_next().is_some() {}
            cut.send_modify(|cut| *cut += connections.len());
            connections.shutdown().await;
        }
        if broken == Some(Broken::Refused) {
            listener = None;
        } else if listener.is_none() {
            listener = Some(TcpListener::bind(address).await.unwrap());
        }
        let accepting = async {
            match &listener {
                Some(listener) => listener.accept().await.unwrap().0,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = changes.changed() => if changed.is_err() {
                return;
            },
            stream = accepting => {
                // It may have changed in the same moment.
                let broken = *changes.borrow();
                connections.spawn(pass(stream, behind, certificates.clone(), broken));
            }
        }
    }
}

async fn pass(
    mut stream: TcpStream,
    behind: SocketAddr,
    certificates: Certificates,
    broken: Option<Broken>,
) {
    let acceptor = match broken {
        Some(Broken::NotTls) => {
            // The client hangs up at the first byte.
            let _gone = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            return;
        }
        Some(Broken::Untrusted) => certificates.stranger,
        Some(Broken::Refused) | None => certificates.trusted,
    };
    if let Ok(mut outside) = acceptor.accept(stream).await {
        let mut inside = TcpStream::connect(behind).await.unwrap();
        let _gone = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
    }
}

impl Certificates {
    /// Makes them, and writes the CA of the trusted one to the file.
    pub(super) fn new(ca_file: &Path) -> Self {
        let (trusted, authority) = acceptor("known");
        fs::write(ca_file, authority).unwrap();
        let (stranger, _) = acceptor("unknown");
        Self { trusted, stranger }
    }
}

/// With a certificate for `localhost`, and that of its CA in PEM.
fn acceptor(authority_name: &str) -> (TlsAcceptor, String) {
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    tls_acceptor(authority_name, &params)
}

/// Five calls of a minute each, just after the day has begun.
fn calls(day: &str) -> Vec<Call> {
    let midnight: DateTime<Utc> = format!("{day}T00:00:00Z").parse().unwrap();
    let call = |number: u32| Call {
        // So that a clock that is set back does not take it away.
        arrival: midnight - TimeDelta::days(1),
        ..Call::at(number, midnight + TimeDelta::minutes(i64::from(number)))
    };
    (1..=5).map(call).collect()
}

/// Late enough for a few windows of a day, too early for one of them to be final.
const NOON: &str = "2026-11-04T12:00:00Z";
const MIDDLE_DAY: &str = "2026-11-03";

/// RFC 6761 reserves this name, so no host has it.
const NOWHERE: &str = "https://nowhere.invalid";
