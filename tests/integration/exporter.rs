//! The exporter as tests run it: its program as a child, and the daemon in this process, which lets a test wait for a
//! publication.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use teams_pstn_exporter::config::Config;
use teams_pstn_exporter::daemon::{Daemon, Options};
use teams_pstn_exporter::period::Clock;
use teams_pstn_exporter::server::{Bound, Listen, TelemetryPath};
use teams_pstn_exporter::signals;
use teams_pstn_exporter::snapshot::{Snapshot, State, Subscriber};
use teams_pstn_exporter::systemd::Systemd;
use teams_pstn_simulator::world::{Table, World};
use teams_pstn_simulator::{self as simulator, Simulator};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::oneshot;

pub(crate) const TENANT: &str = "11111111-2222-3333-4444-555555555555";
pub(crate) const CLIENT: &str = "66666666-7777-8888-9999-000000000000";
pub(crate) const SECRET: &str = "Th1s~is.a-secret_value";

/// More than any of these tests needs, on a machine that does ten other things.
pub(crate) const LONG: Duration = Duration::from_mins(1);

/// A folder of files that a configuration names.
pub(crate) struct Folder(TempDir);

/// The daemon in this process.
pub(crate) struct Running {
    pub(crate) address: std::net::SocketAddr,
    subscriber: Subscriber,
    _stop: oneshot::Sender<()>,
}

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        // As Kubernetes and careful people do: no reader ever sees half a file.
        let new = self.path("new");
        fs::write(&new, content).unwrap();
        fs::rename(new, &path).unwrap();
        path
    }
}

/// A simulator with these tenants, by the machine's clock.
pub(crate) async fn simulator(tenants: Vec<simulator::Tenant>) -> Simulator {
    let clock = Clock::system();
    Simulator::start(simulator::Options {
        tenants,
        ..simulator::Options::new(move || clock.now())
    })
    .await
    .unwrap()
}

/// The tenant of most tests, with a few people in it.
pub(crate) fn tenant() -> simulator::Tenant {
    simulator::Tenant::new(TENANT, CLIENT, SECRET, people())
}

/// Three people whose names are easily recognised.
pub(crate) fn people() -> World {
    let row = |id: &str, principal: &str, display: &str, charge: &str| {
        format!(
            r#"{{"userId":"{id}","userPrincipalName":"{principal}","userDisplayName":"{display}","usageLocation":"US","destinationContext":"International","currency":"USD","totalCalls":2,"totalCallSeconds":60,"totalCallCharge":{charge}}}"#
        )
    };
    World::Table(Table::new([
        row(
            "id-1",
            "Ottilie.Quaver@contoso.com",
            "Ottilie Quaver",
            "1.25",
        ),
        row("id-2", "zebedee@contoso.com", "Zebedee Thrum", "0.1"),
        row("id-3", "ximena@contoso.com", "Ximena Plonk", "7"),
    ]))
}

/// Words by which a test recognises [`people`] in any text.
pub(crate) const NAMES: [&str; 8] = [
    "ottilie", "quaver", "zebedee", "thrum", "ximena", "plonk", "@contoso", "jasper",
];

/// A configuration of the usual tenant at `url`, with these lines for its credential and these at the end.
pub(crate) fn config(url: &str, credential: &str, more: &str) -> String {
    format!(
        "poll: {{interval: 1s, timeout: 20s}}
tenants:
  - tenant_id: {TENANT}
    client_id: {CLIENT}
    {credential}
    graph_url: {url}
    authority_url: {url}
{more}"
    )
}

/// The program, without any variable of this process but the search path.
pub(crate) fn program<'a>(args: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_teams-pstn-exporter"));
    command
        .args(args)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// The program, to its end.
pub(crate) async fn output(command: &mut Command) -> Output {
    tokio::time::timeout(LONG, command.output())
        .await
        .expect("it ends")
        .unwrap()
}

