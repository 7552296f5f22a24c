//! The program: parses the flags, reads the configuration, binds, and runs until a signal.

use std::io::stdout;
use std::net::SocketAddr;
use std::process::ExitCode;

use tokio::runtime::{Builder, Runtime};

use crate::config::Config;
use crate::config::args::{Args, Command};
use crate::config::shard::Shard;
use crate::daemon::{Daemon, Failure, Load, Options};
#[cfg(feature = "demo")]
use crate::demo::{self, Demo};
use crate::period::Clock;
use crate::server::Bound;
use crate::server::web_config::WebConfig;
use crate::systemd::Systemd;
use crate::{
    allocator, backfill, check, cores, daemon, export, healthcheck, logging, machine, pseudonym,
    signals,
};

/// Runs the program with the flags of the command line, and reports an error.
pub fn main() -> ExitCode {
    cores::forbid();
    let code = start().unwrap_or_else(|failure| failure.report());
    logging::flush();
    code
}

/// Sets up the parts of the process that every command needs, and runs the command.
fn start() -> Result<ExitCode, Failure> {
    // The limits are checked before the flags are parsed, because parsing needs more stack than a low limit leaves.
    machine::check(Clock::system().now())?;
    let args = Args::from_command_line();
    if args.is_daemon() {
        allocator::fix_thresholds();
    }
    machine::check_threads()?;
    signals::survive_file_size_limit()?;
    logging::start(args.log_level(), args.log_format)?;
    run(&args)
}

fn run(args: &Args) -> Result<ExitCode, Failure> {
    if args.is_demo() && args.shard != Shard::WHOLE {
        return Err(Failure::DemoShard);
    }
    let load = config_loader(args);
    match &args.command {
        _ if args.config_check => {
            let config = daemon::validate(&load, args.web_config_file.as_deref())?;
            check::confirm(&config, &mut stdout())?;
        }
        None => {
            load()?;
            serve(args, async || Ok((load, ())), |_, _| {})?;
        }
        #[cfg(feature = "demo")]
        Some(Command::Demo) => {
            load()?;
            serve_demo(args)?;
        }
        Some(Command::Check { format }) => {
            let code = complete(check::run(
                &load,
                &args.listen(),
                args.web_config_file.as_deref(),
                *format,
                Clock::system(),
                &mut stdout(),
            ))??;
            return Ok(code);
        }
        Some(Command::Backfill(wanted)) => {
            let (config, clock) = (load()?, Clock::system());
            let filled = backfill::run(&config, wanted, &clock, Box::new(stdout()));
            complete(export::until_signal(filled))??;
        }
        Some(Command::Export(wanted)) => {
            let (config, clock) = (load()?, Clock::system());
            let exported = export::run(&config, wanted, &clock, Box::new(stdout()));
            complete(export::until_signal(exported))??;
        }
        Some(Command::Healthcheck) => {
            let (listen, web_config) = (args.listen(), args.web_config_file.as_deref());
            complete(healthcheck::run(&listen, web_config))??;
        }
        Some(Command::Pseudonym { users }) => {
            pseudonym::write(&load()?, users, &mut stdout())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the function that loads the configuration. It reads the file, or the environment if no file is set, and
/// keeps the tenants of this shard. For the demo, the addresses of the simulator are filled in later.
fn config_loader(args: &Args) -> Load {
    #[cfg(feature = "demo")]
    if args.is_demo() {
        return demo::unconnected(args.config_file.clone());
    }
    let (file, shard) = (args.config_file.clone(), args.shard);
    Box::new(move || {
        let variable = |name: &str| std::env::var(name).ok();
        let config = match &file {
            Some(path) => Config::load(path),
            None => Config::from_environment(variable),
        }?
        .or_state_directory(variable);
        let all = config.tenants.len();
        let config = config.sharded(shard)?;
        if shard != Shard::WHOLE {
            let own = config.tenants.len();
            tracing::info!(%shard, tenants = own, of = all, "tenants of this shard");
        }
        Ok(config)
    })
}

#[cfg(feature = "demo")]
fn serve_demo(args: &Args) -> Result<(), Failure> {
    let prepare = async || {
        let demo = Demo::start(Clock::system()).await.map_err(Failure::Demo)?;
        Ok((demo.load(args.config_file.clone()), demo))
    };
    serve(args, prepare, |addresses, tls| {
        demo::invite(addresses, tls, args);
    })
}

/// Runs the daemon until a signal. `prepare` returns the function that loads the configuration, and a value that lives
/// as long as the daemon. `started` is called with the addresses that the daemon listens on, and with true if they
/// serve TLS.
fn serve<T>(
    args: &Args,
    prepare: impl AsyncFnOnce() -> Result<(Load, T), Failure>,
    started: impl FnOnce(&[SocketAddr], bool),
) -> Result<(), Failure> {
    let web_config = args
        .web_config_file
        .as_deref()
        .map(WebConfig::load)
        .transpose()?;
    // Binding removes the variables of systemd's sockets from the environment, so it must come before threads that use
    // the environment.
    let bound = Bound::bind(&args.listen())?;
    let runtime = runtime("serve")?;
    let polls = self::runtime("poll")?;
    let outcome = runtime.block_on(async {
        let (stop, hangups) = signals::listen()?;
        let (load, _companion) = prepare().await?;
        let options = Options {
            telemetry_path: args.telemetry_path.clone(),
            requests_max: args.max_requests.get(),
            web_config,
            clock: Clock::system(),
            polls: polls.handle().clone(),
            previous: true,
            systemd: Systemd::from_environment(),
        };
        let tls = options.web_config.as_ref().is_some_and(WebConfig::has_tls);
        let daemon = Daemon::start(bound, options, load)?;
        started(daemon.addresses(), tls);
        daemon.run(hangups, stop).await
    });
    // Do not wait for threads that are blocked by a slow file system or name server.
    polls.shutdown_background();
    runtime.shutdown_background();
    outcome
}

/// Runs a command that is not the daemon, in a runtime of its own.
fn complete<T>(command: impl Future<Output = T>) -> std::io::Result<T> {
    let runtime = runtime("command")?;
    let outcome = runtime.block_on(command);
    // Do not wait for threads that are blocked on DNS.
    runtime.shutdown_background();
    Ok(outcome)
}

fn runtime(name: &str) -> std::io::Result<Runtime> {
    Builder::new_multi_thread()
        .thread_name(name)
        .worker_threads(THREADS)
        .enable_all()
        .build()
}

/// Threads of each runtime, on any machine. A scrape is one write. Commands and polls mostly wait for the network, and
/// if one thread blocks, the other one goes on. For example, a service that sends interim responses (100, 103) without
/// end keeps one thread busy until the poll times out.
const THREADS: usize = 2;
