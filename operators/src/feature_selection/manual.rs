//! What the manual says of `feature_selection`.

use engine::catalogue::OptionDef;

use crate::options::option;

/// The page.
pub const DOC: &str = "\
A function of history over a stream of feature vectors, each with the price at its time. Every `reselect_every_events`
vectors of an instrument, and when the loss of the selection has risen, features are scored anew and the best are the
active set. It follows what is public of the dynamic feature selection of high-frequency data by clustering and mutual
information (k-means++ clusters; features weighted by the inverse of their variance within clusters; mutual information
with the target; a set that follows the input). The formulas, rates and defaults beyond that are ours, marked *ours*
below.

**Forgetting** (*ours*). After `half_life_events` vectors of the instrument the past counts half, in everything.

**Scaling** (*ours*). A feature is looked at as z = (x − mean) / deviation, by forgotten moments that are looked up
every 64 vectors; a value beyond 10 deviations counts as 10 away. A feature whose variance is at most `variance_min`, or
within rounding of its mean, is out. Nulls, NaN, infinities and magnitudes above 1e120 are missing: they leave moments
and counts of their feature as they are, and count as the mean where the nearest centre is sought. No row is refused.

**Clusters.** The first `warmup_events` vectors are kept; then up to `clusters` centres are drawn among them by
k-means++ (Arthur and Vassilvitskii 2007; the draws are a function of `seed`), and these vectors and each further one
move the nearest centre, which is the forgotten mean of its vectors. With n_c the weight of cluster c and Var_c,j the
variance of feature j in it, v_j = Σ_c n_c Var_c,j / Σ_c n_c, over the whole variance of z_j, so that v_j is from 0 to 1
(*ours*), and

    weight_j = (1 / (v_j + 1e-6)) / Σ_l (1 / (v_l + 1e-6))

`one_minus_v` is 1 − v_j: the R² of the feature on the cluster.

**Labels.** The label of a vector is whether the price `horizon_events` vectors later is up, flat or down: beyond
`threshold`, in halves of the spread or shares of the price. It is known when that vector comes and counted then, never
before. A vector without a price on either side has none.

**Relevance.** The mutual information, in nats, of label and feature, over at most `bins` bins of about equal weight:
labels are counted in 64 cells of z, narrow about the mean, which at each selection are put together to quantiles
(*ours*). `plug_in` is that of the counts; `bias` is what it is on average of a feature that tells nothing, (bins −
1)(classes − 1) / 2n (Miller 1955), with n = (Σw)² / Σw² the labels the forgotten counts are worth (Kish 1965);
`relevance` is the difference, and `deviations` that in standard deviations of chance, √(2(bins − 1)(classes − 1)) / 2n
(Wilks 1938). Labels that overlap (`label_every_events` below `horizon_events`) are worth n / f for a feature that
lasts, f = 1 + 2 Σ β(k) κ(k) (Bartlett 1935) with κ and β the agreement, beyond chance, of classes and of bins with
those k labels before, estimated from horizon / every and from the feature's correlation from one labelled vector to the
next (*ours*; of Gaussian values, and rather too large). Without that a random walk would seem to tell what it cannot.

**Score.** `product`: weight · max(0, relevance), each over the greatest. `rank_average`: the mean of the shares of
other features that are beaten in weight and in relevance, a tie counting half. Ties of scores go by the order of the
columns.

**Redundancy.** From the best score on, a feature whose forgotten correlation with one that stays is beyond
`correlation_max` in magnitude is redundant and has no rank; while this is decided an active feature stands `hysteresis`
places better, so that of two that say the same the one there is stays.

**The set.** A feature enters at a rank of at most `features_max` and leaves at one above `features_max` + `hysteresis`,
so the set has at most that many. With a `significance` above 0 (*ours*) it must also have more `deviations` than that
to enter, and leaves at half as many: without it, where few features tell anything, the rest of the set is noise that
comes and goes. The first selection is the first after the warm-up at which a label has matured.

**Judgement** (*ours*). Four sets are judged by one simple classifier: the `selection`; `none` of the features; `all`
that vary; the `first` selection, kept for good. The probabilities of the classes go with share · exp(trust · evidence):
shares of classes and evidence (Σ ln P(bin | class), naive Bayes) are those of the last selection, and a set's trust,
from 0 to 1, is learned by steps down the logarithmic loss, for features are not as independent as naive Bayes has it. A
vector is predicted when it comes, and the prediction judged when its label matures, by half the Brier score, which is at
most 1. `regret` has for each set the sum of losses since the first selection, and by how much the selection's is
greater: for `selection` than that of the best of the three fixed sets in hindsight; below 0 it is better than any of
them. It is a yardstick for sets, not the best predictor there is.

