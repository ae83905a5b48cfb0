//! Keys of any shape: what they are looked up by, and that none is taken for another.

use unstale::{Cache, Loaded, Outcome};

use crate::support::nodes::alone;

type Invoice = (String, u64);

async fn invoices() -> Cache<Invoice, String> {
    let (_bus, instance) = alone().await;
    let cache = instance.cache::<Invoice, String>("invoices");
    let cache = cache.loader(|(tenant, id)| async move { Ok(format!("{tenant}/{id}")) });
    cache.build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_composite_key_is_read_by_references() {
    let invoices = invoices().await;
    let (tenant, id) = (String::from("acme"), 7);
    let found = Some("acme/7".to_owned());
    assert_eq!(invoices.get(&(tenant.as_str(), id)).await.unwrap(), found);
    assert_eq!(invoices.peek(&(tenant.as_str(), id)), found);
    assert_eq!(invoices.peek(&("acme", 7)), found);
    assert_eq!(invoices.peek(&(&tenant, id)), found);
    assert_eq!(invoices.peek(&(tenant.as_str(), &id)), found);
    assert_eq!(invoices.peek(&(tenant.clone(), id)), found);
    let hit = invoices.lookup(&(&*tenant, id)).await.unwrap();
    assert_eq!(hit.outcome, Outcome::Hit, "all of them are one entry");
    let own = async { Ok("unused".to_owned()) };
    assert_eq!(invoices.get_with(&("acme", 7), own).await.unwrap(), found);
}

#[tokio::test(start_paused = true)]
async fn a_composite_key_is_written_and_invalidated_by_references() {
    let (_bus, instance) = alone().await;
    let invoices = instance
        .cache::<Invoice, u64>("invoices")
        .loader(|(_, id)| async move { Ok(id) })
        .build()
        .unwrap();
    let held = async |tenant: &str| {
        invoices.get(&(tenant, 1)).await.unwrap();
        assert!(invoices.peek(&(tenant, 1)).is_some());
    };
    let gone = |tenant: &str| assert_eq!(invoices.peek(&(tenant, 1)), None, "{tenant}");

    held("other").await;
    held("acme").await;
    invoices.invalidate(&("acme", 1)).await.unwrap();
    gone("acme");
    held("acme").await;
    invoices
        .invalidate_many([("acme", 1), ("unknown", 2)])
        .await
        .unwrap();
    gone("acme");
    held("acme").await;
    let commit = async { Ok::<_, std::io::Error>(()) };
    invoices.write(&("acme", 1), commit).await.unwrap();
    gone("acme");
    held("acme").await;
    let batch = instance.batch().key(&invoices, &("acme", 1));
    batch.invalidate().await.unwrap();
    gone("acme");
    assert!(
        invoices.peek(&("other", 1)).is_some(),
        "no other is dropped"
    );
}

#[tokio::test(start_paused = true)]
async fn a_key_is_looked_up_by_a_literal_and_by_a_reference() {
    let (_bus, instance) = alone().await;
    let rows = instance.cache::<u64, u64>("rows");
    let rows = rows.loader(|id| async move { Ok(id) }).build().unwrap();
    assert_eq!(rows.get(&7).await.unwrap(), Some(7));
    let id = &7;
    assert_eq!(rows.peek(&id), Some(7));
    let pairs = instance.cache::<(u64, i8), i8>("pairs");
    let pairs = pairs.loader(|(_, n)| async move { Ok(n) }).build().unwrap();
    assert_eq!(pairs.get(&(7, -1)).await.unwrap(), Some(-1));
    let names = instance.cache::<String, usize>("names");
    let names = names.loader(|name| async move { Ok(name.len()) });
    let names = names.build().unwrap();
    assert_eq!(names.get("four").await.unwrap(), Some(4));
    let words = ["four", "seven"];
    for word in &words {
        assert_eq!(names.get(word).await.unwrap(), Some(word.len()));
    }
    let bytes = instance.cache::<Vec<u8>, usize>("bytes");
    let bytes = bytes.loader(|key| async move { Ok(key.len()) });
    let bytes = bytes.build().unwrap();
    assert_eq!(bytes.get(b"abc").await.unwrap(), Some(3));
    assert_eq!(bytes.peek(&b"abc"[..]), Some(3));
}

#[tokio::test(start_paused = true)]
async fn no_key_and_an_empty_one_are_two_entries() {
    let (_bus, instance) = alone().await;
    let of = instance
        .cache::<Option<String>, String>("of")
        .loader(|key| async move { Ok(Loaded::new(format!("{key:?}"))) })
        .build()
        .unwrap();
    for key in [None, Some(""), Some("0"), Some("1")] {
        let key = key.map(str::to_owned);
        let value = of.get(&key).await.unwrap();
        assert_eq!(value, Some(format!("{key:?}")));
    }
    assert_eq!(of.stats().entries, 4);
    of.invalidate(&None).await.unwrap();
    assert_eq!(of.peek(&None), None);
    assert!(of.peek(&Some(String::new())).is_some());
}
