//! From a step's section to a book that cannot be wrong: which columns say what, in which words, and by which rules.

use engine::catalogue::Relations;
use engine::pipeline::Section;
use types::{SEQ, Schema, Type};

use super::rules::{Kind, Rules, Sequence, Side, TradeIds};
use super::unit::Unit;
use super::views;
use super::words::Words;

use crate::options::or;

/// A step that has been checked.
#[derive(Clone, Debug)]
pub struct Shape {
    /// The relation read.
    pub relation: String,
    /// Its schema.
    pub schema: Schema,
    /// The columns whose values each have a book.
    pub instrument: Vec<usize>,
    /// Which columns say what.
    pub columns: Columns,
    /// The words of the columns.
    pub words: Vocabulary,
    /// What a price is a whole number of, if that is to be so.
    pub tick: Option<Unit>,
    /// What a size is a whole number of: for books told order by order.
    pub lot: Option<Unit>,
    /// The venue's own first levels after each record, the best first: for each side prices and sizes.
    pub recorded: Option<[Vec<(usize, usize)>; 2]>,
    /// The rules of the kernel.
    pub rules: Rules,
}

/// Which columns say what.
#[derive(Clone, Copy, Debug)]
pub struct Columns {
    /// The event time.
    pub at: usize,
    /// The number of the record.
    pub seq: usize,
    /// What the record says.
    pub kind: usize,
    /// The side.
    pub side: usize,
    /// The price.
    pub price: usize,
    /// The size.
    pub size: usize,
    /// The number of the message.
    pub message: Option<usize>,
    /// The first update of the message.
    pub first: Option<usize>,
    /// The last.
    pub last: Option<usize>,
    /// The last of the message before.
    pub previous: Option<usize>,
    /// The number of the trade.
    pub trade: Option<usize>,
    /// Whether the seller took.
    pub buyer_is_maker: Option<usize>,
    /// The number of the order.
    pub order: Option<usize>,
    /// Whether trading is halted.
    pub status: Option<usize>,
}

/// The words of the columns.
#[derive(Clone, Debug)]
pub struct Vocabulary {
    /// Of the kind; [`None`] where `status` says it.
    pub kinds: Words<Option<Kind>>,
    /// Of the side.
    pub sides: Words<Side>,
    /// Of the status.
    pub statuses: Words<Kind>,
}

const LEVEL_KINDS: &[(&str, Option<Kind>)] = &[
    ("snapshot", Some(Kind::Snapshot)),
    ("depth", Some(Kind::Depth)),
    ("quote", Some(Kind::Quote)),
    ("trade", Some(Kind::Trade)),
    ("halt", Some(Kind::Halt)),
    ("resume", Some(Kind::Resume)),
    ("status", None),
    ("ignore", Some(Kind::Ignore)),
];

const ORDER_KINDS: &[(&str, Option<Kind>)] = &[
    ("snapshot", Some(Kind::Snapshot)),
    ("add", Some(Kind::Add)),
    ("reduce", Some(Kind::Reduce)),
    ("delete", Some(Kind::Delete)),
    ("execute", Some(Kind::Execute)),
    ("execute_hidden", Some(Kind::ExecuteHidden)),
    ("set_remaining", Some(Kind::SetRemaining)),
    ("trade", Some(Kind::Trade)),
    ("halt", Some(Kind::Halt)),
    ("resume", Some(Kind::Resume)),
    ("status", None),
    ("ignore", Some(Kind::Ignore)),
];

const SIDES: &[(&str, Side)] = &[("bid", Side::Bid), ("ask", Side::Ask)];

const STATUSES: &[(&str, Kind)] = &[("halt", Kind::Halt), ("resume", Kind::Resume), ("ignore", Kind::Ignore)];

