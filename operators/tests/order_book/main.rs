//! The order book's promises, over recorded markets and over bad input: books that are the venue's, and no wrong one that
//! is not told.

mod binance;
mod damage;
mod exchange;
mod input;
mod orders;
mod run;

use std::path::Path;

/// The manual's pipeline, run as it stands.
#[test]
fn the_manuals_pipeline_runs() {
    let catalogue = catalogue::all();
    let example = catalogue.operator("order_book").expect("it is there").example;
    let tests = r#"
[[tests]]
name = "a message later than the snapshot moves the book"
[tests.given]
feed = [
  { at = "2024-08-09T00:00:00Z", symbol = "BTC", message = 1, event = "snapshot", last_u = 4, side = "bid", price = 10, size = 2 },
  { at = "2024-08-09T00:00:00Z", symbol = "BTC", message = 1, event = "snapshot", last_u = 4, side = "ask", price = 11, size = 3 },
  { at = "2024-08-09T00:00:01Z", symbol = "BTC", message = 2, event = "depthUpdate", first_u = 4, last_u = 6, side = "bid", price = 10, size = 0 },
  { at = "2024-08-09T00:00:01Z", symbol = "BTC", message = 2, event = "depthUpdate", first_u = 4, last_u = 6, side = "bid", price = 9, size = 5 },
  { at = "2024-08-09T00:00:02Z", symbol = "BTC", message = 3, event = "trade", side = "trade", price = 11, size = 1, trade_id = 5, buyer_is_maker = 0 },
]
[tests.expect]
books = [ { symbol = "BTC", healthy = true, bid_price = 9, bid_size = 5, ask_price = 11, ask_size = 3, mid = 10, spread = 2 } ]
"books.depth" = [ { side = "bid", level = 1, price = 9 }, { side = "ask", level = 1, price = 11 } ]
"books.health" = [ { state = "live", last_update = 6, applied = 1, trades = 1, gaps = 0 } ]
"books.ticks" = [
  { kind = "snapshot", bid_price_1 = 10, bid_removed = 0 },
  { kind = "depth", bid_price_1 = 9, bid_removed = 2 },
  { kind = "trade", bid_price_1 = 9, bid_removed = 0 },
]
"#;
    let text = format!("{example}{tests}");
    let plan = engine::pipeline::load(Path::new("p.toml"), &text, &|_| None, &catalogue)
        .unwrap_or_else(|problems| panic!("{problems}\n{text}"));
    let folder = tempfile::tempdir().unwrap();
    let outcomes = engine::testing::run(&plan, folder.path());
    let said: String = outcomes.iter().map(|outcome| outcome.text("p")).collect();
    assert!(outcomes.len() == 1 && outcomes.iter().all(|outcome| outcome.passed()), "{said}");
}
