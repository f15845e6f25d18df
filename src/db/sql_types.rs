//! Our ids and times as columns: native types on Postgres (`uuid`, `timestamptz`), plain
//! storage on SQLite (16 bytes, microseconds since 1970). The domain types themselves stay free
//! of Diesel.

use std::io::Write as _;

use diesel::{
    backend::Backend,
    deserialize::{self, FromSql, FromSqlRow},
    expression::AsExpression,
    pg::{Pg, PgValue},
    serialize::{self, IsNull, Output, ToSql},
    sql_types::{BigInt, Binary, SqlType, Text},
    sqlite::{Sqlite, SqliteValue},
};

use crate::model::{
    DeviceName, EventId, Locale, MailRequestId, ReplicaId, RevocationId, SessionId, StoredHash,
    Timestamp, UserId,
};

// Fixed OIDs (PostgreSQL's pg_type.dat) save the look-up by name on every connection.

/// `uuid` or 16 bytes.
#[derive(Clone, Copy, Debug, Default, SqlType, diesel::query_builder::QueryId)]
#[diesel(postgres_type(oid = 2950, array_oid = 2951))]
#[diesel(sqlite_type(name = "Binary"))]
pub struct Uuid;

/// `timestamptz` or microseconds since 1970. (With the names that Diesel uses for times,
/// `table!` requires arithmetic, which we do not need.)
#[derive(Clone, Copy, Debug, Default, SqlType, diesel::query_builder::QueryId)]
#[diesel(postgres_type(oid = 1184, array_oid = 1185))]
#[diesel(sqlite_type(name = "Long"))]
pub struct Moment;

/// 2000-01-01: zero in the binary format of `timestamptz`.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

/// Makes columns of model types: for each database, how to write a value and how to read it.
macro_rules! columns {
    ($($type:ident $proxy:ident),+: $sql:ident;
     Pg: $self:ident => $to_pg:expr, $value:ident => $from_pg:expr;
     Sqlite: $same:ident => $to_sqlite:expr, $stored:ident => $from_sqlite:expr) => {$(
        #[derive(AsExpression, FromSqlRow)]
        #[diesel(foreign_derive, sql_type = $sql)]
        #[expect(dead_code, reason = "carries the derives for the domain type")]
        struct $proxy($type);

        impl ToSql<$sql, Pg> for $type {
            fn to_sql<'b>(&'b $self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
                out.write_all($to_pg)?;
                Ok(IsNull::No)
            }
        }

        impl ToSql<$sql, Sqlite> for $type {
            fn to_sql<'b>(&'b $same, out: &mut Output<'b, '_, Sqlite>) -> serialize::Result {
                out.set_value($to_sqlite);
                Ok(IsNull::No)
            }
        }

        impl FromSql<$sql, Pg> for $type {
            fn from_sql($value: PgValue<'_>) -> deserialize::Result<Self> {
                Ok($from_pg)
            }
        }

        impl FromSql<$sql, Sqlite> for $type {
            fn from_sql($stored: SqliteValue<'_, '_, '_>) -> deserialize::Result<Self> {
                Ok($from_sqlite)
            }
        }
    )+};
}

columns! {
    UserId UserIdProxy, SessionId SessionIdProxy, EventId EventIdProxy,
    ReplicaId ReplicaIdProxy, MailRequestId MailRequestIdProxy,
    RevocationId RevocationIdProxy: Uuid;
    Pg: self => self.as_bytes(), value => Self::from_bytes(value.as_bytes().try_into()?);
    Sqlite: self => &self.as_bytes()[..], value => {
        let bytes = <Vec<u8> as FromSql<Binary, Sqlite>>::from_sql(value)?;
        Self::from_bytes(bytes.as_slice().try_into()?)
    }
}

columns! {
    Timestamp TimestampProxy: Moment;
    Pg: self => &self.as_micros().saturating_sub(POSTGRES_EPOCH).to_be_bytes(), value => {
        let micros = <i64 as FromSql<BigInt, Pg>>::from_sql(value)?;
        Self::from_micros(micros.saturating_add(POSTGRES_EPOCH))
    };
    Sqlite: self => self.as_micros(),
        value => Self::from_micros(<i64 as FromSql<BigInt, Sqlite>>::from_sql(value)?)
}

/// Makes text columns of model types that are only written.
macro_rules! texts {
    ($($type:ident $proxy:ident),+) => {$(
        #[derive(AsExpression)]
        #[diesel(foreign_derive, sql_type = Text)]
        #[expect(dead_code, reason = "carries the derives for the domain type")]
        struct $proxy($type);

        impl<DB: Backend> ToSql<Text, DB> for $type
        where
            str: ToSql<Text, DB>,
        {
            fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, DB>) -> serialize::Result {
                self.as_str().to_sql(out)
            }
        }
    )+};
}

texts! { DeviceName DeviceNameProxy, Locale LocaleProxy, StoredHash StoredHashProxy }