/// Reads a step's section.
pub fn read(section: &mut Section<'_>, relations: &Relations<'_>) -> Option<Shape> {
    let input = relations.input(section, "input");
    let by_orders = section.choice("format", &[("l2", false), ("l3", true)]);
    let (relation, schema) = input?;
    let at = schema.event_time.filter(|_| schema.append_only);
    let seq = schema.index_of(SEQ);
    let (Some(at), Some(seq)) = (at, seq) else {
        section.problem("input", format!("`{relation}` is no stream with an event time, and history needs one"));
        return None;
    };
    let by_orders = by_orders?;
    let instrument = or(section, "instrument", Vec::new(), |s, key| s.columns(key, schema));
    if let Some(taken) = instrument.iter().flatten().map(|c| &schema.columns[*c].name).find(|n| views::is_taken(n)) {
        section.problem("instrument", format!("the views have a column `{taken}` already: rename it in a `select`"));
        return None;
    }
    let columns = columns(section, schema, (at, seq), by_orders);
    let words = vocabulary(section, schema, by_orders);
    let tick = or(section, "tick", None, |s, key| unit(s, key).map(Some));
    let lot = match by_orders {
        true => or(section, "lot", Some(Unit::new(1e-8)), |s, key| unit(s, key).map(Some)),
        false => Some(None),
    };
    let recorded = match by_orders {
        true => or(section, "recorded", None, |s, _| recorded(s, schema).map(Some)),
        false => Some(None),
    };
    let is_recorded = matches!(recorded, Some(Some(_)));
    let rules = rules(section, by_orders, is_recorded);
    let shape = Shape {
        relation,
        schema: schema.clone(),
        instrument: instrument?,
        columns: columns?,
        words: words?,
        tick: tick?,
        lot: lot?,
        recorded: recorded?,
        rules: rules?,
    };
    let shape = Shape {
        rules: Rules {
            by_order: shape.columns.order.is_some(),
            recorded: shape.recorded.as_ref().map(|sides| sides[0].len()),
            ..shape.rules.clone()
        },
        ..shape
    };
    match contradiction(&shape) {
        None => Some(shape),
        Some((key, message)) => {
            section.problem(key, message);
            None
        }
    }
}

/// What cannot be had together, with the option to change and a sentence that says why.
fn contradiction(shape: &Shape) -> Option<(&'static str, &'static str)> {
    let Shape { columns, rules, words, .. } = shape;
    let is_numbered = rules.sequence != Sequence::None;
    let says = |kind| words.kinds.has(&Some(kind));
    let told: [(bool, &'static str, &'static str); 9] = [
        (
            is_numbered && columns.last.is_none(),
            "last_update",
            "with a `sequence` every message needs its number: name the column in `last_update`",
        ),
        (
            rules.sequence == Sequence::BinanceSpot && columns.first.is_none(),
            "first_update",
            "`binance_spot` looks whether U is one more than the last u: name U's column in `first_update`",
        ),
        (
            rules.sequence == Sequence::BinanceFutures && columns.previous.is_none(),
            "previous_update",
            "`binance_futures` looks whether pu is the last u: name pu's column in `previous_update`",
        ),
        (
            rules.trade_ids != TradeIds::None && columns.trade.is_none(),
            "trade_id",
            "to look at the numbers of trades their column must be named in `trade_id`",
        ),
        (
            says(Kind::SetRemaining) && columns.order.is_none(),
            "order",
            "what an order has left says nothing without the order: name its column in `order`",
        ),
        (
            !rules.strict && columns.order.is_none(),
            "strict",
            "without `order` there are no orders that could be unknown",
        ),
        (
            shape.recorded.is_some() && columns.order.is_some(),
            "recorded",
            "where the levels recorded are all that is known, orders leave the book unseen and come back changed: leave \
             `order` out",
        ),
        (
            shape.recorded.is_some() && says(Kind::Snapshot),
            "recorded",
            "the levels recorded are the snapshot: leave the word for `snapshot` out",
        ),
        (
            words.kinds.has(&None) && columns.status.is_none(),
            "status",
            "the kind `status` needs the column that says which: name it in `status`",
        ),
    ];
    told.into_iter().find(|(is_so, ..)| *is_so).map(|(_, key, message)| (key, message))
}

fn unit(section: &mut Section<'_>, key: &'static str) -> Option<Unit> {
    let value = section.float(key)?;
    if value > 0.0 {
        return Some(Unit::new(value));
    }
    section.problem(key, format!("`{key}` must be above 0, found {value}"));
    None
}

/// A required column of one of these types.
fn typed(section: &mut Section<'_>, key: &'static str, schema: &Schema, types: &[Type]) -> Option<usize> {
    let column = section.column(key, schema)?;
    let found = &schema.columns[column];
    if types.contains(&found.ty) {
        return Some(column);
    }
    let names: Vec<&str> = types.iter().map(|ty| ty.name()).collect();
    let message = format!("`{}` has the type {}, and must have {}", found.name, found.ty, names.join(" or "));
    section.problem(key, message);
    None
}

