//! What the manual says of `online_model`.

use engine::catalogue::OptionDef;

use crate::options::option;

/// The page.
pub const DOC: &str = "\
A function of history over two streams: vectors of features with a price and a spread (`input`), and, if there is one,
the changes of the active set that `feature_selection` tells (`changes_input`). Each `instrument` has a model of its own.

**Labels.** Of the vector n and the horizon h the label is `up` if price(n + h) − price(n) is greater than `threshold`
half-spreads of n (or, `relative`, `threshold` times price(n)), `down` if it is less than the negative of that, else
`flat`. It is known when the instrument's vector n + h has come, and nothing learns from it or is judged by it before.

**Inputs.** A feature is standardised by its exponentially forgotten mean and variance, with the vector at hand; while
fewer values have come than would be remembered all count alike. Beyond 8 deviations it counts as 8; null is 0 and changes
nothing; a constant is 0. The active features stand in `slots`: a feature keeps its slot while it is active, a newcomer
takes the lowest that is free, with its past, and finds the slot's weights as they were in the beginning; while none is
free it waits. All changes of one `selection` count together, at the next vector or at the first change of another.

**Network.** `blocks` causal depthwise-separable convolutions over time (Chollet 2017), each with `kernel` taps on every
input, in block i (from 0) `dilation`^i vectors apart, then a matrix to `channels` outputs, then a rectifier (at most
1024); in the first block every slot has `filters` sets of taps. A head for each horizon reads the average of the last
block's outputs over the newest `window` vectors, the newest output, and the newest inputs as they are (wide and deep,
Cheng et al. 2016: what the control can learn, a head can), and gives three classes by softmax. A
prediction depends on `window` + Σ (`kernel` − 1) `dilation`^i vectors and the parameters, and none is made before so many
have come. An event costs one new column a block, not `window`: the rest is kept. In single precision, with one order of
summation; averages are exact (outputs are multiples of 2⁻²⁰), so a running window equals one computed anew to the bit.

**Learning.** After every `train_every` vectors one step of Adam (Kingma and Ba 2015) along the mean cross-entropy of the
`batch` newest consecutive vectors whose labels at all horizons were known `train_every` vectors before; the gradient is
computed in between, an equal share at every vector, and its norm is clipped to `gradient_norm_max`. A step whose gradient
is not finite is refused and counted. Initial weights are uniform with the variance of He et al. 2015, a function of
`seed` and their place; those of the heads are 0.

**Pruning.** After step `prune_after`, then every `prune_every` steps, the weights of each matrix are pruned by magnitude
in blocks of four (one input to four neighbouring outputs, which is what a vector register holds) to a sparsity that rises
as a cubic to `sparsity` at `prune_until` (Zhu and Gupta 2017); a share `regrow` of the blocks kept gives way to those
with the greatest gradient (Evci et al. 2020). A matrix of which at most three quarters are kept is stored as the list of
its blocks, and gives the same bytes. A newcomer's blocks are all kept until the next pruning. Taps and biases stay.

**Control.** A multinomial logistic regression on the newest column, for each horizon, learned from the same minibatches
by the same rule. It, and two baselines, are judged beside the network: `persistence` tells the class of the horizon's
last matured label, `majority` that of most labels matured so far. Of equal probabilities or counts `flat` wins, then
`up`.

**Views.** The step itself: the latest prediction by instrument and horizon. `predictions`: a stream with all of them; the
key is `_seq`, the number of the vector's record, and `horizon`. `evaluation`: by horizon and model, over all predictions
whose label has matured (each is judged as it was made, before its label was learned from: prequential, Dawid 1984):
`f1_macro` over the classes that occurred or were predicted, `mcc` (Gorodkin 2004), `log_loss` (probabilities of at least
10⁻¹⁵), `ece` over ten bins of equal width (Guo et al. 2017), the confusion matrix (`down_as_up`: truly down, told up).
`trades`: predictions of `up` or `down` with a probability above `trade_probability` (baselines: all of them), each one
unit bought, or sold, at the touch (price ± half the spread of n) and given back at the touch of n + h; `pnl_per_trade` is
the mean of what that earned, as a share of price(n). `stability`: Jaccard's index (1901) of each selection's active set
and the one before, the last and the mean. `network`: parameters that exist, those not pruned, multiply-adds and bytes of
parameters of one prediction, steps made and refused, and the loss of the last minibatch. `slots`: which feature stands
where.

