//! The program as a process.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use super::{CLIENT, Metrics, SECRET, TENANT, request};

/// The program, running.
pub(crate) struct Program {
    child: Child,
    out: Lines<BufReader<ChildStdout>>,
    err: Lines<BufReader<ChildStderr>>,
    /// All that it has said on both, as far as it was read.
    pub(crate) said: String,
}

impl Program {
    /// Starts it with these words and nothing else in its environment.
    pub(crate) fn start(words: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::start_by(Command::new(PROGRAM), words, environment)
    }

    /// The same by a command that says which program it is, and whose.
    pub(crate) fn start_by(
        mut command: Command,
        words: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let mut child = command
            .args(words)
            .env_clear()
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self {
            out: BufReader::new(child.stdout.take().unwrap()).lines(),
            err: BufReader::new(child.stderr.take().unwrap()).lines(),
            child,
            said: String::new(),
        }
    }

    /// The next line of the log that contains this.
    pub(crate) async fn logged(&mut self, part: &str) -> String {
        line(&mut self.err, &mut self.said, part).await
    }

    /// The next line on standard output that contains this.
    pub(crate) async fn printed(&mut self, part: &str) -> String {
        line(&mut self.out, &mut self.said, part).await
    }

    /// The address that it listens on, by its log.
    pub(crate) async fn address(&mut self) -> SocketAddr {
        address_in(&self.logged("listening").await)
    }

    /// Of the process, which has not ended.
    pub(crate) fn id(&self) -> u32 {
        self.child.id().unwrap()
    }

    pub(crate) async fn signal(&self, name: &str) {
        signal(self.id(), name).await;
    }

    /// Its exit code and all that it has said.
    pub(crate) async fn end(mut self) -> (Option<i32>, String) {
        let (mut out, mut err) = (String::new(), String::new());
        let ended = async {
            tokio::join!(rest(&mut self.out, &mut out), rest(&mut self.err, &mut err));
            self.child.wait().await.unwrap()
        };
        let status = tokio::time::timeout(PATIENCE, ended).await;
        let said = self.said + &out + &err;
        let Ok(status) = status else {
            panic!("it does not end, but says\n{said}");
        };
        (status.code(), said)
    }

    /// Stops it by SIGTERM. Returns all that it has said.
    pub(crate) async fn stop(self) -> String {
        self.signal("TERM").await;
        let (code, said) = self.end().await;
        assert_eq!(code, Some(0), "{said}");
        said
    }
}

async fn line<R: AsyncRead + Unpin>(
    lines: &mut Lines<BufReader<R>>,
    said: &mut String,
    part: &str,
) -> String {
    loop {
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await;
        let Ok(Ok(Some(line))) = line else {
            panic!("it does not say {part:?}, but\n{said}");
        };
        said.push_str(&line);
        said.push('\n');
        if line.contains(part) {
            return line;
        }
    }
}

async fn rest<R: AsyncRead + Unpin>(lines: &mut Lines<BufReader<R>>, said: &mut String) {
    while let Some(line) = lines.next_line().await.unwrap() {
        said.push_str(&line);
        said.push('\n');
    }
}

/// The path of the compiled program.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_teams-pstn-exporter");

/// A time limit that is only reached if a test fails, so that it fails with a message.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// The address on loopback in a line.
pub(crate) fn address_in(line: &str) -> SocketAddr {
    let start = line.find("127.0.0.1:").unwrap();
    let end = line[start + 10..].find(|c: char| !c.is_ascii_digit());
    let end = end.map_or(line.len(), |end| start + 10 + end);
    line[start..end].parse().unwrap()
}

pub(crate) const ANY_PORT: &str = "--web.listen-address=127.0.0.1:0";

pub(crate) async fn scrape(address: SocketAddr) -> Metrics {
    let answer = request(address, "GET", "/metrics", "").await;
    assert_eq!(answer.status, 200);
    Metrics(answer.body)
}

/// Scrapes until the metrics match. A process publishes right after it logs and no event marks the moment, so the test
/// repeats the request.
pub(crate) async fn scrape_until(address: SocketAddr, such: impl Fn(&Metrics) -> bool) -> Metrics {
    for _ in 0..50_000 {
        let metrics = scrape(address).await;
        if such(&metrics) {
            return metrics;
        }
    }
    panic!("it never comes: {}", scrape(address).await.0);
}

/// Runs the program to its end: its exit code and all that it has said.
pub(crate) async fn run(words: &[&str], environment: &[(&str, &str)]) -> (i32, String) {
    let (code, said) = Program::start(words, environment).end().await;
    (code.expect("not killed"), said)
}

/// Runs `check` with a configuration file and these variables.
pub(crate) async fn check(file: &Path, variables: &[(&str, &str)]) -> (i32, String) {
    let option = format!("--config.file={}", file.display());
    run(&["check", &option], variables).await
}

pub(crate) async fn signal(id: u32, name: &str) {
    // The shell's own `kill`: a minimal Debian has no program of that name.
    let kill = format!("kill -s {name} {id}");
    let sent = Command::new("sh").args(["-c", &kill]).status().await;
    assert!(sent.unwrap().success());
}

/// The usual tenant and its secret, for a program without a configuration file.
pub(crate) const ENVIRONMENT: [(&str, &str); 3] = [
    ("AZURE_TENANT_ID", TENANT),
    ("AZURE_CLIENT_ID", CLIENT),
    ("AZURE_CLIENT_SECRET", SECRET),
];
