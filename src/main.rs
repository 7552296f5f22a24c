//! The program. Its code is in the library: if it called generic code of the library, that would be compiled twice.

use std::process::ExitCode;

fn main() -> ExitCode {
    teams_pstn_exporter::program::main()
}
