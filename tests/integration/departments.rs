//! The departments file: mistakes in it, changes of it, and what `check` says about it.

use std::fs;

use teams_pstn_exporter::config::Config;

use crate::support::{Exporter, Folder, Metrics, check, simulator, tenant};

const SECTION: &str = "departments: {file: departments.csv}\nlabels: {user: none}\n";

/// Every file that cannot be used is refused with the line of the configuration, and its own line if it has one.
#[tokio::test]
async fn bad_files_by_table() {
    let simulator = simulator(vec![tenant()]).await;
    let folder = Folder::configured(simulator.url(), SECTION);
    let csv = folder.path("departments.csv");
    let line = fs::read_to_string(folder.path("config.yml")).unwrap();
    let line = 1 + line
        .lines()
        .position(|line| line.starts_with("departments"))
        .unwrap();
    let refused = |at: &str, what: &str| {
        let config = folder.path("config.yml");
        let errors = Config::load(&config).expect_err(what).to_string();
        let (config, csv) = (config.display(), csv.display());
        assert_eq!(
            errors,
            format!("{config}:{line}: departments.file: {csv}{at}: {what}")
        );
    };
    let header = "begin the file with the line user,department";
    for (content, at, what) in [
        ("", "", "the file is empty; write its content".to_owned()),
        ("\n", ":1", format!("there is no header; {header}")),
        ("ann@x,Sales\n", ":1", format!("the header is not user,department; {header}")),
        ("user,team\nann@x,Sales\n", ":1", format!("the header is not user,department; {header}")),
        ("user;department\n", ":1", format!("the header is not user,department; separate the columns by commas, and {header}")),
        ("user,department\n", ":1", "no user; add a line for each user, or remove the section departments".to_owned()),
        ("user,department\nann@x\n", ":2", "no department; write the user and the department, separated by a comma".to_owned()),
        ("user,department\nann@x,a,b\n", ":2", "3 columns instead of 2; put a value that contains a comma in double quotes".to_owned()),
        ("user,department\n,Sales\n", ":2", "the user is empty; give a user principal name or an object id, or remove the line".to_owned()),
        ("user,department\nann@x,\n", ":2", "the department is empty; name one, or remove the line: its user is then unmapped".to_owned()),
        ("user,department\nann@x,A\nAnn@X,B\n", ":3", "the same user as on line 2; remove one of the two lines".to_owned()),
        ("user,department\nann@x,unmapped\n", ":2", "unmapped stands for users who are not in the file; choose another name, or remove the line".to_owned()),
        ("user,department\nann@x,\"Sales\n", ":2", "a double quote is not closed; close it on the same line, or remove it".to_owned()),
        ("user,department\nann@x,\"A\"B\n", ":2", "text after a closing double quote; write a comma after it, or remove the text".to_owned()),
        ("user,department\nann@x,A\"B\n", ":2", "a double quote inside a value; put the value in double quotes, and write each quote inside the value twice".to_owned()),
        ("user,department\nann@x,A\u{7}\n", ":2", "the department is not a name; write 1 to 128 characters without control characters".to_owned()),
    ] {
        fs::write(&csv, content).unwrap();
        refused(at, &what);
    }
    fs::write(&csv, b"user,department\nann@x,A\nben@x,B\xfcro\n").unwrap();
    refused(":3", "not UTF-8; save the file as UTF-8");
    let users = (0..100_000).map(|number| format!("user{number}@x,Sales\n"));
    fs::write(
        &csv,
        "user,department\n".to_owned() + &users.collect::<String>(),
    )
    .unwrap();
    refused(
        ":100001",
        "more than 100,000 lines; list only the users who make calls",
    );
    let users = (0..10_001).map(|number| format!("user{number}@x,{number}\n"));
    fs::write(
        &csv,
        "user,department\n".to_owned() + &users.collect::<String>(),
    )
    .unwrap();
    refused(
        ":10002",
        "more than 10,000 departments; combine some of them",
    );
    fs::write(&csv, " ".repeat((16 << 20) + 1)).unwrap();
    refused(
        "",
        "the file cannot be read: longer than 16777216 bytes, so it is probably another file; check the path",
    );
    fs::remove_file(&csv).unwrap();
    refused(
        "",
        "there is no such file; a relative path starts at the folder of the configuration file",
    );
    fs::create_dir(&csv).unwrap();
    refused("", "this is a folder; name a file in it");
    fs::remove_dir(&csv).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &csv).unwrap();
    refused(
        "",
        "the file cannot be read: a device, not a regular file; write the content into a file",
    );
    fs::remove_file(&csv).unwrap();
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&csv)
            .status()
            .unwrap()
            .success()
    );
    refused(
        "",
        "the file cannot be read: a pipe, not a regular file; write the content into a file",
    );
}

