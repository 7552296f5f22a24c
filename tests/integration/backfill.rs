//! `backfill` over HTTP: the samples of each past day are the sums of the simulator's rows up to the end of that day.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::process::Command;

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;
use teams_pstn_exporter::backfill;
use teams_pstn_exporter::config::Config;
use teams_pstn_exporter::config::args::{self, Args};
use teams_pstn_simulator::sums::Amounts;

use crate::export::simulate;
use crate::oracle::{at, november};
use crate::support::{Folder, Metrics, NOW, Time, request, run, tool};

/// Runs `backfill` with these flags. Returns what it has written.
async fn backfilled(config: &Config, time: &Time, flags: &[&str]) -> Result<String, String> {
    let folder = Folder::new();
    let file = folder.path("samples");
    let output = format!("--output={}", file.display());
    let words = ["x", "backfill", &output];
    let words = words.into_iter().chain(flags.iter().copied());
    let Some(args::Command::Backfill(args)) = Args::from_words(words).unwrap().command else {
        panic!("another command");
    };
    let outcome = backfill::run(config, &args, &time.clock(), Box::new(io::empty())).await;
    outcome.map_err(|error| error.to_string())?;
    Ok(fs::read_to_string(file).unwrap())
}

/// The sums of a family by time and currency.
fn sums(text: &str, family: &str) -> BTreeMap<(i64, String), Decimal> {
    let mut sums = BTreeMap::new();
    for sample in Metrics(text.to_owned()).samples(family) {
        assert_eq!(sample.label("job"), "teams");
        assert_eq!(sample.label("instance"), "a:10053");
        let (value, time) = sample.value.split_once(' ').unwrap();
        let key = (time.parse().unwrap(), sample.label("currency").to_owned());
        *sums.entry(key).or_default() += value.parse::<Decimal>().unwrap();
    }
    sums
}

const FLAGS: [&str; 7] = [
    "--report=dialout",
    "--report=call_log",
    "--from=2026-10-29",
    "--to=2026-11-04",
    "--step=6h",
    "--label=job=teams",
    "--label=instance=a:10053",
];

#[tokio::test]
async fn samples_of_a_day_are_the_sums_up_to_its_end() {
    let (_simulator, time, logs, config) = simulate().await;
    let text = backfilled(&config, &time, &FLAGS).await.unwrap();
    assert!(text.ends_with("# EOF\n"), "{text}");
    assert!(!text.contains("user=\""), "no users unless requested");
    let conferences = |key: &Vec<String>| key[0] == "conf_out" && !key[1].is_empty();
    // A log has a call that begins at midnight in the day that ends then, because Graph includes the end of a query.
    let tick = TimeDelta::nanoseconds(100);
    let every = |_: &Vec<String>| true;
    let charges = |until: DateTime<Utc>, of: &dyn Fn(&Vec<String>) -> bool| {
        let [start, end] = if until - tick > november().start {
            [november().start, november().end]
        } else {
            [at("2026-10-01T00:00:00Z"), november().start]
        };
        let calls = logs.calls.expected(start..until.min(end), at(NOW));
        let mut charges: BTreeMap<String, Decimal> = BTreeMap::new();
        for (key, sum) in calls.by(&["call_type", "user", "currency"]) {
            if of(&key) {
                let currency = if key[2].is_empty() {
                    "unknown".to_owned()
                } else {
                    key[2].clone()
                };
                *charges.entry(currency).or_default() += charge(&sum);
            }
        }
        charges
    };
    for (family, of, later) in [
        (
            "teams_pstn_call_log",
            &every as &dyn Fn(&Vec<String>) -> bool,
            tick,
        ),
        ("teams_pstn_dialout", &conferences, TimeDelta::zero()),
    ] {
        let found = sums(&text, &format!("{family}_charge"));
        let mut expected = BTreeMap::new();
        let mut previous = BTreeMap::new();
        let mut day = at("2026-10-29T00:00:00Z");
        while day < at("2026-11-04T00:00:00Z") {
            for (currency, charge) in charges(day + TimeDelta::days(1) + later, of) {
                for hours in [0, 6, 12, 18] {
                    let time = (day + TimeDelta::hours(hours)).timestamp();
                    expected.insert((time, currency.clone()), charge);
                }
            }
            for (currency, charge) in charges(november().start, of) {
                if day >= november().start {
                    previous.insert((day.timestamp(), currency), charge);
                }
            }
            day += TimeDelta::days(1);
        }
        assert!(expected.len() > 60, "{}", expected.len());
        assert_eq!(found, expected, "{family}");
        let mut found = sums(&text, &format!("{family}_previous_charge"));
        found.retain(|(time, _), _| time % 86_400 == 0);
        assert_eq!(found, previous, "{family}");
    }
}

