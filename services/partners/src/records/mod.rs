//! What partners keep in PostgreSQL (the schema `partners`). Functions take a connection; what is done with the rows lives in the other rooms.

pub mod audit;
pub mod deliveries;
pub mod endpoints;
pub mod keys;
pub mod log;
pub mod overview;
pub mod partners;
pub mod schemas;

use diesel::{QueryableByName, sql_types::BigInt};

/// One whole number.
#[derive(QueryableByName)]
pub(crate) struct Number {
    #[diesel(sql_type = BigInt)]
    pub number: i64,
}
