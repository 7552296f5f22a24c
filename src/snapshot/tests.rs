//! Tests that samples become the expected bodies.

mod readiness;

use std::io::Read as _;

use flate2::read::GzDecoder;

use super::*;
use crate::exposition::{FamilyWriter, write_label};
use crate::gzip::Block;

static CHARGE: Family = Family::gauge("teams_pstn_dialout_charge", "Charge.");
static CALLS: Family = Family::gauge("teams_pstn_dialout_calls", "Calls.");
static UP: Family = Family::gauge("teams_pstn_report_up", "Up.");

#[test]
fn families_of_several_tenants_are_contiguous() {
    let publisher = publisher();
    // In no particular order.
    for tenant in ["beta", "alpha", "gamma"] {
        publisher.update(
            key(tenant),
            numbers(tenant, 2),
            health(tenant),
            Some(state(tenant)),
        );
    }
    publisher.publish();
    let snapshot = publisher.subscribe().latest();
    let text = read(&snapshot, Format::Text, Encoding::Identity, &[]);
    let own_at = text
        .find("# HELP process_")
        .or_else(|| text.find("# HELP teams_pstn_config"))
        .unwrap();
    assert_eq!(
        text[..own_at],
        *"\
# HELP teams_pstn_dialout_calls Calls.
# TYPE teams_pstn_dialout_calls gauge
teams_pstn_dialout_calls{tenant=\"alpha\",user=\"0\"} 1
teams_pstn_dialout_calls{tenant=\"alpha\",user=\"1\"} 1
teams_pstn_dialout_calls{tenant=\"beta\",user=\"0\"} 1
teams_pstn_dialout_calls{tenant=\"beta\",user=\"1\"} 1
teams_pstn_dialout_calls{tenant=\"gamma\",user=\"0\"} 1
teams_pstn_dialout_calls{tenant=\"gamma\",user=\"1\"} 1
# HELP teams_pstn_dialout_charge Charge.
# TYPE teams_pstn_dialout_charge gauge
teams_pstn_dialout_charge{tenant=\"alpha\",user=\"0\"} 0
teams_pstn_dialout_charge{tenant=\"alpha\",user=\"1\"} 0
teams_pstn_dialout_charge{tenant=\"beta\",user=\"0\"} 0
teams_pstn_dialout_charge{tenant=\"beta\",user=\"1\"} 0
teams_pstn_dialout_charge{tenant=\"gamma\",user=\"0\"} 0
teams_pstn_dialout_charge{tenant=\"gamma\",user=\"1\"} 0
# HELP teams_pstn_report_up Up.
# TYPE teams_pstn_report_up gauge
teams_pstn_report_up{tenant=\"alpha\"} 1
teams_pstn_report_up{tenant=\"beta\"} 1
teams_pstn_report_up{tenant=\"gamma\"} 1
"
    );
    assert_eq!(
        snapshot
            .states()
            .iter()
            .map(|state| state.tenant.as_deref().unwrap())
            .collect::<Vec<_>>(),
        ["alpha", "beta", "gamma"]
    );
    assert!(
        text.contains("teams_pstn_exposition_series 12\n"),
        "the report families, without health"
    );
    publisher.retain(|key| key.tenant.as_deref() != Some("beta"));
    publisher.publish();
    assert!(
        !read(
            &publisher.subscribe().latest(),
            Format::Text,
            Encoding::Identity,
            &[]
        )
        .contains("beta")
    );
}

#[test]
fn bodies_of_all_sizes_agree() {
    // Short texts, long ones with their text, too long ones, and together more than all tenants may keep.
    for tenants in [&[10][..], &[2_000], &[2_000, 30_000], &[20_000; 6]] {
        let publisher = publisher();
        for (index, &rows) in tenants.iter().enumerate() {
            let tenant = format!("tenant{index}");
            publisher.update(
                key(&tenant),
                numbers(&tenant, rows),
                health(&tenant),
                Some(state(&tenant)),
            );
        }
        publisher.publish();
        let snapshot = publisher.subscribe().latest();
        for format in [Format::Text, Format::OpenMetrics] {
            for names in [
                vec![],
                vec![
                    "teams_pstn_dialout_calls".to_owned(),
                    "process_open_fds".to_owned(),
                ],
            ] {
                let identity = read(&snapshot, format, Encoding::Identity, &names);
                assert_eq!(
                    identity,
                    read(&snapshot, format, Encoding::Gzip, &names),
                    "{tenants:?}"
                );
                assert_eq!(identity.ends_with("# EOF\n"), format == Format::OpenMetrics);
                let calls = identity
                    .lines()
                    .filter(|line| line.starts_with("teams_pstn_dialout_calls{"))
                    .count();
                assert_eq!(calls, tenants.iter().sum::<usize>());
                let charges = identity
                    .lines()
                    .filter(|line| line.starts_with("teams_pstn_dialout_charge{"))
                    .count();
                assert_eq!(charges, if names.is_empty() { calls } else { 0 });
                assert!(identity.contains("process_open_fds"));
            }
        }
    }
}

#[test]
fn text_is_kept_up_to_eight_mebibytes_of_all_tenants() {
    let publisher = publisher();
    let mebibyte = 1 << 20;
    let kept = || {
        publisher.publish();
        let slots = publisher.slots.lock();
        let samples = slots.values().flat_map(|slot| &slot.report);
        samples
            .map(|samples| samples.block.kept_text())
            .sum::<u64>()
    };
    for tenant in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        publisher.update(key(tenant), line(mebibyte), Vec::new(), None);
    }
    assert_eq!(kept(), 8 * mebibyte as u64);
    // The shortest that is compressed while it is written. The poller keeps a clone for its state file.
    let last = line(16 << 10);
    publisher.update(key("i"), last.clone(), Vec::new(), None);
    assert_eq!(kept(), 0);
    assert_eq!(last[0].block.kept_text(), 0);
    let text = read(
        &publisher.subscribe().latest(),
        Format::Text,
        Encoding::Identity,
        &[],
    );
    assert!(text.len() > 8 * mebibyte);
}

#[test]
fn a_family_without_samples_is_omitted_and_the_size_is_exported() {
    let publisher = publisher();
    let empty = FamilyWriter::new(&[&CHARGE]).finish().collect();
    publisher.update(key("a"), empty, Vec::new(), None);
    publisher.update(key("b"), line(100), Vec::new(), None);
    publisher.update(key("c"), line(23_000), Vec::new(), None);
    publisher.publish();
    let text = read(
        &publisher.subscribe().latest(),
        Format::Text,
        Encoding::Identity,
        &[],
    );
    assert!(!text.contains(CHARGE.name), "{text}");
    for sample in [
        "teams_pstn_exposition_size_bytes 23100\n",
        "teams_pstn_exposition_series 2\n",
    ] {
        assert!(text.contains(sample), "{sample}");
    }
}

#[test]
fn a_snapshot_for_benchmarks_has_its_samples() {
    let snapshot = Snapshot::with_samples(&numbers("alpha", 3));
    for encoding in [Encoding::Identity, Encoding::Gzip] {
        let text = read(&snapshot, Format::Text, encoding, &[]);
        assert_eq!(text.matches("teams_pstn_dialout_calls{").count(), 3);
        assert!(!text.contains("process_"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_is_published_at_once_and_the_process_every_second() {
    let publisher = Arc::new(publisher());
    let mut subscriber = publisher.subscribe();
    let running = tokio::spawn(Arc::clone(&publisher).run());
    let begun = Instant::now();

    publisher.update(key("alpha"), numbers("alpha", 1), Vec::new(), None);
    assert!(subscriber.changed().await);
    let reports = Arc::clone(&subscriber.latest().reports);
    assert_eq!(begun.elapsed(), Duration::ZERO);
    let text = read(&subscriber.latest(), Format::Text, Encoding::Identity, &[]);
    assert!(text.contains("tenant=\"alpha\""));

    assert!(subscriber.changed().await);
    assert_eq!(begun.elapsed(), REFRESH);
    assert!(Arc::ptr_eq(&reports, &subscriber.latest().reports));

    publisher.set_reload(None);
    assert!(subscriber.changed().await);
    publisher.retain(|_| false);
    assert!(subscriber.changed().await);
    assert_eq!(begun.elapsed(), REFRESH);
    let text = read(&subscriber.latest(), Format::Text, Encoding::Identity, &[]);
    assert!(!text.contains("alpha"));

    running.abort();
    assert!(running.await.is_err_and(|error| error.is_cancelled()));
    drop(publisher);
    assert!(!subscriber.changed().await);
}

#[test]
fn the_pause_is_nineteen_times_what_was_spent() {
    for (spent, pause) in [
        (0, 0),
        (10, 190),
        (500, 9_500),
        (527, 10_000),
        (u64::MAX / 1_000, 10_000),
    ] {
        let pause = Duration::from_millis(pause);
        assert_eq!(pause_after(Duration::from_millis(spent)), pause, "{spent}");
    }
}

#[test]
fn the_own_metrics_are_there_before_any_report() {
    let snapshot = publisher().subscribe().latest();
    let text = read(&snapshot, Format::Text, Encoding::Identity, &[]);
    for sample in [
        "teams_pstn_exporter_build_info{",
        "teams_pstn_graph_requests_total{code=\"200\"} 0",
        "process_open_fds ",
    ] {
        assert!(text.contains(sample), "{sample} in {text}");
    }
}

fn publisher() -> Publisher {
    Publisher::new(Arc::new(Telemetry::new(DateTime::default())))
}

fn key(tenant: &str) -> Key {
    Key {
        tenant: Some(tenant.into()),
        report: Some(ReportKind::Dialout),
    }
}

fn state(tenant: &str) -> State {
    State::untried(Some(tenant.into()), ReportKind::Dialout)
}

/// Samples in a slot can come from a file.
#[test]
fn counts_of_any_size_are_published() {
    let publisher = publisher();
    for tenant in ["alpha", "beta"] {
        let mut samples = numbers(tenant, 1);
        samples[0].count = u64::MAX;
        publisher.update(key(tenant), samples, health(tenant), Some(state(tenant)));
    }
    publisher.publish();
    let snapshot = publisher.subscribe().latest();
    let names = ["teams_pstn_exposition_series".to_owned()];
    let text = read(&snapshot, Format::Text, Encoding::Identity, &names);
    assert!(
        text.contains("teams_pstn_exposition_series 9223372036854776000\n"),
        "{text}"
    );
}

fn numbers(tenant: &str, rows: usize) -> Vec<Samples> {
    let mut writer = FamilyWriter::new(&[&CHARGE, &CALLS]);
    for row in 0..rows {
        let mut labels = Vec::new();
        write_label("tenant", tenant, &mut labels);
        write_label("user", &row.to_string(), &mut labels);
        writer.sample(&labels, |family, out| {
            out.push(if family == 0 { b'0' } else { b'1' });
        });
    }
    writer.finish().collect()
}

/// A body from a restored file equals the body that was served before.
#[test]
fn restored_bodies_equal_the_saved_ones() {
    for tenants in [&[10][..], &[2_000], &[2_000, 30_000], &[20_000; 6]] {
        let bodies = |restore: bool| {
            let publisher = publisher();
            for (index, &rows) in tenants.iter().enumerate() {
                let tenant = format!("tenant{index}");
                let mut all = numbers(&tenant, rows);
                if restore {
                    for samples in &mut all {
                        let (bytes, deflated) = samples.block.stored();
                        let bytes = bytes.clone();
                        samples.block = Block::restored(bytes, deflated).unwrap();
                    }
                }
                publisher.update(key(&tenant), all, health(&tenant), Some(state(&tenant)));
            }
            publisher.publish();
            let snapshot = publisher.subscribe().latest();
            let names = [
                "teams_pstn_dialout_calls".to_owned(),
                "teams_pstn_dialout_charge".to_owned(),
            ];
            let mut all = Vec::new();
            for format in [Format::Text, Format::OpenMetrics] {
                for encoding in [Encoding::Identity, Encoding::Gzip] {
                    all.push(read(&snapshot, format, encoding, &names));
                }
            }
            all
        };
        let (before, after) = (bodies(false), bodies(true));
        assert!(before == after, "{tenants:?}");
        assert!(after[0] == after[1] && after[2] == after[3]);
    }
}

/// A family with one sample, a line of `length` bytes.
fn line(length: usize) -> Vec<Samples> {
    let samples = |pad: usize| -> Vec<Samples> {
        let mut writer = FamilyWriter::new(&[&CALLS]);
        let mut labels = Vec::new();
        write_label("user", &"x".repeat(pad), &mut labels);
        writer.sample(&labels, |_, out| out.push(b'1'));
        writer.finish().collect()
    };
    let bare = usize::try_from(samples(0)[0].block.length()).unwrap();
    samples(length - bare)
}

fn health(tenant: &str) -> Vec<Samples> {
    let mut writer = FamilyWriter::new(&[&UP]);
    let mut labels = Vec::new();
    write_label("tenant", tenant, &mut labels);
    writer.sample(&labels, |_, out| out.push(b'1'));
    writer.finish().collect()
}

/// The text of a body. Its length must be the announced length.
fn read(snapshot: &Snapshot, format: Format, encoding: Encoding, names: &[String]) -> String {
    let body = snapshot.body(format, encoding, names);
    let bytes = body.parts.collect::<Vec<_>>().concat();
    assert_eq!(bytes.len() as u64, body.length);
    match encoding {
        Encoding::Identity => String::from_utf8(bytes).unwrap(),
        Encoding::Gzip => {
            let mut text = String::new();
            GzDecoder::new(bytes.as_slice())
                .read_to_string(&mut text)
                .unwrap();
            text
        }
    }
}
