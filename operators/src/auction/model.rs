//! The auction as the obvious function: every pair listed and sorted, every sum added up anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::catalogue::{Model, Row};
use types::{RowCodec, Value};

use super::book::{Book, NONE, Position, Stage};
use super::clusters;
use super::mechanism::base_price;
use super::optimal::{self, Edge, Instance};
use super::options::{Auction, Mechanism, Payments, Side};
use super::payment::smallest_bid_above;
use super::rows::{Node, RequestRows, ResourceRows};
use super::score::{Request, Resource, float_score};
use super::tables::MarketNames;
use super::totals::{Beside, Totals};
use super::views::{Allocation, Outcome, Reason, Shown, has_duals, key_codec, utilisation};
use crate::assignment::model::{Problem, solve, value};

/// The model of an auction over tables.
pub fn of(auction: &Arc<Auction>) -> Model {
    let auction = auction.clone();
    Arc::new(move |inputs: &[Vec<Row>]| {
        let batch = |side: &Side, rows: &[Row]| RowCodec::new(&side.schema).batch(rows);
        let requests = RequestRows::new(&auction).parse(&batch(&auction.requests.side, &inputs[0]));
        let resources = ResourceRows::new(&auction).parse(&batch(&auction.resources.side, &inputs[1]));
        let mut markets: BTreeMap<Box<[u8]>, (Vec<Node<Request>>, Vec<Node<Resource>>)> = BTreeMap::new();
        for node in requests.into_iter().flatten() {
            markets.entry(node.market.clone()).or_default().0.push(node);
        }
        for node in resources.into_iter().flatten() {
            markets.entry(node.market.clone()).or_default().1.push(node);
        }
        let names = MarketNames::new(&auction.requests.side);
        let mut out = vec![Vec::new(); super::views::outputs(&auction).len()];
        for (bytes, (mut requests, mut resources)) in markets {
            requests.sort_by(|a, b| a.key.cmp(&b.key));
            resources.sort_by(|a, b| a.key.cmp(&b.key));
            let mut book = Book::new(auction.form);
            for node in requests {
                book.set_request(&node.key, node.node);
            }
            for node in resources {
                book.set_resource(&node.key, node.node);
            }
            hold(&auction, &mut book, &names.text(&bytes), &mut out);
        }
        out
    })
}

/// Holds the auction of one market. Slots are in the order of keys.
fn hold(auction: &Auction, book: &mut Book, name: &str, out: &mut [Vec<Row>]) {
    let base: Vec<f64> = resources(book).map(|j| base_price(auction, book.resource(j).expect("it is there"))).collect();
    if let Some(count) = auction.clusters {
        for (resource, cluster) in clusters::of_resources(book, count) {
            book.set_cluster_of_resource(resource, cluster);
        }
        let homes = clusters::Homes::new(book, &|resource| base_price(auction, resource));
        for request in requests(book) {
            let home = homes.of(book, request);
            book.set_cluster_of_request(request, home);
        }
    }
    let clustered = auction.clusters.is_some();
    let (at, prices) = allocate(auction, book, &base, clustered);
    let unclustered = clustered.then(|| allocate(auction, book, &base, false).0);
    let shown: Vec<Option<Shown>> = requests(book)
        .map(|i| {
            let requester = book.request(i).expect("it is there").requester.clone();
            let outcome = match at[i as usize] {
                NONE => Outcome::Rejected(reason(auction, book, &prices, i)),
                j => Outcome::Allocated(allocation(auction, book, &base, &prices, i, j)),
            };
            Some(Shown { requester, outcome })
        })
        .collect();
    let value_unclustered = unclustered.as_ref().map(|at| value_of(book, at));
    let proof = has_duals(auction).then(|| prove(auction, book, &base));
    tell(auction, book, name, &shown, &prices, proof, value_unclustered, out);
}

/// The sum of the scores of an allocation.
fn value_of(book: &Book, at: &[u32]) -> i128 {
    requests(book).filter(|i| at[*i as usize] != NONE).map(|i| i128::from(book.score(i, at[i as usize]))).sum()
}

