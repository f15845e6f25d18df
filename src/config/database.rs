//! Which database: all that `migrate` and `outbox` need to know.

use std::path::{Path, PathBuf};

use super::{
    Problem,
    args::Args,
    embedded::{DataFolder, Embedded},
    postgres,
    problem::Problems,
    secret::Secret,
    value::number,
};
use crate::db::{Settings, Url};

/// The database alone, for `migrate`: other variables are not looked at. Makes the
/// embedded default's folder below `base` when there is no `DATABASE_URL`.
pub fn database(args: &Args, base: &Path) -> Result<Settings, Vec<Problem>> {
    let mut problems = Problems::default();
    let mut folder = None;
    let config = read(args, base, &mut folder, &mut problems);
    let config = problems.finish(config)?;
    create(folder)?;
    Ok(config)
}

/// The same for `outbox`, which makes nothing: where there is no database, no event is.
pub fn existing_database(args: &Args, base: &Path) -> Result<Settings, Vec<Problem>> {
    let mut problems = Problems::default();
    let mut folder = None;
    let config = read(args, base, &mut folder, &mut problems);
    if let Some(Url::Sqlite(file)) = config.as_ref().map(|config| &config.url)
        && matches!(file.try_exists(), Ok(false))
    {
        let what = match folder {
            Some(_) => "is not set, and there is no data/auth.db here",
            None => "names a file that does not exist",
        };
        problems.add("DATABASE_URL", what);
    }
    problems.finish(config)
}

/// Also puts the embedded default's `folder` where the caller finds it, if it is used.
pub(super) fn read(
    args: &Args,
    base: &Path,
    folder: &mut Option<DataFolder>,
    problems: &mut Problems,
) -> Option<Settings> {
    let max = args.database_max_connections.as_deref();
    let max = problems.parse("DATABASE_MAX_CONNECTIONS", max, number(1..=1000));
    let (url, file) = (
        args.database_url.as_deref(),
        args.database_url_file.as_deref(),
    );
    let url = if url.is_none() && file.is_none() {
        let data = folder.insert(DataFolder::new(base));
        Url::Sqlite(data.database())
    } else {
        Secret::read("DATABASE_URL", url, file, problems)?.parse(problems, database_url)?
    };
    Some(Settings {
        url,
        max_connections: max.unwrap_or(16),
        batch_refreshes: true,
    })
}

/// Makes the embedded default's folder, if it is used.
pub(super) fn create(folder: Option<DataFolder>) -> Result<Option<Embedded>, Vec<Problem>> {
    folder
        .map(DataFolder::create)
        .transpose()
        .map_err(|problem| vec![problem])
}

fn database_url(url: &str) -> Result<Url, String> {
    match url.split_once("://") {
        Some(("sqlite", path)) => sqlite_path(path).map(Url::Sqlite),
        Some(("postgres" | "postgresql", _)) => {
            postgres::parse(url).map(|config| Url::Postgres(Box::new(config)))
        }
        _ => Err("must begin with sqlite:// or postgres://".into()),
    }
}

fn sqlite_path(path: &str) -> Result<PathBuf, String> {
    // SQLite would take these for something else than a file's name.
    if path.is_empty() || path.contains('?') || path.starts_with(':') || path.starts_with("file:") {
        return Err("must be sqlite:// and the path of a file, without parameters".into());
    }
    let path = PathBuf::from(path);
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    if path.is_dir() {
        return Err("names a folder, not a file".into());
    }
    if folder.is_some_and(|folder| !folder.is_dir()) {
        return Err("names a file in a folder that does not exist: make the folder first".into());
    }
    Ok(path)
}
