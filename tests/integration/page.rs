//! The page of the running program: budgets, pools, departments, polls under way, and a reload that was refused.

use std::fs;

use teams_pstn_exporter::config::Config;
use teams_pstn_exporter::period::{BillingPeriod, Clock, CycleDay};
use teams_pstn_simulator::calls::Call;
use teams_pstn_simulator::faults::{Fault, When};
use teams_pstn_simulator::world::{Table, World};

use crate::support::{
    CLIENT, Exporter, Folder, SECRET, Setup, TENANT, request, row, simulator, tenant,
};

#[tokio::test(start_paused = true)]
async fn budgets_and_a_refused_reload_are_on_the_page_until_they_are_gone() {
    let world = World::Table(Table::new([row("ann", "12400.5")]));
    let (simulator, time) = Setup::of(world).simulate().await;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("secret"), SECRET).unwrap();
    let file = folder.path().join("config.yml");
    let url = simulator.url();
    let tenants = format!(
        "tenants:\n- tenant_id: {TENANT}\n  client_id: {CLIENT}\n  client_secret_file: secret\n  \
         graph_url: {url}\n  authority_url: {url}\n"
    );
    let budget = |name: &str| {
        format!("budgets:\n- {{name: {name}, report: dialout, currency: USD, amount: 10000}}\n")
    };
    fs::write(&file, tenants.clone() + &budget("first")).unwrap();
    let path = file.clone();
    let mut exporter = Exporter::start(Box::new(move || Config::load(&path)), &time);
    exporter.first_poll().await;
    let page = async |exporter: &Exporter| exporter.get("/").await.body;
    let reload = async |exporter: &mut Exporter| {
        let answer = request(exporter.address, "POST", "/-/reload", "").await;
        let refused = answer.status != 200;
        exporter
            .until(|snapshot| snapshot.refused_reload().is_some() == refused)
            .await;
        refused
    };
    let html = page(&exporter).await;
    assert!(html.contains("The budget is at least 120 % spent. The report is up to date."));
    let spent = "<span title=\"12400.5 USD\">12,400.50</span> of <span title=\"10000 USD\">10,000.00</span> <bdi>USD</bdi> spent, <b>124&nbsp;%</b>";
    assert!(html.contains(spent), "{html}");

    fs::write(&file, "tenants:\n- bogus: 1\n").unwrap();
    assert!(reload(&mut exporter).await);
    let html = page(&exporter).await;
    assert!(
        html.contains("The new configuration was refused."),
        "{html}"
    );
    assert!(
        html.contains("config.yml:2: ") && html.contains(spent),
        "{html}"
    );

    // Like its metrics, a budget that is gone disappears when the next poll fails.
    simulator.push_fault(When::graph().always(), Fault::StallHead);
    fs::write(&file, tenants + &budget("second")).unwrap();
    assert!(!reload(&mut exporter).await);
    exporter
        .until(|snapshot| snapshot.states()[0].failure.is_some())
        .await;
    let html = page(&exporter).await;
    assert!(!html.contains("was refused"), "{html}");
    assert!(
        html.contains("12,400.50") && !html.contains("<h2>Budgets"),
        "{html}"
    );
}

#[tokio::test]
async fn pools_departments_and_polls_under_way_are_on_the_page_without_names() {
    let simulator = simulator(vec![tenant()]).await;
    let folder = Folder::configured(
        simulator.url(),
        "reports: [dialout, call_log]\nlabels: {user: none}\ndepartments: {file: departments.csv}\npools:\n\
         - {name: us, license_capability: [MCOPSTN1], licenses: 1, minutes_per_license: 2, thresholds: [100]}\n\
         - {name: uk, license_capability: [MCOPSTN1], usage_location: [GB], licenses: 1, minutes_per_license: 2}\n",
    );
    let users = "ottilie.quaver@contoso.com,Sales\nID-2,Ops\n";
    folder.write("departments.csv", format!("user,department\n{users}"));
    let period = BillingPeriod::containing(Clock::system().now(), CycleDay::default());
    let calls = (1..=3).map(|number| Call::at(number, period.start()));
    simulator.logs(TENANT).calls.set(calls.collect());
    let mut exporter = Exporter::of_file(&folder.path("config.yml"));
    exporter.first_poll().await;

    simulator.push_fault(When::graph().always(), Fault::StallHead);
    let before = simulator.counts().received;
    let answer = request(exporter.address, "POST", "/-/reload?refetch=true", "").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    simulator.wait_for_requests(before + 2).await;
    // Fetched once, because a page is the same within a second.
    let html = exporter.get("/").await.body;
    let mut rest = html.as_str();
    for part in [
        "1 of 2 pools is fully used.",
        "<h2>Included minutes</h2>",
        "<bdi>us</bdi>",
        "100 % reached",
        "<span title=\"180 seconds\">3</span> of 2 minutes used, <b>150&nbsp;%</b>",
        "<bdi>uk</bdi>",
        "below 80 %",
        "<span title=\"0 seconds\">0</span> of 2 minutes used",
        "polling…",
        "<h3>Top departments, <bdi>USD</bdi></h3>",
        "<bdi>unmapped</bdi>",
        "<span title=\"7 USD\">7.00</span>",
        "<bdi>Sales</bdi>",
        "1.25",
        "<bdi>Ops</bdi>",
        "<span title=\"0.1 USD\">0.10</span>",
    ] {
        let at = rest.find(part);
        rest = &rest[at.unwrap_or_else(|| panic!("{part} in {html}"))..];
    }
    let lower = html.to_lowercase();
    assert!(
        !lower.contains("ottilie") && !lower.contains("user1@"),
        "{html}"
    );
}
