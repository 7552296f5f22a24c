//! The exporter's bodies through the programs that will read them: curl, Python, zcat, and Prometheus itself.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use serde_json::Value;
use teams_pstn_exporter::bench::publish;
use teams_pstn_exporter::exposition::{Family, FamilyWriter, Format, write_label};
use teams_pstn_exporter::period::Clock;
use teams_pstn_exporter::server::{Bound, Limits, Listen, ServerState, TelemetryPath};
use teams_pstn_exporter::snapshot::{Encoding, Snapshot, Subscriber};
use teams_pstn_simulator::world::World;
use teams_pstn_simulator::{Options, Simulator, Tenant};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::support::tool;

/// Three series each: the 600,000 of the issue, in 80 MB.
const ROWS: u64 = 200_000;

static FAMILIES: [Family; 3] = [
    Family::gauge("peers_charge", "Charge."),
    Family::gauge("peers_calls", "Calls."),
    Family::gauge("peers_call_seconds", "Seconds."),
];

/// A process that ends with its test, by its own id.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It makes no difference if the process has already ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_readers_agree_on_600000_series() {
    let snapshot = large();
    let expected: Vec<u8> = snapshot
        .body(Format::Text, Encoding::Identity, &[])
        .parts
        .collect::<Vec<_>>()
        .concat();
    let (address, stop) = serve(snapshot);
    let url = format!("http://{address}/metrics");
    let series = expected
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty() && !line.starts_with(b"#"))
        .count();
    assert_eq!(series as u64, 3 * ROWS);
    let same = |read: &[u8], by: &str| {
        assert_eq!(read.len(), expected.len(), "{by}");
        assert!(read == expected, "{by} reads other bytes");
    };
    if let Some(curl) = tool("curl") {
        let mut curl = Command::new(curl);
        curl.args(["--silent", "--fail", "--max-time", "60"]);
        let plain = output(
            Command::new(curl.get_program())
                .args(curl.get_args())
                .arg(&url),
        );
        same(&plain, "curl");
        let compressed = output(
            Command::new(curl.get_program())
                .args(curl.get_args())
                .args(["--compressed", &url]),
        );
        same(&compressed, "curl --compressed");
        if let Some(zcat) = tool("zcat") {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("metrics.gz");
            output(
                curl.args(["--header", "Accept-Encoding: gzip", "--output"])
                    .args([file.as_os_str(), url.as_ref()]),
            );
            assert!(file.metadata().unwrap().len() * 5 < expected.len() as u64);
            same(&output(Command::new(zcat).arg(file)), "zcat");
        }
    }
    if let Some(python) = tool("/usr/bin/python3") {
        same(
            &output(Command::new(python).args(["-c", PYTHON, &url])),
            "Python",
        );
    }
    if let Some(prometheus) = tool("prometheus") {
        // A loaded machine may not read all of it in the five seconds that are enough for the others.
        let job = format!(
            "  - job_name: large\n    scrape_interval: 10s\n    scrape_timeout: 10s\n    static_configs: [{{targets: ['{address}']}}]\n"
        );
        let folder = tempfile::tempdir().unwrap();
        let (prometheus, _running) = start_prometheus(&prometheus, folder.path(), &job);
        wait_for_scrape(&prometheus);
        let counted = ask(
            &prometheus,
            r#"count by (__name__) ({__name__=~"peers_.*"})"#,
        );
        let counted: BTreeMap<&str, &str> = counted
            .iter()
            .map(|one| {
                (
                    one["metric"]["__name__"].as_str().unwrap(),
                    one["value"][1].as_str().unwrap(),
                )
            })
            .collect();
        let rows = ROWS.to_string();
        let all = FAMILIES
            .iter()
            .map(|family| (family.name, rows.as_str()))
            .collect();
        assert_eq!(counted, all);
        let sum = &ask(&prometheus, "sum(peers_calls)")[0]["value"][1];
        assert_eq!(*sum, (ROWS * (ROWS - 1) / 2).to_string());
    }
    drop(stop);
}

/// Refuses a second member and anything after the first.
const PYTHON: &str = r#"
import sys, urllib.request, zlib
request = urllib.request.Request(sys.argv[1], headers={"Accept-Encoding": "gzip"})
with urllib.request.urlopen(request, timeout=60) as answer:
    assert answer.headers["Content-Encoding"] == "gzip"
    body = answer.read()
    assert len(body) == int(answer.headers["Content-Length"])
