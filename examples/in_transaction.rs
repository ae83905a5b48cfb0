//! A transaction says itself what it invalidates: that commits and rolls back with the data, and needs no Redis.
//!
//! ```sh
//! cargo run --example in_transaction           # prints the statement
//! cargo run --example in_transaction -- postgres://app:password@127.0.0.1:5432/shop
//! ```
//!
//! With a database it makes a table `payments` there and runs two transactions; a relay (`unstale relay`) that watches
//! the database publishes what the first one says.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::env;

use tokio_postgres::{Client, NoTls};
use unstale::{BoxError, Cache, Instance, Settings, Statement};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let instance = Instance::start(Settings::default()).await?;
    // What an account has is the sum of its payments: no row has the account's key.
    let accounts: Cache<u64, i64> = instance.cache("accounts").build()?;
    let statement = instance.batch().key(&accounts, &42).in_transaction()?;
    match env::args().nth(1) {
        Some(url) => pay(&url, &statement).await?,
        None => println!("{statement}"),
    }
    Ok(instance.shutdown().await?)
}

async fn pay(url: &str, statement: &Statement) -> Result<(), BoxError> {
    let (mut client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    let table = "CREATE TABLE IF NOT EXISTS payments (account bigint, amount bigint)";
    client.batch_execute(table).await?;
    payment(&mut client, 10, statement, true).await?;
    println!("committed: account 42 is dropped on every instance");
    payment(&mut client, 20, statement, false).await?;
    println!("rolled back: nothing is dropped");
    Ok(())
}

async fn payment(
    client: &mut Client,
    amount: i64,
    statement: &Statement,
    commit: bool,
) -> Result<(), BoxError> {
    let transaction = client.transaction().await?;
    let insert = "INSERT INTO payments VALUES (42, $1)";
    transaction.execute(insert, &[&amount]).await?;
    transaction
        .execute(statement.sql(), &[&statement.parameter()])
        .await?;
    match commit {
        true => transaction.commit().await?,
        false => transaction.rollback().await?,
    }
    Ok(())
}
