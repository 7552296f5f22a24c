//! The program. Its code is in the library. Code in the binary that called generic functions of the library would
//! compile these functions a second time.

use std::process::ExitCode;

fn main() -> ExitCode {
    teams_pstn_exporter::program::main()
}
