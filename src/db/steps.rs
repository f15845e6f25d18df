//! Steps of a unit of work, written once for the connections of both pools.

/// Declares a trait with the steps. (Generic functions would need the bounds of each query for
/// each backend.)
macro_rules! steps {
    (
        trait $steps:ident;
        $(
            $(#[$doc:meta])*
            async fn $name:ident(&mut $self:ident, $($arg:ident: $type:ty),+ $(,)?) -> $result:ty $body:block
        )+
    ) => {
        pub(in crate::db) trait $steps {
            $($(#[$doc])* async fn $name(&mut self, $($arg: $type),+) -> $result;)+
        }

        impl $steps for diesel_async::AsyncPgConnection {
            $(async fn $name(&mut $self, $($arg: $type),+) -> $result $body)+
        }

        impl $steps for $crate::db::SqliteConn {
            $(async fn $name(&mut $self, $($arg: $type),+) -> $result $body)+
        }
    };
}
pub(super) use steps;