/// The rows of all views of one market.
#[allow(clippy::too_many_arguments, reason = "all that is known of a market")]
pub(super) fn tell(
    auction: &Auction,
    book: &Book,
    name: &str,
    shown: &[Option<Shown>],
    prices: &[f64],
    proof: Option<(Vec<i64>, Vec<i128>)>,
    value_unclustered: Option<i128>,
    out: &mut [Vec<Row>],
) {
    let clustered = auction.clusters.is_some();
    let at: Vec<u32> = shown
        .iter()
        .map(|shown| match &shown.as_ref().expect("everybody is shown").outcome {
            Outcome::Allocated(a) => a.resource,
            Outcome::Rejected(_) => NONE,
        })
        .collect();
    let mut totals = Totals::default();
    let keys = [key_codec(&auction.requests.side), key_codec(&auction.resources.side)];
    let cells = |side: usize, key: &[u8]| -> Row {
        let nothing: &[u8] = &[];
        let rows = keys[side].decode([(key, nothing)]).expect("our own bytes");
        rows.columns().iter().map(|c| Value::at(c, 0)).collect()
    };
    let float = |score: i64| Value::Float(float_score(score.into()));
    for i in requests(book) {
        let shown = shown[i as usize].as_ref().expect("everybody is shown");
        totals.count(shown, 1);
        let mut row = cells(0, book.requests.key(i));
        match &shown.outcome {
            Outcome::Rejected(reason) => {
                row.push(Value::Str(reason.name().to_owned()));
                out[1].push(row);
            }
            Outcome::Allocated(a) => {
                let mut paid = row.clone();
                row.extend(cells(1, book.resources.key(a.resource)));
                row.extend([float(a.score), Value::Float(a.demand), Value::Float(a.payment)]);
                out[0].push(row);
                paid.extend([a.budget, a.asked, a.payment, a.budget - a.payment].map(Value::Float));
                paid.push(a.externality.map_or(Value::Null, float));
                out[3].push(paid);
            }
        }
    }
    for j in resources(book) {
        let guests: Vec<u32> = requests(book).filter(|i| at[*i as usize] == j).collect();
        let used: i64 = guests.iter().map(|i| book.take(*i)).sum();
        let room = book.room(j);
        totals.count_resource(room, !guests.is_empty(), 1);
        let mut row = cells(1, book.resources.key(j));
        row.extend([
            Value::Float(prices[j as usize]),
            Value::Int(guests.len() as i64),
            Value::Float(auction.scale.float(used.into())),
            Value::Float(auction.scale.float(room.into())),
            Value::Float(utilisation(used, room)),
            if clustered { Value::Int(book.cluster_of_resource(j).into()) } else { Value::Null },
            proof.as_ref().map_or(Value::Null, |p| Value::Float(float_score(p.1[j as usize]))),
        ]);
        out[2].push(row);
    }
    let pairs = requests(book).flat_map(|i| resources(book).map(move |j| (i, j)));
    let beside = Beside {
        feasible_pairs: pairs.filter(|(i, j)| book.stage(*i, *j, prices[*j as usize]) == Stage::Feasible).count()
            as u64,
        bound: proof.as_ref().map(|(u, k)| u.iter().map(|u| i128::from(*u)).sum::<i128>() + k.iter().sum::<i128>()),
        value_unclustered,
    };
    if let Some(bound) = beside.bound {
        assert!(bound >= value_of(book, &at), "a bound is no bound");
    }
    out[4].push(totals.row(name, auction.scale, &beside));
    let mut next = 5;
    if clustered {
        out[next].extend(clusters::rows(book, shown, name, auction.scale));
        next += 1;
    }
    if let Some((duals, _)) = proof {
        for i in requests(book) {
            let mut row = cells(0, book.requests.key(i));
            row.push(float(duals[i as usize]));
            out[next].push(row);
        }
    }
}

fn requests(book: &Book) -> impl Iterator<Item = u32> + use<> {
    0..book.requests.len() as u32
}

fn resources(book: &Book) -> impl Iterator<Item = u32> + use<> {
    0..book.resources.len() as u32
}

