//! The auction as a function of tables: at every epoch, over the rows as they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::operator::{Context, TableOperator};
use types::{Column, Delta, RowCodec, Schema, Value};

use super::market::Market;
use super::options::{Auction, Side};
use super::rows::{Net, RequestRows, ResourceRows, market_text};
use super::score::{Request, Resource};
use super::views::{Changes, Views, has_duals};

/// The auction at work on one worker's markets.
pub struct Auctioneer {
    auction: Arc<Auction>,
    requests: RequestRows,
    resources: ResourceRows,
    views: Views,
    names: MarketNames,
    markets: BTreeMap<Box<[u8]>, Market>,
}

impl Auctioneer {
    /// With no rows yet.
    pub fn new(auction: Arc<Auction>) -> Auctioneer {
        Auctioneer {
            requests: RequestRows::new(&auction),
            resources: ResourceRows::new(&auction),
            views: Views::new(&auction),
            names: MarketNames::new(&auction.requests.side),
            markets: BTreeMap::new(),
            auction,
        }
    }
}

impl TableOperator for Auctioneer {
    fn step(&mut self, inputs: Vec<Vec<Delta>>, context: &mut Context) {
        let requests = by_market(self.requests.net(&inputs[0], context));
        let mut resources = by_market(self.resources.net(&inputs[1], context));
        let mut touched: BTreeMap<Box<[u8]>, (Net<Request>, Net<Resource>)> = BTreeMap::new();
        for (market, requests) in requests {
            let resources = resources.remove(&market).unwrap_or_default();
            touched.insert(market, (requests, resources));
        }
        for (market, resources) in resources {
            touched.insert(market, (Net::default(), resources));
        }
        let mut changes = Changes::default();
        for (bytes, (requests, resources)) in touched {
            let market = self
                .markets
                .entry(bytes.clone())
                .or_insert_with(|| Market::new(&self.auction, self.names.text(&bytes)));
            market.apply(requests, resources, &mut changes);
            if market.is_empty() {
                self.markets.remove(&bytes);
            }
        }
        self.views.emit(changes, context);
        if has_duals(&self.auction) {
            let (value, bound) = self.markets.values().map(Market::quality).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
            let gap = if bound > 0 { (bound - value) as f64 / bound as f64 } else { 0.0 };
            context.gauge(engine::metrics::OPTIMALITY_GAP, gap);
        }
    }
}

fn by_market<T>(net: Net<T>) -> BTreeMap<Box<[u8]>, Net<T>> {
    let mut out: BTreeMap<Box<[u8]>, Net<T>> = BTreeMap::new();
    for (market, key) in net.gone {
        out.entry(market.clone()).or_default().gone.push((market, key));
    }
    for node in net.come {
        out.entry(node.market.clone()).or_default().come.push(node);
    }
    out
}

/// From the bytes of a type to its text.
pub struct MarketNames {
    codec: Option<RowCodec>,
}

impl MarketNames {
    /// For a side: both have types of the same kinds.
    pub fn new(side: &Side) -> MarketNames {
        let columns: Vec<Column> = side.types.iter().map(|c| side.schema.columns[*c].clone()).collect();
        let key = (0..columns.len()).collect();
        let schema = Schema { columns, key, event_time: None, append_only: false };
        MarketNames { codec: (!side.types.is_empty()).then(|| RowCodec::new(&schema)) }
    }

    /// The text of a type.
    pub fn text(&self, bytes: &[u8]) -> String {
        let Some(codec) = &self.codec else { return market_text(&[]) };
        let nothing: &[u8] = &[];
        let rows = codec.decode([(bytes, nothing)]).expect("bytes of our own codec");
        let cells: Vec<Value> = rows.columns().iter().map(|c| Value::at(c, 0)).collect();
        market_text(&cells)
    }
}