member = zlib.decompressobj(31)
sys.stdout.buffer.write(member.decompress(body))
assert member.eof and not member.unused_data
"#;

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_scrapes_over_tls_with_a_password() {
    let (Some(prometheus), Some(curl)) = (tool("prometheus"), tool("curl")) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let simulator = simulator(folder.path()).await;
    secure(&folder);
    let (address, _exporter) = start_exporter(folder.path());
    let job = format!(
        "  - job_name: secure\n    scheme: https\n    basic_auth: {{username: prometheus, password: {PASSWORD}}}\n    \
         tls_config: {{ca_file: certificate.pem, server_name: localhost}}\n    static_configs: [{{targets: ['{address}']}}]\n",
    );
    let data = tempfile::tempdir().unwrap();
    std::fs::copy(
        folder.path().join("certificate.pem"),
        data.path().join("certificate.pem"),
    )
    .unwrap();
    let body = wait_for_rows(&curl, folder.path(), address);
    let (prometheus, _prometheus) = start_prometheus(&prometheus, data.path(), &job);
    wait_for_scrape(&prometheus);
    assert_eq!(ask(&prometheus, "up")[0]["value"][1], "1");

    let mut read: Vec<(String, f64)> = ask(
        &prometheus,
        r#"{__name__=~"teams_pstn_dialout_(charge|calls|call_seconds)"}"#,
    )
    .iter()
    .map(|one| {
        let value = one["value"][1].as_str().unwrap().parse().unwrap();
        (series(&one["metric"]), value)
    })
    .collect();
    read.sort_by(|a, b| a.0.cmp(&b.0));
    let mut expected: Vec<(String, f64)> = body
        .lines()
        .filter(|line| line.starts_with("teams_pstn_dialout_") && !line.contains("_previous_"))
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            (series.to_owned(), value.parse().unwrap())
        })
        .collect();
    expected.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(expected.len(), 3 * SECURE_ROWS);
    assert_eq!(read, expected);

    // Prometheus forgets the type of a family unless it is asked. That it knows the unit shows that it read
    // OpenMetrics.
    let metadata = get(
        &prometheus,
        "/api/v1/metadata?metric=teams_pstn_dialout_call_seconds",
        &[],
    );
    assert_eq!(
        metadata["data"]["teams_pstn_dialout_call_seconds"][0]["unit"],
        "seconds"
    );
    simulator.stop().await;
}

const SECURE_ROWS: usize = 2_000;
const PASSWORD: &str = "correct-horse";

fn large() -> Snapshot {
    let mut writer = FamilyWriter::new(&[&FAMILIES[0], &FAMILIES[1], &FAMILIES[2]]);
    let mut labels = Vec::new();
    for row in 0..ROWS {
        labels.clear();
        write_label(
            "currency",
            ["EUR", "USD"][usize::from(row % 2 == 0)],
            &mut labels,
        );
        write_label("destination_context", "International", &mut labels);
        write_label("usage_location", "DE", &mut labels);
        write_label(
            "user",
            &format!("some.body{row:07}@contoso.com"),
            &mut labels,
        );
        writer.sample(&labels, |family, out| {
            let value = match family {
                0 => format!("{}.{:02}", row * 7 % 1_000, 1 + row % 9),
                _ => row.to_string(),
            };
            out.extend_from_slice(value.as_bytes());
        });
    }
    publish(&writer.finish().collect::<Vec<_>>())
}

/// Serves until the sender is dropped.
fn serve(snapshot: Snapshot) -> (SocketAddr, oneshot::Sender<()>) {
    let bound = Bound::bind(&Listen::Addresses(vec!["127.0.0.1:0".parse().unwrap()])).unwrap();
    let address = bound.addresses()[0];
    let (stop, stopped) = oneshot::channel::<()>();
    let state = ServerState {
        subscriber: Subscriber::fixed(snapshot),
        clock: Clock::system(),
        telemetry_path: TelemetryPath::default(),
        requests_max: 40,
        web_config: None,
        reload: None,
        limits: Limits::default(),
    };
    tokio::spawn(bound.serve(state, async {
        let _ = stopped.await;
    }));
    (address, stop)
}

/// A fake Graph, and beside it the configuration of the exporter that asks it.
async fn simulator(folder: &Path) -> Simulator {
    let (tenant, client) = (
        "11111111-2222-3333-4444-555555555555",
        "66666666-7777-8888-9999-000000000000",
    );
    let world = World::Rows { count: SECURE_ROWS };
    let clock = Clock::system();
    let simulator = Simulator::start(Options {
        tenants: vec![Tenant::new(tenant, client, "not-a-secret", world)],
        ..Options::new(move || clock.now())
    })
    .await
    .unwrap();
    let url = simulator.url();
    let config = format!(
        "tenants:\n  - tenant_id: {tenant}\n    client_id: {client}\n    client_secret_file: secret\n    graph_url: {url}\n    \
         authority_url: {url}\n"
    );
    std::fs::write(folder.join("exporter.yml"), config).unwrap();
    std::fs::write(folder.join("secret"), "not-a-secret").unwrap();
    simulator
}

/// A certificate that signs itself, and a web configuration that asks for a password.
fn secure(folder: &TempDir) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
    write("certificate.pem", certificate.pem());
    write("key.pem", key.serialize_pem());
    write(
        "web.yml",
        format!(
            "tls_server_config:\n  cert_file: certificate.pem\n  key_file: key.pem\nbasic_auth_users:\n  prometheus: {}\n",
            bcrypt::hash(PASSWORD, 4).unwrap()
        ),
    );
}

