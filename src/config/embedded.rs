//! The embedded default: with no `DATABASE_URL`, the service lives in the folder `data`.
//!
//! Looking and making are two steps. [`DataFolder`] first reads what is there and
//! remembers what is missing; only when the whole configuration is right does
//! [`DataFolder::create`] write. A secret file is never replaced.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use secrecy::ExposeSecret;

use super::{
    problem::{Problem, Problems},
    secret::{Secret, read_file},
};

/// What the embedded default works with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Embedded {
    /// The folder of the database and the secrets.
    pub folder: PathBuf,
    /// The secret files that this start made: worth a loud line in the log.
    pub created: Vec<PathBuf>,
}

/// The folder as it was found, and what is still to be written.
pub(super) struct DataFolder {
    path: PathBuf,
    missing: Vec<(PathBuf, Secret)>,
}

impl DataFolder {
    pub(super) fn new(base: &Path) -> Self {
        Self {
            path: base.join("data"),
            missing: Vec::new(),
        }
    }

    /// Where the database is.
    pub(super) fn database(&self) -> PathBuf {
        self.path.join("auth.db")
    }

    /// The key of access tokens, in the format of `JWT_SECRET`.
    pub(super) fn signing_secret(&mut self, problems: &mut Problems) -> Option<Secret> {
        let encode = |bytes| format!("base64:{}", BASE64_STANDARD.encode(bytes));
        self.secret("JWT_SECRET", "jwt-secret", encode, problems)
    }

    /// The bare token of the one internal caller.
    pub(super) fn internal_token(&mut self, problems: &mut Problems) -> Option<Secret> {
        let encode = |bytes| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        self.secret("INTERNAL_TOKENS", "internal-token", encode, problems)
    }

    /// What the file holds, or a new secret that [`Self::create`] will put there.
    fn secret(
        &mut self,
        variable: &str,
        file: &str,
        encode: impl Fn([u8; 32]) -> String,
        problems: &mut Problems,
    ) -> Option<Secret> {
        let path = self.path.join(file);
        let origin = format!("{variable}: {}", path.display());
        if !matches!(path.try_exists(), Ok(false)) {
            let found = read_file(&path).map(|text| Secret {
                origin: origin.clone(),
                text,
            });
            return found.map_err(|what| problems.add(origin, what)).ok();
        }
        let mut bytes = [0; 32];
        if getrandom::fill(&mut bytes).is_err() {
            problems.add(origin, "the operating system gave no random bytes");
            return None;
        }
        let secret = Secret {
            origin,
            text: encode(bytes).into(),
        };
        self.missing.push((path, secret.clone()));
        Some(secret)
    }

    /// What [`Self::create`] would make.
    pub(super) fn plan(self) -> Embedded {
        Embedded {
            folder: self.path,
            created: self.missing.into_iter().map(|(path, _)| path).collect(),
        }
    }

    /// Makes the folder (mode 0700) and the missing files (0600).
    pub(super) fn create(self) -> Result<Embedded, Problem> {
        let mut folder = DirBuilder::new();
        folder
            .recursive(true)
            .mode(0o700)
            .create(&self.path)
            .map_err(|error| {
                let path = self.path.display();
                let what = format!(
                    "is not set, and the folder {path} cannot be made ({})",
                    error.kind()
                );
                Problem::new("DATABASE_URL", what)
            })?;
        let mut created = Vec::new();
        for (path, secret) in self.missing {
            write_new(&path, secret.text.expose_secret()).map_err(|error| {
                Problem::new(
                    secret.origin,
                    format!("cannot make the file ({})", error.kind()),
                )
            })?;
            created.push(path);
        }
        Ok(Embedded {
            folder: self.path,
            created,
        })
    }
}

/// Fails if there is such a file already: another process may have begun to use it.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all());
    // Half a secret would stop every later start.
    written.inspect_err(|_| drop(fs::remove_file(path)))
}
