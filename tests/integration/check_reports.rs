//! `check` of every report: which function is asked in which version, and what is said where Graph refuses one.

use chrono::TimeDelta;
use teams_pstn_exporter::period::Clock;
use teams_pstn_simulator::address::{Function, Version};
use teams_pstn_simulator::blocked_users::BlockEvent;
use teams_pstn_simulator::calls::Call;
use teams_pstn_simulator::direct_routing::DirectRoutingCall;
use teams_pstn_simulator::faults::{Fault, When};
use teams_pstn_simulator::journal::{Asked, Request};
use teams_pstn_simulator::sms::Message;

use crate::support::{Folder, TENANT, check, simulator, tenant};

const ALL: &str = "reports: [dialout, call_log, direct_routing, sms, blocked_users]";

/// Each function in the version of Graph that has it, and what its first page holds.
#[tokio::test]
async fn every_report_is_asked_for_its_first_page() {
    let simulator = simulator(vec![tenant()]).await;
    let logs = simulator.logs(TENANT);
    let now = Clock::system().now();
    // Enough hours for the day that is looked at, whichever day of the month it is.
    let times: Vec<_> = (1..=60)
        .map(|hours| (hours, now - TimeDelta::hours(hours.into())))
        .collect();
    let each = times.iter().copied();
    logs.calls
        .set(each.clone().map(|(n, time)| Call::at(n, time)).collect());
    logs.direct_routing.set(
        each.clone()
            .map(|(n, time)| DirectRoutingCall::at(n, time))
            .collect(),
    );
    logs.sms
        .set(each.clone().map(|(n, time)| Message::at(n, time)).collect());
    logs.blocked_users
        .set(each.map(|(n, time)| BlockEvent::at(n, time)).collect());
    let folder = Folder::configured(simulator.url(), ALL);
    let (code, said) = check(&folder.path("config.yml"), &[]).await;
    assert_eq!(code, 0, "{said}");
    let mut asked: Vec<Asked> = simulator
        .requests()
        .iter()
        .filter_map(Request::asked)
        .collect();
    asked.sort_by_key(|asked| asked.function);
    let versions: Vec<_> = asked
        .iter()
        .map(|asked| (asked.function, asked.version))
        .collect();
    assert_eq!(
        versions,
        [
            (Function::Dialout, Version::Beta),
            (Function::Calls, Version::V1),
            (Function::DirectRouting, Version::Beta),
            (Function::Sms, Version::Beta),
            (Function::BlockedUsers, Version::Beta),
        ]
    );
    assert!(said.contains("ok      permission: CallRecord-PstnCalls.Read.All\n"));
    // All of the day that was asked for, and all that is known of those who are blocked.
    let day = asked[1].from..asked[1].to;
    let rows = logs.calls.rows(day, now).len();
    assert!(rows > 0);
    for line in [
        "first page dialout: 3 rows\n".to_owned(),
        format!("first page call_log: {rows} rows"),
        format!("first page direct_routing: {rows} rows"),
        format!("first page sms: {rows} rows"),
        "first page blocked_users: 60 rows\n".to_owned(),
    ] {
        assert!(said.contains(&format!("ok      {line}")), "{line} {said}");
    }
}

/// The check reports a refused report by its name and still checks the others.
#[tokio::test]
async fn refused_report_is_reported_by_name() {
    let simulator = simulator(vec![tenant()]).await;
    let folder = Folder::configured(simulator.url(), ALL);
    for (function, report) in [
        (Function::Dialout, "dialout"),
        (Function::Calls, "call_log"),
        (Function::DirectRouting, "direct_routing"),
        (Function::Sms, "sms"),
        (Function::BlockedUsers, "blocked_users"),
    ] {
        for (fault, remedy) in [
            (
                Fault::status(404),
                "; remedy: this Graph does not know the report; check the cloud and the Graph URL, as most reports are in beta only",
            ),
            (
                Fault::EmptyForbidden,
                "; remedy: add the application permission CallRecord-PstnCalls.Read.All",
            ),
        ] {
            let when = When::graph().asking(function.name()).always();
            simulator.push_fault(when, fault);
            let (code, said) = check(&folder.path("config.yml"), &[]).await;
            simulator.clear_faults();
            assert_eq!(code, 1, "{said}");
            let begin = format!("failure first page {report}: ");
            let is_reported = |line: &str| line.starts_with(&begin) && line.contains(remedy);
            assert!(said.lines().any(is_reported), "{begin}{said}");
            assert_eq!(said.matches("failure ").count(), 1, "{said}");
            assert_eq!(said.matches("ok      first page ").count(), 4, "{said}");
        }
    }
}

/// A reverse proxy that does not rewrite links is found by its first page, which need not have a link to a second one.
#[tokio::test]
async fn proxy_that_does_not_rewrite_links_is_found() {
    let simulator = simulator(vec![tenant()]).await;
    let folder = Folder::configured(simulator.url(), "reports: [dialout]");
    let context = r#""@odata.context":"https://graph.microsoft.com/beta/$metadata#x""#;
    let link = r#""@odata.nextLink":"https://graph.microsoft.com/beta/x?$skip=1""#;
    for (body, code, begin) in [
        (
            format!(r#"{{{context},"value":[]}}"#),
            0,
            "warning first page dialout: the page names https://graph.microsoft.com",
        ),
        (
            format!(r#"{{{link},"value":[]}}"#),
            1,
            "failure first page dialout: ",
        ),
    ] {
        simulator.push_fault(When::graph().always(), Fault::literal(200, body));
        let (ended, said) = check(&folder.path("config.yml"), &[]).await;
        simulator.clear_faults();
        assert_eq!(ended, code, "{said}");
        let is_reported = |line: &str| line.starts_with(begin) && line.contains("rewrite links");
        assert!(said.lines().any(is_reported), "{begin}{said}");
    }
}