/// Each request's resource, and the prices by which it was found.
fn allocate(auction: &Auction, book: &Book, base: &[f64], clustered: bool) -> (Vec<u32>, Vec<f64>) {
    let mut prices = base.to_vec();
    match auction.mechanism {
        Mechanism::Greedy | Mechanism::OneToOne => {
            let exclusive = auction.mechanism == Mechanism::OneToOne;
            for _ in 0..auction.prices.rounds {
                let at = greedy(book, &prices, exclusive, clustered);
                for j in resources(book) {
                    let used: i64 = requests(book).filter(|i| at[*i as usize] == j).map(|i| book.take(i)).sum();
                    let price = &mut prices[j as usize];
                    *price = auction.prices.moved(*price, utilisation(used, book.room(j)), 1.0);
                }
            }
            (greedy(book, &prices, exclusive, clustered), prices)
        }
        Mechanism::Optimal => (pack(auction, book, base, clustered).0, prices),
        Mechanism::OptimalExclusive | Mechanism::OptimalUnits => {
            let problem = problem(auction, book, base, clustered, None);
            let mut at = vec![NONE; book.requests.len()];
            for part in solve(&problem) {
                part.flow.iter().for_each(|(j, i, _)| at[*i] = *j as u32);
            }
            (at, prices)
        }
    }
}

/// Every feasible pair in order, taken if its request is free and its resource has room.
fn greedy(book: &Book, prices: &[f64], exclusive: bool, clustered: bool) -> Vec<u32> {
    let mut pairs: Vec<Position> = Vec::new();
    for request in requests(book) {
        for resource in resources(book).filter(|j| is_pair(book, prices, request, *j, clustered)) {
            pairs.push(Position { score: book.score(request, resource), request, resource });
        }
    }
    pairs.sort_by(|a, b| book.order(a, b));
    let mut at = vec![NONE; book.requests.len()];
    let mut left: Vec<i64> = resources(book).map(|j| if exclusive { 1 } else { book.room(j) }).collect();
    for Position { request, resource, .. } in pairs {
        let take = if exclusive { 1 } else { book.take(request) };
        if at[request as usize] == NONE && left[resource as usize] >= take {
            at[request as usize] = resource;
            left[resource as usize] -= take;
        }
    }
    at
}

fn is_pair(book: &Book, prices: &[f64], i: u32, j: u32, clustered: bool) -> bool {
    book.stage(i, j, prices[j as usize]) == Stage::Feasible && (!clustered || book.is_of_one_cluster(i, j))
}

/// Packs every connected component. Gives each request's resource and the prices of both sides.
fn pack(auction: &Auction, book: &Book, prices: &[f64], clustered: bool) -> (Vec<u32>, Vec<i64>, Vec<i128>) {
    let pair = |i: u32, j: u32| is_pair(book, prices, i, j, clustered);
    let mut at = vec![NONE; book.requests.len()];
    let (mut duals, mut knapsacks) = (vec![0; book.requests.len()], vec![0; book.resources.len()]);
    for i in requests(book).filter(|i| book.take(*i) == 0) {
        let best = resources(book).filter(|j| pair(i, *j)).max_by_key(|j| (book.score(i, *j), std::cmp::Reverse(*j)));
        if let Some(best) = best {
            (at[i as usize], duals[i as usize]) = (best, book.score(i, best));
        }
    }
    // Labels sink to the least resource until nothing changes.
    let mut label: Vec<u32> = resources(book).collect();
    loop {
        let before = label.clone();
        for i in requests(book).filter(|i| book.take(*i) > 0) {
            let mine: Vec<u32> = resources(book).filter(|j| pair(i, *j)).collect();
            let least = mine.iter().map(|j| label[*j as usize]).min();
            mine.iter().for_each(|j| label[*j as usize] = least.expect("there is one"));
        }
        if label == before {
            break;
        }
    }
    for component in resources(book) {
        let members: Vec<u32> = resources(book).filter(|j| label[*j as usize] == component).collect();
        let asking: Vec<u32> =
            requests(book).filter(|i| book.take(*i) > 0 && members.iter().any(|j| pair(*i, *j))).collect();
        let mut instance = Instance {
            takes: asking.iter().map(|i| book.take(*i)).collect(),
            rooms: members.iter().map(|j| book.room(*j)).collect(),
            edges: Vec::new(),
            starts: vec![0],
        };
        for i in &asking {
            let edges = members.iter().enumerate().filter(|(_, j)| pair(*i, **j));
            instance.edges.extend(edges.map(|(at, j)| Edge { resource: at as u32, score: book.score(*i, *j) }));
            instance.starts.push(instance.edges.len());
        }
        let packing = optimal::solve(&instance, auction.dual_rounds);
        for (n, i) in asking.iter().enumerate() {
            at[*i as usize] = packing.at[n].map_or(NONE, |j| members[j as usize]);
            duals[*i as usize] = packing.prices[n];
        }
        members.iter().zip(&packing.knapsacks).for_each(|(j, k)| knapsacks[*j as usize] = *k);
    }
    (at, duals, knapsacks)
}

