//! The program. Its code is in the library, because generic code of a library that a binary calls is compiled again for
//! the binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    teams_pstn_exporter::program::main()
}
