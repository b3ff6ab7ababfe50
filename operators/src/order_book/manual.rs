//! What the manual says of `order_book`.

use engine::catalogue::OptionDef;

use crate::options::option;

/// The page.
pub const DOC: &str = "\
Keeps one order book for each value of `instrument`, from the messages of a venue in the order of event time, and says at
each message whether the book is the venue's. A function of history.

**Messages.** With `format = \"l2\"` a record is one price level, one side of a quote, or a trade; records of one event
time, one kind, one set of update numbers and one value of `message` are one message, which is complete when another
record comes or the watermark has passed it. A size of 0 deletes its level. With `format = \"l3\"` a record is of one
order, and a message of its own, but for snapshots. The words by which the venue tells kinds and sides are given in
`kinds` and `sides`; several words of one meaning are joined by `|`.

**Kinds of l3.** `add` brings an order; `reduce` takes `size` from it; `delete` takes what is left of it; `execute` trades
`size` of it; `execute_hidden` is a trade with an order nobody saw; `set_remaining` says what is left of it and at which
price. Without `order` the records are applied to the levels at their prices. Sizes are whole numbers of `lot`, so that a
level is exactly the sum of its orders.

**States.** A book is `waiting` until a snapshot comes (`start = \"empty\"`: it is known to be empty before the first
record); then `live`; and `broken`, with a `reason`, from the moment at which it cannot be the venue's until the next
snapshot. While trading is `halted` (kinds `halt` and `resume`, or `status` with the column `status` and its words
`statuses`) the book is kept, and not shown. Only a live book that is not crossed and not halted is `healthy`, and only of
such a book are levels told. With `crossed = \"heal\"` a book whose best bid is as high as its best ask is `crossed` only as
long as it is, and that is counted, for venues that show orders before they match; else it is broken, which is a fault.

**Sequence.** `binance_spot`: the first message applied after a snapshot of number n has U ≤ n + 1 ≤ u, every further one
U = u before + 1. `binance_futures`: the first has pu ≤ n ≤ u (which is Binance's U ≤ n ≤ u, and right too where n lies
between two messages), every further one pu = u before. `contiguous`: as spot, U being `first_update` or, without it,
`last_update`. (Binance, *How to manage a local order book correctly*.) Every message of depth is held against the last
that came, applied or not: `gap` breaks the book, unless a snapshot since
says what is missing; what came before (`duplicate`) or is older (`stale`) is refused, and as
its numbers prove that it has nothing new, the book is as good as before. Without a `sequence` nothing that is missing can
be seen.

**Snapshots.** Up to `buffer` messages that come before a snapshot are kept; of them those apply that the snapshot does
not say already. A snapshot to which the messages kept do not reach back is `stale`, and the next is waited for. A
snapshot takes the place of a live book too.

**Quotes** (l2) are the venue's own best bid and ask, of the update `last_update`. A book at the number of a quote must have
the same best, prices and sizes: `quotes_agree`, `quotes_disagree`; the latter breaks it. Between numbers the last quote
before the book's is compared when a later one is known: `quotes_held_agree`, `quotes_held_disagree`, which are counted
only, because a stream of quotes may leave some out.

**Recorded levels.** Data sets such as LOBSTER carry the venue's first n levels after each record, and only the records
within them. `recorded` names their columns. The first row puts the book there; then each record is applied and the levels
compared: `recorded_equal`; `recorded_beyond`, where a level came into sight from beyond the n-th, of which no record can
have told; `recorded_different`, which breaks the book until the next record. Then the book is what is recorded.

**Views.** The step itself: the best of each book, its `mid` and `spread`, and the `_seq` of the last record. `depth`: its
first `levels` levels, with the number of orders where they are known. `health`: its state, why, and what was counted.
`ticks`: a stream with a row for every message that was not refused, nor all said by the snapshot before: its `kind` (`depth`, `snapshot`, `quote`, `trade`,
`status`); whether the book is `healthy`, and then its levels; the trade (`trade_side` 1: a buyer took, −1: a seller did);
and the sizes that came and went with the message at any level of either side, executions not counted where they are told
as such.

**Faults.** Of a record: `null_instrument`; `unknown_kind`; `bad_side`; `bad_price` (null, NaN, infinite, not above 0, no
multiple of `tick`); `bad_size` (null, NaN, infinite, negative, 0 where something must be, no multiple of `lot`, a level of
more than 2^53 lots); `bad_order` (a null number); `time_backwards`. Any of them but the first breaks the book, if the
record was not a trade or a quote; a record refused in a snapshot refuses the snapshot. Of a message, told at its last
record: `damaged` (a record of it was refused), `conflict` (two sizes for one level), `duplicate` (also of a level within a
message), `stale`, `gap`, `bad_number` (an update number that `sequence` needs is null, negative, or not above the one
before it), `crossed`, `quote_disagrees`, `differs` (from what is recorded). Of trades: `trade_gap`, `duplicate`, `stale`
(by `trade_ids`), `halted` (a trade while trading is halted). Of orders: `unknown_order`, `known_order` (one comes that is
there), `overfill` (more goes than there is). With `strict = false`, for venues whose messages overtake each other or whose
stream began after their book: orders that are not known are counted in `unknown_orders`, and put into the book where the
record says all of them; one that ended among the last 1,000 does not come back (`late_order`); and no fault of an order
breaks the book. A record has one fault at most: the first.