/// The transportation problem of a whole number of places each: resources on the left.
fn problem(auction: &Auction, book: &Book, prices: &[f64], clustered: bool, without: Option<u32>) -> Problem {
    let unit = auction.scale.fixed(1.0).expect("1 is a quantity").max(1);
    let exclusive = auction.mechanism == Mechanism::OptimalExclusive;
    let weight = |j: u32, i: u32| {
        let is_pair = Some(i) != without && is_pair(book, prices, i, j, clustered);
        is_pair.then(|| book.score(i, j)).filter(|score| *score > 0)
    };
    Problem {
        left: resources(book).map(|j| if exclusive { 1 } else { book.room(j) / unit }).collect(),
        right: vec![1; book.requests.len()],
        weight: resources(book).map(|j| requests(book).map(|i| weight(j, i)).collect()).collect(),
    }
}

/// The prices that bound every allocation: of requests, and of whole resources.
fn prove(auction: &Auction, book: &Book, base: &[f64]) -> (Vec<i64>, Vec<i128>) {
    if auction.mechanism == Mechanism::Optimal {
        let (_, duals, knapsacks) = pack(auction, book, base, false);
        return (duals, knapsacks);
    }
    let problem = problem(auction, book, base, false, None);
    let (mut duals, mut knapsacks) = (vec![0; book.requests.len()], vec![0; book.resources.len()]);
    for part in solve(&problem) {
        part.right.iter().for_each(|(i, price)| duals[*i] = *price);
        part.left.iter().for_each(|(j, price)| knapsacks[*j] = i128::from(problem.left[*j]) * i128::from(*price));
    }
    // The solver's least prices are those of its right side; here they are the least of requests.
    (duals, knapsacks)
}

fn allocation(auction: &Auction, book: &Book, base: &[f64], prices: &[f64], i: u32, j: u32) -> Allocation {
    let known = book.request(i).expect("it is there").clone();
    let score = book.score(i, j);
    let asked = book.asked(i, score, prices[j as usize]);
    let (mut payment, mut externality) = (asked, None);
    let with_bid = |bid: f64| {
        let mut other = Book::new(auction.form);
        for i in requests(book) {
            other.set_request(book.requests.key(i), book.request(i).expect("it is there").clone());
        }
        for j in resources(book) {
            other.set_resource(book.resources.key(j), book.resource(j).expect("it is there").clone());
        }
        other.set_request(book.requests.key(i), Request { budget: bid, ..known.clone() });
        other
    };
    match auction.payments {
        Payments::FirstPrice => {}
        Payments::CriticalValue => {
            let exclusive = auction.mechanism == Mechanism::OneToOne;
            payment = smallest_bid_above(0.0, known.budget, &mut |bid| {
                greedy(&with_bid(bid), prices, exclusive, false)[i as usize] != NONE
            });
        }
        Payments::Vcg => {
            let others = value(&problem(auction, book, base, false, Some(i)));
            let all = value(&problem(auction, book, base, false, None));
            externality = Some((others - (all - i128::from(score))) as i64);
            payment = smallest_bid_above(0.0, known.budget, &mut |bid| {
                let book = with_bid(bid);
                let problem = problem(auction, &book, base, false, None);
                let all = value(&problem);
                let is_served = || solve(&problem).iter().any(|p| p.flow.iter().any(|(_, r, _)| *r == i as usize));
                all > others || (all == others && is_served())
            });
        }
    }
    Allocation {
        resource: j,
        score,
        demand: known.demand,
        take: known.take,
        budget: known.budget,
        asked,
        payment,
        externality,
        energy: book.resource(j).expect("it is there").energy,
    }
}

/// Why a request is not served.
pub(super) fn reason(auction: &Auction, book: &Book, prices: &[f64], i: u32) -> Reason {
    let reach = resources(book).map(|j| book.stage(i, j, prices[j as usize])).max();
    let near = || resources(book).any(|j| is_pair(book, prices, i, j, true));
    match reach {
        None => Reason::NoResource,
        Some(Stage::Qos) => Reason::Qos,
        Some(Stage::Capacity) => Reason::Capacity,
        Some(Stage::Budget) => Reason::Budget,
        Some(Stage::Feasible) if auction.clusters.is_some() && !near() => Reason::Cluster,
        Some(Stage::Feasible) => Reason::Outbid,
    }
}
