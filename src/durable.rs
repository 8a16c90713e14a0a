//! Files that are there whole after a power cut, or not at all.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Writes a file anew, readable as `mode` says; when this returns, disk and directory have it.
pub(crate) fn write(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let part = path.with_extension("part");
    // Its mode is given at creation, so an old one must not lend it another.
    match fs::remove_file(&part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&part)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&part, path)?;
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_bears_its_mode() {
        let dir = std::env::temp_dir().join(format!("knarr-durable-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a folder");
        let path = dir.join("client.key");
        fs::write(&path, "an older and longer text").expect("a file");
        fs::write(dir.join("client.part"), "left by a crash").expect("a file");
        write(&path, "new", 0o600).expect("written");
        let mode = fs::metadata(&path).expect("a file").permissions().mode();
        let text = fs::read_to_string(&path).expect("text");
        let names: Vec<_> = fs::read_dir(&dir).expect("a folder").collect();
        fs::remove_dir_all(&dir).expect("removed");
        assert_eq!(
            (text.as_str(), mode & 0o777, names.len()),
            ("new", 0o600, 1)
        );
    }
}