**State** is an entry a level and an order, one a message kept, and one of about 300 bytes an instrument: an epoch writes
what changed.";

const NUMBER: &str = "column of int64 or float64";
const INT: &str = "column of int64";
const WORD: &str = "column of string or int64";

/// The options.
pub const OPTIONS: &[OptionDef] = &[
    option("input", "relation", None, "A stream with an event time: the venue's records."),
    option("format", "`l2`, `l3`", None, "Whether records are of price levels or of orders."),
    option("instrument", "list of column names", Some("one book"), "Each combination of these has a book."),
    option("kind", WORD, None, "What a record says."),
    option(
        "kinds",
        "table of words",
        None,
        "The words of `kind`. For l2: `snapshot`, `depth`, `quote`, `trade`, `halt`, `resume`, `status`, `ignore`. For l3: \
         `snapshot`, `add`, `reduce`, `delete`, `execute`, `execute_hidden`, `set_remaining`, `trade`, `halt`, `resume`, \
         `status`, `ignore`.",
    ),
    option("side", WORD, None, "Of which side a level or an order is."),
    option("sides", "table of words", Some("{ bid = \"bid\", ask = \"ask\" }"), "The words of `side`."),
    option("price", NUMBER, None, "The price of a level, an order or a trade."),
    option("size", NUMBER, None, "The size of a level (0 deletes it), of what happens to an order, or of a trade."),
    option("tick", "float64", Some("any price"), "What a price must be a multiple of; above 0."),
    option("lot", "float64", Some("1e-8"), "l3: what a size must be a multiple of; above 0."),
    option("message", INT, Some("each record its own"), "The number of the message a record belongs to."),
    option("first_update", INT, Some("none"), "The number of a message's first update (U)."),
    option(
        "last_update",
        INT,
        Some("none"),
        "The number of a message's last update (u), of a snapshot, or of a quote.",
    ),
    option("previous_update", INT, Some("none"), "The number of the last update of the message before (pu)."),
    option(
        "sequence",
        "`none`, `contiguous`, `binance_spot`, `binance_futures`",
        Some("none"),
        "How the numbers of messages follow each other.",
    ),
    option("buffer", "int64", Some("1000"), "l2: how many messages wait for a snapshot at most; up to 100,000."),
    option(
        "start",
        "`snapshot`, `empty`",
        Some("snapshot for l2, empty for l3"),
        "What is known before the first record.",
    ),
    option("crossed", "`resync`, `heal`", Some("resync"), "Whether a crossed book needs a snapshot, or time."),
    option("trade_id", INT, Some("none"), "The number of a trade."),
    option(
        "trade_ids",
        "`none`, `increasing`, `contiguous`",
        Some("none"),
        "How the numbers of trades follow each other.",
    ),
    option("buyer_is_maker", "column of bool or int64", Some("not known"), "Whether the seller took."),
    option("status", WORD, Some("none"), "What a record of the kind `status` says."),
    option("statuses", "table of words", Some("none"), "The words of `status`: `halt`, `resume`, `ignore`."),
    option("order", INT, Some("levels alone"), "l3: the number of an order."),
    option("strict", "bool", Some("true"), "l3: whether an order the book does not know breaks it."),
    option(
        "recorded",
        "table of lists of column names",
        Some("none"),
        "l3 without `order`: the venue's levels after each record, the best first: `bid_price`, `bid_size`, `ask_price`, \
         `ask_size`. A level of size 0 is none.",
    ),
    option("levels", "int64", Some("10"), "How many levels of each side are shown, from 1 to 100."),
];

/// A pipeline.
pub const EXAMPLE: &str = "\
name = \"books\"

[sources.feed]
type = \"file\"
path = \"feed.csv\"
format = \"csv\"
columns = { at = \"timestamp\", symbol = \"string\", message = \"int64\", event = \"string\", first_u = \"int64\", \
last_u = \"int64\", side = \"string\", price = \"float64\", size = \"float64\", trade_id = \"int64\", buyer_is_maker = \"int64\" }
event_time = \"at\"

[steps.books]
operator = \"order_book\"
input = \"feed\"
format = \"l2\"
instrument = [\"symbol\"]
kind = \"event\"
kinds = { snapshot = \"snapshot\", depth = \"depthUpdate\", quote = \"bookTicker\", trade = \"trade\" }
side = \"side\"
price = \"price\"
size = \"size\"
message = \"message\"
first_update = \"first_u\"
last_update = \"last_u\"
sequence = \"binance_spot\"
trade_id = \"trade_id\"
trade_ids = \"contiguous\"
buyer_is_maker = \"buyer_is_maker\"
levels = 2
";