#[tokio::test]
async fn a_budget_of_an_unknown_department_is_refused() {
    let simulator = simulator(vec![tenant()]).await;
    let budget = "budgets:\n  - name: a\n    currency: USD\n    amount: 1\n    department: Sale\n";
    for (section, what) in [
        ("", "there are no departments; give departments.file"),
        (
            SECTION,
            "no user in departments.file has this department; choose from Ops, Sales",
        ),
    ] {
        let folder = Folder::configured(simulator.url(), &format!("{section}{budget}"));
        folder.write(
            "departments.csv",
            "user,department\nann@x,Sales\nben@x,Ops\n",
        );
        let config = folder.path("config.yml");
        let text = fs::read_to_string(&config).unwrap();
        let line = 1 + text
            .lines()
            .position(|line| line.contains("department: Sale"))
            .unwrap();
        let errors = Config::load(&config).expect_err(what).to_string();
        let config = config.display();
        assert_eq!(
            errors,
            format!("{config}:{line}: budgets[0].department: {what}")
        );
    }
}

/// A new file is used soon, without a reload. A bad one changes nothing, and is reported like a reload that is refused.
#[tokio::test]
async fn a_changed_file_is_read_again() {
    let simulator = simulator(vec![tenant()]).await;
    let folder = Folder::configured(simulator.url(), SECTION);
    let write = |lines: &str| folder.write("departments.csv", format!("user,department\n{lines}"));
    write("ottilie.quaver@contoso.com,Sales\nID-2,Ops\n");
    let mut exporter = Exporter::of_file(&folder.path("config.yml"));
    let charge = |metrics: &Metrics, department: &str| {
        let sample = format!(
            r#"teams_pstn_department_charge{{currency="USD",department="{department}",report="dialout"}}"#
        );
        metrics.get(&sample).map(str::to_owned)
    };
    let reloaded =
        |metrics: &Metrics| metrics.value("teams_pstn_config_last_reload_successful") == "1";
    let metrics = exporter
        .scrape_when(|metrics| charge(metrics, "Sales").is_some())
        .await;
    assert_eq!(charge(&metrics, "Sales").as_deref(), Some("1.25"));
    assert_eq!(charge(&metrics, "Ops").as_deref(), Some("0.1"));
    assert_eq!(charge(&metrics, "unmapped").as_deref(), Some("7"));

    write("id-1,Sales\nid-2,Sales\nximena@contoso.com,Büro\n");
    let metrics = exporter
        .scrape_when(|metrics| charge(metrics, "Büro").is_some())
        .await;
    assert_eq!(charge(&metrics, "Büro").as_deref(), Some("7"));
    assert_eq!(charge(&metrics, "Sales").as_deref(), Some("1.35"));
    assert_eq!(
        (charge(&metrics, "Ops"), charge(&metrics, "unmapped")),
        (None, None)
    );

    write("id-1,Sales\nID-1,Ops\n");
    let metrics = exporter.scrape_when(|metrics| !reloaded(metrics)).await;
    assert_eq!(charge(&metrics, "Sales").as_deref(), Some("1.35"));
    let page = exporter.get("/").await.body;
    assert!(
        page.contains("departments.csv:3: the same user as on line 2"),
        "{page}"
    );

    write("id-1,Ops\n");
    let metrics = exporter
        .scrape_when(|metrics| charge(metrics, "Ops").is_some())
        .await;
    assert!(reloaded(&metrics));
    assert_eq!(charge(&metrics, "unmapped").as_deref(), Some("7.1"));
    exporter.stop().await;
}

#[tokio::test]
async fn check_counts_users_and_departments() {
    let simulator = simulator(vec![tenant()]).await;
    let budgets = "budgets:\n  - {name: a, currency: USD, amount: 1, department: Ops}\n";
    let folder = Folder::configured(simulator.url(), &format!("{SECTION}{budgets}"));
    let remedy = "; remedy: check that the file has the user principal names or object ids that Graph returns";
    for (users, lines) in [
        (
            "zebedee@contoso.com,Sales\nid-1,Sales\nben@x,Ops\n",
            [
                "ok      departments: 3 users in 2 departments".to_owned(),
                "ok      departments dialout: 1 of 3 users of the first page are unmapped".to_owned(),
                "warning budget a: matches no row of the first page: no charge in USD, department Ops; seen Sales, unmapped; ".to_owned(),
            ],
        ),
        (
            "ann,Sales\nben,Ops\n",
            [
                "ok      departments: 2 users in 2 departments".to_owned(),
                format!("warning departments dialout: 3 of 3 users of the first page are unmapped{remedy}"),
                "warning budget a: matches no row of the first page: no charge in USD, department Ops; seen unmapped; ".to_owned(),
            ],
        ),
    ] {
        folder.write("departments.csv", format!("user,department\n{users}"));
        let (code, said) = check(&folder.path("config.yml"), &[]).await;
        assert_eq!(code, 0, "{said}");
        for line in lines {
            assert!(said.lines().any(|said| said.starts_with(&line)), "{line} in {said}");
        }
    }
}
