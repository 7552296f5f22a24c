//! The program. Its code is in the library. If the binary called generic functions of the library, they would be
//! compiled again for the binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    teams_pstn_exporter::program::main()
}
