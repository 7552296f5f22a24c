//! The response to a scrape, and its samples.

use std::fmt::Write as _;

/// The text of a scrape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Metrics(pub(crate) String);

/// One line of it, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) value: String,
}

impl Metrics {
    /// The value of a sample by its name and labels as they are written.
    pub(crate) fn value(&self, sample: &str) -> &str {
        self.get(sample)
            .unwrap_or_else(|| panic!("no {sample} in\n{}", self.0))
    }

    pub(crate) fn get(&self, sample: &str) -> Option<&str> {
        self.0
            .lines()
            .find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '))
    }

    /// The value of a metric of the only report.
    pub(crate) fn report(&self, metric: &str) -> &str {
        self.value(&format!("teams_pstn_report_{metric}{{report=\"dialout\"}}"))
    }

    pub(crate) fn failures(&self, reason: &str) -> u64 {
        let sample =
            format!("teams_pstn_report_failures_total{{reason=\"{reason}\",report=\"dialout\"}}");
        self.value(&sample).parse().expect("a count")
    }

    /// The report families with their period, letter by letter.
    pub(crate) fn of_report(&self) -> String {
        self.families(&["teams_pstn_dialout_", "teams_pstn_billing_period_"])
    }

    /// The lines of the families whose names begin so.
    pub(crate) fn families(&self, prefixes: &[&str]) -> String {
        let lines = self.0.lines().filter(|line| {
            let name = ["# HELP ", "# TYPE ", "# UNIT "]
                .iter()
                .find_map(|comment| line.strip_prefix(comment))
                .unwrap_or(line);
            prefixes.iter().any(|prefix| name.starts_with(prefix))
        });
        lines.fold(String::new(), |text, line| text + line + "\n")
    }

    /// The samples of a family.
    pub(crate) fn samples(&self, family: &str) -> Vec<Sample> {
        let lines = self.0.lines().filter(|line| !line.starts_with('#'));
        lines
            .map(sample)
            .filter(|sample| sample.name == family)
            .collect()
    }

    /// The growth of a counter since `before`, as `value=growth` in the order of the label's values.
    pub(crate) fn growth(&self, before: &Self, counter: &str, label: &str) -> String {
        let old = before.samples(counter);
        let mut grown = String::new();
        for new in self.samples(counter) {
            let old = old.iter().find(|old| old.labels == new.labels);
            let old: u64 = old.map_or(0, |old| old.value.parse().expect("a count"));
            let growth = new.value.parse::<u64>().expect("a count") - old;
            if growth > 0 {
                let separator = if grown.is_empty() { "" } else { " " };
                write!(grown, "{separator}{}={growth}", new.label(label)).unwrap();
            }
        }
        grown
    }
}

impl Sample {
    pub(crate) fn label(&self, name: &str) -> &str {
        self.labels
            .iter()
            .find_map(|(label, value)| (label == name).then_some(value))
            .unwrap_or_else(|| panic!("no label {name} on {self:?}"))
    }

    pub(crate) fn label_names(&self) -> Vec<&str> {
        self.labels.iter().map(|(name, _)| name.as_str()).collect()
    }
}

fn sample(line: &str) -> Sample {
    let end = line.find(['{', ' ']).expect("a sample");
    let (name, mut rest) = line.split_at(end);
    let mut labels = Vec::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (label, after) = rest.split_once("=\"").expect("a label");
            let mut value = String::new();
            let mut chars = after.char_indices();
            loop {
                match chars.next().expect("the end of the value") {
                    (at, '"') => {
                        rest = &after[at + 1..];
                        break;
                    }
                    (_, '\\') => value.push(match chars.next().expect("what is escaped").1 {
                        'n' => '\n',
                        other => other,
                    }),
                    (_, other) => value.push(other),
                }
            }
            labels.push((label.trim_start_matches(',').to_owned(), value));
        }
        rest = &rest[1..];
    }
    Sample {
        name: name.to_owned(),
        labels,
        value: rest.trim_start().to_owned(),
    }
}