const NUMBER: &[Type] = &[Type::Float64, Type::Int64];
const WORD: &[Type] = &[Type::String, Type::Int64];

fn columns(section: &mut Section<'_>, schema: &Schema, (at, seq): (usize, usize), by_orders: bool) -> Option<Columns> {
    let kind = typed(section, "kind", schema, WORD);
    let side = typed(section, "side", schema, WORD);
    let price = typed(section, "price", schema, NUMBER);
    let size = typed(section, "size", schema, NUMBER);
    let mut optional =
        |key: &'static str, types: &[Type]| or(section, key, None, |s, key| typed(s, key, schema, types).map(Some));
    let message = optional("message", &[Type::Int64]);
    let first = optional("first_update", &[Type::Int64]);
    let last = optional("last_update", &[Type::Int64]);
    let previous = optional("previous_update", &[Type::Int64]);
    let trade = optional("trade_id", &[Type::Int64]);
    let buyer_is_maker = optional("buyer_is_maker", &[Type::Bool, Type::Int64]);
    let status = optional("status", WORD);
    let order = if by_orders { optional("order", &[Type::Int64]) } else { Some(None) };
    Some(Columns {
        at,
        seq,
        kind: kind?,
        side: side?,
        price: price?,
        size: size?,
        message: message?,
        first: first?,
        last: last?,
        previous: previous?,
        trade: trade?,
        buyer_is_maker: buyer_is_maker?,
        order: order?,
        status: status?,
    })
}

fn vocabulary(section: &mut Section<'_>, schema: &Schema, by_orders: bool) -> Option<Vocabulary> {
    let known = if by_orders { ORDER_KINDS } else { LEVEL_KINDS };
    if !section.has("kinds") {
        section.problem("kinds", "`kinds` is missing: the words of the column `kind`, such as { depth = \"update\" }");
    }
    let kinds = section.string_map("kinds").and_then(|map| words(section, "kinds", "kind", schema, map, known));
    let sides = match section.has("sides") {
        true => section.string_map("sides"),
        false => Some(SIDES.iter().map(|(name, _)| ((*name).to_owned(), (*name).to_owned())).collect()),
    };
    let sides = sides.and_then(|map| words(section, "sides", "side", schema, map, SIDES));
    let statuses = match section.has("statuses") {
        true => section.string_map("statuses"),
        false => Some(Vec::new()),
    };
    let statuses = statuses.and_then(|map| words(section, "statuses", "status", schema, map, STATUSES));
    Some(Vocabulary { kinds: kinds?, sides: sides?, statuses: statuses? })
}

