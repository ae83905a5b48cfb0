//! The spans of the crate in OpenTelemetry: `cargo run --features test-util --example opentelemetry`.
//!
//! One instance invalidates a key that another one holds. The exporter writes to standard output; put the one of your
//! collector in its place. The last load there names the instance whose invalidation made it necessary, and the
//! sequence of the event: `unstale why` finds the same in Redis.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use unstale::{Cache, Instance, LocalBus, Outcome, Settings, testing};

async fn shop(bus: &LocalBus) -> Result<(Instance, Cache<u64, u64>), unstale::Error> {
    let instance = testing::start_on(bus, Settings::default()).await?;
    let prices = instance
        .cache::<u64, u64>("prices")
        .loader(async |product: u64| Ok(100 * product))
        .build()?;
    Ok((instance, prices))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let exporter = opentelemetry_stdout::SpanExporter::default();
    let provider = SdkTracerProvider::builder()
        .with_simple_exporter(exporter)
        .build();
    // The spans of the crate are of level DEBUG and have the target `unstale`.
    let wanted = Targets::new().with_target("unstale", tracing::Level::DEBUG);
    tracing_subscriber::registry()
        .with(
            tracing_opentelemetry::layer()
                .with_tracer(provider.tracer("shop"))
                .with_filter(wanted),
        )
        .init();

    let bus = LocalBus::default();
    let (writer, written) = shop(&bus).await?;
    let (reader, read) = shop(&bus).await?;
    read.get(&7).await?;
    written
        .write(&7, async { Ok::<_, std::io::Error>(()) })
        .await?;
    // A miss as soon as the event has arrived.
    while read.lookup(&7).await?.outcome == Outcome::Hit {
        tokio::task::yield_now().await;
    }
    println!("the writer is instance {}", writer.id());
    writer.shutdown().await?;
    reader.shutdown().await?;
    provider.shutdown()?;
    Ok(())
}