fn charge(sum: &Amounts) -> Decimal {
    Decimal::from_i128_with_scale(sum.charge, 4)
}

#[tokio::test]
async fn promtool_makes_blocks_of_the_samples() {
    let Some(promtool) = tool("promtool") else {
        return;
    };
    let (_simulator, time, _, config) = simulate().await;
    let all = [
        "--report=direct_routing",
        "--report=sms",
        "--report=blocked_users",
    ];
    let flags = [
        "--report=call_log",
        "--from=2026-10-31",
        "--to=2026-11-02",
        "--step=1h",
    ];
    let text = backfilled(&config, &time, &[&flags[..], &all].concat())
        .await
        .unwrap();
    let folder = Folder::new();
    let (samples, blocks) = (folder.write("samples", text), folder.path("blocks"));
    for words in [
        [
            "create-blocks-from",
            "openmetrics",
            samples.to_str().unwrap(),
        ]
        .as_slice(),
        &["analyze"],
    ] {
        let made = Command::new(&promtool)
            .arg("tsdb")
            .args(words)
            .arg(&blocks)
            .output()
            .unwrap();
        let said = [made.stdout, made.stderr].concat();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&said));
    }
    assert!(
        fs::read_dir(&blocks).unwrap().count() >= 20,
        "a block for each two hours with samples"
    );
}

/// Prometheus has the last hours in memory.
#[tokio::test]
async fn the_last_three_hours_have_no_samples() {
    let (_simulator, _, _, config) = simulate().await;
    let time = Time::at("2026-11-21T01:00:30Z");
    let flags = [
        "--report=sms",
        "--from=2026-11-19",
        "--to=2026-11-21",
        "--step=1h",
    ];
    let text = backfilled(&config, &time, &flags).await.unwrap();
    let again = backfilled(&config, &time, &flags).await.unwrap();
    assert!(again == text, "a second run gives the same");
    let times: Vec<i64> = Metrics(text)
        .samples("teams_pstn_billing_period_start_timestamp_seconds")
        .iter()
        .map(|sample| sample.value.split_once(' ').unwrap().1.parse().unwrap())
        .collect();
    assert_eq!(times.first(), Some(&at("2026-11-19T00:00:00Z").timestamp()));
    assert_eq!(times.last(), Some(&at("2026-11-20T22:00:00Z").timestamp()));
    assert!(times.is_sorted_by(|a, b| b - a == 3_600), "{times:?}");
}

#[tokio::test]
async fn days_that_are_not_over_and_bad_flags_are_refused() {
    let (simulator, time, _, config) = simulate().await;
    for (flags, expected) in [
        (
            ["--from=2026-11-01", "--to=2026-11-22"],
            "some days before --to=2026-11-22 are not over; only days before 2026-11-21 (UTC) can be filled",
        ),
        (
            ["--from=2026-11-21", "--to=2026-11-22"],
            "only days before 2026-11-21 (UTC) can be filled",
        ),
        (
            ["--from=2026-11-02", "--to=2026-11-02"],
            "--to=2026-11-02 is not after --from=2026-11-02; give a later --to",
        ),
        (
            ["--from=0001-01-01", "--to=2026-11-02"],
            "not in the years 1970 to 9998; correct --from and --to",
        ),
    ] {
        let flags = [&["--report=sms"][..], &flags].concat();
        let refused = backfilled(&config, &time, &flags).await.unwrap_err();
        assert!(refused.contains(expected), "{refused}");
    }
    for flag in [
        "--step=0s",
        "--step=2d",
        "--step=1ms",
        "--label=a",
        "--label=1=b",
        "--label=a=",
    ] {
        let words = [
            "backfill",
            "--report=sms",
            "--from=2026-01-01",
            "--to=2026-01-02",
            flag,
        ];
        let (code, said) = run(&words, &[]).await;
        assert_eq!(code, 2, "{said}");
    }
    simulator.stop().await;
}