/// The program itself.
fn start_exporter(folder: &Path) -> (SocketAddr, Ended) {
    let address = free_address();
    let child = Command::new(env!("CARGO_BIN_EXE_teams-pstn-exporter"))
        .arg(format!(
            "--config.file={}",
            folder.join("exporter.yml").display()
        ))
        .arg(format!(
            "--web.config.file={}",
            folder.join("web.yml").display()
        ))
        .arg(format!("--web.listen-address={address}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    (address, Ended(child))
}

/// The body once the first poll is in it.
fn wait_for_rows(curl: &Path, folder: &Path, address: SocketAddr) -> String {
    let url = format!("https://localhost:{}/metrics", address.port());
    let body = || {
        let output = Command::new(curl)
            .args(["--silent", "--fail", "--compressed", "--max-time", "10"])
            .arg("--cacert")
            .arg(folder.join("certificate.pem"))
            .args([
                "--resolve",
                &format!("localhost:{}:127.0.0.1", address.port()),
            ])
            .args(["--user", &format!("prometheus:{PASSWORD}"), &url])
            .output()
            .unwrap();
        String::from_utf8(output.stdout)
            .unwrap()
            .contains("\nteams_pstn_dialout_charge{")
            .then_some(output.status)
            .map(|_| ())
    };
    until("the exporter has rows", body);
    let output = output(
        Command::new(curl)
            .args(["--silent", "--fail", "--max-time", "10", "--cacert"])
            .arg(folder.join("certificate.pem"))
            .args([
                "--resolve",
                &format!("localhost:{}:127.0.0.1", address.port()),
            ])
            .args(["--user", &format!("prometheus:{PASSWORD}"), &url]),
    );
    String::from_utf8(output).unwrap()
}

/// Prometheus with these jobs, ready to be asked. Its folder must outlive it.
fn start_prometheus(prometheus: &Path, folder: &Path, jobs: &str) -> (SocketAddr, Ended) {
    let config = folder.join("prometheus.yml");
    let head = "global: {scrape_interval: 5s, scrape_timeout: 5s}\nscrape_configs:\n";
    std::fs::write(&config, format!("{head}{jobs}")).unwrap();
    let address = free_address();
    let mut child = Command::new(prometheus)
        .arg(format!("--config.file={}", config.display()))
        .arg(format!(
            "--storage.tsdb.path={}",
            folder.join("data").display()
        ))
        .arg(format!("--web.listen-address={address}"))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = BufReader::new(child.stderr.take().unwrap());
    let child = Ended(child);
    let mut said = Vec::new();
    let mut lines = log.lines();
    while !said
        .last()
        .is_some_and(|line: &String| line.contains("ready to receive"))
    {
        match lines.next() {
            Some(line) => said.push(line.unwrap()),
            None => panic!("Prometheus ended: {said:#?}"),
        }
    }
    // Further output must not fill the pipe.
    std::thread::spawn(move || lines.for_each(drop));
    (address, child)
}

/// Waits until the only target was scraped; fails with the error of the scrape.
fn wait_for_scrape(prometheus: &SocketAddr) {
    until("a scrape", || {
        let targets = get(prometheus, "/api/v1/targets", &[]);
        // None at all until it has looked for them.
        let target = &targets["data"]["activeTargets"][0];
        let tried = target["health"]
            .as_str()
            .is_some_and(|health| health != "unknown");
        tried.then(|| {
            assert_eq!(
                (&target["health"], &target["lastError"]),
                (&"up".into(), &"".into())
            );
        })
    });
    // It tells of the scrape before it has stored all of it.
    until("samples", || {
        (!ask(prometheus, "up").is_empty()).then_some(())
    });
}

/// The result of an instant query.
fn ask(prometheus: &SocketAddr, query: &str) -> Vec<Value> {
    let answer = get(prometheus, "/api/v1/query", &[("query", query)]);
    assert_eq!(answer["status"], "success", "{answer}");
    answer["data"]["result"].as_array().unwrap().clone()
}

fn get(prometheus: &SocketAddr, path: &str, query: &[(&str, &str)]) -> Value {
    let url = url::Url::parse_with_params(&format!("http://{prometheus}{path}"), query).unwrap();
    let mut command = Command::new("curl");
    // An empty list of parameters leaves a bare question mark, which does no harm.
    command.args([
        "--silent",
        "--fail",
        "--globoff",
        "--max-time",
        "60",
        url.as_str(),
    ]);
    serde_json::from_slice(&output(&mut command)).unwrap()
}

/// A series as it is written in a body: the name, and the labels in the order of their names.
fn series(metric: &Value) -> String {
    let labels: BTreeMap<&str, &str> = metric
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str().unwrap()))
        .collect();
    let texts: Vec<String> = labels
        .iter()
        .filter(|(name, _)| !["__name__", "instance", "job"].contains(name))
        .map(|(name, value)| format!("{name}={value:?}"))
        .collect();
    format!("{}{{{}}}", labels["__name__"], texts.join(","))
}

fn output(command: &mut Command) -> Vec<u8> {
    let output = command.stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {} {said}",
        output.status
    );
    output.stdout
}

/// Asks again until there is an answer, for longer than the slowest machine needs to store 600,000 series.
fn until<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_mins(5);
    loop {
        if let Some(answer) = attempt() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: not within five minutes");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Free a moment ago: the programs under test cannot tell which port they chose themselves.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}
