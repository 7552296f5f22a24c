//! Files that hold a secret: read whole or not at all, and wiped when dropped.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use zeroize::Zeroizing;

/// The content of a file of `max` bytes at the most.
///
/// # Errors
/// Where it cannot be read, and of kind [`io::ErrorKind::FileTooLarge`] where it is longer: another file than was meant, or
/// a device that never ends.
pub(crate) fn read(path: &Path, max: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    // Room for all of it from the start, so that growing leaves no copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(max + 1));
    File::open(path)?
        .take(max as u64 + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() > max {
        let what = format!("longer than {max} bytes; name the file that is meant");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        for length in [0, 1, 15, 16] {
            let content = vec![7; length];
            std::fs::write(&path, &content).unwrap();
            let read = read(&path, 16).unwrap();
            assert_eq!(*read, content);
            assert_eq!(read.capacity(), 17, "it has grown");
        }
        let error = read(Path::new("/dev/zero"), 16).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert!(error.to_string().starts_with("longer than 16 bytes"));
        std::fs::write(&path, [7; 17]).unwrap();
        let error = read(&path, 16).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        let error = read(&folder.path().join("none"), 16).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
