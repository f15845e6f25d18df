//! The command line and its help.

use std::time::Duration;

use super::*;
use crate::{
    auth::UserRef,
    config::args::definition,
    model::{Email, EventId, Timestamp, UserId},
};

fn code(line: &str) -> u8 {
    Args::for_test(line).err().map_or(200, |exit| exit.code())
}

fn command(line: &str) -> Option<Command> {
    Args::for_test(line).unwrap().command
}

#[test]
fn help_lists_every_variable_and_shows_no_value() {
    for arg in definition().get_arguments() {
        let name = arg.get_id().as_str();
        assert_eq!(arg.get_env().unwrap(), name);
        assert_eq!(format!("--{}", arg.get_long().unwrap()), flag(name));
        assert!(
            arg.is_hide_env_values_set() && arg.is_global_set(),
            "{name}"
        );
    }
    let help = definition().render_long_help().to_string();
    for name in names() {
        assert!(help.contains(&format!("[env: {name}]")), "{name}");
    }
}

#[test]
fn wrong_usage_ends_with_64_and_help_with_0() {
    for line in [
        "--help",
        "--version",
        "help",
        "outbox --help",
        "users help",
        "migrate -h",
    ] {
        assert_eq!(code(line), 0, "{line}");
    }
    for line in [
        "--no-such-flag",
        "no-such-command",
        "--log",
        "outbox",
        "outbox discard",
        "outbox requeue",
        "outbox discard not-an-id",
        "users",
        "users get",
        "users get not-an-id",
        "users get ana@",
        "users suspend ana@example.com",
        "users end-sessions ana@example.com --session not-an-id",
        "users export",
        "users export x --with-hashes --user ana@example.com",
        "--log info --log info",
    ] {
        assert_eq!(code(line), 64, "{line}");
    }
}

#[test]
fn a_flag_works_before_and_after_the_subcommand() {
    for line in [
        "--log warn outbox list",
        "outbox list --log warn",
        "outbox --log warn list",
    ] {
        let args = Args::for_test(line).unwrap();
        assert_eq!(args.get("LOG"), Some("warn"), "{line}");
    }
}

#[test]
fn subcommands() {
    let id = EventId::from_bytes([0xab; 16]);
    let action = |line: &str| match command(line) {
        Some(Command::Outbox { action }) => action,
        other => panic!("{other:?}"),
    };
    assert_eq!(command(""), None);
    assert_eq!(command("serve"), Some(Command::Serve));
    assert_eq!(command("migrate"), Some(Command::Migrate));
    assert_eq!(action("outbox list"), OutboxAction::List);
    let some = OutboxAction::Requeue {
        events: vec![id, id],
        all: false,
    };
    assert_eq!(action(&format!("outbox requeue {id} {id}")), some);
    let all = OutboxAction::Requeue {
        events: vec![],
        all: true,
    };
    assert_eq!(action("outbox requeue --all"), all);
    assert_eq!(
        action(&format!("outbox discard {id}")),
        OutboxAction::Discard { events: vec![id] }
    );
    assert_eq!(code(&format!("outbox requeue --all {id}")), 64);
}

#[test]
fn commands_of_users() {
    let command = |line: &str| match command(line) {
        Some(Command::Users(users)) => users,
        other => panic!("{other:?}"),
    };
    let action = |line: &str| command(line).action;
    let id = UserId::from_bytes([0xab; 16]);
    let user = || UserRef::Id(id);
    assert_eq!(
        action(&format!("users get {id}")),
        UsersAction::Get { user: user() }
    );
    let email = UserRef::Email(Email::parse("ana@example.com").unwrap());
    assert_eq!(
        action("users get Ana@Example.com"),
        UsersAction::Get { user: email }
    );
    assert!(!command("users list").json);
    assert!(command("users list --json").json && command("users --json list").json);
    let until = |text: &str| match action(&format!("users suspend {id} --reason x --until {text}"))
    {
        UsersAction::Suspend { until, .. } => until,
        other => panic!("{other:?}"),
    };
    assert_eq!(until("7d"), Some(Until::In(Duration::from_hours(7 * 24))));
    let time = Timestamp::parse("2026-12-31T00:00:00Z").unwrap();
    assert_eq!(until("2026-12-31T01:00:00+01:00"), Some(Until::At(time)));
    let export = |file, with_hashes, user| UsersAction::Export {
        file,
        with_hashes,
        user,
    };
    assert_eq!(
        action("users export -"),
        export(File::Standard, false, None)
    );
    let path = File::Path("x".into());
    assert_eq!(
        action("users export x --with-hashes"),
        export(path.clone(), true, None)
    );
    assert_eq!(
        action(&format!("users export x --user {id}")),
        export(path, false, Some(user()))
    );
}

#[test]
fn no_error_and_no_debug_text_has_an_address() {
    for line in [
        "users get ana@@example.com",
        "users export x --user ana@@example.com",
        "users suspend ana@@example.com --reason x",
    ] {
        let error = Args::for_test(line).err().unwrap().to_string();
        assert!(error.contains("must be an e-mail address"), "{error}");
        assert!(!error.contains("ana"), "{error}");
    }
    let command = format!("{:?}", command("users get ana@example.com"));
    assert!(!command.contains("ana"), "{command}");
}