/// Reads a table of words: what each is to the kernel, and how the column `of` writes it.
fn words<T: Copy>(
    section: &mut Section<'_>,
    key: &'static str,
    of: &'static str,
    schema: &Schema,
    map: Vec<(String, String)>,
    known: &[(&'static str, T)],
) -> Option<Words<T>> {
    let column = section.string(of).and_then(|name| schema.index_of(&name));
    let is_int = column.is_some_and(|c| schema.columns[c].ty == Type::Int64);
    let mut words = Words::default();
    let mut is_good = true;
    for (name, text) in map {
        let Some((_, meaning)) = known.iter().find(|(known, _)| *known == name) else {
            section.unknown_name(key, key, &name, known.iter().map(|(known, _)| *known));
            is_good = false;
            continue;
        };
        for word in text.split('|') {
            if is_int && word.parse::<i64>().is_err() {
                section
                    .problem(key, format!("the column of `{of}` has the type int64, and `{word}` is no such number"));
                is_good = false;
            } else if !words.add(word, *meaning) {
                section.problem(key, format!("the word `{word}` is given two meanings"));
                is_good = false;
            }
        }
    }
    is_good.then_some(words)
}

fn recorded(section: &mut Section<'_>, schema: &Schema) -> Option<[Vec<(usize, usize)>; 2]> {
    let mut inner = section.section("recorded")?;
    let mut list = |key: &'static str| {
        if !inner.has(key) {
            inner.problem(key, format!("`{key}` is missing: a list of columns, the best level first"));
        }
        let columns = inner.columns(key, schema)?;
        let wrong = columns.iter().map(|c| &schema.columns[*c]).find(|c| !NUMBER.contains(&c.ty));
        if let Some(wrong) = wrong {
            let message = format!("`{}` has the type {}, and must have float64 or int64", wrong.name, wrong.ty);
            inner.problem(key, message);
            return None;
        }
        Some(columns)
    };
    let lists = [list("bid_price"), list("bid_size"), list("ask_price"), list("ask_size")];
    let [Some(bid_price), Some(bid_size), Some(ask_price), Some(ask_size)] = lists else { return None };
    let length = bid_price.len();
    if length == 0 || [&bid_size, &ask_price, &ask_size].iter().any(|list| list.len() != length) {
        section.problem("recorded", "`recorded` needs four lists of one length, a column for each level");
        return None;
    }
    let pairs = |prices: Vec<usize>, sizes: Vec<usize>| prices.into_iter().zip(sizes).collect();
    Some([pairs(bid_price, bid_size), pairs(ask_price, ask_size)])
}

fn rules(section: &mut Section<'_>, by_orders: bool, is_recorded: bool) -> Option<Rules> {
    let sequence = section.choice_or(
        "sequence",
        &[
            ("none", Sequence::None),
            ("contiguous", Sequence::Contiguous),
            ("binance_spot", Sequence::BinanceSpot),
            ("binance_futures", Sequence::BinanceFutures),
        ],
        Sequence::None,
    );
    let trade_ids = section.choice_or(
        "trade_ids",
        &[("none", TradeIds::None), ("increasing", TradeIds::Increasing), ("contiguous", TradeIds::Contiguous)],
        TradeIds::None,
    );
    let crossed_heals = section.choice_or("crossed", &[("resync", false), ("heal", true)], false);
    let starts_empty = match is_recorded {
        true => Some(false),
        false => section.choice_or("start", &[("snapshot", false), ("empty", true)], by_orders),
    };
    let strict = if by_orders { or(section, "strict", true, |s, key| s.boolean(key)) } else { Some(true) };
    let levels = or(section, "levels", 10, |s, key| s.int_in(key, 1..=100));
    let buffer_max = if by_orders { Some(0) } else { or(section, "buffer", 1000, |s, key| s.int_in(key, 0..=100_000)) };
    Some(Rules {
        sequence: sequence?,
        trade_ids: trade_ids?,
        crossed_heals: crossed_heals?,
        starts_empty: starts_empty?,
        by_order: false,
        strict: strict?,
        recorded: None,
        levels: levels? as usize,
        buffer_max: buffer_max? as usize,
    })
}

impl Shape {
    /// The step in one line, with every option that changes the result.
    pub fn detail(&self) -> String {
        let name = |c: usize| self.schema.columns[c].name.as_str();
        let c = &self.columns;
        let named = [
            ("kind", Some(c.kind)),
            ("side", Some(c.side)),
            ("price", Some(c.price)),
            ("size", Some(c.size)),
            ("message", c.message),
            ("first", c.first),
            ("last", c.last),
            ("previous", c.previous),
            ("trade", c.trade),
            ("buyer is maker", c.buyer_is_maker),
            ("order", c.order),
            ("status", c.status),
        ];
        let named: Vec<String> =
            named.iter().filter_map(|(what, c)| c.map(|c| format!("{what} {}", name(c)))).collect();
        let instrument: Vec<&str> = self.instrument.iter().map(|c| name(*c)).collect();
        let recorded = self.recorded.as_ref().map(|sides| {
            sides.each_ref().map(|s| s.iter().map(|(p, q)| format!("{}/{}", name(*p), name(*q))).collect::<Vec<_>>())
        });
        format!(
            "a book by ({}) of {}: {}; kinds {}, sides {:?}, statuses {}; tick {:?}, lot {:?}, recorded {recorded:?}; {:?}",
            instrument.join(", "),
            self.relation,
            named.join(", "),
            self.words.kinds.text(),
            self.words.sides.text(),
            self.words.statuses.text(),
            self.tick,
            self.lot,
            self.rules,
        )
    }

    /// A size as it is told: a number of lots as what they are.
    pub fn told(&self, size: f64) -> f64 {
        self.lot.map_or(size, |lot| lot.value(size))
    }
}
