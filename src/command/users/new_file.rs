//! A file that no other user of the machine can read, and that gets its name when it is complete.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, ErrorKind, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

const SUFFIX: &str = ".partial";

/// It is removed when it is dropped, unless it is complete.
pub(super) struct NewFile {
    path: PathBuf,
    /// Its name until it is complete.
    partial: PathBuf,
    file: BufWriter<File>,
    is_complete: bool,
}

impl NewFile {
    pub(super) fn create(path: &Path) -> anyhow::Result<Self> {
        // Also a link that leads nowhere.
        if path.symlink_metadata().is_ok() {
            bail!("{} exists, and is not overwritten", path.display());
        }
        let mut partial = OsString::from(path);
        partial.push(SUFFIX);
        let partial = PathBuf::from(partial);
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600);
        let file = match file.open(&partial) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => bail!(
                "{} exists: another export writes it, or one was killed. Delete it then",
                partial.display()
            ),
            file => file.with_context(|| format!("cannot make {}", partial.display()))?,
        };
        Ok(Self {
            path: path.to_owned(),
            partial,
            file: BufWriter::new(file),
            is_complete: false,
        })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let written = self.file.write_all(bytes);
        written.with_context(|| self.cannot_write())
    }

    /// Writes all to the disk, which may take long, and gives the file its name.
    pub(super) fn finish(mut self) -> anyhow::Result<()> {
        let flushed = self.file.flush();
        let synced = flushed.and_then(|()| self.file.get_ref().sync_all());
        synced.with_context(|| self.cannot_write())?;
        self.is_complete = true;
        self.give_name().with_context(|| {
            let [partial, path] = [&self.partial, &self.path].map(|path| path.display());
            format!("{partial} is complete, but cannot be renamed to {path}")
        })
    }

    /// Never replaces a file that was made meanwhile: an empty file takes the name first. (Links,
    /// and a renaming that replaces nothing, do not exist on all file systems.)
    fn give_name(&self) -> io::Result<()> {
        File::create_new(&self.path)?;
        fs::rename(&self.partial, &self.path).inspect_err(|_| {
            let _ = fs::remove_file(&self.path);
        })?;
        // Not all file systems can sync a folder.
        let _ = File::open(self.folder()).and_then(|folder| folder.sync_all());
        Ok(())
    }

    fn folder(&self) -> &Path {
        match self.path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        }
    }

    fn cannot_write(&self) -> String {
        format!("cannot write {}", self.partial.display())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.is_complete {
            // If it stays, the next export names it.
            let _ = fs::remove_file(&self.partial);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;

    fn refusal(path: &Path) -> String {
        NewFile::create(path)
            .err()
            .map(|error| error.to_string())
            .unwrap()
    }

    fn names(folder: &Path) -> Vec<OsString> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn a_file_appears_when_it_is_complete_and_only_its_owner_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.jsonl");
        let mut file = NewFile::create(&path).unwrap();
        file.write(b"half").unwrap();
        assert_eq!(names(folder.path()), ["users.jsonl.partial"]);
        file.write(b" and half").unwrap();
        file.finish().unwrap();
        assert_eq!(names(folder.path()), ["users.jsonl"]);
        assert_eq!(fs::read(&path).unwrap(), b"half and half");
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn an_unfinished_file_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = NewFile::create(&folder.path().join("users.jsonl")).unwrap();
        file.write(b"half").unwrap();
        drop(file);
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let [path, link] = ["users.jsonl", "link"].map(|name| folder.path().join(name));
        let file = NewFile::create(&path).unwrap();
        assert!(refusal(&path).contains("users.jsonl.partial exists"));
        fs::write(&path, "made meanwhile").unwrap();
        let error = format!("{:#}", file.finish().unwrap_err());
        assert!(error.contains("users.jsonl.partial is complete"), "{error}");
        assert!(
            error.ends_with("users.jsonl: File exists (os error 17)"),
            "{error}"
        );
        assert_eq!(names(folder.path()).len(), 2, "nothing is lost");
        assert!(refusal(&path).contains("users.jsonl exists"));
        assert_eq!(fs::read(&path).unwrap(), b"made meanwhile");
        symlink("nowhere", &link).unwrap();
        assert!(refusal(&link).contains("link exists"));
    }
}
