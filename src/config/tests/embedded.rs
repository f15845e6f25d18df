//! The embedded default: what it writes, when, and with which rights.

use super::*;
use crate::db::Url;

#[test]
fn the_embedded_default_makes_its_secrets_once_and_reads_them_again() {
    let base = TempDir::new().unwrap();
    let data = base.path().join("data");
    let names = ["jwt-secret", "data-key", "internal-token"];
    let [key, data_key, token] = names.map(|name| data.join(name));

    let first = load_at(base.path(), "").unwrap();
    let embedded = Embedded {
        folder: data.clone(),
        created: vec![key.clone(), data_key.clone(), token.clone()],
    };
    assert_eq!(first.embedded, Some(embedded));
    assert!(matches!(first.database.url, Url::Sqlite(ref path) if *path == data.join("auth.db")));
    assert_eq!(
        [&data, &key, &data_key, &token].map(|path| mode(path)),
        [0o700, 0o600, 0o600, 0o600]
    );
    assert_eq!(first.auth.secrets.current.expose_secret().len(), 32);
    assert_eq!(
        first.internal_callers.names().collect::<Vec<_>>(),
        ["local"]
    );
    assert_eq!(fs::read(&token).unwrap().len(), 43);

    let second = load_at(base.path(), "").unwrap();
    assert_eq!(
        second.embedded.as_ref().unwrap().created,
        Vec::<std::path::PathBuf>::new()
    );
    assert_eq!(second.internal_callers, first.internal_callers);
    let [old, new] = [first, second].map(|config| config.auth.secrets.current);
    assert_eq!(old.expose_secret(), new.expose_secret());
}

#[test]
fn the_embedded_default_generates_only_what_is_not_set() {
    let base = TempDir::new().unwrap();
    let config = load_at(base.path(), &format!("--jwt-secret {KEY}")).unwrap();
    assert_eq!(config.auth.secrets.current.expose_secret(), KEY.as_bytes());
    assert_eq!(
        config.embedded.unwrap().created,
        ["data/data-key", "data/internal-token"].map(|name| base.path().join(name))
    );
}

#[test]
fn the_embedded_default_writes_nothing_while_there_is_a_problem() {
    let base = TempDir::new().unwrap();
    assert_eq!(lines(load_at(base.path(), "--bcrypt-cost 1")).len(), 1);
    assert!(!base.path().join("data").exists());
}

#[test]
fn a_damaged_secret_of_the_embedded_default_is_a_problem_and_is_kept() {
    let base = TempDir::new().unwrap();
    let data = base.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("jwt-secret"), "short").unwrap();
    fs::create_dir(data.join("internal-token")).unwrap();
    let found = lines(load_at(base.path(), ""));
    let expected = [
        format!(
            "JWT_SECRET: {}: must have at least 32 bytes",
            data.join("jwt-secret").display()
        ),
        format!(
            "INTERNAL_TOKENS: {}: cannot read the file (is a directory)",
            data.join("internal-token").display()
        ),
    ];
    assert_eq!(found, expected);
    assert_eq!(fs::read(data.join("jwt-secret")).unwrap(), b"short");
}

#[test]
fn a_folder_that_cannot_be_made_is_a_problem() {
    let base = TempDir::new().unwrap();
    let blocked = file(&base, "file", "");
    let found = lines(load_at(
        Path::new(&blocked),
        &format!("--jwt-secret {KEY} --data-key {DATA_KEY} --internal-tokens a:{OTHER_KEY}"),
    ));
    assert_eq!(
        found,
        [format!(
            "DATABASE_URL: is not set, and the folder {blocked}/data cannot be made (not a directory)"
        )]
    );
}