**Drift.** The loss of the selection is watched by ADWIN (Bifet and Gavaldà 2007: the window is cut where two parts
differ; where it rises that is drift, and a new window begins) or by the test of Page (1954) and Hinkley. Losses of
labels that overlap go together, so the test is given means of as many as do (*ours*). On drift the labels counted so
far age by `drift_half_lives` at once (*ours*), and a selection is made.

**Views.** The step itself: the active set, with `rank`, `score` and `since`. `scores`: every feature with every part of
its score, as of the last selection. `changes`: a stream of what came and went, with `reason`: `first`, `score`,
`redundant` (it left for that), `drift`; `_seq` is that of the vector at which the selection was made, which is before
that vector is predicted. `regret`: a row a set. `drift`: how often and when last, the `statistic` (1 is drift), how
many means are in the window and their mean.";

const NUMBER: &str = "column of int64 or float64";

/// The options.
pub const OPTIONS: &[OptionDef] = &[
    option("input", "relation", None, "A stream of vectors with an event time."),
    option(
        "instrument",
        "list of column names",
        Some("one instrument"),
        "Each combination of these selects for itself; they also spread the work over the workers.",
    ),
    option(
        "features",
        "list of column names",
        Some("every float64 column but the price and `spread`"),
        "The features: float64 or int64; at most 2048.",
    ),
    option("price", NUMBER, Some("mid"), "The price whose direction is to be told."),
    option("horizon_events", "int64", Some("10"), "How many vectors ahead; from 1 to 1,000,000."),
    option("label_every_events", "int64", Some("1"), "Every so many vectors one is labelled and judged; at least 1."),
    option("threshold", "float64", Some("1.0"), "A move up to this is flat; not below 0."),
    option(
        "threshold_unit",
        "`half_spreads` or `relative`",
        Some("half_spreads"),
        "The unit of `threshold`: half the spread at the vector, or the price.",
    ),
    option("spread", NUMBER, Some("spread"), "With `half_spreads`: the spread."),
    option("half_life_events", "int64", Some("20000"), "After so many vectors the past counts half; at least 1."),
    option("warmup_events", "int64", Some("2000"), "The vectors among which centres are drawn; from 1 to 1,000,000."),
    option("clusters", "int64", Some("8"), "At most so many clusters; from 1 to 256."),
    option("bins", "int64", Some("10"), "At most so many bins of a feature; from 2 to 32."),
    option("score", "`product` or `rank_average`", Some("product"), "How weight and relevance make a score."),
    option("features_max", "int64", Some("16"), "The rank at which a feature enters; at least 1."),
    option("hysteresis", "int64", Some("4"), "So many ranks further down it leaves; at least 0."),
    option(
        "significance",
        "float64",
        Some("0.0"),
        "By how many standard deviations a feature must tell more than chance to enter; 0 asks nothing. 3 is usual.",
    ),
    option(
        "correlation_max",
        "float64",
        Some("0.95"),
        "Of two features more correlated than this one is redundant; above 0 and at most 1, where none is.",
    ),
    option("variance_min", "float64", Some("1e-18"), "A feature of no greater variance is out; not below 0."),
    option("reselect_every_events", "int64", Some("1000"), "A selection is made every so many vectors; at least 1."),
    option("drift", "`adwin`, `page_hinkley` or `none`", Some("adwin"), "How the loss is watched."),
    option("adwin_delta", "float64", Some("0.002"), "The confidence δ of ADWIN; above 0 and at most 1."),
    option(
        "page_hinkley_tolerance",
        "float64",
        Some("0.005"),
        "How much a loss may lie above the mean unpunished; from 0 to 1.",
    ),
    option("page_hinkley_threshold", "float64", Some("50.0"), "The sum of rises that is drift; above 0."),
    option(
        "drift_half_lives",
        "int64",
        Some("3"),
        "By how many half-lives the labels counted so far age on drift; from 0 to 64.",
    ),
    option("seed", "int64", Some("0"), "Of the draws of centres."),
];

/// A pipeline with it.
pub const EXAMPLE: &str = "\
name = \"trusted\"

[sources.vectors]
type = \"file\"
path = \"vectors.csv\"
format = \"csv\"
columns = { instrument = \"string\", at = \"timestamp\", mid = \"float64\", spread = \"float64\", imbalance = \"float64\", flow = \"float64\", momentum = \"float64\", volatility = \"float64\" }
event_time = \"at\"

[steps.trusted]
operator = \"feature_selection\"
input = \"vectors\"
instrument = [\"instrument\"]
horizon_events = 20
features_max = 2
hysteresis = 1
significance = 3.0
";
