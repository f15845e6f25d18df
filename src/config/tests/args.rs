//! The command line and its help.

use super::*;
use crate::{config::args::definition, model::EventId};

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
    for line in ["--help", "--version", "help", "outbox --help", "migrate -h"] {
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
