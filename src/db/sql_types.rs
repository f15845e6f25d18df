//! Our ids and times as columns: native types on Postgres (`uuid`, `timestamptz`), plain
//! storage on SQLite (16 bytes, microseconds since 1970). The domain types themselves
//! stay free of Diesel.

use std::io::Write as _;

use diesel::{
    deserialize::{self, FromSql, FromSqlRow},
    expression::AsExpression,
    pg::{Pg, PgValue},
    serialize::{self, IsNull, Output, ToSql},
    sql_types::{BigInt, Binary, SqlType},
    sqlite::{Sqlite, SqliteValue},
};

use crate::model::{EventId, ReplicaId, SessionId, Timestamp, UserId};

// Fixed OIDs (PostgreSQL's pg_type.dat) save the look-up by name on every connection.

/// `uuid` or 16 bytes.
#[derive(Clone, Copy, Debug, Default, SqlType, diesel::query_builder::QueryId)]
#[diesel(
    postgres_type(oid = 2950, array_oid = 2951),
    sqlite_type(name = "Binary")
)]
pub struct Uuid;

/// `timestamptz` or microseconds since 1970. (With the names that Diesel uses for times, `table!`
/// requires arithmetic, which we do not need.)
#[derive(Clone, Copy, Debug, Default, SqlType, diesel::query_builder::QueryId)]
#[diesel(
    postgres_type(oid = 1184, array_oid = 1185),
    sqlite_type(name = "Long")
)]
pub struct Moment;

macro_rules! uuid_column {
    ($($id:ident $proxy:ident),+) => {$(
        #[derive(AsExpression, FromSqlRow)]
        #[diesel(foreign_derive, sql_type = Uuid)]
        #[expect(dead_code, reason = "carries the derives for the domain type")]
        struct $proxy($id);

        impl ToSql<Uuid, Pg> for $id {
            fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
                out.write_all(self.as_bytes())?;
                Ok(IsNull::No)
            }
        }

        impl ToSql<Uuid, Sqlite> for $id {
            fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Sqlite>) -> serialize::Result {
                out.set_value(&self.as_bytes()[..]);
                Ok(IsNull::No)
            }
        }

        impl FromSql<Uuid, Pg> for $id {
            fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
                Ok(Self::from_bytes(value.as_bytes().try_into()?))
            }
        }

        impl FromSql<Uuid, Sqlite> for $id {
            fn from_sql(value: SqliteValue<'_, '_, '_>) -> deserialize::Result<Self> {
                let bytes = <Vec<u8> as FromSql<Binary, Sqlite>>::from_sql(value)?;
                Ok(Self::from_bytes(bytes.as_slice().try_into()?))
            }
        }
    )+};
}

uuid_column!(
    UserId UserIdProxy,
    SessionId SessionIdProxy,
    EventId EventIdProxy,
    ReplicaId ReplicaIdProxy
);

#[derive(AsExpression, FromSqlRow)]
#[diesel(foreign_derive, sql_type = Moment)]
#[expect(dead_code, reason = "carries the derives for the domain type")]
struct TimestampProxy(Timestamp);

/// 2000-01-01: zero in the binary format of `timestamptz`.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

impl ToSql<Moment, Pg> for Timestamp {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        let micros = self.as_micros().saturating_sub(POSTGRES_EPOCH);
        out.write_all(&micros.to_be_bytes())?;
        Ok(IsNull::No)
    }
}

impl FromSql<Moment, Pg> for Timestamp {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        let micros = <i64 as FromSql<BigInt, Pg>>::from_sql(value)?;
        Ok(Self::from_micros(micros.saturating_add(POSTGRES_EPOCH)))
    }
}

impl ToSql<Moment, Sqlite> for Timestamp {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Sqlite>) -> serialize::Result {
        out.set_value(self.as_micros());
        Ok(IsNull::No)
    }
}

impl FromSql<Moment, Sqlite> for Timestamp {
    fn from_sql(value: SqliteValue<'_, '_, '_>) -> deserialize::Result<Self> {
        let micros = <i64 as FromSql<BigInt, Sqlite>>::from_sql(value)?;
        Ok(Self::from_micros(micros))
    }
}
