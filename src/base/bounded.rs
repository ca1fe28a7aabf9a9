//! Files that somebody else wrote, read whole: what has no end, a pipe say, has a limit all the same.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// All bytes of a file or pipe.
///
/// # Errors
/// It cannot be read, a folder say, or has more than `bytes_max`.
pub fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(io::Error::new(ErrorKind::FileTooLarge, format!("it has more than {bytes_max} bytes")));
    }
    Ok(bytes)
}

/// The same as text.
///
/// # Errors
/// As above, or it is no UTF-8.
pub fn read_text(path: &Path, bytes_max: u64) -> io::Result<String> {
    let text = String::from_utf8(read(path, bytes_max)?);
    text.map_err(|_| io::Error::new(ErrorKind::InvalidData, "it is no text in UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_limit_and_no_further() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "12345678").unwrap();
        assert_eq!(read_text(file.path(), 8).unwrap(), "12345678");
        let error = read(file.path(), 7).unwrap_err();
        assert!(error.kind() == ErrorKind::FileTooLarge && error.to_string().contains("more than 7 bytes"), "{error}");
        std::fs::write(file.path(), [b'a', 0xff]).unwrap();
        assert_eq!(read(file.path(), 8).unwrap(), [b'a', 0xff]);
        assert_eq!(read_text(file.path(), 8).unwrap_err().kind(), ErrorKind::InvalidData);
    }

    #[test]
    fn what_has_no_end_or_is_no_file_is_refused() {
        assert_eq!(read(Path::new("/dev/zero"), 1 << 16).unwrap_err().kind(), ErrorKind::FileTooLarge);
        assert_eq!(read(Path::new("/dev/null"), 1 << 16).unwrap(), b"");
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path(), 1 << 16).unwrap_err().kind(), ErrorKind::IsADirectory);
        assert_eq!(read(&folder.path().join("none"), 1 << 16).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
