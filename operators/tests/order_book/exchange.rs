//! The synthetic exchange through the whole engine: books that live, the same on any number of workers.

use std::ops::Bound::Unbounded;
use std::path::Path;

use types::{RowCodec, Value};

const PIPELINE: &str = r#"
name = "exchange"

[sources.feed]
type = "generate"
scenario = "exchange"
table = "messages"
hours = 0.05
instruments = 4

[steps.books]
operator = "order_book"
input = "feed"
format = "l2"
instrument = ["instrument"]
kind = "kind"
kinds = { snapshot = "snapshot", depth = "depth", trade = "trade" }
side = "side"
price = "price"
size = "size"
tick = 0.01
message = "message"
first_update = "first_update"
last_update = "last_update"
sequence = "binance_spot"
trade_id = "trade_id"
trade_ids = "contiguous"
buyer_is_maker = "buyer_is_maker"
levels = 10
"#;

/// The digests of all views, and the rows of `health`.
fn ended(workers: usize, epoch_rows_max: usize) -> (Vec<String>, Vec<Vec<Value>>) {
    let text = PIPELINE.to_owned() + &format!("[epoch]\nrows_max = {epoch_rows_max}\n");
    let plan = engine::pipeline::load(Path::new("p.toml"), &text, &|_| None, &catalogue::all())
        .unwrap_or_else(|problems| panic!("{problems}"));
    let relations: Vec<_> = plan.relations().into_iter().map(|r| (r.name, r.schema.clone())).collect();
    let folder = tempfile::tempdir().unwrap();
    let ended = engine::testing::to_end(plan, workers, folder.path()).unwrap();
    let store = ended.store();
    let digest = |name: &str| {
        let digest = store.digest(store.relation(name).unwrap());
        format!("{name} {} {:032x}", digest.rows, digest.sum)
    };
    let names = relations.iter().map(|(name, _)| name.as_str()).chain([engine::FAULTS]);
    let digests = names.map(digest).collect();
    let (_, schema) = relations.iter().find(|(name, _)| name == "books.health").unwrap();
    let codec = RowCodec::new(schema);
    let snapshot = store.snapshot(None).unwrap();
    let rows: Vec<(Vec<u8>, Vec<u8>)> = snapshot
        .scan(store.relation("books.health").unwrap(), Unbounded, Unbounded)
        .map(|row| row.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap())
        .collect();
    let batch = codec.decode(rows.iter().map(|(key, value)| (key.as_slice(), value.as_slice()))).unwrap();
    (digests, crate::run::cells(&batch).collect())
}

#[test]
fn books_of_an_exchange_live_on_any_number_of_workers() {
    let (digests, health) = ended(1, 10_000);
    println!("{}", digests.join("\n"));
    assert_eq!(ended(2, 700).0, digests);
    assert_eq!(health.len(), 4);
    for row in &health {
        println!("{row:?}");
        assert!(row.contains(&Value::Str("live".into())) && row.contains(&Value::Null), "{row:?}");
        // 180 seconds of 20 messages each, and the snapshot before.
        assert!(row.contains(&Value::Int(3_600)), "{row:?}");
    }
    assert!(digests.iter().any(|d| d.starts_with(&format!("{} 0 ", engine::FAULTS))), "{digests:?}");
    assert!(digests.iter().any(|d| d.starts_with("books.depth 80 ")), "{digests:?}");
}
