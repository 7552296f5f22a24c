//! Values that Microsoft's documentation allows or that are only shown: they count, and the log says how many there were.

use teams_pstn_exporter::period::Clock;
use teams_pstn_simulator::faults::{Fault, When};
use teams_pstn_simulator::world::World;

use crate::support::{ANY_PORT, Folder, Program, Setup, request};

/// Runs the program against a Graph that answers `function` with these rows. Returns the metrics and the line of the poll.
async fn poll(report: &str, function: &'static str, rows: &str, outcome: &str) -> (String, String) {
    let (simulator, _) = Setup::of(World::Rows { count: 1 }).simulate().await;
    let fault = Fault::literal(200, format!("\u{feff}{{\"value\":[{rows}]}}"));
    simulator.push_fault(When::graph().asking(function).always(), fault);
    let more =
        format!("reports: [{{name: {report}, interval: 1s}}]\nlabels: {{user: display_name}}\n");
    let folder = Folder::configured(simulator.url(), &more);
    let option = folder.option();
    let mut program = Program::start(&[ANY_PORT, &option], &[]);
    let address = program.address().await;
    let line = program.logged(outcome).await;
    if outcome == "poll complete" {
        // The poll of the previous period, and the next one: the figures of the first are published before it ends.
        program.logged(outcome).await;
        program.logged(outcome).await;
    }
    let metrics = request(address, "GET", "/metrics", "").await.body;
    (metrics, line)
}

fn dialout(id: u32, name: &str) -> String {
    format!(
        r#"{{"userId":"{id}","userDisplayName":{name},"usageLocation":"US","destinationContext":"Domestic","currency":"USD","totalCalls":1,"totalCallSeconds":60,"totalCallCharge":0.25}}"#
    )
}

#[tokio::test]
async fn odd_names_count_and_stay_apart() {
    let long = |end: &str| format!("\"{}{end}\"", "x".repeat(5000));
    let names = [
        r#""Ann \ud83d""#.to_owned(),
        r#""Ann \ud83e""#.to_owned(),
        r#""a\u0000\n<b>""#.to_owned(),
        "\"a raw\ttab\"".to_owned(),
        long("a"),
        long("b"),
        r#""Zoë 😀""#.to_owned(),
    ];
    let rows: Vec<String> = (0..)
        .zip(&names)
        .map(|(id, name)| dialout(id, name))
        .collect();
    let function = "getPstnOnlineMeetingDialoutReport";
    let (metrics, line) = poll("dialout", function, &rows.join(","), "poll complete").await;
    let charges: Vec<&str> = metrics
        .lines()
        .filter(|line| line.starts_with("teams_pstn_dialout_charge{"))
        .collect();
    assert_eq!(charges.len(), names.len(), "{charges:#?}");
    assert!(
        charges.iter().all(|line| line.ends_with(" 0.25")),
        "{charges:#?}"
    );
    assert!(charges.iter().all(|line| line.len() < 1200), "{charges:#?}");
    for part in [
        "user=\"Ann \u{fffd}~",
        "user=\"a\u{fffd}\u{fffd}<b>~",
        "xxx…~",
        "user=\"Zoë 😀\"",
    ] {
        assert!(metrics.contains(part), "{part}: {charges:#?}");
    }
    for part in ["cut_names=2", "replaced_names=4", "spend=\"1.75 USD\""] {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert!(!line.contains("null_values"), "{line}");
}

#[tokio::test]
async fn nulls_that_are_documented_count_as_zero() {
    let time = Clock::system().now();
    let time = time.format("%Y-%m-%dT%H:%M:%SZ");
    let call = |id: u32, connection: &str, duration: &str| {
        format!(
            r#"{{"id":"{id}","userId":"1","startDateTime":"{time}","duration":{duration},"charge":0.5,{connection}"currency":"USD"}}"#
        )
    };
    let trunk = |success: &str, duration: &str| {
        format!(
            r#"{{"id":"1","userId":"1","startDateTime":null,"inviteDateTime":"{time}","successfulCall":{success}{duration}}}"#
        )
    };
    let (calls, routing) = ("getPstnCalls", "getDirectRoutingCalls");
    let null = r#""connectionCharge":null,"#;
    for (report, function, row, expected) in [
        (
            "call_log",
            calls,
            call(1, null, "60"),
            Ok("teams_pstn_call_log_connection_charge{"),
        ),
        (
            "call_log",
            calls,
            call(1, "", "60"),
            Err("connectionCharge is missing or null"),
        ),
        (
            "call_log",
            calls,
            call(1, null, "null"),
            Err("duration is missing or null"),
        ),
        (
            "direct_routing",
            routing,
            trunk("false", r#","duration":null"#),
            Ok("teams_pstn_direct_routing_call_seconds{"),
        ),
        (
            "direct_routing",
            routing,
            trunk("true", r#","duration":null"#),
            Err("duration is missing or null"),
        ),
        (
            "direct_routing",
            routing,
            trunk("null", r#","duration":null"#),
            Err("duration is missing or null"),
        ),
        (
            "direct_routing",
            routing,
            trunk("false", ""),
            Err("duration is missing or null"),
        ),
    ] {
        let outcome = if expected.is_ok() {
            "poll complete"
        } else {
            "poll failed"
        };
        let (metrics, line) = poll(report, function, &row, outcome).await;
        match expected {
            Ok(family) => {
                let zero = |line: &str| line.starts_with(family) && line.ends_with(" 0");
                assert!(metrics.lines().any(zero), "{row}: {metrics}");
                // Every window returns the row.
                assert!(line.contains(" null_values=1 "), "{row}: {line}");
            }
            Err(part) => {
                assert!(
                    line.contains(part) && line.contains("row 1 "),
                    "{row}: {line}"
                );
                assert!(line.contains("request-id"), "{row}: {line}");
            }
        }
    }
}