/// `check` with a configuration file and these variables: its exit code and what it printed.
pub(crate) async fn check(file: &Path, variables: &[(&str, &str)]) -> (i32, String) {
    let file = format!("--config.file={}", file.display());
    let output = output(program(["check", &file]).envs(variables.iter().copied())).await;
    said(&output)
}

/// Exit code and output.
pub(crate) fn said(output: &Output) -> (i32, String) {
    let text = [&output.stdout[..], &output.stderr].concat();
    let code = output.status.code().expect("not killed");
    (code, String::from_utf8(text).unwrap())
}

impl Running {
    /// Starts the daemon with a configuration file, which is read again at every reload.
    pub(crate) fn start(file: &Path) -> Self {
        let file = file.to_owned();
        Self::with(Box::new(move || Config::load(&file)))
    }

    pub(crate) fn with(load: teams_pstn_exporter::daemon::Load) -> Self {
        let listen = Listen::Addresses(vec!["127.0.0.1:0".parse().unwrap()]);
        let bound = Bound::bind(&listen).unwrap();
        let options = Options {
            telemetry_path: TelemetryPath::default(),
            requests_max: 40,
            web_config: None,
            clock: Clock::system(),
            polls: tokio::runtime::Handle::current(),
            previous: false,
            systemd: Systemd::default(),
        };
        let daemon =
            Daemon::start(bound, options, load).unwrap_or_else(|error| panic!("{error:?}"));
        let address = daemon.addresses()[0];
        let subscriber = daemon.subscribe();
        let (_, hangups) = signals::listen().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(daemon.run(hangups, async {
            let _ = stopped.await;
        }));
        Self {
            address,
            subscriber,
            _stop: stop,
        }
    }

    /// Waits until what is published is such.
    pub(crate) async fn until(&mut self, what: &str, such: impl Fn(&Snapshot) -> bool) {
        let wait = async {
            while !such(&self.subscriber.latest()) {
                assert!(self.subscriber.changed().await, "the daemon ended");
            }
        };
        let in_time = tokio::time::timeout(LONG, wait).await.is_ok();
        assert!(
            in_time,
            "never {what}: {:#?}",
            self.subscriber.latest().states()
        );
    }

    /// Waits for the next poll of every tenant that begins from now on.
    pub(crate) async fn polled(&mut self) {
        let now = Clock::system().now();
        let polled = |state: &State| state.last_attempt.is_some_and(|attempt| attempt > now);
        self.until("polled", |snapshot| {
            let states = snapshot.states();
            !states.is_empty() && states.iter().all(polled)
        })
        .await;
    }

    /// Why the newest poll of the only report failed, with its remedy.
    pub(crate) fn failure(&self) -> Option<String> {
        let snapshot = self.subscriber.latest();
        let failure = snapshot.states()[0].failure.clone()?;
        let remedy = failure.remedy;
        Some(format!("{}: {}; {remedy}", failure.reason, failure.message))
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        self.ask("GET", path).await
    }

    pub(crate) async fn ask(&self, method: &str, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), body.to_owned())
    }

    /// The samples of a family on `/metrics`, by their labels.
    pub(crate) async fn samples(&self, family: &str) -> BTreeMap<String, String> {
        let (status, body) = self.get("/metrics").await;
        assert_eq!(status, 200);
        samples(&body, family)
    }

    pub(crate) async fn reload(&self) {
        let (status, body) = self.ask("POST", "/-/reload").await;
        assert_eq!(status, 200, "{body}");
    }
}

/// The samples of a family in a body, by their labels.
pub(crate) fn samples(body: &str, family: &str) -> BTreeMap<String, String> {
    body.lines()
        .filter_map(|line| line.strip_prefix(family)?.strip_prefix('{'))
        .map(|sample| {
            let (labels, value) = sample.rsplit_once("} ").unwrap();
            (labels.to_owned(), value.to_owned())
        })
        .collect()
}
