//! `users export`: all accounts as lines that `users import` reads, or the data of one user.

mod event;
mod person;

use std::io::{self, BufWriter, Write};

use anyhow::{Context as _, bail};
use auth_service::{
    auth::{ExportedUser, Hashes, PageRequest, UserRef},
    config::File,
    telemetry::audit::Event,
};
use serde::Serialize;
use serde_json::json;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use self::person::Person;
use super::{
    Operator, PAGE, Usage,
    json::{Time, printable},
    new_file::NewFile,
};
use crate::command::note;

/// Where an export goes.
enum Sink {
    File(NewFile),
    Output(BufWriter<io::Stdout>),
}

/// The number of accounts that were written.
#[derive(Default)]
struct Exported {
    accounts: u64,
    suspended: u64,
}

/// A line of the file.
#[derive(Serialize)]
struct Line<'a> {
    user_id: String,
    email: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    password_hash: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email_verified_at: Option<Time>,
    created_at: Time,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    roles: Vec<&'a str>,
}

/// Hashes on a terminal or in a pipe would be read by more people and programs than their owner.
pub(super) fn check(file: &File, with_hashes: bool) -> Result<(), Usage> {
    if with_hashes && *file == File::Standard {
        let what = "--with-hashes writes into a file only: name one instead of -";
        return Err(Usage(what.to_owned()));
    }
    Ok(())
}

impl Operator {
    pub(super) async fn export(&self, file: &File, with_hashes: bool) -> anyhow::Result<()> {
        let hashes = if with_hashes {
            Hashes::Opened
        } else {
            Hashes::LeftOut
        };
        let mut sink = Sink::open(file)?;
        if with_hashes {
            note(WARNING);
        }
        self.admin.begin_export(hashes, &self.call(None));
        let exported = self.write_pages(&mut sink, hashes).await?;
        let is_file = matches!(sink, Sink::File(_));
        sink.finish().await?;
        self.report(&exported, is_file)
    }

    pub(super) async fn export_person(&self, file: &File, user: &UserRef) -> anyhow::Result<()> {
        let (call, id) = self.begin(user, Event::ExportUsers).await?;
        let mut sink = Sink::open(file)?;
        let data = self.admin.personal_data(id, &call).await?;
        let person = Person::new(&data, self.admin.clock.now())
            .context("an event that waits cannot be read")?;
        let mut document = printable(serde_json::to_string_pretty(&person)?);
        document.push('\n');
        sink.write(document.as_bytes())?;
        let is_file = matches!(sink, Sink::File(_));
        sink.finish().await?;
        if is_file {
            self.output.done(id, "is exported")?;
        }
        Ok(())
    }

    async fn write_pages(&self, sink: &mut Sink, hashes: Hashes) -> anyhow::Result<Exported> {
        let (mut exported, mut after, size) = (Exported::default(), None, PAGE);
        loop {
            let page = PageRequest { after, size };
            let page = self.admin.export_page(page, hashes).await?;
            let now = self.admin.clock.now();
            for exportable in &page.users {
                sink.write(line(exportable)?.as_bytes())?;
                exported.accounts += 1;
                let suspension = exportable.user.suspension_in_force(now);
                exported.suspended += u64::from(suspension.is_some());
            }
            if !page.has_next {
                return Ok(exported);
            }
            after = page.users.last().map(|last| last.user.id);
        }
    }

    /// The summary must not get between the lines.
    fn report(&self, exported: &Exported, is_file: bool) -> anyhow::Result<()> {
        let Exported {
            accounts,
            suspended,
        } = exported;
        let hint = match suspended {
            0 => "",
            _ => SUSPENDED,
        };
        let text = format!("exported accounts: {accounts}, suspended: {suspended}{hint}\n");
        if !is_file {
            note(text.trim_end());
            return Ok(());
        }
        let object = json!({ "exported": accounts, "suspended": suspended });
        self.output.object(&object, || text)
    }
}

const SUSPENDED: &str = ", which the file does not say. They are active after an import. To suspend \
    them again: auth-service users list --json | jq 'select(.suspension)'";

const WARNING: &str = "\
WARNING: this file will hold the password hashes of all accounts, without the seal of DATA_KEY.
Who has it can guess passwords without any limit. Keep it on an encrypted disk, and delete it as
soon as it is imported.";

fn line(exported: &ExportedUser) -> serde_json::Result<String> {
    let user = &exported.user;
    let line = Line {
        user_id: user.id.to_string(),
        email: &user.email,
        password_hash: exported.password_hash.as_ref().map(|hash| hash.as_str()),
        email_verified_at: user.email_verified_at.map(Time),
        created_at: Time(user.created_at),
        roles: user.roles.iter().collect(),
    };
    let mut line = printable(serde_json::to_string(&line)?);
    line.push('\n');
    Ok(line)
}

/// Ends `export` in order when `stop` is cancelled: the file that it has begun is removed, unless
/// it is complete and on its way to the disk.
pub(super) async fn until_stopped(
    export: impl Future<Output = anyhow::Result<()>>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    match stop.run_until_cancelled(export).await {
        Some(done) => done,
        None => bail!(
            "ended before the command was done: a file of this name, or with .partial after it, \
             may be there"
        ),
    }
}

impl Sink {
    fn open(file: &File) -> anyhow::Result<Self> {
        Ok(match file {
            File::Standard => Self::Output(BufWriter::new(io::stdout())),
            File::Path(path) => Self::File(NewFile::create(path)?),
        })
    }

    fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        match self {
            Self::File(file) => file.write(bytes),
            Self::Output(output) => output.write_all(bytes).context(OUTPUT),
        }
    }

    async fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::File(file) => spawn_blocking(|| file.finish()).await?,
            Self::Output(mut output) => output.flush().context(OUTPUT),
        }
    }
}

const OUTPUT: &str = "cannot write to the standard output";
