use std::path::{Path, PathBuf};

use super::{
    Args, Problem, embedded, postgres,
    reader::Reader,
    value::number,
    variable::{secret, value, variables},
};
use crate::db::{Settings, Url};

variables! {
    "Database"

    /// sqlite://path or postgres://user:password@host:5432/name, with parameters of libpq such
    /// as ?sslmode=verify-full&sslrootcert=path
    DATABASE_URL: Url = secret("URL", url)
        .when_unset("sqlite://data/auth.db, made with its secrets in ./data");
    /// Most connections to Postgres, 1 to 1000
    DATABASE_MAX_CONNECTIONS: usize = value("COUNT", |text| number(text, 1..=1000)).default("16");
}

/// The database alone, for `migrate`. No other variable is read. Creates the folder of the
/// embedded default below `base` if there is no `DATABASE_URL`.
pub fn database(args: &Args, base: &Path) -> Result<Settings, Vec<Problem>> {
    let mut reader = Reader::new(args, base);
    let settings = read(&mut reader);
    let (settings, folder) = reader.finish(settings)?;
    embedded::create(folder)?;
    Ok(settings)
}

/// Like [`database`] for `outbox`, but creates nothing: without a database there are no events.
pub fn existing_database(args: &Args, base: &Path) -> Result<Settings, Vec<Problem>> {
    let mut reader = Reader::new(args, base);
    let settings = read_existing(&mut reader);
    reader.finish(settings).map(|(settings, _)| settings)
}

/// Like [`read`], but a database file that does not exist is a problem.
pub(super) fn read_existing(reader: &mut Reader<'_>) -> Option<Settings> {
    let settings = read(reader);
    if let Some(Url::Sqlite(file)) = settings.as_ref().map(|settings| &settings.url)
        && matches!(file.try_exists(), Ok(false))
    {
        let what = if reader.is_embedded() {
            "is not set, and there is no data/auth.db here"
        } else {
            "names a file that does not exist"
        };
        reader.problem(DATABASE_URL.name(), what);
    }
    settings
}

pub(super) fn read(reader: &mut Reader<'_>) -> Option<Settings> {
    let url = match reader.embedded_database() {
        Some(file) => Some(Url::Sqlite(file)),
        None => reader.optional(&DATABASE_URL),
    };
    Some(Settings {
        max_connections: reader.value(&DATABASE_MAX_CONNECTIONS),
        url: url?,
        batch_refreshes: true,
    })
}

fn url(text: &str) -> Result<Url, String> {
    match text.split_once("://") {
        Some(("sqlite", path)) => sqlite_path(path).map(Url::Sqlite),
        Some(("postgres" | "postgresql", _)) => Ok(Url::Postgres(Box::new(postgres::parse(text)?))),
        _ => Err("must begin with sqlite:// or postgres://".into()),
    }
}

fn sqlite_path(path: &str) -> Result<PathBuf, String> {
    // SQLite would not take these as the name of a file.
    if path.is_empty() || path.contains('?') || path.starts_with(':') || path.starts_with("file:") {
        return Err("must be sqlite:// and the path of a file, without parameters".into());
    }
    let path = PathBuf::from(path);
    let folder = path.parent();
    let folder = folder.filter(|folder| !folder.as_os_str().is_empty());
    if path.is_dir() {
        return Err("names a folder, not a file".into());
    }
    if folder.is_some_and(|folder| !folder.is_dir()) {
        return Err("names a file in a folder that does not exist: make the folder first".into());
    }
    Ok(path)
}
