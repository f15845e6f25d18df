//! What `check-config` finds out with the database: whether it answers, and whether `DATA_KEY` is
//! its key.

use std::{
    fs::{self, OpenOptions},
    io,
    path::Path,
};

use auth_service::{
    app::SystemClock,
    config::{Config, DATA_KEY_FILE},
    db::{self, Db, Url},
    model::{Clock as _, KeyMismatch},
    telemetry::Causes,
};
use prometheus_client::registry::Registry;

use super::super::{STEP_TIMEOUT, closing};
use super::{Finding, GENERATED, would_generate};

pub(super) struct Findings {
    pub(super) answer: Finding,
    pub(super) data_key: Finding,
}

pub(super) async fn findings(config: &Config) -> Findings {
    if let Url::Sqlite(file) = &config.database.url {
        let answer = folder(file).map(|()| new_database(config));
        if answer.is_err() || !file.exists() {
            let data_key = data_key(config, &[]);
            return Findings { answer, data_key };
        }
    }
    let db = Db::new(&config.database, STEP_TIMEOUT, &mut Registry::default());
    closing(db.clone(), findings_of(&db, config)).await
}

async fn findings_of(db: &Db, config: &Config) -> Findings {
    let answer = state_of(db).await;
    let answer = answer.unwrap_or_else(|error| Err(text(&error)));
    // A database that does not answer says nothing about the key.
    let sealed = match answer {
        Ok(_) => sealed_hashes(db).await.map_err(|error| text(&error)),
        Err(_) => Ok(Vec::new()),
    };
    let data_key = sealed.and_then(|sealed| data_key(config, &sealed));
    Findings { answer, data_key }
}

/// None before the first migration.
async fn sealed_hashes(db: &Db) -> Result<Vec<String>, db::Error> {
    if db.is_new().await? {
        return Ok(Vec::new());
    }
    db.sealed_hashes(SystemClock.now()).await
}

fn data_key(config: &Config, sealed: &[String]) -> Finding {
    let keys = &config.auth.data_keys;
    let fit = keys.check(sealed);
    if let Err(total @ KeyMismatch::Total(_)) = &fit {
        return Err(total.to_string());
    }
    if would_generate(config, DATA_KEY_FILE) {
        return Ok(GENERATED.to_owned());
    }
    let also = match (keys.all().count() - 1, fit) {
        (_, Err(partial)) => format!(", but {partial}"),
        (0, Ok(())) => String::new(),
        (previous, Ok(())) => format!(", also accepted: {previous} previous"),
    };
    Ok(format!("is set{also}"))
}

/// Whether the file of SQLite can be written. A missing folder will be made.
fn folder(file: &Path) -> Result<(), String> {
    let named = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = named.unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return Ok(());
    }
    try_to_write(folder).map_err(|error| format!("cannot write to its folder ({error})"))
}

fn text(error: &db::Error) -> String {
    Causes(error).to_string()
}

async fn state_of(db: &Db) -> Result<Finding, db::Error> {
    db.check_encoding().await?;
    let pending = db.pending_migrations().await?;
    if !db.has_rights(pending).await? {
        return Ok(Err(match pending {
            0 => "this role lacks a right on the tables".to_owned(),
            _ => format!("this role may not run the {pending} migrations that are due"),
        }));
    }
    if pending > 0 {
        return Ok(Ok(format!("answers, would run {pending} migrations")));
    }
    db.ping().await?;
    Ok(Ok("answers, is up to date".to_owned()))
}

fn new_database(config: &Config) -> String {
    let Some(embedded) = &config.embedded else {
        return "would make the file".to_owned();
    };
    let secrets = embedded.created.iter();
    let files: Vec<_> = secrets.map(|path| path.display().to_string()).collect();
    let (folder, files) = (embedded.folder.display(), files.join(" "));
    format!("not set: would make {folder}/auth.db {files}, not for production")
}

/// Writes a file, because permissions do not show a full or read-only disk.
fn try_to_write(folder: &Path) -> io::Result<()> {
    let path = folder.join(format!(".auth-service-check-{}", std::process::id()));
    let written = OpenOptions::new().write(true).create_new(true).open(&path);
    let written = written.and_then(|mut file| io::Write::write_all(&mut file, &[0; 4096]));
    // If the file could not be created, there is nothing to remove.
    let _ = fs::remove_file(&path);
    written
}
