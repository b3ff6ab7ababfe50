//! The catalogue of features: every kind that can be named, its parameters, definition, unit and source; the manual's
//! table comes from it.

/// What a parameter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parameter {
    /// How many levels of the book, from the best one: a number from 1.
    Levels,
    /// One level of the book: a number from 1.
    Level,
    /// `bid` or `ask`.
    Side,
    /// A window or a lag: ticks or a time.
    Span,
    /// A half-life: ticks or a time.
    HalfLife,
    /// A half-life that is a time.
    TimeHalfLife,
    /// What happens: see [`super::feature::What`].
    What,
    /// Another feature.
    Feature,
}

impl Parameter {
    /// Its name in the manual.
    pub const fn name(self) -> &'static str {
        match self {
            Parameter::Levels => "levels",
            Parameter::Level => "level",
            Parameter::Side => "side",
            Parameter::Span => "span",
            Parameter::HalfLife => "half_life",
            Parameter::TimeHalfLife => "half_life",
            Parameter::What => "what",
            Parameter::Feature => "feature",
        }
    }
}

/// A kind of feature, for the manual and the parser.
#[derive(Clone, Copy, Debug)]
pub struct KindDef {
    /// The kind.
    pub kind: Kind,
    /// Its name.
    pub name: &'static str,
    /// Its parameters, in order.
    pub parameters: &'static [Parameter],
}

macro_rules! kinds {
    ($($kind:ident $name:literal $shown:literal [$($parameter:ident),*] $definition:literal, $unit:literal, $source:literal;)*) => {
        /// A kind of feature; the manual's table says what each is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Kind {
            $(#[doc = $definition] $kind),*
        }

        /// Every kind.
        pub const KINDS: &[KindDef] = &[
            $(KindDef { kind: Kind::$kind, name: $name, parameters: &[$(Parameter::$parameter),*] }),*
        ];

        /// The manual's table.
        pub const TABLE: &str = concat!(
            "| feature | is | unit | source |\n|---|---|---|---|\n",
            $("| `", $name, $shown, "` | ", $definition, " | ", $unit, " | ", $source, " |\n"),*
        );
    };
}