**Warm start.** `warm_start` names an artefact (versioned, with a checksum) that the library function
`operators::online_model::warm::train` makes from recorded vectors by this same code: parameters, pruning, moments and
slots with which every instrument begins. It must be of the same network and features. If features are selected, those
in its slots stand until the first selection, which says which of them stay. What is in the artefact is part of the
plan's fingerprint.

**Faults**, which leave everything as it was. Of vectors: `bad_price` (null, NaN, not above 0, beyond 10¹⁵), `bad_spread`
(null, NaN, negative, beyond 10¹⁵), `bad_feature` (NaN, infinite, beyond 10¹⁵), `time_backwards`. Of changes:
`null_change`, `unknown_feature`. That a feature enters that is active, or leaves that is not, says nothing.

The paper behind this family gives no equations for the network: its form here is a design of our own.";

/// The options.
pub const OPTIONS: &[OptionDef] = &[
    option("input", "relation", None, "A stream of vectors with an event time and `_seq`, as `features` tells it."),
    option(
        "changes_input",
        "relation",
        Some("all features are used"),
        "A stream of changes, as `feature_selection` tells it: `feature`, `entered`, `selection` and the instrument.",
    ),
    option("instrument", "list of column names", Some("one instrument"), "Each combination of these has its model."),
    option(
        "features",
        "list of column names",
        Some("every float64 column but price and spread"),
        "The features: float64 or int64.",
    ),
    option("price", "column name", Some("mid"), "The price whose moves are predicted; above 0."),
    option("spread", "column name", Some("spread"), "The spread; not negative."),
    option("horizons", "list of integers", Some("[10, 20, 50, 100]"), "Vectors until a label matures, ascending."),
    option("threshold", "float64", Some("1.0"), "A move must be greater than this, in `threshold_unit`."),
    option("threshold_unit", "`half_spreads` or `relative`", Some("half_spreads"), "The unit of `threshold`."),
    option("slots", "integer", Some("16"), "With `changes_input`: how many features the network sees at once."),
    option("window", "integer", Some("64"), "Vectors over which the last block's output is averaged."),
    option("kernel", "integer", Some("3"), "Taps of a convolution."),
    option("dilation", "integer", Some("2"), "In block i taps stand this to the power i vectors apart."),
    option("channels", "integer", Some("16"), "Outputs of a block; a multiple of 4."),
    option("blocks", "integer", Some("2"), "Blocks, 1 to 4."),
    option("filters", "integer", Some("2"), "Sets of taps of a slot in the first block (the depth multiplier)."),
    option("half_life_events", "float64", Some("20000.0"), "Events after which a value counts half in the moments."),
    option("batch", "integer", Some("64"), "Examples of a minibatch."),
    option("train_every", "integer", Some("64"), "Vectors from one step of learning to the next."),
    option("learning_rate", "float64", Some("0.003"), "Adam's step size."),
    option("gradient_norm_max", "float64", Some("1.0"), "A longer gradient is shortened to this."),
    option(
        "sparsity",
        "float64",
        Some("0.7"),
        "The share of blocks pruned in the end, from 0 to 0.99; 0 prunes nothing.",
    ),
    option("prune_after", "integer", Some("2000"), "The step of learning after which pruning begins."),
    option("prune_until", "integer", Some("4000"), "The step at which `sparsity` is reached."),
    option("prune_every", "integer", Some("50"), "Steps from one pruning to the next."),
    option("regrow", "float64", Some("0.05"), "The share of kept blocks that gives way to others at each pruning."),
    option("trade_probability", "float64", Some("0.5"), "`evaluation` counts a trade above this probability."),
    option("seed", "integer", Some("0"), "The seed of initial weights."),
    option(
        "warm_start",
        "path",
        Some("nothing is known"),
        "An artefact every instrument begins with; a relative path is one from where the process was started.",
    ),
];

/// A pipeline.
pub const EXAMPLE: &str = "\
name = \"direction\"

[sources.vectors]
type = \"file\"
path = \"vectors.csv\"
format = \"csv\"
columns = { at = \"timestamp\", symbol = \"string\", mid = \"float64\", spread = \"float64\", imbalance = \"float64\", flow = \"float64\" }
event_time = \"at\"

[sources.changes]
type = \"file\"
path = \"changes.csv\"
format = \"csv\"
columns = { at = \"timestamp\", symbol = \"string\", feature = \"string\", entered = \"bool\", selection = \"int64\" }
event_time = \"at\"

[steps.direction]
operator = \"online_model\"
input = \"vectors\"
changes_input = \"changes\"
instrument = \"symbol\"
horizons = [10, 50]
slots = 2
";
