//! The embedded default: without a `DATABASE_URL`, the service keeps its data in the folder
//! `data`.
//!
//! Reading and writing are two steps. [`DataFolder`] first reads the files and notes which
//! are missing. [`DataFolder::create`] writes them once the whole configuration is right. A
//! secret file is never replaced.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use secrecy::{ExposeSecret as _, SecretString};

use super::{Problem, value::secret_file};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Embedded {
    /// The folder of the database and the secrets.
    pub folder: PathBuf,
    /// The secret files that this start created.
    pub created: Vec<PathBuf>,
}

impl Embedded {
    /// The file in the folder, if this start created it.
    pub fn created(&self, file: &str) -> Option<&Path> {
        let mut created = self.created.iter();
        created
            .find(|path| path.ends_with(file))
            .map(PathBuf::as_path)
    }

    /// Removes the file of a secret that this start created. Nothing may have used the secret:
    /// the file would look like the one that belongs to the database.
    pub fn remove_created(&self, file: &str) -> Option<&Path> {
        let path = self.created(file)?;
        // If it stays, the next start is refused like this one.
        let _ = fs::remove_file(path);
        Some(path)
    }
}

/// The text of a secret, and the variable and file that it came from.
#[derive(Clone)]
pub(super) struct Secret {
    pub(super) origin: String,
    pub(super) text: SecretString,
}

/// The folder, and the secrets that are still to be written.
pub(super) struct DataFolder {
    path: PathBuf,
    missing: Vec<(PathBuf, Secret)>,
}

impl DataFolder {
    pub(super) fn new(base: &Path) -> Self {
        let (path, missing) = (base.join("data"), Vec::new());
        Self { path, missing }
    }

    pub(super) fn database(&self) -> PathBuf {
        self.path.join("auth.db")
    }

    /// The content of `file`, or a new secret that [`Self::create`] will put there.
    /// `variable` would replace the secret.
    pub(super) fn secret(
        &mut self,
        variable: &str,
        file: &str,
        encode: fn([u8; 32]) -> String,
    ) -> Result<Secret, Problem> {
        let path = self.path.join(file);
        let origin = format!("{variable}: {}", path.display());
        if !matches!(path.try_exists(), Ok(false)) {
            return match secret_file(&path) {
                Ok(text) => Ok(Secret { origin, text }),
                Err(what) => Err(Problem::new(origin, what)),
            };
        }
        let mut bytes = [0; 32];
        if getrandom::fill(&mut bytes).is_err() {
            let what = "the operating system gave no random bytes";
            return Err(Problem::new(origin, what));
        }
        let text = encode(bytes).into();
        let secret = Secret { origin, text };
        self.missing.push((path, secret.clone()));
        Ok(secret)
    }

    /// Whether [`Self::create`] has a secret to write.
    pub(super) fn lacks_secrets(&self) -> bool {
        !self.missing.is_empty()
    }

    pub(super) fn plan(self) -> Embedded {
        let created = self.missing.into_iter().map(|(path, _)| path).collect();
        let folder = self.path;
        Embedded { folder, created }
    }

    /// Creates the folder (mode 0700) and the missing files (0600).
    pub(super) fn create(self) -> Result<Embedded, Problem> {
        let mut folder = DirBuilder::new();
        let folder = folder.recursive(true).mode(0o700).create(&self.path);
        folder.map_err(|error| {
            let (path, kind) = (self.path.display(), error.kind());
            let what = format!("is not set, and the folder {path} cannot be made ({kind})");
            Problem::new("DATABASE_URL", what)
        })?;
        let mut created = Vec::new();
        for (path, secret) in self.missing {
            write_new(&path, secret.text.expose_secret()).map_err(|error| {
                let what = format!("cannot make the file ({})", error.kind());
                Problem::new(secret.origin, what)
            })?;
            created.push(path);
        }
        let folder = self.path;
        Ok(Embedded { folder, created })
    }
}

pub(super) fn create(folder: Option<DataFolder>) -> Result<Option<Embedded>, Vec<Problem>> {
    let embedded = folder.map(DataFolder::create).transpose();
    embedded.map_err(|problem| vec![problem])
}

/// Fails if the file exists: another process may have begun to use it.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let written = file.write_all(text.as_bytes());
    let written = written.and_then(|()| file.sync_all());
    // Half a secret would make every later start fail.
    written.inspect_err(|_| drop(fs::remove_file(path)))
}