kinds! {
    MidPrice "mid_price" "" [] "m = (a₁ + b₁) / 2", "price", "";
    QuotedSpread "quoted_spread" "" [] "a₁ − b₁", "price", "";
    RelativeSpread "relative_spread" "" [] "(a₁ − b₁) / m", "bp", "";
    WeightedMid "weighted_mid" "(levels)" [Levels] "I·a₁ + (1 − I)·b₁ with I = B / (B + A), B and A the sizes of the first levels of bids and asks together; of one level it is often called micro-price", "price", "Gatheral and Oomen 2010";
    WeightedMidDeviation "weighted_mid_deviation" "(levels)" [Levels] "(weighted mid − m) / m", "bp", "Stoikov 2018, before his correction";
    Imbalance "imbalance" "(levels)" [Levels] "(B − A) / (B + A) over the first levels", "−1 to 1", "Cao, Hansch and Wang 2009";
    LevelImbalance "level_imbalance" "(level)" [Level] "the same at one level alone", "−1 to 1", "";
    Pressure "pressure" "(levels)" [Levels] "the same with the size at level i weighing 1/i", "−1 to 1", "";
    Depth "depth" "(side, levels)" [Side, Levels] "the sizes of the first levels of a side, together", "size", "";
    Slope "slope" "(side, levels)" [Side, Levels] "Σ d_i Q_i / Σ d_i²: the slope, through the origin, of the size Q_i up to level i by its distance d_i from m", "size / price", "the book's slope of Næs and Skjeltorp 2006, by least squares";
    SlopeImbalance "slope_imbalance" "(levels)" [Levels] "(bid slope − ask slope) / (bid slope + ask slope)", "−1 to 1", "";
    Gap "gap" "(side, level)" [Side, Level] "the distance between the prices of a level and the next, by m", "bp", "";
    Depletion "depletion" "(side)" [Side] "1 − q / the greatest q since the best price is what it is, q the best level's size", "0 to 1", "";
    Ofi "ofi" "(levels, span)" [Levels, Span] "Σ over the window of e_n, summed over the first levels (definition below)", "size", "Cont, Kukanov and Stoikov 2014; of several levels Xu, Gould and Howison 2018";
    LevelOfi "level_ofi" "(level, span)" [Level, Span] "the same at one level alone", "size", "as above";
    NormalisedOfi "normalised_ofi" "(levels, span)" [Levels, Span] "ofi(levels, span) by the mean size of one level of one side in the window", "1", "Cont, Cucuringu and Zhang 2023";
    EwOfi "ew_ofi" "(levels, half_life)" [Levels, HalfLife] "e_n forgotten: its mean a tick, or by time its rate", "size a tick, size / s", "";
    TradeFlow "trade_flow" "(span)" [Span] "Σ s·v of the trades in the window, v their size, s = 1 where a buyer took, −1 where a seller did, 0 unknown", "size", "";
    TradeVolume "trade_volume" "(span)" [Span] "Σ v", "size", "";
    TradeImbalance "trade_imbalance" "(span)" [Span] "Σ s·v / Σ v; null without volume", "−1 to 1", "";
    EwTradeFlow "ew_trade_flow" "(half_life)" [HalfLife] "s·v forgotten: its mean a tick, or by time its rate", "size a tick, size / s", "";
    VwapDeviation "vwap_deviation" "(span)" [Span] "(m − Σ p·v / Σ v) / m over the trades in the window; null without volume", "bp", "";
    Added "added" "(side, span)" [Side, Span] "size that came to a side in the window, at any level", "size", "";
    Removed "removed" "(side, span)" [Side, Span] "size that went from a side, trades not counted where the venue tells them apart", "size", "";
    FlowImbalance "flow_imbalance" "(span)" [Span] "(bid added − bid removed − ask added + ask removed) / (the four together); null if nothing came or went", "−1 to 1", "";
    Count "count" "(what, span)" [What, Span] "how often it happened in the window", "events", "";
    Intensity "intensity" "(what, half_life)" [What, TimeHalfLife] "ln 2 / h · Σ 2^(−age / h) over what happened, h a time: a self-exciting process' kernel", "events / s", "Hawkes 1971";
    Since "since" "(what)" [What] "the time since it happened last; of `tick`, since the tick before", "s", "";
    PriceRun "price_run" "" [] "how many times in a row m has moved the same way; negative downwards", "moves", "";
    TradeRun "trade_run" "" [] "how many trades in a row were of one side; negative for sellers", "trades", "";
    Return "return" "(span)" [Span] "ln m − ln m′, m′ the mid that far back", "bp", "";
    Volatility "volatility" "(span)" [Span] "√Σ r² over the window, r the return of one tick", "bp", "Andersen and Bollerslev 1998";
    EwVolatility "ew_volatility" "(half_life)" [HalfLife] "√ of r² forgotten: of its mean a tick, or by time of its rate", "bp, bp / √s", "RiskMetrics 1996";
    Bipower "bipower" "(span)" [Span] "√(π/2 · Σ abs(r_n · r_n−1)) over the window", "bp", "Barndorff-Nielsen and Shephard 2004";
    JumpShare "jump_share" "(span)" [Span] "max(0, 1 − π/2 · Σ abs(r_n · r_n−1) / Σ r²); null if nothing moved", "0 to 1", "as above";
    Range "range" "(span)" [Span] "(greatest m − least m) / m over the window", "bp", "Parkinson 1980";
    Position "position" "(span)" [Span] "(m − least m) / (greatest m − least m) over the window; null if m stood still", "0 to 1", "";
    KyleLambda "kyle_lambda" "(span, half_life)" [Span, HalfLife] "the slope of return(span) on trade_flow(span), least squares with forgetting", "bp / size", "Kyle 1985";
    OfiLambda "ofi_lambda" "(levels, span, half_life)" [Levels, Span, HalfLife] "the slope of return(span) on ofi(levels, span)", "bp / size", "Cont, Kukanov and Stoikov 2014";
    RollSpread "roll_spread" "(half_life)" [HalfLife] "2·√max(0, −c) / m, c the forgotten mean of Δp·Δp′ over trades, Δp a trade's change of price and Δp′ that of the trade before", "bp", "Roll 1984, with mean changes of zero";
    EffectiveSpread "effective_spread" "(half_life)" [HalfLife] "the forgotten mean over trades of 2·s·(p − m′) / m′, m′ the mid of the tick before", "bp", "Huang and Stoll 1996";
    Autocorrelation "autocorrelation" "(span, half_life)" [Span, HalfLife] "the forgotten mean of r·r′ by that of r², r′ the return of one tick that far back", "1", "";
    SignAutocorrelation "sign_autocorrelation" "(half_life)" [HalfLife] "the forgotten mean of s·s′ over trades, s′ the sign of the trade before", "−1 to 1", "Hasbrouck and Ho 1987";
    Mean "mean" "(feature, span)" [Feature, Span] "the mean of another feature over the window", "its own", "";
    Ew "ew" "(feature, half_life)" [Feature, HalfLife] "the forgotten mean of another feature over ticks", "its own", "";
    Zscore "zscore" "(feature, half_life)" [Feature, HalfLife] "(x − forgotten mean) / forgotten standard deviation of another feature; null if it does not vary", "1", "";
    Change "change" "(feature, span)" [Feature, Span] "x − x′, x′ what it was that far back", "its own", "";
    Leader "leader" "(feature)" [Feature] "the feature as the leader's last tick left it", "its own", "lead and lag: Hayashi and Yoshida 2005";
    Basis "basis" "" [] "ln m − ln m of the leader", "bp", "";
}