/// Rules of two levels, as they are rendered.
const RULES: &str = r#"groups:
  - name: "a"
    rules:
      - expr: |
          max_over_time(currency:teams_pstn_call_log_charge:sum[30m])
        record: "currency:teams_pstn_call_log_charge:max"
      - expr: |
          sum without (usage_location, destination_context, destination, call_type, license_capability, number_type)
            (teams_pstn_call_log_charge)
        record: "currency:teams_pstn_call_log_charge:sum"
      - expr: |
          last_over_time(a:own:past[1d])
        record: "a:own:past"
"#;

#[tokio::test]
async fn the_script_adds_samples_and_rules_to_a_prometheus_that_is_stopped() {
    for name in ["promtool", "prometheus", "curl"] {
        if tool(name).is_none() {
            return;
        }
    }
    let (_simulator, time, logs, config) = simulate().await;
    let flags = ["--report=call_log", "--from=2026-11-10", "--to=2026-11-11"];
    let text = backfilled(&config, &time, &flags).await.unwrap();
    let folder = Folder::new();
    let (samples, rules) = (folder.write("samples", text), folder.write("rules", RULES));
    folder.write("prometheus.yml", "global: {}");
    let data = folder.path("data");
    fs::create_dir(&data).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/prometheus/backfill.sh");
    let add = || {
        let files = [&samples, &data, &rules];
        let done = Command::new("bash")
            .arg(script)
            .args(files)
            .output()
            .unwrap();
        let said = [done.stdout, done.stderr].concat();
        (done.status.success(), String::from_utf8(said).unwrap())
    };
    let (added, said) = add();
    assert!(added, "{said}");
    assert!(
        said.contains("from 2026-11-10T00:00:00Z to 2026-11-10T23:56:00Z"),
        "{said}"
    );
    assert!(
        said.contains("left out, because it needs its own past: a:own:past"),
        "{said}"
    );
    let blocks = || fs::read_dir(&data).unwrap().count();
    assert!(blocks() >= 3, "of samples and of both rules: {said}");

    let address = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap()
    };
    let mut prometheus = tokio::process::Command::new("prometheus")
        .arg(format!(
            "--config.file={}",
            folder.path("prometheus.yml").display()
        ))
        .arg(format!("--storage.tsdb.path={}", data.display()))
        .arg("--storage.tsdb.retention.time=100y")
        .arg(format!("--web.listen-address={address}"))
        .arg("--log.level=error")
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    while tokio::net::TcpStream::connect(address).await.is_err()
        || request(address, "GET", "/-/ready", "").await.status != 200
    {
        assert!(prometheus.try_wait().unwrap().is_none(), "it runs");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let start = at("2026-11-01T00:00:00Z");
    let tick = TimeDelta::nanoseconds(100);
    let calls = logs
        .calls
        .expected(start..at("2026-11-11T00:00:00Z") + tick, at(NOW));
    for rule in ["sum", "max"] {
        let query = format!(
            "/api/v1/query?query=currency:teams_pstn_call_log_charge:{rule}&time=2026-11-10T12:00:00Z"
        );
        let answer = request(address, "GET", &query, "").await;
        let answer: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        let mut found = BTreeMap::new();
        for series in answer["data"]["result"].as_array().unwrap() {
            let currency = series["metric"]["currency"].as_str().unwrap().to_owned();
            let value: f64 = series["value"][1].as_str().unwrap().parse().unwrap();
            found.insert(vec![currency], format!("{value:.4}"));
        }
        let expected: BTreeMap<Vec<String>, String> = calls
            .by(&["currency"])
            .into_iter()
            .map(|(currency, sum)| (currency, format!("{:.4}", charge(&sum))))
            .collect();
        assert_eq!(found, expected, "{answer}");
    }
    let before = blocks();
    let (added, said) = add();
    assert!(
        !added && said.contains("a Prometheus uses") && said.contains("stop it first"),
        "{said}"
    );
    assert_eq!(blocks(), before, "nothing is left");
    prometheus.kill().await.unwrap();
    // The same samples once more, which Prometheus merges.
    let (added, said) = add();
    assert!(added, "{said}");
    let torn = fs::read_to_string(&samples).unwrap().replace("# EOF\n", "");
    fs::write(&samples, torn).unwrap();
    let (added, said) = add();
    assert!(
        !added && said.contains("is not complete; run backfill again"),
        "{said}"
    );
}
