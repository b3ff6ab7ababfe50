"""Features of a recorded book from their definitions, in plain Python, for operators/tests/features.rs.

Usage: features_reference.py TICKS.csv FEATURES.txt STEP. Every STEP-th tick each feature is computed from scratch over all
ticks since the last break; one line a tick on standard output: its number, then a number or `null` for each feature.

TICKS.csv, without a header: time in microseconds, 1 or 0 for a healthy book, trade price, trade size, trade side (empty
without a trade), bid added, bid removed, ask added, ask removed, then bid price, bid size, ask price, ask size for each level.
FEATURES.txt: a feature a line, as in a pipeline file.
"""

import csv
import math
import re
import sys

INF = math.inf


class Undefined(Exception):
    pass


class Tick:
    def __init__(self, cells):
        def number(i):
            return float(cells[i]) if cells[i] else None

        self.at = int(cells[0])
        self.healthy = cells[1] == "1"
        price, size = number(2), number(3)
        self.trade = None if price is None else (price, size, number(4) or 0.0)
        self.added = {"bid": number(5), "ask": number(7)}
        self.removed = {"bid": number(6), "ask": number(8)}
        levels = [[number(9 + 4 * i + j) for j in range(4)] for i in range((len(cells) - 9) // 4)]
        self.bid = [(l[0], l[1]) for l in levels if l[0] is not None]
        self.ask = [(l[2], l[3]) for l in levels if l[2] is not None]

    def mid(self):
        if not self.bid or not self.ask:
            raise Undefined
        return (self.bid[0][0] + self.ask[0][0]) / 2

    def depth(self, side, k):
        return math.fsum(size for _, size in getattr(self, side)[:k])


def divide(a, b):
    if b == 0:
        raise Undefined
    return a / b


def span(text):
    """('ticks', n) or ('us', n)."""
    number, unit = re.fullmatch(r"(\d+)([a-z]*)", text).groups()
    scale = {"us": 1, "ms": 1000, "s": 10**6, "m": 60 * 10**6, "h": 3600 * 10**6}
    return ("us", int(number) * scale[unit]) if unit else ("ticks", int(number))


def split(text):
    """A feature's name and its arguments."""
    name, _, rest = text.strip().partition("(")
    if not rest:
        return name, []
    rest, arguments, depth, start = rest[: rest.rindex(")")], [], 0, 0
    for i, c in enumerate(rest + ","):
        depth += {"(": 1, ")": -1}.get(c, 0)
        if c == "," and depth == 0:
            arguments.append(rest[start:i].strip())
            start = i + 1
    return name, arguments


class Past:
    """All ticks since the last break, up to one at which features are asked for."""

    def __init__(self):
        self.ticks = []
        self.memo = {}

    def once(self, key, f):
        """f of a tick's number, each value computed once."""

        def g(i):
            if (key, i) not in self.memo:
                try:
                    self.memo[key, i] = f(i)
                except Undefined:
                    self.memo[key, i] = None
            if self.memo[key, i] is None:
                raise Undefined
            return self.memo[key, i]

        return g

    # The past of a tick.

    def window(self, k, s):
        kind, n = s
        if kind == "ticks":
            if k + 1 < n:
                raise Undefined
            return range(k + 1 - n, k + 1)
        since = self.ticks[k].at - n
        if self.ticks[0].at > since:
            raise Undefined
        first = k
        while self.ticks[first - 1].at > since:
            first -= 1
        return range(first, k + 1)

    def back(self, k, s):
        kind, n = s
        if kind == "ticks":
            if k < n:
                raise Undefined
            return k - n
        since = self.ticks[k].at - n
        while k >= 0 and self.ticks[k].at > since:
            k -= 1
        if k < 0:
            raise Undefined
        return k

    def weights(self, k, s):
        """The weight of every tick up to k."""
        kind, n = s
        if kind == "ticks":
            if k + 1 < n:
                raise Undefined
            return [0.5 ** ((k - i) / n) for i in range(k + 1)]
        if self.ticks[k].at - self.ticks[0].at < n:
            raise Undefined
        return [0.5 ** ((self.ticks[k].at - self.ticks[i].at) / n) for i in range(k + 1)]

    # Sums over it. `x` gives a number for a tick, or raises.

    def sum(self, x, k, s):
        return math.fsum(x(i) for i in self.window(k, s))

    def seen(self, x, k, s):
        """The weights and numbers of the ticks at which x is defined."""
        pairs = []
        for i, w in enumerate(self.weights(k, s)):
            try:
                pairs.append((w, x(i)))
            except Undefined:
                pass
        return pairs

    def mean(self, x, k, s):
        pairs = self.seen(x, k, s)
        weight = math.fsum(w for w, _ in pairs)
        if weight < 2.0**-20:
            raise Undefined
        return math.fsum(w * v for w, v in pairs) / weight

    def forgotten(self, x, k, s):
        if s[0] == "ticks":
            return self.mean(x, k, s)
        return math.fsum(w * v for w, v in self.seen(x, k, s)) * math.log(2) / (s[1] / 1e6)

    def slope(self, y, x, k, s):
        pairs = self.seen(lambda i: (y(i), x(i)), k, s)
        weight = math.fsum(w for w, _ in pairs)
        if weight < 2.0**-20:
            raise Undefined
        mean_y = math.fsum(w * p[0] for w, p in pairs) / weight
        mean_x = math.fsum(w * p[1] for w, p in pairs) / weight
        square = math.fsum(w * (p[1] - mean_x) ** 2 for w, p in pairs)
        return divide(math.fsum(w * (p[1] - mean_x) * (p[0] - mean_y) for w, p in pairs), square)

    # Numbers of one tick.

    def mid(self, k):
        return self.ticks[k].mid()

    def log_return(self, old, new):
        return 1e4 * math.log1p((new - old) / old)

    def ret(self, k):
        if k < 1:
            raise Undefined
        return self.log_return(self.mid(k - 1), self.mid(k))

    def squared(self, k):
        return self.ret(k) ** 2

    def product(self, k):
        return abs(self.ret(k) * self.ret(k - 1))

    def returned(self, s):
        return self.once(("return", s), lambda i: self.log_return(self.mid(self.back(i, s)), self.mid(i)))

    def flow(self, k, level):
        """e_n of Cont, Kukanov and Stoikov at one level."""
        if k == 0:
            raise Undefined

        def at(tick, side, nothing):
            levels = getattr(tick, side)
            return levels[level] if level < len(levels) else (nothing, 0.0)

        now, old = self.ticks[k], self.ticks[k - 1]
        (b, q), (b0, q0) = at(now, "bid", -INF), at(old, "bid", -INF)
        (a, r), (a0, r0) = at(now, "ask", INF), at(old, "ask", INF)
        return q * (b >= b0) - q0 * (b <= b0) - r * (a <= a0) + r0 * (a >= a0)

    def flows(self, levels):
        return self.once(("flows", levels), lambda i: math.fsum(self.flow(i, level) for level in range(levels)))

    def signed(self, k):
        trade = self.ticks[k].trade
        return trade[1] * trade[2] if trade else 0.0

    def volume(self, k):
        trade = self.ticks[k].trade
        return trade[1] if trade else 0.0

    def happened(self, what, k):
        tick, old = self.ticks[k], self.ticks[k - 1] if k else None
        side = tick.trade[2] if tick.trade else 0
        if what == "tick":
            return True
        if what == "quote":
            return old is not None and (tick.bid[:1] != old.bid[:1] or tick.ask[:1] != old.ask[:1])
        if what == "trade":
            return tick.trade is not None
        if what in ("buy", "sell"):
            return side == (1 if what == "buy" else -1)
        if what == "arrival":
            return tick.added["bid"] + tick.added["ask"] > 0
        if what == "cancel":
            return tick.removed["bid"] + tick.removed["ask"] > 0
        if what == "move":
            return old is not None and tick.mid() != old.mid()
        raise ValueError(what)

    def book_slope(self, k, side, levels):
        tick = self.ticks[k]
        mid, across, square = tick.mid(), 0.0, 0.0
        for i, (price, _) in enumerate(getattr(tick, side)[:levels]):
            distance = abs(price - mid)
            across += distance * tick.depth(side, i + 1)
            square += distance**2
        return divide(across, square)

    def trades(self, k):
        return [t.trade for t in self.ticks[: k + 1] if t.trade]

    def change_product(self, k):
        if not self.ticks[k].trade:
            raise Undefined
        prices = [trade[0] for trade in self.trades(k)][-3:]
        if len(prices) < 3:
            raise Undefined
        return (prices[2] - prices[1]) * (prices[1] - prices[0])

    def sign_product(self, k):
        if not self.ticks[k].trade or not self.ticks[k].trade[2]:
            raise Undefined
        signs = [trade[2] for trade in self.trades(k) if trade[2]]
        if len(signs) < 2:
            raise Undefined
        return signs[-1] * signs[-2]

    def paid(self, k):
        trade = self.ticks[k].trade
        if not trade or not trade[2] or k == 0:
            raise Undefined
        return 2 * trade[2] * (trade[0] - self.mid(k - 1)) / self.mid(k - 1) * 1e4

    # Features.

    def feature(self, text, k):
        return self.once(text, lambda i: self.compute(text, i))(k)

    def compute(self, text, k):
        name, a = split(text)
        return getattr(self, "of_" + name)(k, *a)

    def of_mid_price(self, k):
        return self.mid(k)

    def of_quoted_spread(self, k):
        return self.ticks[k].ask[0][0] - self.ticks[k].bid[0][0]

    def of_relative_spread(self, k):
        return self.of_quoted_spread(k) / self.mid(k) * 1e4

    def of_weighted_mid(self, k, levels):
        t = self.ticks[k]
        bid, ask = t.depth("bid", int(levels)), t.depth("ask", int(levels))
        return (bid * t.ask[0][0] + ask * t.bid[0][0]) / (bid + ask)

    def of_weighted_mid_deviation(self, k, levels):
        # The same as (weighted mid - mid) / mid, without the difference of two prices.
        return self.of_imbalance(k, levels) * self.of_quoted_spread(k) / 2 / self.mid(k) * 1e4

    def of_imbalance(self, k, levels):
        bid, ask = (self.ticks[k].depth(side, int(levels)) for side in ("bid", "ask"))
        return divide(bid - ask, bid + ask)

    def of_level_imbalance(self, k, level):
        bid, ask = (getattr(self.ticks[k], side)[int(level) - 1][1] for side in ("bid", "ask"))
        return divide(bid - ask, bid + ask)

    def of_pressure(self, k, levels):
        sides = (getattr(self.ticks[k], side)[: int(levels)] for side in ("bid", "ask"))
        bid, ask = (sum(size / (i + 1) for i, (_, size) in enumerate(side)) for side in sides)
        return divide(bid - ask, bid + ask)

    def of_depth(self, k, side, levels):
        return self.ticks[k].depth(side, int(levels))

    def of_slope(self, k, side, levels):
        return self.book_slope(k, side, int(levels))

    def of_slope_imbalance(self, k, levels):
        bid, ask = (self.book_slope(k, side, int(levels)) for side in ("bid", "ask"))
        return divide(bid - ask, bid + ask)

    def of_gap(self, k, side, level):
        levels, i = getattr(self.ticks[k], side), int(level)
        return abs(levels[i][0] - levels[i - 1][0]) / self.mid(k) * 1e4

    def of_depletion(self, k, side):
        price, size = getattr(self.ticks[k], side)[0]
        greatest = size
        while k >= 0 and getattr(self.ticks[k], side)[0][0] == price:
            greatest = max(greatest, getattr(self.ticks[k], side)[0][1])
            k -= 1
        return 1 - size / greatest

    def of_ofi(self, k, levels, s):
        return self.sum(self.flows(int(levels)), k, span(s))

    def of_level_ofi(self, k, level, s):
        return self.sum(lambda i: self.flow(i, int(level) - 1), k, span(s))

    def of_normalised_ofi(self, k, levels, s):
        levels, window = int(levels), self.window(k, span(s))
        depths = [self.ticks[i].depth("bid", levels) + self.ticks[i].depth("ask", levels) for i in window]
        return self.sum(self.flows(levels), k, span(s)) / (math.fsum(depths) / len(depths) / 2 / levels)

    def of_ew_ofi(self, k, levels, s):
        return self.forgotten(self.flows(int(levels)), k, span(s))

    def of_trade_flow(self, k, s):
        return self.sum(self.signed, k, span(s))

    def of_trade_volume(self, k, s):
        return self.sum(self.volume, k, span(s))

    def of_trade_imbalance(self, k, s):
        return divide(self.of_trade_flow(k, s), self.of_trade_volume(k, s))

    def of_ew_trade_flow(self, k, s):
        return self.forgotten(self.signed, k, span(s))

    def of_vwap_deviation(self, k, s):
        trades = [self.ticks[i].trade for i in self.window(k, span(s)) if self.ticks[i].trade]
        vwap = divide(math.fsum(p * v for p, v, _ in trades), math.fsum(v for _, v, _ in trades))
        return (self.mid(k) - vwap) / self.mid(k) * 1e4

    def of_added(self, k, side, s):
        return self.sum(lambda i: self.ticks[i].added[side], k, span(s))

    def of_removed(self, k, side, s):
        return self.sum(lambda i: self.ticks[i].removed[side], k, span(s))

    def of_flow_imbalance(self, k, s):
        up = self.of_added(k, "bid", s) + self.of_removed(k, "ask", s)
        down = self.of_removed(k, "bid", s) + self.of_added(k, "ask", s)
        return divide(up - down, up + down)

    def of_count(self, k, what, s):
        return sum(self.happened(what, i) for i in self.window(k, span(s)))

    def of_intensity(self, k, what, s):
        return self.forgotten(self.once(("happened", what), lambda i: float(self.happened(what, i))), k, span(s))

    def of_since(self, k, what):
        i = k - 1 if what == "tick" else k
        while i >= 0 and not self.happened(what, i):
            i -= 1
        if i < 0:
            raise Undefined
        return (self.ticks[k].at - self.ticks[i].at) / 1e6

    def run(self, signs):
        signs = [s for s in signs if s]
        n = 0
        while n < len(signs) and signs[-1 - n] == signs[-1]:
            n += 1
        return n * signs[-1] if signs else 0

    def of_price_run(self, k):
        mids = [self.mid(i) for i in range(k + 1)]
        return self.run([(b > a) - (b < a) for a, b in zip(mids, mids[1:])])

    def of_trade_run(self, k):
        return self.run([trade[2] for trade in self.trades(k)])

    def of_return(self, k, s):
        return self.returned(span(s))(k)

    def of_volatility(self, k, s):
        return math.sqrt(self.sum(self.squared, k, span(s)))

    def of_ew_volatility(self, k, s):
        return math.sqrt(self.forgotten(self.once("squared", self.squared), k, span(s)))

    def of_bipower(self, k, s):
        return math.sqrt(math.pi / 2 * self.sum(self.product, k, span(s)))

    def of_jump_share(self, k, s):
        squares = self.sum(self.squared, k, span(s))
        return max(0.0, 1 - math.pi / 2 * divide(self.sum(self.product, k, span(s)), squares))

    def of_range(self, k, s):
        mids = [self.mid(i) for i in self.window(k, span(s))]
        return (max(mids) - min(mids)) / self.mid(k) * 1e4

    def of_position(self, k, s):
        mids = [self.mid(i) for i in self.window(k, span(s))]
        return divide(self.mid(k) - min(mids), max(mids) - min(mids))

    def of_kyle_lambda(self, k, s, half_life):
        x = self.once(("trades", s), lambda i: self.of_trade_flow(i, s))
        return self.slope(self.returned(span(s)), x, k, span(half_life))

    def of_ofi_lambda(self, k, levels, s, half_life):
        x = self.once(("ofi", levels, s), lambda i: self.of_ofi(i, levels, s))
        return self.slope(self.returned(span(s)), x, k, span(half_life))

    def of_roll_spread(self, k, s):
        mean = self.mean(self.once("change_product", self.change_product), k, span(s))
        return 2 * math.sqrt(max(0.0, -mean)) / self.mid(k) * 1e4

    def of_effective_spread(self, k, s):
        return self.mean(self.once("paid", self.paid), k, span(s))

    def of_autocorrelation(self, k, lag, s):
        product = self.once(("lagged", lag), lambda i: self.ret(i) * self.ret(self.back(i, span(lag))))
        return divide(self.mean(product, k, span(s)), self.mean(self.once("squared", self.squared), k, span(s)))

    def of_sign_autocorrelation(self, k, s):
        return self.mean(self.once("sign_product", self.sign_product), k, span(s))

    def of_mean(self, k, inner, s):
        window = self.window(k, span(s))
        return math.fsum(self.feature(inner, i) for i in window) / len(window)

    def of_ew(self, k, inner, s):
        return self.mean(lambda i: self.feature(inner, i), k, span(s))

    def of_zscore(self, k, inner, s):
        now = self.feature(inner, k)
        pairs = self.seen(lambda i: self.feature(inner, i), k, span(s))
        weight = math.fsum(w for w, _ in pairs)
        mean = math.fsum(w * v for w, v in pairs) / weight
        return divide(now - mean, math.sqrt(math.fsum(w * (v - mean) ** 2 for w, v in pairs) / weight))

    def of_change(self, k, inner, s):
        return self.feature(inner, k) - self.feature(inner, self.back(k, span(s)))


def main(ticks_path, features_path, step):
    with open(ticks_path, newline="") as file:
        ticks = [Tick(cells) for cells in csv.reader(file)]
    with open(features_path) as file:
        features = [line.strip() for line in file if line.strip()]
    past = Past()
    for n, tick in enumerate(ticks):
        if not tick.healthy:
            past = Past()
            continue
        past.ticks.append(tick)
        if n % step:
            continue
        cells = []
        for feature in features:
            try:
                cells.append(repr(float(past.feature(feature, len(past.ticks) - 1))))
            except Undefined:
                cells.append("null")
        print(n, *cells, sep=",")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
